"""A chunk of the tree of sums with its lanes in registers, for loops over vectors of more than a chunk.

For float64 it has the bits of :mod:`refoptim.kernels.reductions`. Products of float32 numbers are exact in float64,
whose roundings are so far below theirs that within a chunk a sum is one number: a lane is a chain of fmas.

Compiled from Python, a loop over the lanes keeps them in memory, and LLVM takes half of AVX-512's registers. Here they
are LLVM's own vectors: 16 lanes go down the rows of a chunk, then the next 16. Rows are too far apart for the
processor to fetch them in advance, so that the loop asks for what is needed next.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from refoptim.kernels.intrinsics import intrinsic
from refoptim.kernels.jit import cpu_part
from refoptim.kernels.operations import fma
from refoptim.kernels.pairs import CHUNK, LANES
from refoptim.kernels.prefetch import ask_for

# As many lanes as two of the widest registers hold.
STRIP = 16
_ROWS = CHUNK // LANES
# How many lanes are folded at a time.
_LOADED = 8


@intrinsic
def vector(typing_context, like, address):
    """Return the vector at an address, which is of the same type and size as another."""

    def generate(context, builder, signature, arguments):
        found = context.make_array(like)(context, builder, arguments[0])
        found.data = builder.inttoptr(arguments[1], found.data.type)
        # Who has the address keeps the vector alive.
        found.meminfo, found.parent = found.meminfo.type(None), found.parent.type(None)
        return found._getvalue()

    return like(like, address), generate


@intrinsic
def _sum_strip(typing_context, lanes, x, y, strip, ahead):
    """Write the sums of the products of two vectors over a whole chunk and the lanes of one strip.

    Meanwhile the memory is asked for the strip's share of what is ahead.
    """
    itemsize = x.dtype.bitwidth // 8

    def generate(context, builder, signature, arguments):
        strip = arguments[3]
        sums, first, other, following = (
            context.make_array(signature.args[i])(context, builder, arguments[i]).data for i in (0, 1, 2, 4)
        )
        zero = ir.Constant(strip_of(STRIP), [0.0] * STRIP)
        pair = [cgutils.alloca_once_value(builder, zero) for _ in range(2)]
        start = builder.mul(strip, strip.type(STRIP))
        with cgutils.for_range(builder, strip.type(_ROWS)) as row:
            at = builder.add(start, builder.mul(row.index, strip.type(LANES)))
            add_product(builder, pair, load(builder, first, at), load(builder, other, at), is_exact=itemsize < 8)
            turn = builder.add(builder.mul(strip, strip.type(_ROWS)), row.index)
            share = builder.mul(turn, strip.type(STRIP))
            ask_for(builder, builder.gep(following, [share]), STRIP * itemsize, cache=2)
            ask_for(builder, builder.gep(first, [builder.add(share, strip.type(CHUNK))]), STRIP * itemsize, cache=2)
        for i, part in enumerate(pair):
            place = builder.gep(sums, [builder.add(start, strip.type(i * LANES))])
            builder.store(builder.load(part), builder.bitcast(place, zero.type.as_pointer()), align=8)
        return context.get_dummy_value()

    return types.void(lanes, x, y, strip, ahead), generate


def strip_of(width):
    """Return the type of so many neighbours as float64."""
    return ir.VectorType(ir.DoubleType(), width)


def load(builder, data, index, width=STRIP):
    """Load neighbours, as float64."""
    return widened(builder, load_as_is(builder, data, index, width))


def load_as_is(builder, data, index, width=STRIP):
    """Load neighbours."""
    kind = data.type.pointee
    place = builder.bitcast(builder.gep(data, [index]), ir.VectorType(kind, width).as_pointer())
    # The start of a vector is aligned for an element, not for a register.
    return builder.load(place, align=4 if isinstance(kind, ir.FloatType) else 8)


def widened(builder, values):
    """Return neighbours as float64."""
    wide = strip_of(values.type.count)
    return values if values.type == wide else builder.fpext(values, wide)


def add_product(builder, pair, a, b, is_exact):
    """Add a product to a pair, as :mod:`refoptim.kernels.pairs` says; an exact one to its first half, with an fma."""
    high, low = map(builder.load, pair)
    if is_exact:
        builder.store(fma(builder, a, b, high), pair[0])
        return
    product = builder.fmul(a, b)
    total = builder.fadd(high, product)
    added = builder.fsub(total, high)
    rest = builder.fsub(product, added)
    low = builder.fadd(low, fma(builder, a, b, builder.fneg(product)))
    lost = builder.fadd(builder.fsub(high, builder.fsub(total, added)), rest)
    builder.store(total, pair[0])
    builder.store(builder.fadd(low, lost), pair[1])


@intrinsic
def fold(typing_context, lanes, like):
    """Return what is left of pairs of lanes after the upper half was added to the lower half, again and again."""
    pair, is_exact = types.UniTuple(types.float64, 2), like.dtype.bitwidth < 64

    def generate(context, builder, signature, arguments):
        data, index = context.make_array(lanes)(context, builder, arguments[0]).data, ir.IntType(64)
        parts = [
            [load(builder, data, index(half * LANES + i), _LOADED) for half in range(2)]
            for i in range(0, LANES, _LOADED)
        ]
        while len(parts) > 1:
            half = len(parts) // 2
            parts = [_add(builder, *both, is_exact) for both in zip(parts[:half], parts[half:], strict=True)]
        (left,), width = parts, _LOADED
        while width > 1:
            width //= 2
            lower, upper = ([_neighbours(builder, x, first, width) for x in left] for first in (0, width))
            left = _add(builder, lower, upper, is_exact)
        return context.make_tuple(builder, pair, [builder.extract_element(x, ir.IntType(32)(0)) for x in left])

    return pair(lanes, like), generate


def _add(builder, x, y, is_exact):
    """Add pairs as :mod:`refoptim.kernels.pairs` says, or their first halves."""
    (high, low), (a, b) = x, y
    total = builder.fadd(high, a)
    if is_exact:
        return total, low
    added = builder.fsub(total, high)
    lost = builder.fadd(builder.fsub(high, builder.fsub(total, added)), builder.fsub(a, added))
    return total, builder.fadd(builder.fadd(low, b), lost)


def _neighbours(builder, x, first, width):
    """Return a part of a vector."""
    places = ir.Constant(ir.VectorType(ir.IntType(32), width), list(range(first, first + width)))
    return builder.shuffle_vector(x, x, places)


@cpu_part
def whole(chunk, space):
    """Return a chunk, or a copy in a whole one with zeros behind it if it is cut short."""
    if chunk.size >= CHUNK:
        return chunk
    for k in range(CHUNK):
        space[k] = chunk[k] if k < chunk.size else 0.0
    return space


@cpu_part
def _dot_whole_chunk(x, y, ahead):
    lanes = np.empty((2, LANES))
    for strip in range(LANES // STRIP):
        _sum_strip(lanes, x, y, strip, ahead)
    return fold(lanes, x)


@cpu_part
def dot_any_chunk(x, y, start):
    """Return the sum of the products of two vectors over the chunk that starts here, which may be cut short."""
    stop = start + CHUNK
    if stop > x.size:
        a, b = whole(x[start:], np.empty(CHUNK, x.dtype)), whole(y[start:], np.empty(CHUNK, y.dtype))
        return _dot_whole_chunk(a, b, a)
    return _dot_whole_chunk(x[start:], y[start:], y[stop:])
