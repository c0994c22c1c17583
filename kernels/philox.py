"""The random bits of stochastic rounding: Philox4x32-7, with element and step as the counter.

They are one long row of bits for every step and result: block after block, 128 bits each, the lower ones first. The
rounding of element ``i`` takes those from ``16 * i`` on, so that eight neighbours share a block, and whoever draws for
an element, in whatever order, finds the same ones. Where a rounding takes 32 bits, the later ones are those of the next
element, and decide between chances that are 2**-16 apart.

Blocks are computed side by side in vector registers, into a buffer that stays in the cache.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from llvmlite import ir
from numba.core import cgutils

# By Salmon, Moraes, Dror and Shaw: "Parallel Random Numbers: As Easy as 1, 2, 3", 2011. Seven rounds pass all tests of
# BigCrush; the ten that are usual are seven and a margin.
ROUNDS = 7
MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
WEYL = 0x9E3779B9, 0xBB67AE85

# Elements that share a block, blocks that are computed side by side, and elements that a buffer is for.
SHARE = 8
BLOCKS = 16
TILE = SHARE * BLOCKS
SPAN = 8 * TILE
# Results of one element: each has a row of bits of its own.
RESULTS = 8

_I8, _I16, _I32, _I64 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64)
_LANES, _WORDS = ir.VectorType(_I64, BLOCKS), ir.VectorType(_I32, 2 * BLOCKS)
_WORD = 0xFFFFFFFF
_ROOM = SPAN + TILE  # elements of a buffer, with those that follow the last one
_LINE = 64  # bytes, for which the buffer is aligned


def philox(builder: Any, counter: Sequence[Any], key: Sequence[Any]) -> list[Any]:
    """Return four words of random bits for four words of a counter and two of a key.

    Words are the lower halves of 64 bits, or of vectors of those, which is what a multiplication takes and gives. The
    upper halves may be anything, before and after.
    """
    a, b, c, d = counter
    first, second = key
    constant = partial(_constant, a.type)
    for _ in range(ROUNDS):
        product_a, product_c = (
            builder.mul(builder.and_(x, constant(_WORD)), constant(multiplier))
            for x, multiplier in zip((a, c), MULTIPLIERS)
        )
        a, b = builder.xor(builder.xor(builder.lshr(product_c, constant(32)), b), first), product_c
        c, d = builder.xor(builder.xor(builder.lshr(product_a, constant(32)), d), second), product_a
        first, second = (builder.add(part, constant(weyl)) for part, weyl in zip((first, second), WEYL))
    return [a, b, c, d]


def fill(
    builder: Any,
    draws: Any,
    first: Any,
    stop: Any,
    results: int,
    result: Any = 0,
    meanwhile: Callable[[Any], None] = lambda _: None,
) -> tuple[Any, Any]:
    """Draw for elements from a first one on. Return where element 0 would have its bits, and before which one they end.

    Args:
        builder: of the function that is being generated.
        draws: a pointer to two words of a key, the step, the stream and the place of element 0.
        first: the first element.
        stop: the element behind the last one; what does not fit into the buffer is left out.
        results: how many results an element has.
        result: the number of the first one.
        meanwhile: generates what else is to be done for every tile, given its first element.

    """
    *key, step, stream, place = (builder.load(builder.gep(draws, [_I32(j)])) for j in range(5))
    key, step = [_everywhere(builder, part) for part in key], _everywhere(builder, step)
    row = builder.add(builder.mul(stream, _I64(RESULTS)), result or _I64(0))
    start = builder.add(place, first)
    origin = builder.and_(start, _I64(-TILE))
    skipped = builder.sub(start, origin)
    count = builder.add(skipped, builder.sub(stop, first))
    count = builder.select(builder.icmp_unsigned("<", count, _I64(SPAN)), count, _I64(SPAN))
    buffer = cgutils.alloca_once(builder, ir.ArrayType(_I16, _ROOM * results))
    buffer.align = _LINE
    buffer = builder.bitcast(buffer, _I16.as_pointer())
    with cgutils.for_range(builder, builder.udiv(builder.add(count, _I64(TILE)), _I64(TILE))) as tile:
        at = builder.mul(tile.index, _I64(TILE))
        meanwhile(builder.add(first, at))
        block = _everywhere(builder, builder.udiv(builder.add(origin, at), _I64(SHARE)))
        block = builder.add(block, ir.Constant(_LANES, list(range(BLOCKS))))
        # Not unrolled, which would take a second more to compile.
        with cgutils.for_range(builder, _I64(results)) as number:
            last = _everywhere(builder, builder.add(row, number.index))
            words = philox(builder, [block, builder.lshr(block, _constant(_LANES, 32)), step, last], key)
            bits = _in_a_row(builder, words)
            target = builder.gep(buffer, [builder.add(at, builder.mul(number.index, _I64(_ROOM)))])
            builder.store(bits, builder.bitcast(target, bits.type.as_pointer()), align=_LINE)
    zero = builder.gep(buffer, [builder.sub(skipped, first)])
    return builder.bitcast(zero, _I8.as_pointer()), builder.add(first, builder.sub(count, skipped))


def bits_of(builder: Any, zero: Any, i: Any, count: int, result: int = 0, elements: int = 1) -> Any:
    """Return the bits for a result of element i, so many and the first ones in the upper half, or 16 of two elements.

    Args:
        builder: of the function that is being generated.
        zero: where the bits of element 0 are.
        i: the element.
        count: how many bits its rounding takes: 16 or 32.
        result: the number of the result.
        elements: 1, or 2 for the bits of this element and those of the next one above them.

    """
    base = builder.bitcast(zero, _I16.as_pointer())
    own, following = (builder.gep(base, [builder.add(i, _I64(result * _ROOM + j))]) for j in range(2))
    if elements == 2:
        return builder.load(builder.bitcast(own, _I32.as_pointer()), align=2)
    word = builder.zext(builder.load(own), _I32)
    if count == 16:
        return word
    return builder.or_(builder.shl(word, _I32(16)), builder.zext(builder.load(following), _I32))


def _in_a_row(builder: Any, words: Sequence[Any]) -> Any:
    """Return the words of many blocks as one vector, block after block."""
    a, b, c, d = (builder.bitcast(word, _WORDS) for word in words)
    # A word is the first half of its 64 bits in memory: all processors that Numba generates code for are little-endian.
    places = [place for i in range(0, 2 * BLOCKS, 2) for place in (i, 2 * BLOCKS + i)]
    pairs = [builder.bitcast(_shuffled(builder, x, y, places), _LANES) for x, y in ((a, b), (c, d))]
    return _shuffled(builder, pairs[0], pairs[1], [place for i in range(BLOCKS) for place in (i, BLOCKS + i)])


def _constant(kind: Any, number: int) -> Any:
    return ir.Constant(kind, [number] * kind.count if isinstance(kind, ir.VectorType) else number)


def _everywhere(builder: Any, x: Any) -> Any:
    """Return a vector that has x in all lanes."""
    nothing = ir.Constant(_LANES, ir.Undefined)
    return _shuffled(builder, builder.insert_element(nothing, x, _I32(0)), nothing, [0] * BLOCKS)


def _shuffled(builder: Any, a: Any, b: Any, places: list[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_I32, len(places)), places))
