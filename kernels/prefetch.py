"""Ask the memory for what a loop needs next, in code that is being generated, and copies that do."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from refoptim.kernels.intrinsics import intrinsic
from refoptim.kernels.jit import cpu_part

LINE = 64  # bytes that the memory sends at once

# How many lines ahead a copy asks for what it writes.
_AHEAD = 64
_BYTE, _FLAG = ir.IntType(8).as_pointer(), ir.IntType(32)
_KIND = ir.FunctionType(ir.VoidType(), [_BYTE, _FLAG, _FLAG, _FLAG])


def ask_for(builder: Any, start: Any, size: int, cache: int = 1) -> None:
    """Ask for the lines that so many bytes lie in, to be read, into the first or the second cache.

    A pointer that nothing is at does no harm.
    """
    fetch = builder.module.declare_intrinsic("llvm.prefetch", [_BYTE], _KIND)
    start = builder.bitcast(start, _BYTE)
    for place in range(0, size, LINE):
        line = builder.gep(start, [ir.IntType(64)(place)])
        builder.call(fetch, [line, _FLAG(0), _FLAG(4 - cache), _FLAG(1)])


@intrinsic
def _copy_lines(typing_context, z, x, count):
    """Copy so many lines."""

    def generate(context, builder, signature, arguments):
        kind, size = context.get_data_type(z.dtype), z.dtype.bitwidth // 8
        line = ir.VectorType(kind, LINE // size).as_pointer()
        target, source = (
            builder.bitcast(context.make_array(signature.args[i])(context, builder, arguments[i]).data, line)
            for i in range(2)
        )
        with cgutils.for_range(builder, arguments[2]) as row:
            ask_for(builder, builder.gep(target, [builder.add(row.index, row.index.type(_AHEAD))]), LINE)
            values = builder.load(builder.gep(source, [row.index]), align=size)
            builder.store(values, builder.gep(target, [row.index]), align=size)
        return context.get_dummy_value()

    return types.void(z, x, count), generate


@cpu_part
def copy_chunk(z, x):
    """Copy x to where z begins. Lines that are asked for come earlier than those that are written unasked."""
    width = LINE // z.itemsize
    lines = x.size // width
    _copy_lines(z, x, lines)
    for k in range(lines * width, x.size):
        z[k] = x[k]
