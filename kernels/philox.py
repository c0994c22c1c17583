"""The random bits of stochastic rounding: Philox4x32-7, with element and step as the counter.

They are one long row of bits for every step and result: block after block, 128 bits each, the lower ones first. The
rounding of element ``i`` takes those from ``16 * i`` on, so that eight neighbours share a block, and whoever draws for
an element, in whatever order, finds the same ones. Where a rounding takes 32 bits, the later ones are those of the next
element, and decide between chances that are 2**-16 apart.

Blocks are computed side by side in vector registers, into a buffer that stays in the cache.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, NamedTuple

from llvmlite import ir
from numba.core import cgutils

from refoptim.kernels.operations import constant, everywhere

# By Salmon, Moraes, Dror and Shaw: "Parallel Random Numbers: As Easy as 1, 2, 3", 2011. Seven rounds pass all tests of
# BigCrush; the ten that are usual are seven and a margin.
ROUNDS = 7
MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
WEYL = 0x9E3779B9, 0xBB67AE85

# Elements that share a block, blocks that are computed side by side, and elements of a tile of these.
SHARE = 8
BLOCKS = 16
TILE = SHARE * BLOCKS
# How many elements are drawn for at a time, by the bits that a rounding takes: few, so that a processor draws for some
# while it steps others. With 32 bits, as the last element takes some of the next tile, many.
SPANS = {16: 2 * TILE, 32: 8 * TILE}
SPAN = max(SPANS.values())
# Results of one element: each has a row of bits of its own.
RESULTS = 8

_I8, _I16, _I32, _I64 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64)
_LANES, _WORDS = ir.VectorType(_I64, BLOCKS), ir.VectorType(_I32, 2 * BLOCKS)
_WORD = 0xFFFFFFFF
_ROOM = SPAN + TILE  # elements of a buffer, with those that follow the last one
_LINE = 64  # bytes, for which the buffer is aligned


class Draws(NamedTuple):
    """Where random bits are."""

    low: int  # of the seed
    high: int
    step: int
    stream: int
    place: int  # of element 0


def philox(builder: Any, counter: Sequence[Any], key: Sequence[Any]) -> list[Any]:
    """Return four words of random bits for four words of a counter and two of a key.

    Words are the lower halves of 64 bits, or of vectors of those, which is what a multiplication takes and gives. The
    upper halves may be anything, before and after.
    """
    return _rounds(builder, counter, key, ROUNDS)[0]


def _rounds(builder: Any, counter: Sequence[Any], key: Sequence[Any], count: int) -> tuple[list[Any], list[Any]]:
    """Return counter and key after so many rounds. What is no vector stays so until it meets one."""
    a, b, c, d = counter
    for _ in range(count):
        product_a, product_c = _products(builder, a, c)
        a, b = _xor(builder, _lower(builder, product_c), b, key[0]), product_c
        c, d = _xor(builder, _lower(builder, product_a), d, key[1]), product_a
        key = [builder.add(part, constant(part.type, weyl)) for part, weyl in zip(key, WEYL)]
    return [a, b, c, d], list(key)


def _products(builder: Any, a: Any, c: Any) -> list[Any]:
    """Return the two products of a round, of which both halves are taken."""
    return [
        builder.mul(builder.and_(x, constant(x.type, _WORD)), constant(x.type, multiplier))
        for x, multiplier in zip((a, c), MULTIPLIERS)
    ]


def _blocks(builder: Any, counter: Sequence[Any], key: Sequence[Any]) -> Any:
    """Return the words of many blocks as one vector, block after block."""
    (a, b, c, d), key = _rounds(builder, counter, key, ROUNDS - 1)
    # In the last round, a product has one of its halves where the new words belong, and its other half is one of them.
    halves = [
        _xor(builder, builder.bitcast(product, _WORDS), *(_upper(builder, word) for word in others))
        for product, others in zip(_products(builder, a, c), ((d, key[1]), (b, key[0])))
    ]
    # A word is the first half of its 64 bits in memory: all processors that Numba generates code for are little-endian.
    places = [place + half for i in range(0, 2 * BLOCKS, 2) for half in (0, 2 * BLOCKS) for place in (i + 1, i)]
    return _shuffled(builder, halves[1], halves[0], places)


def fill(
    builder: Any,
    draws: Any,
    first: Any,
    stop: Any,
    bits: int,
    results: int,
    result: Any = 0,
    meanwhile: Callable[[Any], None] = lambda _: None,
) -> tuple[Any, Any]:
    """Draw for elements from a first one on. Return where element 0 would have its bits, and before which one they end.

    Args:
        builder: of the function that is being generated.
        draws: as :class:`Draws`.
        first: the first element.
        stop: the element behind the last one; what does not fit into the buffer is left out.
        bits: how many a rounding takes: 16 or 32.
        results: how many results an element has.
        result: the number of the first one.
        meanwhile: generates what else is to be done for every tile, given its first element.

    """
    *key, step, stream, place = draws
    row = builder.add(builder.mul(stream, _I64(RESULTS)), result or _I64(0))
    start = builder.add(place, first)
    origin = builder.and_(start, _I64(-TILE))
    skipped = builder.sub(start, origin)
    count = builder.add(skipped, builder.sub(stop, first))
    count = builder.select(builder.icmp_unsigned("<", count, _I64(SPANS[bits])), count, _I64(SPANS[bits]))
    buffer = cgutils.alloca_once(builder, ir.ArrayType(_I16, _ROOM * results))
    buffer.align = _LINE
    buffer = builder.bitcast(buffer, _I16.as_pointer())
    tiles = builder.udiv(builder.add(count, _I64(TILE if bits > 16 else TILE - 1)), _I64(TILE))
    with cgutils.for_range(builder, tiles) as tile:
        at = builder.mul(tile.index, _I64(TILE))
        meanwhile(builder.add(first, at))
        # They share the upper word of their number, because the first of them is a multiple of their count.
        block = builder.udiv(builder.add(origin, at), _I64(SHARE))
        above = builder.lshr(block, _I64(32))
        block = builder.add(everywhere(builder, _LANES, block), ir.Constant(_LANES, list(range(BLOCKS))))
        # Not unrolled, which would take a second more to compile.
        with cgutils.for_range(builder, _I64(results)) as number:
            drawn = _blocks(builder, [block, above, step, builder.add(row, number.index)], key)
            target = builder.gep(buffer, [builder.add(at, builder.mul(number.index, _I64(_ROOM)))])
            builder.store(drawn, builder.bitcast(target, drawn.type.as_pointer()), align=_LINE)
    zero = builder.gep(buffer, [builder.sub(skipped, first)])
    return builder.bitcast(zero, _I8.as_pointer()), builder.add(first, builder.sub(count, skipped))


def bits_of(builder: Any, zero: Any, i: Any, count: int, result: int = 0) -> Any:
    """Return the bits for a result of element i, so many and the first ones in the upper half.

    Args:
        builder: of the function that is being generated.
        zero: where the bits of element 0 are.
        i: the element.
        count: how many bits its rounding takes: 16 or 32.
        result: the number of the result.

    """
    own, following = (_loaded(builder, zero, builder.add(i, _I64(j)), result, _I16) for j in range(2))
    word = builder.zext(own, _I32)
    return word if count == 16 else builder.or_(builder.shl(word, _I32(16)), builder.zext(following, _I32))


def words_of(builder: Any, zero: Any, i: Any, count: int, bits: int, result: int) -> Any:
    """Return a vector of the bits for a result of so many elements, as ``bits_of`` for each."""
    words = ir.VectorType(_I32, count)
    if bits == 16:
        return builder.zext(_loaded(builder, zero, i, result, ir.VectorType(_I16, count)), words)
    halves = _loaded(builder, zero, i, result, ir.VectorType(_I16, 2 * count))
    return builder.bitcast(_shuffled(builder, halves, halves, [n for i in range(count) for n in (i + 1, i)]), words)


def pairs_of(builder: Any, zero: Any, i: Any, count: int, result: int) -> Any:
    """Return a vector of the bits for a result of so many pairs of elements, as ``bits_of`` for each."""
    return _loaded(builder, zero, i, result, ir.VectorType(_I32, count))


def _loaded(builder: Any, zero: Any, i: Any, result: int, kind: Any) -> Any:
    """Load what begins with the bits of element i."""
    base = builder.bitcast(zero, _I16.as_pointer())
    place = builder.gep(base, [builder.add(i, _I64(result * _ROOM))])
    return builder.load(builder.bitcast(place, kind.as_pointer()), align=2)


def _xor(builder: Any, *words: Any) -> Any:
    """Return the exclusive or, a vector if one of them is."""
    single = [word for word in words if not isinstance(word.type, ir.VectorType)]
    wide = [word for word in words if isinstance(word.type, ir.VectorType)]
    if single and wide:
        single = [everywhere(builder, _LANES, reduce(builder.xor, single))]
    return reduce(builder.xor, [*wide, *single])


def _lower(builder: Any, product: Any) -> Any:
    """Return the upper halves of 64 bits as lower ones, below anything."""
    if not isinstance(product.type, ir.VectorType):
        return builder.lshr(product, _I64(32))
    # Not by a shift, which is for the port of a processor that shifts elsewhere, too, and permutes nowhere.
    words = builder.bitcast(product, _WORDS)
    places = [place for i in range(1, 2 * BLOCKS, 2) for place in (i, i)]
    return builder.bitcast(_shuffled(builder, words, words, places), product.type)


def _upper(builder: Any, word: Any) -> Any:
    """Return words as the upper halves of 64 bits, above zeros."""
    if not isinstance(word.type, ir.VectorType):
        word = everywhere(builder, _LANES, word)
    # A shift would be folded into the multiplication that the word is from, which would become a slow one of 64 bits.
    words = builder.bitcast(word, _WORDS)
    places = [place for i in range(0, 2 * BLOCKS, 2) for place in (2 * BLOCKS, i)]
    return _shuffled(builder, words, constant(_WORDS, 0), places)


def _shuffled(builder: Any, a: Any, b: Any, places: list[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_I32, len(places)), places))
