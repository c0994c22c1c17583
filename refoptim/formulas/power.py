"""Bias corrections, 1 - beta**t, for formulas and for the host."""

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


# The power asked for last, by beta, and beta as a numerator and the power of two below it: the next step's power is one
# multiplication away.
_last: dict[float, tuple[int, int, int, int]] = {}


def _power(beta: float, t: int) -> int:
    last_t, power, numerator, shift = _last.get(beta) or _first(beta)
    if last_t != t:
        power = power * numerator >> shift if last_t == t - 1 else _raised(numerator << BITS >> shift, t)
        _last[beta] = t, power, numerator, shift
    return power


def _first(beta: float) -> tuple[int, int, int, int]:
    if len(_last) >= 256:
        _last.clear()
    numerator, denominator = beta.as_integer_ratio()
    return 0, ONE, numerator, denominator.bit_length() - 1


def _raised(base: int, t: int) -> int:
    result = ONE
    while t:
        if t & 1:
            result = result * base >> BITS
        base = base * base >> BITS
        t >>= 1
    return result
