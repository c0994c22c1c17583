"""Cosines of rational parts of pi, in fixed point."""

from functools import lru_cache

from .exact import SHORT, SHORT_ONE

FRACTION = 150
# The result has fewer digits: errors in the others must not show where it is a half, or a quarter.
_EXTRA = FRACTION + 1 - SHORT


def annealing(p: int, q: int, stride: int, count: int) -> tuple[list[int], int]:
    """Return (1 + cos(pi p / q)) / 2 for p and the next ones, as integers and a denominator: a multiplication each.

    Errors grow as the square of the count. Where it is 0 or 1 it is exactly that.
    """
    before, here, turn = cosine(p - stride, q), cosine(p, q), cosine(stride, q)
    half = (1 << FRACTION) + (1 << _EXTRA - 1)
    result = []
    for _ in range(count):
        result.append(here + half >> _EXTRA)
        before, here = here, (turn * here >> FRACTION - 1) - before
    return result, SHORT_ONE


def cosine(p: int, q: int) -> int:
    """Return cos(pi p / q), times 2**FRACTION."""
    p = abs(p) % (2 * q)
    p = min(p, 2 * q - p)
    if 2 * p > q:
        return -cosine(q - p, q)
    # The series of cos a - 1 for a 2**-8th of the angle, then cos 2a - 1 = 2 (cos a - 1) (cos a + 1) eight times.
    bits, halvings = FRACTION + 64, 8
    angle = (_pi(bits) * p // q) >> halvings
    square = angle * angle >> bits
    term, total, k = 1 << bits, 0, 0
    while term:
        k += 2
        term = (-term * square >> bits) // (k * (k - 1))
        total += term
    for _ in range(halvings):
        total = total * (total + (2 << bits)) >> bits - 1
    return total + (1 << bits) >> bits - FRACTION


@lru_cache
def _pi(bits: int) -> int:
    """Return pi in fixed point, by Machin's formula."""
    guard = 16

    def arccot(x: int) -> int:
        power = (1 << bits + guard) // x
        total, k, sign = 0, 1, 1
        while power:
            total += sign * (power // k)
            power //= x * x
            k, sign = k + 2, -sign
        return total

    return 4 * (4 * arccot(5) - arccot(239)) >> guard
