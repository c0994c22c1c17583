"""The largest magnitude of a chunk, by the bits of its numbers.

Without the sign, those of the larger number are the larger integer, and those of NaN the largest of all. So nothing is
converted on the way, and LLVM takes many at a time, in whatever order.
"""

from llvmlite import ir
from numba import types

from refoptim.kernels.half_arrays import number
from refoptim.kernels.intrinsics import intrinsic
from refoptim.kernels.jit import cpu_part
from refoptim.kernels.pairs import CHUNK

_INTEGERS = {32: types.uint32, 64: types.uint64}


@intrinsic
def _unsigned(typing_context, x):
    """Return the bits of a number without its sign."""

    def generate(context, builder, signature, arguments):
        bits = ir.IntType(x.bitwidth)
        return builder.and_(builder.bitcast(arguments[0], bits), bits((1 << x.bitwidth - 1) - 1))

    return _INTEGERS[x.bitwidth](x), generate


@intrinsic
def _larger(typing_context, a, b):
    """Return the larger of two integers of one type."""

    def generate(context, builder, signature, arguments):
        return builder.select(builder.icmp_unsigned(">", *arguments), *arguments)

    return a(a, b), generate


@intrinsic
def _restored(typing_context, bits, like):
    """Return the number with these bits as float64."""

    def generate(context, builder, signature, arguments):
        found = builder.bitcast(arguments[0], context.get_data_type(like))
        return context.cast(builder, found, like, types.float64)

    return types.float64(bits, like), generate


@cpu_part
def largest_chunk(x, start):
    """Return the largest magnitude in the chunk that starts here, NaN if there is one."""
    part = x[start : start + CHUNK]
    first = number(part[0])
    largest = _unsigned(first)
    for i in range(part.size):
        largest = _larger(largest, _unsigned(number(part[i])))
    return _restored(largest, first)
