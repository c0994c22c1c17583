"""kernels/arithmetic.py: exactly rounded in plain Python, and the same bits when compiled."""

import itertools
import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pytest
from numba import njit
from numba.core.errors import TypingError

from refoptim.kernels.arithmetic import (
    absolute,
    by_sign,
    fma,
    limited,
    maximum,
    minimum,
    sqrt,
    unpack,
    widen,
)

DTYPES = [np.float32, np.float64]
SPECIAL = [0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan]


def bits(values):
    """Return the bits of an array, the same for every NaN: which one comes out is the hardware's choice."""
    values = np.array(values)
    values[np.isnan(values)] = np.nan
    return values.view(f"u{values.dtype.itemsize}")


def rounded(exact, dtype):
    """Return the float nearest to a fraction other than 0, ties to even, by counting quanta as integers."""
    info = np.finfo(dtype)
    size = abs(exact)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    exponent -= size < Fraction(2) ** exponent
    quantum = max(exponent, info.minexp) - info.nmant
    count = round(size / Fraction(2) ** quantum)
    value = (
        math.inf if count * Fraction(2) ** quantum >= Fraction(2) ** int(info.maxexp) else math.ldexp(count, quantum)
    )
    return math.copysign(value, -1.0 if exact < 0 else 1.0)


def expected_fma(a, b, c, dtype):
    """Return a * b + c as IEEE 754 has it."""
    a, b, c = float(a), float(b), float(c)
    sign = math.copysign(1.0, a) * math.copysign(1.0, b)
    if any(map(math.isnan, (a, b, c))) or (math.isinf(a) and b == 0) or (math.isinf(b) and a == 0):
        return math.nan
    if math.isinf(a) or math.isinf(b):
        return math.nan if c == -sign * math.inf else sign * math.inf
    if math.isinf(c):
        return c
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    if exact != 0:
        return rounded(exact, dtype)
    both_negative = a * b == 0 and sign < 0 and math.copysign(1.0, c) < 0
    return -0.0 if both_negative else 0.0


def extremes(dtype):
    """Return the values at which formats go wrong."""
    info = np.finfo(dtype)
    tiny, least, eps = float(info.tiny), float(info.smallest_subnormal), float(info.eps)
    positive = [1 + eps, 1 - eps / 2, float(info.max), tiny, tiny - least, least, 3 * least, math.sqrt(tiny), 24929.0]
    return np.array([*SPECIAL, *positive, *(-x for x in positive)], dtype)


def products(dtype):
    """Return triples whose product lies on, or a hair beside, the midpoint of two floats, and ones that cancel."""
    info = np.finfo(dtype)
    digits = info.nmant + 1
    # 2**24 + 1 = 24929 * 673 and 2**53 + 1 = 321 * 28059810762433: the product is 1 and half an ulp.
    left, right = {24: (24929, 673), 53: (321, 28059810762433)}[digits]
    tie = (left, math.ldexp(right, -digits))
    hairs = [0.0, *(sign * 2.0**-k for sign in (1, -1) for k in (30, 54, 60, 80, 106, 120))]
    cases = [(*tie, hair) for hair in hairs]
    # The same midpoint at the bottom, where quanta stop shrinking: 1.5 least subnormals, and a little more or less.
    least = float(info.smallest_subnormal)
    cases += [(least, x, y) for x in (0.5, 0.25, 1.5, 0.75, 2.5) for y in (0.0, least, -least, float(info.tiny))]
    cases += [(math.sqrt(least) * 1.1, math.sqrt(least) * x, y) for x in (0.4, 0.46, 0.9) for y in (0.0, -0.0, least)]
    # The top: half an ulp above the largest float overflows, a hair less does not.
    top, half = float(info.max), math.ldexp(1.0, int(info.maxexp) - digits - 1)
    cases += [(half, 1.0, top), (half * (1 - float(info.eps)), 1.0, top), (2.0, top, -top), (top, top, -top)]
    return np.array(cases, dtype)


