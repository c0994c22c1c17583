"""The copy of a gradient, and its products with the last one, their difference and a direction, in one pass.

The bits are those of :mod:`refoptim.kernels.lanes`. The difference is rounded to the vectors' type, but not written.
"""

from collections.abc import Callable, Sequence

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from refoptim.kernels.intrinsics import intrinsic
from refoptim.kernels.jit import cpu_part
from refoptim.kernels.lanes import STRIP, add_product, fold, load_as_is, strip_of, whole, widened
from refoptim.kernels.magnitudes import largest_chunk
from refoptim.kernels.pairs import CHUNK, LANES
from refoptim.kernels.prefetch import ask_for

_ROWS = CHUNK // LANES
# Products of the gradient g, the last one b, their difference y and the direction d, as in ``cg.Products``. Polak and
# Ribière take the first three; the fourth is the slope.
PRODUCTS, FEW = ("gg", "bb", "gy", "dg", "yy", "dy", "dd"), 4


def _strip_with(products: Sequence[str]) -> Callable[..., None]:
    """Return what copies x into g over a whole chunk and the lanes of one strip.

    It writes the sums of these products, and the largest number of each lane without its sign. Meanwhile the memory is
    asked for the strip's share of the next chunk, also of what is written, which comes later if nobody asks.
    """

    def generated(typing_context, g, x, b, d, strip, lanes, largest):
        size = g.dtype.bitwidth // 8

        def generate(context, builder, signature, arguments):
            strip = arguments[4]
            target, *sources, sums, numbers = (
                context.make_array(signature.args[i])(context, builder, arguments[i]).data for i in (0, 1, 2, 3, 5, 6)
            )
            zero, bits = ir.Constant(strip_of(STRIP), [0.0] * STRIP), ir.VectorType(ir.IntType(8 * size), STRIP)
            pairs = [[cgutils.alloca_once_value(builder, zero) for _ in range(2)] for _ in products]
            most = cgutils.alloca_once_value(builder, ir.Constant(bits, [0] * STRIP))
            unsigned = ir.Constant(bits, [(1 << 8 * size - 1) - 1] * STRIP)
            start = builder.mul(strip, strip.type(STRIP))
            with cgutils.for_range(builder, strip.type(_ROWS)) as row:
                at = builder.add(start, builder.mul(row.index, strip.type(LANES)))
                found = {name: load_as_is(builder, data, at) for name, data in zip("gbd", sources, strict=True)}
                found["y"] = builder.fsub(found["g"], found["b"])
                place = builder.bitcast(builder.gep(target, [at]), found["g"].type.as_pointer())
                builder.store(found["g"], place, align=size)
                both = builder.and_(builder.bitcast(found["g"], bits), unsigned), builder.load(most)
                builder.store(builder.select(builder.icmp_unsigned(">", *both), *both), most)
                wide = {name: widened(builder, values) for name, values in found.items()}
                for (first, second), pair in zip(products, pairs, strict=True):
                    add_product(builder, pair, wide[first], wide[second], is_exact=size < 8)
                turn = builder.add(builder.mul(strip, strip.type(_ROWS)), row.index)
                ahead = builder.add(builder.mul(turn, strip.type(STRIP)), strip.type(CHUNK))
                for data in (target, *sources):
                    ask_for(builder, builder.gep(data, [ahead]), STRIP * size, cache=2)
            for i, part in enumerate(part for pair in pairs for part in pair):
                place = builder.gep(sums, [builder.add(start, strip.type(i * LANES))])
                builder.store(builder.load(part), builder.bitcast(place, zero.type.as_pointer()), align=8)
            place = builder.bitcast(builder.gep(numbers, [start]), bits.as_pointer())
            builder.store(builder.load(most), place, align=size)
            return context.get_dummy_value()

        return types.void(g, x, b, d, strip, lanes, largest), generate

    return intrinsic(generated)


_strip_with_few, _strip_with_all = _strip_with(PRODUCTS[:FEW]), _strip_with(PRODUCTS)


@cpu_part
def measured_chunk(g, x, b, d, sums, chunk):
    """Copy a chunk of x into g, and write the sums of all products, or of the first few, and how large it is.

    The vectors may be the same ones.
    """
    start, count = chunk * CHUNK, sums.shape[0] // 2
    lanes, numbers = np.empty((count, 2, LANES)), np.empty(LANES, g.dtype)
    part, x, b, d = g[start:], x[start:], b[start:], d[start:]
    if part.size < CHUNK:
        for k in range(part.size):
            part[k] = x[k]
        part = x = whole(x, np.empty(CHUNK, g.dtype))
        b, d = whole(b, np.empty(CHUNK, g.dtype)), whole(d, np.empty(CHUNK, g.dtype))
    for strip in range(LANES // STRIP):
        if count == FEW:
            _strip_with_few(part, x, b, d, strip, lanes, numbers)
        else:
            _strip_with_all(part, x, b, d, strip, lanes, numbers)
    for i in range(count):
        sums[i, chunk], sums[count + i, chunk] = fold(lanes[i], g)
    sums[-1, chunk] = largest_chunk(numbers, 0)
