"""Sums of products of many vectors with a few others, in one pass over the memory.

The tree is that of :mod:`refoptim.kernels.reductions`, and for float64 its bits. Products of float32 numbers are exact
in float64, whose roundings are so far below theirs that within a chunk a sum is one number: a lane is a chain of fmas.

Columns meet all rows strip by strip, two at a time, as float64 side by side, where they stay in the first cache. Rows
are too far apart for the processor to fetch them in advance, so that the loop asks for what comes soon.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from refoptim.kernels.jit import cpu_part
from refoptim.kernels.lanes import add_product, load, strip_of, vector
from refoptim.kernels.pairs import CHUNK, LANES
from refoptim.kernels.prefetch import LINE, ask_for

_ROWS = CHUNK // LANES
# How many bytes of a row of lanes are a strip, and how many vectors ahead the memory is asked for one.
STRIP, _AHEAD = 2 * LINE, 4
# How many lanes are folded at a time.
_LOADED = 8

# Numba passes a typing context that the caller does not: to a type checker the two signatures do not agree.
_intrinsic: Any = intrinsic


@_intrinsic
def _sum_strip(typing_context, lanes, x, columns, strip, ahead):
    """Write the sums of the products of x with two columns over a strip's lanes, which are all that the columns have.

    Meanwhile the memory is asked for as much of what is ahead.
    """
    itemsize = x.dtype.bitwidth // 8
    width = STRIP // itemsize

    def generate(context, builder, signature, arguments):
        strip = arguments[3]
        data, first, both, following = (
            context.make_array(signature.args[i])(context, builder, arguments[i]).data for i in (0, 1, 2, 4)
        )
        zero = ir.Constant(strip_of(width), [0.0] * width)
        pairs = [[cgutils.alloca_once_value(builder, zero) for _ in range(2)] for _ in range(2)]
        start = builder.mul(strip, strip.type(width))
        with cgutils.for_range(builder, strip.type(_ROWS)) as row:
            at = builder.mul(row.index, strip.type(LANES))
            a = load(builder, first, builder.add(start, at), width)
            for i, pair in enumerate(pairs):
                place = builder.mul(builder.add(row.index, strip.type(i * _ROWS)), strip.type(width))
                b = load(builder, both, place, width)
                if itemsize < 8:
                    _add_to_chain(builder, pair[0], a, b)
                else:
                    add_product(builder, pair, a, b, exact=False)
            ask_for(builder, builder.gep(following, [at]), STRIP, cache=2)
        for i, part in enumerate(part for pair in pairs for part in pair):
            place = builder.gep(data, [builder.add(start, strip.type(i * LANES))])
            builder.store(builder.load(part), builder.bitcast(place, zero.type.as_pointer()), align=8)
        return context.get_dummy_value()

    return types.void(lanes, x, columns, strip, ahead), generate


def _add_to_chain(builder, chain, a, b):
    """Add a product in one operation."""
    kind = ir.FunctionType(a.type, [a.type] * 3)
    fma = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{a.type.count}f64")
    builder.store(builder.call(fma, [a, b, builder.load(chain)]), chain)


@_intrinsic
def _fold(typing_context, lanes, like):
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
def _whole(chunk, space):
    """Return a chunk, or a copy in a whole one with zeros behind it if it is cut short."""
    if chunk.size >= CHUNK:
        return chunk
    for k in range(CHUNK):
        space[k] = chunk[k] if k < chunk.size else 0.0
    return space


@cpu_part
def _widen(chunk, strip, column):
    """Write a strip of a chunk as float64."""
    width = column.size // _ROWS
    for row in range(_ROWS):
        # Slices, because loops over their whole length become vector loads.
        at = row * LANES + strip * width
        elements, numbers = chunk[at : at + width], column[row * width : (row + 1) * width]
        for k in range(numbers.size):
            numbers[k] = elements[k]


@cpu_part
def sum_products(like, rows, columns, high, low, chunk, both, lanes, space):
    """Write the sums over a chunk of the products of each row with each column, all of which are addresses.

    It works in two columns of a strip, lanes for all rows, and a chunk.
    """
    start, width, rows_ahead = chunk * CHUNK, STRIP // like.itemsize, min(_AHEAD, rows.size)
    for left in range(0, columns.size, 2):
        # Of an odd number the last one is taken twice.
        right = min(left + 1, columns.size - 1)
        for strip in range(LANES // width):
            _widen(_whole(vector(like, columns[left])[start:], space), strip, both[0])
            _widen(_whole(vector(like, columns[right])[start:], space), strip, both[1])
            # Behind the last row come the next lanes of the first one, or those of its next chunk.
            here = start + strip * width
            there = here + width if (strip + 1) * width < LANES else start + CHUNK
            for i in range(rows.size):
                k = i + rows_ahead
                ahead = vector(like, rows[k])[here:] if k < rows.size else vector(like, rows[k - rows.size])[there:]
                _sum_strip(lanes[i], _whole(vector(like, rows[i])[start:], space), both, strip, ahead)
        for i in range(rows.size):
            for j, column in ((0, left), (1, right)):
                high[i, column, chunk], low[i, column, chunk] = _fold(lanes[i, j], like)
