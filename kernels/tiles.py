"""The CPU loops that ask for what they will need, and step what has arrived, tile by tile.

A processor looks ahead at some hundred operations. Where an element takes many, those belong to elements that are near,
and the memory is not asked for others: the loop waits and computes in turn. Asked some tiles ahead, it does both at
once. The hint is never wrong: behind the end of an array it asks for nothing.

The loops are made from the rule.
"""

from types import FunctionType
from typing import Any

from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from refoptim.kernels.arithmetic import unpack
from refoptim.kernels.calls import call_of, changed
from refoptim.kernels.division import ByMultiplication
from refoptim.kernels.jit import CpuLoop, cpu_loop, loop_of, renamed
from refoptim.kernels.prefetch import ask_for

# In elements: what is stepped at a time, and how far ahead the memory is asked.
TILE, AHEAD = 64, 512

# Numba passes a typing context that the caller does not: to a type checker the two signatures do not agree.
_intrinsic: Any = intrinsic

# What the loops below name, and the copy for each rule has of its own.
rule: Any = None
Scalars: Any = None


def _over(rule, arrays, h):
    size = arrays[0].size
    whole = size - size % TILE
    for start in range(0, whole, TILE):
        _ask(arrays, start + AHEAD)
        for i in range(start, start + TILE):
            _step(rule, arrays, i, h)
    for i in range(whole, size):
        _step(rule, arrays, i, h)


over = njit(inline="always", error_model="numpy")(_over)


def _one(a, scalars):
    over(rule, (a,), Scalars(*unpack(Scalars, scalars)))


def _two(a, b, scalars):
    over(rule, (a, b), Scalars(*unpack(Scalars, scalars)))


def _three(a, b, c, scalars):
    over(rule, (a, b, c), Scalars(*unpack(Scalars, scalars)))


def _four(a, b, c, d, scalars):
    over(rule, (a, b, c, d), Scalars(*unpack(Scalars, scalars)))


def _five(a, b, c, d, e, scalars):
    over(rule, (a, b, c, d, e), Scalars(*unpack(Scalars, scalars)))


# By how many arrays they take.
_LOOPS = {1: _one, 2: _two, 3: _three, 4: _four, 5: _five}


def tiled(rule: FunctionType) -> CpuLoop:
    """Return a rule's loop for arrays of float32 and scalars of float64. It takes what the rule's own loop takes."""
    options: Any = {"error_model": "numpy", "pipeline_class": ByMultiplication}
    compiled = njit(**options)(renamed(rule, f"{rule.__name__}_multiplied", rule.__module__))
    loop = _LOOPS[rule.__code__.co_argcount - 1]
    return cpu_loop(loop_of(rule, loop, f"{rule.__name__}_tiled", compiled))


@_intrinsic
def _step(typing_context, rule, arrays, i, h):
    """Step element i."""
    wide = h[0]
    call, results = call_of(typing_context, rule, len(arrays), h)

    def generate(context, builder, signature, arguments):
        _, values, i, scalars = arguments
        places = list(_places(context, builder, arrays, values, i))
        numbers = [context.cast(builder, builder.load(place), x.dtype, wide) for x, place in zip(arrays, places)]
        for target, new in zip(changed(len(arrays), results), call(context, builder, numbers, scalars)):
            builder.store(context.cast(builder, new, wide, arrays[target].dtype), places[target])
        return context.get_dummy_value()

    return types.void(rule, arrays, i, h), generate


@_intrinsic
def _ask(typing_context, arrays, i):
    """Have a tile of each array fetched, from element i on. There need not be one."""

    def generate(context, builder, signature, arguments):
        for x, place in zip(arrays, _places(context, builder, arrays, *arguments)):
            ask_for(builder, place, TILE * x.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(arrays, i), generate


def _places(context: Any, builder: Any, arrays: Any, value: Any, i: Any) -> Any:
    """Yield where element i of each array is."""
    for x, item in zip(arrays, cgutils.unpack_tuple(builder, value)):
        yield cgutils.get_item_pointer(context, builder, x, context.make_array(x)(context, builder, item), [i])
