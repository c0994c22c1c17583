"""The CPU loops that ask for what they will need, and step what has arrived, tile by tile.

A processor looks ahead at some hundred operations. Where an element takes many, those belong to elements that are near,
and the memory is not asked for others: the loop waits and computes in turn. Asked some tiles ahead, it does both at
once. The hint is never wrong: behind the end of an array it asks for nothing.

The loops are made from the rule. As in ``strips`` it returns the new element of its first array, then those of its last
ones.
"""

from types import FunctionType
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from refoptim.kernels.arithmetic import unpack
from refoptim.kernels.division import ByMultiplication
from refoptim.kernels.jit import CpuLoop, cpu_loop, renamed

# In elements: what is stepped at a time, and how far ahead the memory is asked. In bytes: what it sends at a time.
TILE, AHEAD, LINE = 64, 512, 64

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
    code = rule.__code__
    options: Any = {"error_model": "numpy", "pipeline_class": ByMultiplication}
    compiled = njit(**options)(renamed(rule, f"{rule.__name__}_multiplied", rule.__module__))
    loop = _LOOPS[code.co_argcount - 1]
    name = f"{rule.__name__}_tiled"
    # Numba's cache looks at the file of the loop: let it be that of the rule.
    place = {"co_filename": code.co_filename, "co_firstlineno": code.co_firstlineno}
    names = loop.__globals__ | {"rule": compiled, "Scalars": rule.__globals__["Scalars"]}
    made = FunctionType(loop.__code__.replace(co_name=name, co_qualname=name, **place), names, name)
    made.__module__ = rule.__module__
    return cpu_loop(made)


@_intrinsic
def _step(typing_context, rule, arrays, i, h):
    """Step element i."""
    wide = h[0]
    signature = rule.get_call_type(typing_context, (*[wide] * len(arrays), h), {})
    results = len(signature.return_type) if isinstance(signature.return_type, types.BaseTuple) else 1
    targets = [0, *range(len(arrays) + 1 - results, len(arrays))]

    def generate(context, builder, outer, arguments):
        call = context.get_function(rule, signature)
        context.add_linking_libs(call.libs)
        places = list(_places(context, builder, arrays, *arguments[1:3]))
        numbers = [context.cast(builder, builder.load(place), x.dtype, wide) for x, place in zip(arrays, places)]
        result = call(builder, (*numbers, arguments[3]))
        columns = cgutils.unpack_tuple(builder, result) if results > 1 else [result]
        for target, new in zip(targets, columns):
            builder.store(context.cast(builder, new, wide, arrays[target].dtype), places[target])
        return context.get_dummy_value()

    return types.void(rule, arrays, i, h), generate


@_intrinsic
def _ask(typing_context, arrays, i):
    """Have a tile of each array fetched, from element i on. There need not be one."""

    def generate(context, builder, signature, arguments):
        byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
        fetch = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        for x, place in zip(arrays, _places(context, builder, arrays, *arguments)):
            for line in range(0, TILE * np.dtype(str(x.dtype)).itemsize, LINE):
                start = builder.gep(builder.bitcast(place, byte), [ir.IntType(64)(line)])
                builder.call(fetch, [start, flag(0), flag(3), flag(1)])  # to read, into the nearest cache, data
        return context.get_dummy_value()

    return types.void(arrays, i), generate


def _places(context: Any, builder: Any, arrays: Any, value: Any, i: Any) -> Any:
    """Yield where element i of each array is."""
    for x, item in zip(arrays, cgutils.unpack_tuple(builder, value)):
        yield cgutils.get_item_pointer(context, builder, x, context.make_array(x)(context, builder, item), [i])
