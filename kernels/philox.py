"""The random bits of stochastic rounding: Philox4x32-7, with element and step as the counter.

They are one long row of bits for every step: block after block, 128 bits each, the lower ones first. Two neighbours
``2 i`` and ``2 i + 1`` share the 16 bits from ``16 i`` on, times a power of ``SPREAD`` modulo 2**16, an odd one for the
second of them, and a power by two higher for each further result: their roundings are the coordinates of a point of a
lattice. Each alone is spread evenly over all 2**16 values, and of any two the joint distribution is that of independent
ones but for 2**-12. Sixteen elements share a block, and whoever draws for one, in whatever order, finds the same bits.

Blocks are computed side by side in vector registers, into buffers that stay in the cache, two in turn.
"""

from collections.abc import Sequence
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from refoptim.kernels.intrinsics import intrinsic
from refoptim.kernels.operations import constant, everywhere

# By Salmon, Moraes, Dror and Shaw: "Parallel Random Numbers: As Easy as 1, 2, 3", 2011. Seven rounds pass all tests of
# BigCrush; the ten that are usual are seven and a margin.
ROUNDS = 7
MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
WEYL = 0x9E3779B9, 0xBB67AE85

# Among odd numbers of 16 bits one whose first seven powers make good lattices with 1 and with each other: the shortest
# vector of any two has a length of 160, where 275 is the limit.
SPREAD = 29027

# Elements that share the same 16 bits, those that share a block, blocks that are computed side by side, and elements of
# a tile of these, for which bits are drawn at a time: few, so that a processor draws for some while it steps others.
PAIR = 2
SHARE = 8 * PAIR
BLOCKS = 32
TILE = SHARE * BLOCKS

_I8, _I16, _I32, _I64 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64)
_LANES, _WORDS = ir.VectorType(_I64, BLOCKS), ir.VectorType(_I32, 2 * BLOCKS)
_SHORTS = ir.VectorType(_I16, 32)
_WORD = 0xFFFFFFFF
_LINE = 64  # bytes, for which the buffer is aligned


class Draws(NamedTuple):
    """Where the random bits of some results are."""

    low: int  # of the seed
    high: int
    step: int
    stream: int
    place: int  # of element 0
    factor: int = 1  # of the first one, see ``factor``


def factor(result: int, place: int = 0) -> int:
    """Return what the bits of a pair are multiplied by for a result of one of its elements."""
    return pow(SPREAD, PAIR * result + place, 1 << 16)


def of_result(draws: Any, result: int) -> Any:
    """Return where the random bits are for results from this one on, given an array of ``Draws`` for the first."""
    return np.array(Draws(*draws)._replace(factor=factor(result)), np.uint64)


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


def fill(builder: Any, draws: Any, first: Any, stop: Any) -> tuple[Any, Any]:
    """Draw for elements from a first one on. Return where element 0 would have its bits, and before which one they end.

    Args:
        builder: of the function that is being generated.
        draws: as :class:`Draws`.
        first: the first element.
        stop: the element behind the last one; those of another tile than the first one's are left out.

    """
    *key, step, stream, place, factor = draws
    start = builder.add(place, first)
    origin = builder.and_(start, _I64(-TILE))
    skipped = builder.sub(start, origin)
    buffer = cgutils.alloca_once(builder, ir.ArrayType(_I16, 2 * TILE))
    buffer.align = _LINE
    buffer = builder.bitcast(buffer, _I16.as_pointer())
    # Who steps in two stages has begun elements of the tile before, so that this one is not written over yet.
    buffer = builder.gep(buffer, [builder.and_(origin, _I64(TILE))])
    # They share the upper word of their number, because the first of them is a multiple of their count.
    block = builder.udiv(origin, _I64(SHARE))
    above = builder.lshr(block, _I64(32))
    block = builder.add(everywhere(builder, _LANES, block), ir.Constant(_LANES, list(range(BLOCKS))))
    drawn = _blocks(builder, [block, above, step, stream], key)
    drawn = builder.bitcast(drawn, ir.VectorType(_I16, TILE // PAIR))
    factor = everywhere(builder, _SHORTS, builder.trunc(factor, _I16))
    factor = builder.mul(factor, ir.Constant(_SHORTS, [1, SPREAD] * (_SHORTS.count // PAIR)))
    for at in range(0, TILE, _SHORTS.count):
        shared = _shuffled(builder, drawn, drawn, [(at + i) // PAIR for i in range(_SHORTS.count)])
        target = builder.gep(buffer, [_I64(at)])
        builder.store(builder.mul(shared, factor), builder.bitcast(target, _SHORTS.as_pointer()), align=_LINE)
    zero = builder.gep(buffer, [builder.sub(skipped, first)])
    end = builder.add(first, builder.sub(_I64(TILE), skipped))
    end = builder.select(builder.icmp_signed("<", end, stop), end, stop)
    return builder.bitcast(zero, _I8.as_pointer()), end


def kind_of_words(draws: Any) -> Any:
    """Return the type of what is drawn."""
    return types.none if draws == types.none else types.voidptr


@intrinsic
def draw(typing_context, draws, first, stop):
    """Draw for some elements, as :func:`fill` does; or, given None, nothing for all of them."""
    words = kind_of_words(draws)

    def generate(context, builder, signature, arguments):
        given, first, stop = arguments
        if words == types.none:
            made = context.get_dummy_value(), stop
        else:
            made = fill(builder, cgutils.unpack_tuple(builder, given), first, stop)
        return context.make_tuple(builder, signature.return_type, made)

    return types.Tuple((words, types.intp))(draws, first, stop), generate


def bits_of(builder: Any, zero: Any, i: Any, result: int = 0) -> Any:
    """Return the 16 bits for a result of element i, as a word, given where those of element 0 are."""
    return words_of(builder, zero, i, 1, result)


def words_of(builder: Any, zero: Any, i: Any, count: int, result: int) -> Any:
    """Return a vector of the bits for a result of so many elements, as ``bits_of`` for each."""
    shorts = _loaded(builder, zero, i, count)
    shorts = builder.mul(shorts, constant(shorts.type, factor(result))) if result else shorts
    return builder.zext(shorts, ir.VectorType(_I32, count) if count > 1 else _I32)


def pairs_of(builder: Any, zero: Any, i: Any, count: int, result: int) -> list[Any]:
    """Return the words for a result of so many pairs of elements, a vector of the first ones and one of the others."""
    words, shorts = ir.VectorType(_I32, count), ir.VectorType(_I16, 2 * count)
    first = builder.bitcast(_loaded(builder, zero, i, 2 * count), words)
    pairs = first, builder.lshr(first, constant(words, 16))
    # Times 0, the upper halves are gone as well.
    by = ir.Constant(shorts, [factor(result), 0] * count)
    return [builder.bitcast(builder.mul(builder.bitcast(pair, shorts), by), words) for pair in pairs]


def _loaded(builder: Any, zero: Any, i: Any, count: int) -> Any:
    """Load the bits of so many elements from element i on."""
    kind = ir.VectorType(_I16, count) if count > 1 else _I16
    place = builder.gep(builder.bitcast(zero, _I16.as_pointer()), [i])
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
