"""Numbers of 160 bits: schedules are computed with them, so that each learning rate is rounded once.

A value ``(m, x)`` is m * 2**x. Recursions of float64 drift by hundreds of ulps in 10,000 steps; these drift by 2**-140.
The float does not show by which path it was reached: by steps, in a chain of several schedulers, after a load, or from
the closed form.
"""

from functools import lru_cache
from math import copysign, frexp, gcd, inf, ldexp

Value = tuple[int, int]

# How long m may become before it is brought back to the middle. Zero is out of bounds.
BITS, LEAST, MOST = 160, 1 << 152, 1 << 168
# Bits that are rounded off first: an error in them must not decide how what lies just between two floats is rounded.
UNSURE = 40
_HALF = 1 << UNSURE - 1
# A sum with a number of BITS bits that has no more bits than this is what rounding has left of 0: an error of a factor
# of 128 bits grows by as much when the factor goes from almost 0 to 1, for periods of up to 2**32 epochs.
_LOST = BITS - 64
# Digits of fixed-point factors.
SHORT = 128
SHORT_ONE = 1 << SHORT


def exact(number: float) -> Value:
    """Return a float as a value. Raise ValueError if it is not finite."""
    m, x = frexp(number)
    if not -1 < m < 1:
        raise ValueError(f"a learning rate of {number} is not finite and cannot be scheduled")
    return int(ldexp(m, 53)) << BITS - 53, x - BITS


def settled(m: int, x: int) -> Value:
    """Return a value with an m of the usual length."""
    extra = m.bit_length() - BITS
    return (m >> extra if extra > 0 else m << -extra, x + extra) if m else (0, 0)


def rounded(m: int, x: int) -> float:
    """Return the nearest float."""
    try:
        return ldexp(m + _HALF >> UNSURE, x + UNSURE)
    except OverflowError:
        return copysign(inf, m)


def product(m: int, x: int, n: int, y: int) -> Value:
    """Return the product of two values."""
    return settled(m * n, x + y)


def plus(m: int, x: int, n: int, y: int) -> Value:
    """Return the sum of two values."""
    least = min(x, y)
    return settled((m << x - least) + (n << y - least), least)


def divided(m: int, x: int, n: int, d: int) -> Value:
    """Return value * n / d."""
    m *= n
    shift = max(BITS + d.bit_length() - m.bit_length(), 0)
    return settled((m << shift) // d, x - shift)


def scaled(low: float, m: int, x: int, n: int, d: int) -> Value:
    """Return low + (value - low) * n / d."""
    if not low:
        return divided(m, x, n, d)
    a, y = _kept(low)
    if x > y:
        m, x = m << x - y, y
    elif x < y:
        a <<= y - x
    m = a + (m - a) * n // d
    if LEAST < m < MOST:
        return m, x
    return settled(m, x) if abs(m) >> _LOST + y - x else (0, 0)


_kept = lru_cache(maxsize=64)(exact)


def blend(low: float, high: float, n: int, d: int) -> Value:
    """Return low + (high - low) * n / d as a value."""
    a, span, x = _span(low, high)
    return divided(a * d + span * n, x, 1, d)


def blended(low: float, high: float, n: int, d: int) -> float:
    """Return low + (high - low) * n / d as a float."""
    a, span, x = _span(low, high)
    try:
        # A shift takes half the time of a division.
        if d == SHORT_ONE:
            return ldexp((a << SHORT) + span * n, x - SHORT)
        return (a * d + span * n) / (d << -x)
    except OverflowError:  # of the result, or of an integer on the way
        return rounded(*divided(a * d + span * n, x, 1, d))


def curve(low: float, high: float, ns: list[int], d: int) -> list[float]:
    """Return low + (high - low) * n / d for each n, as floats."""
    a, span, x = _span(low, high)
    shift = d.bit_length() - 1
    try:
        if d == 1 << shift:
            a, x = a << shift, x - shift
            return [ldexp(a + span * n, x) for n in ns]
        a, one = a * d, d << -x
        return [(a + span * n) / one for n in ns]
    except OverflowError:  # for one of them, or for an integer on the way
        return [blended(low, high, n, d) for n in ns]


@lru_cache(maxsize=1024)
def _span(low: float, high: float) -> tuple[int, int, int]:
    """Return integers a, s and x of which low is a * 2**x and high is (a + s) * 2**x, with x at most 0."""
    for number in (low, high):
        exact(number)
    (a, b), (c, d) = low.as_integer_ratio(), high.as_integer_ratio()
    one = max(b, d)
    a, c = a * (one // b), c * (one // d)
    return a, c - a, 1 - one.bit_length()


@lru_cache(maxsize=1024)
def common(*numbers: float) -> tuple[int, ...]:
    """Return integers in the same proportions as these numbers and 1, which is the last."""
    ratios = [number.as_integer_ratio() for number in (*numbers, 1)]
    one = max(d for _, d in ratios)
    integers = [n * (one // d) for n, d in ratios]
    shared = gcd(*integers)
    return tuple(n // shared for n in integers)


def powers(base: float, k: int, count: int) -> tuple[list[int], int]:
    """Return base**k and the next powers, as integers and their denominator. There is none below 0."""
    m, x = _power(base, max(k, 0))
    n, d = base.as_integer_ratio()
    y = 1 - d.bit_length()
    values = [0] * (k < 0)
    exponents = values[:]
    for _ in range(count):
        values.append(m)
        exponents.append(x)
        m *= n
        extra = m.bit_length() - BITS
        if extra > 0:
            m >>= extra
            x += y + extra
        else:
            m, x = settled(m, x + y)
    least = min(exponents)
    return [m << x - least for m, x in zip(values, exponents)], 1 << -least if least < 0 else 1


def _power(base: float, k: int) -> Value:
    result, square = (1, 0), exact(base)
    while k:
        if k & 1:
            result = product(*result, *square)
        square = product(*square, *square)
        k >>= 1
    return result
