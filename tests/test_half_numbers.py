"""kernels/half.py: float16 and bfloat16 by integer arithmetic, and the random bits that stochastic rounding takes."""

import math
from fractions import Fraction

import numpy as np
import pytest
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes, extra half, is not installed")

from refoptim.kernels import half, half_arrays, half_loops, half_numbers, half_registers, philox  # noqa: E402
from refoptim.kernels.arithmetic import unpack  # noqa: E402

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
I32 = ir.IntType(32)
DTYPES = [np.dtype(np.float16), BFLOAT16]
ALL_BITS = np.arange(1 << 16, dtype=np.uint16)


@intrinsic
def _wide(typing_context, x):
    def generate(context, builder, signature, arguments):
        return half.widen(builder, x, arguments[0])

    return types.float32(x), generate


@intrinsic
def _drawn(typing_context, like, x, word):
    def generate(context, builder, signature, arguments):
        return half.stochastic(builder, like, arguments[1], arguments[2])

    return like(like, x, word), generate


@intrinsic
def _random(typing_context, words):
    def generate(context, builder, signature, arguments):
        given = [builder.extract_value(arguments[0], number) for number in range(6)]
        return context.make_tuple(builder, signature.return_type, philox.philox(builder, given[:4], given[4:]))

    return types.UniTuple(types.uint64, 4)(words), generate


def _reading(read, *others, place=None):
    @intrinsic
    def bits(typing_context, zero, i):
        def generate(context, builder, signature, arguments):
            found = read(builder, *arguments, *others)
            found = found if place is None else found[place]
            # Of a vector the last one: the bits of an element that is so much later.
            return found if found.type == I32 else builder.extract_element(found, I32(found.type.count - 1))

        return types.uint32(zero, i), generate

    return bits


_first, _second = (_reading(philox.bits_of, result) for result in (0, 1))
_words, *_pairs = _reading(philox.words_of, 4, 1), *(_reading(philox.pairs_of, 2, 1, place=place) for place in (0, 1))
_before, _last = _pairs


@njit
def widened(bits, out):
    for i in range(bits.size):
        out[i] = _wide(bits[i])


@njit
def drawn(out, x, words):
    for i in range(out.size):
        out[i] = _drawn(out[i], x, words[i])


def _by_registers(function):
    """Return what writes a function of registers to an array, given others and the first element."""

    @intrinsic
    def write(typing_context, out, given, i):
        def generate(context, builder, signature, arguments):
            arrays = [arguments[0], *cgutils.unpack_tuple(builder, arguments[1])]
            target, *places = (
                builder.bitcast(place, ir.VectorType(place.type.pointee, half_registers.WIDTH).as_pointer())
                for kind, array in zip((out, *given), arrays)
                for place in [builder.gep(context.make_array(kind)(context, builder, array).data, [arguments[2]])]
            )
            found = function(builder, *(builder.load(place, align=2) for place in places))
            builder.store(found, target, align=2)
            return context.get_dummy_value()

        return types.void(out, given, i), generate

    @njit
    def loop(out, given):
        for i in range(0, out.size, half_registers.WIDTH):
            write(out, given, i)

    return loop


drawn_by_registers, raised_by_registers = map(_by_registers, (half_registers.stochastic, half_registers.raised))


@intrinsic
def _raised(typing_context, x):
    def generate(context, builder, signature, arguments):
        return half.raised(builder, arguments[0])

    return types.uint32(x), generate


@njit
def raised_one_by_one(out, x):
    for i in range(out.size):
        out[i] = _raised(x[i])


@njit
def drawn_one_by_one(out, x, words):
    for i in range(out.size):
        out[i] = _drawn(out[i], x[i], words[i])


@njit
def random_words(words):
    return _random(words)


@njit
def random_bits(draws, first, stop, out):
    """Write what roundings of elements take, and for second results in vectors, where these begin in the buffer."""
    while first < stop:
        zero, end = philox.draw(unpack(philox.Draws, draws), first, stop)
        for i in range(first, end):
            out[i, :2] = _first(zero, i), _second(zero, i)
            if i >= first + 3:
                out[i, 2:] = _words(zero, i - 3), _before(zero, i - 3), _last(zero, i - 3), np.uint32(1)
        first = end


def nearest(values, dtype):
    """Return numbers as half_loops rounds them."""
    out = np.empty(values.shape, dtype)
    half_arrays.store(out, values)
    return out