def random_triples(dtype, count, seed):
    """Return triples of any bit pattern, and triples whose sum cancels most of the product."""
    rng = np.random.default_rng(seed)
    integer = f"u{np.dtype(dtype).itemsize}"
    anything = rng.integers(0, np.iinfo(integer).max, (count, 3), integer, endpoint=True).view(dtype)
    close = rng.standard_normal((count, 3)).astype(dtype)
    nudge = 1 + rng.integers(-4, 5, count) * float(np.finfo(dtype).eps)
    close[:, 2] = -close[:, 0] * close[:, 1] * nudge.astype(dtype)
    scaled = rng.standard_normal((count, 3)) * 2.0 ** rng.integers(-40, 40, (count, 3))
    anything[np.isnan(anything)] = np.nan  # quiet ones: converting a signalling NaN warns
    return np.concatenate([anything, close, scaled.astype(dtype)])


def triples(dtype):
    grid = np.array(list(itertools.product(extremes(dtype), repeat=3)), dtype)
    flipped = products(dtype) * np.array([-1, 1, -1], dtype)
    with np.errstate(all="ignore"):
        return np.concatenate([products(dtype), flipped, random_triples(dtype, 1000, 0), grid[::3]])


@njit(error_model="numpy")
def compiled_fma(a, b, c, out):
    for i in range(out.size):
        out[i] = fma(a[i], b[i], c[i])


@njit(error_model="numpy")
def compiled_sqrt(x, out):
    for i in range(out.size):
        out[i] = sqrt(x[i])


@njit(error_model="numpy")
def compiled_maximum(a, b, out):
    for i in range(out.size):
        out[i] = maximum(a[i], b[i])


@njit(error_model="numpy")
def compiled_minimum(a, b, out):
    for i in range(out.size):
        out[i] = minimum(a[i], b[i])


@njit(error_model="numpy")
def compiled_limited(x, least, most, out):
    for i in range(out.size):
        out[i] = limited(x[i], least[i], most[i])


@njit(error_model="numpy")
def compiled_absolute(x, out):
    for i in range(out.size):
        out[i] = absolute(x[i])


@njit(error_model="numpy")
def compiled_by_sign(x, negative, zero, positive, out):
    for i in range(out.size):
        out[i] = by_sign(x[i], negative[i], zero[i], positive[i])


@njit(error_model="numpy")
def compiled_widen(x, scalars, out):
    for i in range(out.size):
        out[i] = widen(x[i], scalars)


def columns(values):
    return [np.ascontiguousarray(column) for column in values.T]


@pytest.mark.parametrize("dtype", DTYPES)
def test_fma_is_rounded_once(dtype):
    for a, b, c in triples(dtype):
        got = fma(a, b, c)
        assert type(got) is dtype
        want = expected_fma(a, b, c, dtype)
        assert bits(got) == bits(dtype(want)), f"fma({a!r}, {b!r}, {c!r}) is {got!r}, not {want!r}"


def test_fma_does_not_round_twice():
    # To float64 first, 1 + 2**-24 + 2**-80 becomes the midpoint 1 + 2**-24, which then goes to even, down.
    a, b, c = np.float32(24929), np.float32(673 * 2.0**-24), np.float32(2.0**-80)
    assert fma(a, b, c) == np.float32(1 + 2.0**-23)
    assert np.float32(float(a) * float(b) + float(c)) == 1


@pytest.mark.parametrize(
    "kinds", list(itertools.product(DTYPES, repeat=3)), ids=lambda kinds: "-".join(k.__name__ for k in kinds)
)
def test_fma_of_mixed_types_is_of_the_widest(kinds):
    widest = np.result_type(*kinds)
    arrays = [column.astype(kind) for kind, column in zip(kinds, columns(random_triples(np.float32, 300, 1)))]
    plain = np.array([fma(*values) for values in zip(*arrays)])
    want = [expected_fma(*values, widest) for values in zip(*arrays)]
    assert plain.dtype == widest
    np.testing.assert_array_equal(bits(plain), bits(np.array(want, widest)))
    out = np.empty_like(plain)
    compiled_fma(*arrays, out)
    np.testing.assert_array_equal(bits(out), bits(plain))


