"""A chunk of the tree of sums with its lanes in registers, for loops that read many vectors.

Compiled from Python, a loop over the lanes keeps them in memory, and LLVM takes half of AVX-512's registers. Here they
are LLVM's own vectors: 16 lanes go down the rows of a chunk, then the next 16. Rows are too far apart for the
processor to fetch them in advance, so that the loop asks for what is needed next.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from refoptim.kernels.jit import cpu_part
from refoptim.kernels.pairs import CHUNK, LANES
from refoptim.kernels.prefetch import ask_for
from refoptim.kernels.reductions import dot_chunk, fold_lanes

# As many lanes as two of the widest registers hold.
STRIP = 16
_ROWS = CHUNK // LANES

# Numba passes a typing context that the caller does not: to a type checker the two signatures do not agree.
_intrinsic: Any = intrinsic


@_intrinsic
def vector(typing_context, like, address):
    """Return the vector at an address, which is of the same type and size as another."""

    def generate(context, builder, signature, arguments):
        found = context.make_array(like)(context, builder, arguments[0])
        found.data = builder.inttoptr(arguments[1], found.data.type)
        # Who has the address keeps the vector alive.
        found.meminfo, found.parent = found.meminfo.type(None), found.parent.type(None)
        return found._getvalue()

    return like(like, address), generate


@_intrinsic
def _sum_strip(typing_context, sums, x, ys, strip, ahead):
    """Sum the products of x with each of ys, over a whole chunk and the lanes of one strip, as pairs.

    The numbers in ys are of the type of x, but may lie there as float64. Each strip also asks for its share of the
    chunk that is ahead.
    """
    itemsize = x.dtype.bitwidth // 8

    def generate(context, builder, signature, arguments):
        strip = arguments[3]
        first, following, *others = (
            context.make_array(kind)(context, builder, array).data
            for kind, array in zip(
                (x, x, *ys), (arguments[1], arguments[4], *cgutils.unpack_tuple(builder, arguments[2])), strict=True
            )
        )
        wide = strip_of(STRIP)
        zero = ir.Constant(wide, [0.0] * STRIP)
        pairs = [[cgutils.alloca_once_value(builder, zero) for _ in range(2)] for _ in others]
        start = builder.mul(strip, strip.type(STRIP))
        with cgutils.for_range(builder, strip.type(_ROWS)) as row:
            at = builder.add(start, builder.mul(row.index, strip.type(LANES)))
            a = load(builder, first, at)
            for other, pair in zip(others, pairs, strict=True):
                add_product(builder, pair, a, load(builder, other, at), exact=itemsize < 8)
            turn = builder.add(builder.mul(strip, strip.type(_ROWS)), row.index)
            place = builder.gep(following, [builder.mul(turn, strip.type(STRIP))])
            ask_for(builder, place, STRIP * itemsize, cache=2)
        data = context.make_array(sums)(context, builder, arguments[0]).data
        for i, part in enumerate(part for pair in pairs for part in pair):
            place = builder.gep(data, [builder.add(start, strip.type(i * LANES))])
            builder.store(builder.load(part), builder.bitcast(place, wide.as_pointer()), align=8)
        return context.get_dummy_value()

    return types.void(sums, x, ys, strip, ahead), generate


def strip_of(width):
    """Return the type of so many neighbours as float64."""
    return ir.VectorType(ir.DoubleType(), width)


def load(builder, data, index, width=STRIP):
    """Load neighbours, as float64."""
    kind, wide = data.type.pointee, strip_of(width)
    place = builder.bitcast(builder.gep(data, [index]), ir.VectorType(kind, width).as_pointer())
    # The start of a vector is aligned for an element, not for a register.
    values = builder.load(place, align=4 if isinstance(kind, ir.FloatType) else 8)
    return values if values.type == wide else builder.fpext(values, wide)


def add_product(builder, pair, a, b, exact):
    """Add a product to a pair, as :mod:`refoptim.kernels.pairs` says; an exact one leaves nothing to the low half."""
    high, low = map(builder.load, pair)
    wide = high.type
    fma = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(wide, [wide] * 3), f"llvm.fma.v{wide.count}f64"
    )
    if exact:
        # Where the product is exact, to add it in the same operation has the same bits.
        total = builder.call(fma, [a, b, high])
        added = builder.fsub(total, high)
        rest = builder.call(fma, [a, b, builder.fneg(added)])
    else:
        product = builder.fmul(a, b)
        total = builder.fadd(high, product)
        added = builder.fsub(total, high)
        rest = builder.fsub(product, added)
        low = builder.fadd(low, builder.call(fma, [a, b, builder.fneg(product)]))
    lost = builder.fadd(builder.fsub(high, builder.fsub(total, added)), rest)
    builder.store(total, pair[0])
    builder.store(builder.fadd(low, lost), pair[1])


@cpu_part
def dot_whole_chunk(lanes, x, ys, ahead):
    """Sum the products of x with each of ys over the first chunk of them, into the first column of the lanes' pairs.

    What is asked for meanwhile is the first chunk of what is ahead.
    """
    for strip in range(LANES // STRIP):
        _sum_strip(lanes, x, ys, strip, ahead)
    for i in range(len(ys)):
        lanes[i, 0, 0], lanes[i, 1, 0] = fold_lanes(lanes[i, 0], lanes[i, 1])


@cpu_part
def dot_any_chunk(x, y, start):
    """Return the sum of the products of two vectors over the chunk that starts here, which may be cut short."""
    stop = start + CHUNK
    if stop > x.size:
        return dot_chunk(x, y, start, stop)
    lanes = np.empty((1, 2, LANES))
    dot_whole_chunk(lanes, x[start:], (y[start:],), y[stop:])
    return lanes[0, 0, 0], lanes[0, 1, 0]
