"""Bias corrections, 1 - beta**t, for formulas and for the host."""

from functools import lru_cache
from math import isqrt
from typing import Any

# Fixed-point numbers with this many binary digits: after 10**9 roundings, and where the smallest complement of a
# float, 2**-53, loses as many, an error of 2**-100 is left. The rounding to float64 does not show how a power was
# reached, by single steps or after a load.
BITS = 192
ONE = 1 << BITS


def one_minus_power(beta: Any, t: int) -> Any:
    """Return 1 - beta**t, for a float rounded once.

    Written plainly it cancels: at t = 1 and beta = 0.999, float64 keeps 43 of 53 bits. Balls know what they lost, and
    arrays that carry derivatives must see the operations: for these it is written plainly.
    """
    return complement(beta, t) / ONE if isinstance(beta, float) else 1 - beta**t


def complement(beta: float, t: int) -> int:
    """Return 1 - beta**t in fixed point."""
    return ONE - _power(beta, t)


def fixed_sqrt(x: int) -> int:
    """Return the square root of a fixed-point number, to half of the digits."""
    return isqrt(x) << BITS // 2


# The power asked for last, by beta: that of the next step is one multiplication away.
_last: dict[float, tuple[int, int]] = {}


def _power(beta: float, t: int) -> int:
    known_t, known = _last.get(beta, (0, ONE))
    if known_t == t:
        return known
    numerator, shift = _mantissa(beta)
    result = known * numerator >> shift if known_t == t - 1 else _raised(numerator << BITS >> shift, t)
    if len(_last) >= 256:
        _last.clear()
    _last[beta] = t, result
    return result


@lru_cache(maxsize=256)
def _mantissa(beta: float) -> tuple[int, int]:
    numerator, denominator = beta.as_integer_ratio()
    return numerator, denominator.bit_length() - 1


def _raised(base: int, t: int) -> int:
    result = ONE
    while t:
        if t & 1:
            result = result * base >> BITS
        base = base * base >> BITS
        t >>= 1
    return result
