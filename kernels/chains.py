"""Sums of products of many vectors with a few others, in one pass over the memory.

The bits are those of :mod:`refoptim.kernels.lanes`.

Columns meet all rows strip by strip, two at a time, as float64 side by side, where they stay in the first cache. Rows
are too far apart for the processor to fetch them in advance, so that the loop asks for what comes soon.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils

from refoptim.kernels.intrinsics import intrinsic
from refoptim.kernels.jit import cpu_part
from refoptim.kernels.lanes import add_product, fold, load, strip_of, vector, whole
from refoptim.kernels.pairs import CHUNK, LANES
from refoptim.kernels.prefetch import LINE, ask_for

_ROWS = CHUNK // LANES
# How many bytes of a row of lanes are a strip, and how many vectors ahead the memory is asked for one.
STRIP, _AHEAD = 2 * LINE, 4


@intrinsic
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
                add_product(builder, pair, a, b, is_exact=itemsize < 8)
            ask_for(builder, builder.gep(following, [at]), STRIP, cache=2)
        for i, part in enumerate(part for pair in pairs for part in pair):
            place = builder.gep(data, [builder.add(start, strip.type(i * LANES))])
            builder.store(builder.load(part), builder.bitcast(place, zero.type.as_pointer()), align=8)
        return context.get_dummy_value()

    return types.void(lanes, x, columns, strip, ahead), generate


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
            _widen(whole(vector(like, columns[left])[start:], space), strip, both[0])
            _widen(whole(vector(like, columns[right])[start:], space), strip, both[1])
            # Behind the last row come the next lanes of the first one, or those of its next chunk.
            here = start + strip * width
            there = here + width if (strip + 1) * width < LANES else start + CHUNK
            for i in range(rows.size):
                k = i + rows_ahead
                ahead = vector(like, rows[k])[here:] if k < rows.size else vector(like, rows[k - rows.size])[there:]
                _sum_strip(lanes[i], whole(vector(like, rows[i])[start:], space), both, strip, ahead)
        for i in range(rows.size):
            for j, column in ((0, left), (1, right)):
                high[i, column, chunk], low[i, column, chunk] = fold(lanes[i, j], like)