def stochastic(value, words, dtype):
    """Return what one number becomes with each of the words."""
    out = np.empty(words.size, dtype)
    drawn(half.as_bits(out), value, words)
    return out


def same(left, right):
    """Return which bits agree, NaN with every NaN of its sign."""
    infinity = np.array(np.inf, left.dtype).view(np.uint16)
    left, right = left.view(np.uint16), right.view(np.uint16)
    return (left == right) | ((left & 0x7FFF > infinity) & (right & 0x7FFF > infinity) & (left >> 15 == right >> 15))


def neighbours(dtype):
    """Return the finite numbers of a format that are not negative, in order, as float64."""
    values = ALL_BITS[: 0x7C00 if dtype == np.float16 else 0x7F80].view(dtype)
    return values.astype(np.float64)


def ties(dtype):
    """Return the numbers that lie in the middle of two, and the two float64 beside each."""
    values = neighbours(dtype)
    middles = np.append((values[:-1] + values[1:]) / 2, values[-1] + (values[-1] - values[-2]) / 2)
    return np.concatenate([middles, np.nextafter(middles, -np.inf), np.nextafter(middles, np.inf)])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_number_is_widened_as_numpy_does(dtype):
    out = np.empty(ALL_BITS.size, np.float32)
    widened(half.as_bits(ALL_BITS.view(dtype)), out)
    expected = ALL_BITS.view(dtype).astype(np.float32)
    quiet = np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(out), quiet)
    np.testing.assert_array_equal(out[~quiet].view(np.uint32), expected[~quiet].view(np.uint32))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_number_survives_the_way_there_and_back(dtype):
    values = ALL_BITS.view(dtype)
    for wide in (np.float32, np.float64):
        with np.errstate(invalid="ignore"):
            there = values.astype(wide)
        assert same(nearest(there, dtype), values).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_float32_is_rounded_as_numpy_does(dtype):
    rng = np.random.default_rng(1)
    values = rng.integers(0, 1 << 32, 1_000_000, dtype=np.uint32).view(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.concatenate([values, *(side * ties(dtype).astype(np.float32) for side in (1, -1))])
        expected = values.astype(dtype)
    assert same(nearest(values, dtype), expected).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_float64_is_rounded_once(dtype):
    # A float64 beside the middle of two numbers is in the middle as a float32: to round twice would be wrong.
    values, places = ties(dtype), np.arange(neighbours(dtype).size)
    below = nearest(values, dtype).view(np.uint16).reshape(3, -1)
    np.testing.assert_array_equal(below[0], places + places % 2)
    np.testing.assert_array_equal(below[1], places)
    np.testing.assert_array_equal(below[2], places + 1)
    np.testing.assert_array_equal(nearest(-values, dtype).view(np.uint16), below.reshape(-1) | 0x8000)
    extremes = np.array([1e300, -1e300, 1e-300, -1e-300, math.inf, -math.inf, 5e-324])
    expected = np.array([math.inf, -math.inf, 0.0, -0.0, math.inf, -math.inf, 0.0], dtype)
    assert same(nearest(extremes, dtype), expected).all()
    assert np.isnan(nearest(np.array([math.nan, -math.nan]), dtype)).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_signaling_nan_stays_nan(dtype):
    # Its only bit is one that rounding cuts off.
    values = np.array([0x7F800001, 0xFF800001], np.uint32).view(np.float32)
    assert np.isnan(nearest(values, dtype)).all()
    assert all(np.isnan(stochastic(value, np.array([0, 0xFFFF], np.uint32), dtype)).all() for value in values)


# From the paper's own implementation, Random123: kat_vectors, philox4x32 with 7 rounds.
KNOWN = [
    ((0, 0, 0, 0, 0, 0), (0x5F6FB709, 0x0D893F64, 0x4F121F81, 0x4F730A48)),
    ((0xFFFFFFFF,) * 6, (0x5207DDC2, 0x45165E59, 0x4D8EE751, 0x8C52F662)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0),
        (0x4DFCCABA, 0x190A87F0, 0xC47362BA, 0xB6B5242A),
    ),
]


@pytest.mark.parametrize("above", [0, 0xFFFFFFFF], ids=hex)
@pytest.mark.parametrize(("given", "expected"), KNOWN)
def test_random_words_are_those_of_the_paper(given, expected, above):
    words = random_words(tuple(np.uint64(word | above << 32) for word in given))
    assert tuple(word & 0xFFFFFFFF for word in words) == expected


