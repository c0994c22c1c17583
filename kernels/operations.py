"""What is generated for the operations of a rule, of numbers and of vectors of numbers alike."""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils


def constant(kind: Any, number: float) -> Any:
    """Return a constant, in all places if it is a vector."""
    return ir.Constant(kind, [number] * kind.count if isinstance(kind, ir.VectorType) else number)


def everywhere(builder: Any, kind: Any, x: Any) -> Any:
    """Return a vector that has x in all places."""
    nothing, places = ir.Constant(kind, ir.Undefined), ir.VectorType(ir.IntType(32), kind.count)
    return builder.shuffle_vector(builder.insert_element(nothing, x, ir.IntType(32)(0)), nothing, constant(places, 0))


def bits_of(kind: Any) -> Any:
    """Return the type of a number's bits, taken for an integer."""
    if isinstance(kind, ir.VectorType):
        return ir.VectorType(bits_of(kind.element), kind.count)
    return ir.IntType({ir.FloatType(): 32, ir.DoubleType(): 64}[kind])


def parts(builder: Any, x: Any, count: int) -> list[Any]:
    """Return a vector as vectors of so many numbers."""
    places = ir.VectorType(ir.IntType(32), count)
    orders = [ir.Constant(places, list(range(start, start + count))) for start in range(0, x.type.count, count)]
    return [builder.shuffle_vector(x, ir.Constant(x.type, ir.Undefined), order) for order in orders]


def joined(builder: Any, vectors: Sequence[Any]) -> Any:
    """Return one vector of several of one length, of which there are 1, 2, 4 or any power of 2."""
    while len(vectors) > 1:
        places = ir.VectorType(ir.IntType(32), 2 * vectors[0].type.count)
        order = ir.Constant(places, list(range(places.count)))
        vectors = [builder.shuffle_vector(a, b, order) for a, b in zip(vectors[::2], vectors[1::2], strict=True)]
    return vectors[0]


def by_parts(function: Callable[..., Any], builder: Any, count: int, *vectors: Any) -> Any:
    """Return what a function of vectors of so many numbers makes of longer ones."""
    pieces = zip(*(parts(builder, vector, count) for vector in vectors))
    return joined(builder, [function(builder, *piece) for piece in pieces])


def call(builder: Any, name: str, result: Any, arguments: Sequence[Any]) -> Any:
    """Call a function that LLVM has under this name."""
    declared = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, declared, name), arguments)


def fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """Return a * b + c, rounded once."""
    return _intrinsic(builder, "llvm.fma", a, b, c)


def sqrt(builder: Any, x: Any) -> Any:
    """Return the square root."""
    return _intrinsic(builder, "llvm.sqrt", x)


def maximum(builder: Any, a: Any, b: Any) -> Any:
    """Return the larger one, NaN if either is NaN."""
    chosen = builder.or_(builder.fcmp_ordered(">", a, b), builder.fcmp_unordered("uno", a, a))
    return builder.select(chosen, a, b)


def minimum(builder: Any, a: Any, b: Any) -> Any:
    """Return the smaller one, NaN if either is NaN."""
    chosen = builder.or_(builder.fcmp_ordered("<", a, b), builder.fcmp_unordered("uno", a, a))
    return builder.select(chosen, a, b)


def limited(builder: Any, x: Any, least: Any, most: Any) -> Any:
    """Return x, or the limit that it is beyond."""
    x = builder.select(builder.fcmp_ordered("<", x, least), least, x)
    return builder.select(builder.fcmp_ordered(">", x, most), most, x)


def absolute(builder: Any, x: Any) -> Any:
    """Return x without its sign."""
    # NVVM does not know llvm.fabs.
    bits = bits_of(x.type)
    width = (bits.element if isinstance(bits, ir.VectorType) else bits).width
    rest = builder.and_(builder.bitcast(x, bits), constant(bits, (1 << width - 1) - 1))
    return builder.bitcast(rest, x.type)


def by_sign(builder: Any, x: Any, negative: Any, zero: Any, positive: Any) -> Any:
    """Return the one of three that x chooses."""
    nothing = constant(x.type, 0.0)
    rest = builder.select(builder.fcmp_ordered("<", x, nothing), negative, zero)
    return builder.select(builder.fcmp_ordered(">", x, nothing), positive, rest)


def _intrinsic(builder: Any, name: str, *values: Any) -> Any:
    kind = values[0].type
    suffix = f"v{kind.count}{kind.element.intrinsic_name}" if isinstance(kind, ir.VectorType) else kind.intrinsic_name
    return call(builder, f"{name}.{suffix}", kind, values)