def test_fma_of_python_floats_is_float64():
    got = fma(1.0 + 2.0**-52, 1.0 - 2.0**-52, -1.0)
    assert isinstance(got, float)
    assert got == -(2.0**-104)


@pytest.mark.parametrize("dtype", DTYPES)
def test_compiled_fma_has_the_bits_of_the_plain_one(dtype):
    values = triples(dtype)
    out = np.empty(len(values), dtype)
    compiled_fma(*columns(values), out)
    plain = np.array([fma(*row) for row in values], dtype)
    np.testing.assert_array_equal(bits(out), bits(plain))


def test_compiled_fma_takes_floats_only():
    # An int64 would widen a float32 rule to float64 unnoticed.
    whole = np.ones(1, np.int64)
    with pytest.raises(TypingError, match="fma"):
        compiled_fma(whole, np.ones(1, np.float32), np.ones(1, np.float32), np.ones(1, np.float32))


def test_compiled_choices_take_one_type():
    single, double = np.ones(1, np.float32), np.ones(1, np.float64)
    for compiled, name in [(compiled_maximum, "maximum"), (compiled_minimum, "minimum")]:
        with pytest.raises(TypingError, match=name):
            compiled(single, double, single)
    for place in range(3):
        values = [double if i == place else single for i in range(3)]
        with pytest.raises(TypingError, match="limited"):
            compiled_limited(*values, single)
    for place in range(4):
        values = [double if i == place else single for i in range(4)]
        with pytest.raises(TypingError, match="by_sign"):
            compiled_by_sign(*values, single)


def test_compiled_absolute_takes_floats_only():
    with pytest.raises(TypingError, match="absolute"):
        compiled_absolute(np.ones(1, np.int64), np.ones(1, np.float32))


def some_values(dtype):
    return np.concatenate([extremes(dtype), random_triples(dtype, 300, 2).ravel()])


