"""Pairs of float64 numbers, which are added without losing what rounding takes, and the shape of the tree of sums."""

from numba import float64

from refoptim.kernels.arithmetic import absolute, fma, lost

LANES = 128
CHUNK = 32 * LANES
# What is lost of the squares of float64 numbers, because it is too small to be kept, does not count above this.
EXACT_SQUARES = 2.0**-900


def add(high, low, a, b):
    """Return the pair high + low after adding a + b. What rounding takes from the large halves goes to the small."""
    total = high + a
    added = total - high
    return total, (low + b) + ((high - (total - added)) + (a - added))


def product(x, y):
    """Return x * y as a pair, which is exact."""
    # As an fma, the product cannot be contracted with the sum that it goes into.
    rounded = fma(float64(x), float64(y), -0.0)
    return rounded, lost(x, y, rounded)


def magnitude(x, _):
    """Return x without its sign as a pair."""
    return absolute(float64(x)), 0.0


def pair(high, low):
    """Return a chunk's sum, which is one."""
    return high, low


def rounded(high, low):
    """Return a pair as one number."""
    total = high + low
    # Where the sum is infinite, what its roundings lost is not a number.
    return high if total != total else total