# Beginning in the middle of a tile and of a block, at its end, over several buffers, and where a counter's word ends.
PLACES = [(0, 300), (5, 1), (255, 3), (1_000, philox.TILE), (77, 3 * philox.TILE), ((1 << 36) - 50, 100)]


@pytest.mark.parametrize(("place", "count"), PLACES)
def test_random_bits_are_one_row_for_every_step_of_which_pairs_take_multiples(place, count):
    seed, step, stream, result = 0x123456789ABCDEF0, 3, 5, 2
    out = np.zeros((count, 6), np.uint32)
    draws = philox.of_result(half_loops.draws(seed, step, stream, place), result)
    random_bits(draws, 0, count, out)

    def words(block):
        given = (block & 0xFFFFFFFF, block >> 32, step, stream, seed & 0xFFFFFFFF, seed >> 32)
        return [int(word) & 0xFFFFFFFF for word in random_words(tuple(map(np.uint64, given)))]

    first = place // 16
    blocks = range(first, (place + count) // 16 + 1)
    row = sum(word << 32 * number for number, word in enumerate(word for block in blocks for word in words(block)))

    def expected(i, result):
        shared = row >> 16 * ((place + i) // 2 - 8 * first) & 0xFFFF
        return shared * philox.SPREAD ** (2 * result + (place + i) % 2) & 0xFFFF

    for i, (*got, in_vectors) in enumerate(out.tolist()):
        own, second = (expected(i, result + following) for following in (0, 1))
        vectors = [second, expected(i - 1, result + 1), second] if in_vectors else [0, 0, 0]
        assert got == [own, second, *vectors]
        assert half_numbers.drawn(philox.Draws(*map(int, draws)), i, 1) == second
    assert out[:, -1].sum() >= count - 3 * math.ceil((count + philox.TILE) / philox.TILE)


@pytest.mark.parametrize("apart", range(1, 8))
def test_of_two_roundings_that_share_bits_each_goes_up_as_if_the_other_were_not_there(apart):
    shared = np.arange(1 << 16)
    other = shared * pow(philox.SPREAD, apart, 1 << 16) % (1 << 16)
    assert np.unique(other).size == 1 << 16
    # Chances are multiples of 2**-8; both go up as often as both are within their chances.
    both = np.histogram2d(shared, other, bins=256, range=[[0, 1 << 16]] * 2)[0].cumsum(0).cumsum(1) / (1 << 16)
    chances = np.arange(1, 257) / 256
    assert np.abs(both - np.outer(chances, chances)).max() < 2.0**-12


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_stochastic_rounding_leaves_what_is_exact(dtype):
    values = np.repeat(neighbours(dtype), 2).astype(np.float32)
    draws = half_loops.draws(5, 0, 0, 0)
    for number in range(4):
        out = np.empty(values.size, dtype)
        half_arrays.store(out, values, philox.of_result(draws, number))
        np.testing.assert_array_equal(out.astype(np.float32), values)
    worst = np.full(3, 0xFFFF, np.uint32)
    for value in (0.0, -0.0, math.inf, -math.inf):
        assert same(stochastic(np.float32(value), worst, dtype), np.full(3, value, dtype)).all()


def unbiased(dtype):
    """Return numbers between neighbours of every kind, with 12 bits between them or the last ones of a float32."""
    places = {
        "small": [0, 1, 0x3FF] if dtype == np.float16 else [1, 0x7F],
        "normal": [0x400, 0x3C00, 0x3C01, 0x7BFE] if dtype == np.float16 else [0x80, 0x3F80, 0x4049, 0x7F7E],
    }
    values = neighbours(dtype)
    for kind in places.values():
        for place in kind:
            for share in (1, 5, 2048, 4095):
                yield values[place] + (values[place + 1] - values[place]) * share / 4096, share


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_mean_of_stochastic_rounding_is_exact(dtype, sign):
    """Of words that are spread evenly, exactly the share goes up that makes the mean what was rounded."""
    words = (np.arange(4096, dtype=np.uint32) << np.uint32(4)) | np.uint32(0xF)
    for value, share in unbiased(dtype):
        assert np.float32(value) == value
        got = stochastic(np.float32(sign * value), words, dtype).astype(np.float64)
        low, high = np.unique(np.abs(got))
        assert (np.abs(got) == high).sum() == share
        mean = sum(map(Fraction, got.tolist())) / words.size
        assert mean == Fraction(sign * value), (low, value, high)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_stochastic_rounding_may_overflow_and_not_by_more_than_one_place(dtype):
    last = neighbours(dtype)[-1]
    beyond = np.float32(last + (last - neighbours(dtype)[-2]) / 2)
    words = np.arange(4096, dtype=np.uint32) << np.uint32(4)
    got = stochastic(beyond, words, dtype).astype(np.float64)
    assert sorted(set(got.tolist())) == [last, math.inf]
    assert (got == math.inf).sum() == 2048
    if dtype == np.float16:
        assert np.isinf(stochastic(np.float32(70000.0), words, dtype)).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_simulator_has_numbers_of_its_own_with_the_same_bits(dtype):
    kind, words = half.as_bits(ALL_BITS.view(dtype)).dtype, np.array([0, 0x1234, 0xFFFF], np.uint32)
    wide = np.empty(ALL_BITS.size, np.float32)
    widened(ALL_BITS.view(kind), wide)
    np.testing.assert_array_equal([half_numbers.widen(bits) for bits in ALL_BITS.view(kind)], wide)
    values = np.concatenate([side * ties(dtype)[::97] for side in (1, -1)] + [[np.inf, -np.inf, 1e300, 5e-324, 7e4]])
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    for exact in (values, narrow):
        got = np.array([half_numbers.nearest(x, kind) for x in exact])
        np.testing.assert_array_equal(got.view(np.uint16), nearest(exact, dtype).view(np.uint16))
    for x in narrow[::7]:
        got = np.array([half_numbers.stochastic(x, kind, int(word)) for word in words])
        np.testing.assert_array_equal(got.view(np.uint16), stochastic(x, words, dtype).view(np.uint16))
    assert np.isnan(half_numbers.widen(half_numbers.nearest(np.float32(np.nan), kind)))
    for given, expected in KNOWN:
        assert half_numbers.philox(given[:4], given[4:]) == expected


@pytest.mark.skipif(not half_registers.has_registers(cpu_target.target_context), reason="this processor has none")
def test_instructions_for_float16_round_as_integers_do():
    rng = np.random.default_rng(4)
    any_bits = rng.integers(0, 1 << 32, 1 << 18, dtype=np.uint32).view(np.float32)
    # Of every size that float16 has, and somewhat beyond; then all of its numbers, and what it has not.
    sized = np.ldexp(rng.uniform(-1, 1, 1 << 20), rng.integers(-30, 18, 1 << 20)).astype(np.float32)
    own = np.tile(ALL_BITS.view(np.float16), 4)
    limits = np.array([65504, 65519.996, 65520, 65535.996, 65536, 1e5, 3e38, math.inf, 2.0**-24, 2.0**-25, 1e-45])
    limits = np.tile(np.concatenate([limits, -limits]), 1 << 12)
    x = np.concatenate([values.astype(np.float32) for values in (any_bits, sized, own, limits)])
    words = rng.integers(0, 1 << 16, x.size, dtype=np.uint32)
    words[::3] |= 0xFFF0
    words[1::3] &= 0xF
    expected, out = np.empty((2, x.size), np.int16)
    drawn_one_by_one(expected, x, words)
    drawn_by_registers(out, (x, words))
    assert same(out.view(np.float16), expected.view(np.float16)).all()


@pytest.mark.skipif(not half_registers.has_registers(cpu_target.target_context), reason="this processor has none")
def test_instructions_for_bfloat16_round_as_integers_do():
    rng = np.random.default_rng(5)
    any_bits = rng.integers(0, 1 << 32, 1 << 20, dtype=np.uint32)
    any_bits = any_bits[~np.isnan(any_bits.view(np.float32))][: 1 << 19]
    # Every number of the format, NaN with all that tells it, and the middle of two with its neighbours.
    own = np.arange(1 << 16, dtype=np.uint32) << np.uint32(16)
    finite = own[np.isfinite(own.view(np.float32))]
    middles = [finite + np.uint32(0x8000 + beside) for beside in (-1, 0, 1)]
    x = np.concatenate([any_bits, own, *middles]).view(np.float32)
    expected, out = np.empty((2, x.size), np.uint32)
    raised_one_by_one(expected, x)
    raised_by_registers(out, (x,))
    np.testing.assert_array_equal(out, expected)