@pytest.mark.parametrize("dtype", DTYPES)
def test_sqrt_is_correctly_rounded_in_its_own_type(dtype):
    for x in some_values(dtype):
        root = sqrt(x)
        assert type(root) is dtype
        if x > 0 and np.isfinite(x):
            with np.errstate(under="ignore"):
                below, above = np.nextafter(root, dtype(0)), np.nextafter(root, dtype(np.inf))
            low, high = ((Fraction(float(root)) + Fraction(float(other))) / 2 for other in (below, above))
            assert low**2 <= Fraction(float(x)) <= high**2, f"sqrt({x!r}) is not {root!r}"
    assert np.isnan(sqrt(dtype(-1)))
    assert np.signbit(sqrt(dtype(-0.0)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_compiled_sqrt_has_the_bits_of_the_plain_one(dtype):
    values = some_values(dtype)
    out = np.empty_like(values)
    compiled_sqrt(values, out)
    np.testing.assert_array_equal(bits(out), bits([sqrt(x) for x in values]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_maximum_keeps_nan_and_is_the_same_compiled(dtype):
    pairs = np.array(list(itertools.product(extremes(dtype), repeat=2)), dtype)
    plain = np.array([maximum(a, b) for a, b in pairs])
    assert plain.dtype == dtype
    np.testing.assert_array_equal(plain, np.maximum(*pairs.T))
    out = np.empty_like(plain)
    compiled_maximum(*columns(pairs), out)
    np.testing.assert_array_equal(bits(out), bits(plain))


@pytest.mark.parametrize("dtype", DTYPES)
def test_minimum_keeps_nan_and_is_the_same_compiled(dtype):
    pairs = np.array(list(itertools.product(extremes(dtype), repeat=2)), dtype)
    plain = np.array([minimum(a, b) for a, b in pairs])
    assert plain.dtype == dtype
    np.testing.assert_array_equal(plain, np.minimum(*pairs.T))
    out = np.empty_like(plain)
    compiled_minimum(*columns(pairs), out)
    np.testing.assert_array_equal(bits(out), bits(plain))


@pytest.mark.parametrize("dtype", DTYPES)
def test_limited_keeps_nan_and_is_the_same_compiled(dtype):
    grid = np.array(list(itertools.product(extremes(dtype), repeat=3)), dtype)
    grid = grid[~np.isnan(grid[:, 1:]).any(axis=1)]
    plain = np.array([limited(*row) for row in grid])
    assert plain.dtype == dtype
    np.testing.assert_array_equal(plain, np.clip(*grid.T))
    out = np.empty_like(plain)
    compiled_limited(*columns(grid), out)
    np.testing.assert_array_equal(bits(out), bits(plain))


@pytest.mark.parametrize("dtype", DTYPES)
def test_absolute_takes_the_sign_only(dtype):
    values = some_values(dtype)
    plain = np.array([absolute(x) for x in values])
    assert plain.dtype == dtype
    assert not np.signbit(plain[~np.isnan(plain)]).any()
    np.testing.assert_array_equal(plain, np.where(np.signbit(values), -values, values))
    out = np.empty_like(plain)
    compiled_absolute(values, out)
    np.testing.assert_array_equal(bits(out), bits(plain))


@pytest.mark.parametrize("dtype", DTYPES)
def test_by_sign_chooses_and_computes_nothing(dtype):
    values = some_values(dtype)
    rng = np.random.default_rng(5)
    choices = [rng.permutation(values) for _ in range(3)]
    rows = [values, *choices]
    plain = np.array([by_sign(*row) for row in zip(*rows)])
    assert plain.dtype == dtype
    least = float(np.finfo(dtype).smallest_subnormal)
    for x, place in [(-math.inf, 1), (-least, 1), (-0.0, 2), (0.0, 2), (math.nan, 2), (least, 3), (math.inf, 3)]:
        for column in range(5):
            row = [dtype(x), *(choice[column] for choice in choices)]
            assert bits(by_sign(*row)) == bits(row[place])
    out = np.empty_like(plain)
    compiled_by_sign(*rows, out)
    np.testing.assert_array_equal(bits(out), bits(plain))


@pytest.mark.parametrize(
    ("array", "scalar"), [(np.float32, np.float32), (np.float32, np.float64), (np.float64, np.float64)]
)
def test_widen_gives_the_type_of_the_scalars(array, scalar):
    values, scalars = some_values(array), (scalar(1), scalar(2))
    plain = np.array([widen(x, scalars) for x in values])
    assert plain.dtype == scalar
    assert [float(x) for x in plain if x == x] == [float(x) for x in values if x == x]
    out = np.empty_like(plain)
    compiled_widen(values, scalars, out)
    np.testing.assert_array_equal(bits(out), bits(plain))


def test_compiled_widen_widens_before_the_computation():
    # Stored as float64, a product computed in float32 would show.
    @njit(error_model="numpy")
    def square(x, scalars):
        return widen(x, scalars) * widen(x, scalars)

    third = np.float32(1 / 3)
    assert square(third, (1.0,)) == float(third) ** 2
    assert square(third, (np.float32(1),)) == third * third


class Three(NamedTuple):
    a: float
    b: float
    c: float


@pytest.mark.parametrize("dtype", DTYPES)
def test_unpack_gives_the_scalars_of_an_array_in_order(dtype):
    @njit
    def compiled(scalars):
        return unpack(Three, scalars)

    array = np.array([0.1, 0.2, 0.3], dtype)
    for unpacked in (unpack(Three, array), compiled(array), compiled(tuple(array)), compiled(Three(*array))):
        assert tuple(unpacked) == tuple(array)
        # Numba returns float32 as a Python float, so that the type shows in the value only.
        assert Three(*unpacked).b == dtype(0.2)
