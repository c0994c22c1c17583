"""Numbers of 16 bits one by one, in Python: what the CUDA simulator runs, where compiled code has that of ``half``.

Bits are int16 for float16 and uint16 for bfloat16, as kernels see them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from refoptim.kernels.philox import MULTIPLIERS, PAIR, ROUNDS, SHARE, WEYL, factor

_FLOAT16, _BFLOAT16 = np.dtype(np.int16), np.dtype(np.uint16)
_WORD = 0xFFFFFFFF
_LEAST_NORMAL, _BIAS = (127 - 14) << 23, (127 - 15) << 23  # float16's, in the bits of float32
_INFINITY = 0x7C00  # float16's


def is_half(dtype: Any) -> bool:
    """Return whether elements of a dtype are the bits of 16-bit numbers."""
    return dtype in (_FLOAT16, _BFLOAT16)


def seen(dtype: Any) -> Any:
    """Return the dtype in which kernels see numbers of a dtype: that of their bits, if they have 16."""
    if dtype.itemsize != 2:
        return dtype
    return _FLOAT16 if dtype in (np.float16, _FLOAT16) else _BFLOAT16


def widen(bits: Any) -> Any:
    """Return the float32 that is the number with these bits."""
    if bits.dtype == _FLOAT16:
        return np.float32(bits.view(np.float16))
    return (np.uint32(bits) << np.uint32(16)).view(np.float32)


def nearest(x: Any, dtype: Any) -> Any:
    """Return the bits of the nearest number, of two the one that is even."""
    with np.errstate(over="ignore", invalid="ignore"):
        if dtype == _FLOAT16:
            return np.float16(x).view(np.int16)
        narrow = np.float32(x)
    bits = int(narrow.view(np.uint32))
    if np.isnan(narrow):
        return np.uint16(bits >> 16 | 0x40)
    if narrow != x:
        # To odd, so that nothing is rounded twice.
        bits = bits - bool(abs(narrow) > abs(x)) | 1
    return np.uint16(bits + 0x7FFF + (bits >> 16 & 1) >> 16)


def stochastic(x: Any, dtype: Any, word: int) -> Any:
    """Return the bits of one of the two neighbours, chosen by a word below 2**16, or of x itself if it has them."""
    with np.errstate(over="ignore", invalid="ignore"):
        x = np.float32(x)
    if not np.isfinite(x):
        return nearest(x, dtype)
    bits = int(x.view(np.uint32))
    if dtype == _BFLOAT16:
        return np.uint16(bits + word >> 16)
    rest = bits & 0x7FFFFFFF
    if rest < _LEAST_NORMAL:
        found = int(abs(float(x)) * 2.0**40) + word >> 16
    else:
        found = min(rest + (word >> 3) - _BIAS >> 13, _INFINITY)
    return np.uint16(bits >> 31 << 15 | found).view(np.int16)


def drawn(draws: Any, i: int, result: int) -> int:
    """Return the 16 random bits for a result of element i: see the module ``philox``."""
    block, lane = divmod(int(draws.place + i), SHARE)
    counter = (block & _WORD, block >> 32, int(draws.step) & _WORD, int(draws.stream))
    word, half = divmod(lane // PAIR, 2)
    bits = philox(counter, (draws.low, draws.high))[word] >> 16 * half
    return bits * int(draws.factor) * factor(result, lane % PAIR) & 0xFFFF


def philox(counter: Sequence[int], key: Sequence[int]) -> tuple[int, int, int, int]:
    """Return four words of random bits for four words of a counter and two of a key."""
    (a, b, c, d), (first, second) = counter, key
    for _ in range(ROUNDS):
        left, right = a * MULTIPLIERS[0], c * MULTIPLIERS[1]
        a, b = right >> 32 ^ b ^ first, right & _WORD
        c, d = left >> 32 ^ d ^ second, left & _WORD
        first, second = first + WEYL[0] & _WORD, second + WEYL[1] & _WORD
    return a, b, c, d
