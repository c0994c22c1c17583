"""The operations of a rule that need care: one rounding for a product and a sum, and a root of the argument's type.

Each is a plain Python function, exact, which the CUDA simulator, the mutants and a reader's debugger run, and an
overload for compiled code that emits the LLVM intrinsic. The overloads serve the CPU and CUDA alike.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from refoptim.kernels import operations
from refoptim.kernels.intrinsics import intrinsic

# The overloads are left to LLVM to inline, which it always does: with Numba's own inlining (inline="always") numba-cuda
# took a variable that is handed to an overload after another use for undefined, and computed with 0.


def fma(a: Any, b: Any, c: Any) -> Any:
    """Return a * b + c, rounded once to the widest type of the three."""
    kind = np.result_type(type(a), type(b), type(c)).type
    a, b, c = float(a), float(b), float(c)
    if not (math.isfinite(a) and math.isfinite(b)):
        return kind(a * b + c)
    if not math.isfinite(c):
        return kind(c)  # a * b is finite, though the float nearest to it may not be
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    return kind(a * b + c) if exact == 0 else _round(exact, kind)


def lost(x: Any, y: Any, product: Any) -> Any:
    """Return what rounding took from the float64 product of two numbers.

    From that of two float32 nothing: compiled code has -0.0, with which a sum is what it was, and need not add it.
    """
    return fma(np.float64(x), np.float64(y), -product)


def sqrt(x: Any) -> Any:
    """Return the square root of x, correctly rounded in x's own type."""
    with np.errstate(invalid="ignore"):
        return np.sqrt(x)


def maximum(a: Any, b: Any) -> Any:
    """Return the larger of a and b, NaN if either is NaN, as torch and NumPy do."""
    return a if a > b or a != a else b


def minimum(a: Any, b: Any) -> Any:
    """Return the smaller of a and b, NaN if either is NaN."""
    return a if a < b or a != a else b


def limited(x: Any, least: Any, most: Any) -> Any:
    """Return x, or the limit that it is beyond. NaN is beyond none."""
    x = least if x < least else x
    return most if x > most else x


def absolute(x: Any) -> Any:
    """Return x without its sign."""
    return abs(x)


def by_sign(x: Any, negative: Any, zero: Any, positive: Any) -> Any:
    """Return the one of three that x chooses: an ``if`` without a branch. NaN has no sign and chooses like 0."""
    return positive if x > 0 else negative if x < 0 else zero


def widen(x: Any, scalars: Any) -> Any:
    """Return x in the type of the scalars: a float32 load, given float64 scalars, starts a float64 computation."""
    return type(scalars[0])(x)


def unpack(kind: Any, scalars: Any) -> Any:
    """Return an array of scalars, or where they lie, as a tuple with as many as this kind of NamedTuple has."""
    return tuple(scalars[i] for i in range(len(kind._fields)))


def _round(exact: Fraction, kind: Callable[[float], Any]) -> Any:
    try:
        nearest = float(exact)
    except OverflowError:
        return kind(math.inf if exact > 0 else -math.inf)
    if kind is np.float32 and Fraction(nearest) != exact and not math.frexp(nearest)[0] * 2.0**53 % 2:
        # Rounding to float64 first and to float32 after would round twice. The neighbour with an odd last bit, on the
        # side of the exact value, cannot be mistaken for a tie of the coarser format.
        nearest = math.nextafter(nearest, math.inf if exact > nearest else -math.inf)
    with np.errstate(over="ignore"):
        return kind(nearest)


@intrinsic
def _fma(typing_context, a, b, c):
    widest = max(a, b, c, key=lambda argument: argument.bitwidth)

    def generate(context, builder, signature, arguments):
        pairs = zip(arguments, signature.args, strict=True)
        return operations.fma(builder, *(context.cast(builder, value, kind, widest) for value, kind in pairs))

    return widest(a, b, c), generate


@intrinsic
def _sqrt(typing_context, x):
    return x(x), _generating(operations.sqrt)


@intrinsic
def _maximum(typing_context, a, b):
    return a(a, a), _generating(operations.maximum)


@intrinsic
def _minimum(typing_context, a, b):
    return a(a, a), _generating(operations.minimum)


@intrinsic
def _limited(typing_context, x, least, most):
    return x(x, x, x), _generating(operations.limited)


@intrinsic
def _absolute(typing_context, x):
    return x(x), _generating(operations.absolute)


@intrinsic
def _by_sign(typing_context, x, negative, zero, positive):
    return x(x, x, x, x), _generating(operations.by_sign)


def _generating(operation: Callable[..., Any]) -> Callable[..., Any]:
    return lambda context, builder, signature, arguments: operation(builder, *arguments)


@intrinsic
def _widen(typing_context, x, scalars):
    kind = scalars[0]

    def generate(context, builder, signature, arguments):
        return context.cast(builder, arguments[0], x, kind)

    return kind(x, scalars), generate


@intrinsic
def _unpack(typing_context, kind, scalars):
    record = types.UniTuple(scalars.dtype, len(kind.instance_class._fields))

    def generate(context, builder, signature, arguments):
        data = arguments[1]
        if isinstance(scalars, types.Array):
            data = context.make_array(scalars)(context, builder, data).data
        items = [builder.load(builder.gep(data, [context.get_constant(types.intp, i)])) for i in range(len(record))]
        return context.make_tuple(builder, record, items)

    return record(kind, scalars), generate


def _alike(*kinds: Any) -> bool:
    return len(set(kinds)) == 1 and isinstance(kinds[0], types.Float)


@overload(fma, target="generic")
def _compile_fma(a, b, c):
    if all(isinstance(argument, types.Float) for argument in (a, b, c)):
        return lambda a, b, c: _fma(a, b, c)
    return None


@overload(lost, target="generic")
def _compile_lost(x, y, product):
    if x == y == types.float32:
        return lambda x, y, product: -0.0
    return lambda x, y, product: _fma(x, y, -product)


@overload(sqrt, target="generic")
def _compile_sqrt(x):
    return (lambda x: _sqrt(x)) if isinstance(x, types.Float) else None


@overload(maximum, target="generic")
def _compile_maximum(a, b):
    return (lambda a, b: _maximum(a, b)) if _alike(a, b) else None


@overload(minimum, target="generic")
def _compile_minimum(a, b):
    return (lambda a, b: _minimum(a, b)) if _alike(a, b) else None


@overload(limited, target="generic")
def _compile_limited(x, least, most):
    return (lambda x, least, most: _limited(x, least, most)) if _alike(x, least, most) else None


@overload(absolute, target="generic")
def _compile_absolute(x):
    return (lambda x: _absolute(x)) if isinstance(x, types.Float) else None


@overload(by_sign, target="generic")
def _compile_by_sign(x, negative, zero, positive):
    if _alike(x, negative, zero, positive):
        return lambda x, negative, zero, positive: _by_sign(x, negative, zero, positive)
    return None


@overload(widen, target="generic")
def _compile_widen(x, scalars):
    return lambda x, scalars: _widen(x, scalars)


@overload(unpack, target="generic")
def _compile_unpack(kind, scalars):
    if isinstance(scalars, types.BaseTuple):
        return lambda kind, scalars: scalars
    return lambda kind, scalars: _unpack(kind, scalars)
