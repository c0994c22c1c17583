"""Numbers of 16 bits, bfloat16 and float16: what turns them into float32, and back with one rounding.

Numba has no arithmetic for either. Kernels see their bits as integers, uint16 for bfloat16 and int16 for float16, and
the conversions are integer arithmetic, which gives the same bits on every processor and fits into vector registers. A
processor that has instructions for float16 uses these: with the same bits, in half the time.
float64 is first rounded to float32 *to odd*: what was cut off shows in the last bit, so that the second rounding is
that of the number itself.

Two neighbours of bfloat16 are the halves of one word of 32 bits, from which each is made a float32, and into which both
are rounded, by one operation or two: half of what it takes to spread numbers of 16 bits over a register of 32.

Stochastic rounding goes up with the probability that makes the mean exact. Its random bits are drawn in ``philox``.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

# What Numba takes bits of each format for.
BFLOAT16, FLOAT16 = types.uint16, types.int16

# How many random bits a rounding takes: as many as it cuts off, and more where float16 is subnormal.
RANDOM_BITS = {BFLOAT16: 16, FLOAT16: 32}

_I16, _I32, _I64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
_F16, _F32, _F64 = ir.HalfType(), ir.FloatType(), ir.DoubleType()

# The bits of float32: exponents begin at the 23rd.
_INFINITY = 0x7F800000
_LEAST_NORMAL = (127 - 14) << 23  # of float16
_BEYOND = (127 + 16) << 23  # where float16 has ended
_UPPER = 0xFFFF0000
_HALF = 126 << 23  # the last bits of 0.5 + x count 2**-24, as those of small float16 do
_BIAS = (127 - 15) << 23


def is_half(kind: Any) -> bool:
    """Return whether Numba's type stands for the bits of a 16-bit number."""
    return kind in (BFLOAT16, FLOAT16)


def as_bits(array: Any) -> Any:
    """Return an array as kernels see it: the bits, if its numbers have 16 of them, or itself."""
    if array.dtype.itemsize != 2:
        return array
    return array.view(np.int16 if array.dtype == np.float16 else np.uint16)


def has_float16(context: Any) -> bool:
    """Return whether the processor that code is generated for has instructions that convert float16."""
    # Numba's cache goes by the same features.
    return "+f16c" in context.codegen().magic_tuple()[-1]


def widen(builder: Any, kind: Any, bits: Any, native: bool = False) -> Any:
    """Return the float32 that is the number with these bits."""
    if native and kind == FLOAT16:
        return builder.fpext(builder.bitcast(bits, _F16), _F32)
    wide = builder.zext(bits, _I32)
    if kind == BFLOAT16:
        return builder.bitcast(builder.shl(wide, _I32(16)), _F32)
    shifted = builder.shl(builder.and_(wide, _I32(0x7FFF)), _I32(13))
    exponent = builder.and_(wide, _I32(0x7C00))
    normal = builder.add(shifted, _I32(_BIAS))
    unbounded = builder.add(normal, _I32(_BIAS))  # infinity and NaN have the largest exponent in both
    # A small number has no leading one: given one, it is too large by exactly the value of that.
    led = builder.bitcast(builder.add(shifted, _I32(_LEAST_NORMAL)), _F32)
    small = builder.bitcast(builder.fsub(led, builder.bitcast(_I32(_LEAST_NORMAL), _F32)), _I32)
    found = builder.select(builder.icmp_unsigned("==", exponent, _I32(0x7C00)), unbounded, normal)
    found = builder.select(builder.icmp_unsigned("==", exponent, _I32(0)), small, found)
    sign = builder.shl(builder.and_(wide, _I32(0x8000)), _I32(16))
    return builder.bitcast(builder.or_(found, sign), _F32)


def nearest(builder: Any, kind: Any, x: Any, native: bool = False) -> Any:
    """Return the bits of the nearest number, of two the one that is even."""
    x = _to_odd(builder, x) if x.type == _F64 else x
    if native and kind == FLOAT16:
        return builder.bitcast(builder.fptrunc(x, _F16), _I16)
    bits = builder.bitcast(x, _I32)
    if kind == BFLOAT16:
        odd = builder.and_(builder.lshr(bits, _I32(16)), _I32(1))
        rounded = builder.lshr(builder.add(builder.add(bits, _I32(0x7FFF)), odd), _I32(16))
        return builder.trunc(_with_nan(builder, bits, rounded), _I16)
    rest = builder.and_(bits, _I32(0x7FFFFFFF))
    odd = builder.and_(builder.lshr(rest, _I32(13)), _I32(1))
    raised = builder.add(builder.add(rest, _I32(0xFFF)), odd)
    half = builder.bitcast(_I32(_HALF), _F32)
    # Adding rounds at the place where the format ends.
    sum_ = builder.fadd(builder.bitcast(rest, _F32), half)
    small = builder.sub(builder.bitcast(sum_, _I32), _I32(_HALF))
    return _assembled(builder, x, rest, raised, small)


def stochastic(builder: Any, kind: Any, x: Any, word: Any) -> Any:
    """Return the bits of one of the two neighbours, chosen by random bits, or of x itself if it has them."""
    x = builder.fptrunc(x, _F32) if x.type == _F64 else x
    bits = builder.bitcast(x, _I32)
    if kind == BFLOAT16:
        rounded = builder.lshr(builder.add(bits, word), _I32(16))
        return builder.trunc(_with_nan(builder, bits, rounded), _I16)
    rest = builder.and_(bits, _I32(0x7FFFFFFF))
    raised = builder.add(rest, builder.lshr(word, _I32(19)))
    # Small numbers are counted in units of the last place, 2**-24, with 21 bits behind the point.
    counted = builder.fptosi(builder.fmul(builder.bitcast(rest, _F32), _F32(2.0**45)), _I32)
    small = builder.lshr(builder.add(counted, builder.lshr(word, _I32(11))), _I32(21))
    return _assembled(builder, x, rest, raised, small)


def widen_pair(builder: Any, word: Any) -> list[Any]:
    """Return the two float32 that are the numbers of bfloat16 in a word, the one in its lower half first."""
    halves = builder.shl(word, _I32(16)), builder.and_(word, _I32(_UPPER))
    return [builder.bitcast(half, _F32) for half in halves]


def nearest_pair(builder: Any, numbers: Sequence[Any]) -> Any:
    """Return the word of the nearest numbers. NaN must be computed from bfloat16 alone: all that tells it is kept."""
    raised: list[Any] = []
    for x in numbers:
        bits = builder.bitcast(_to_odd(builder, x) if x.type == _F64 else x, _I32)
        odd = builder.and_(builder.lshr(bits, _I32(16)), _I32(1))
        raised.append(builder.add(builder.add(bits, _I32(0x7FFF)), odd))
    return _packed(builder, *raised)


def stochastic_pair(builder: Any, numbers: Sequence[Any], word: Any) -> Any:
    """Return the word of one neighbour of each, chosen by the halves of a random word. NaN is as in nearest_pair."""
    chances = builder.and_(word, _I32(~_UPPER)), builder.lshr(word, _I32(16))
    single = [builder.fptrunc(x, _F32) if x.type == _F64 else x for x in numbers]
    return _packed(builder, *(builder.add(builder.bitcast(x, _I32), chance) for x, chance in zip(single, chances)))


def _packed(builder: Any, low: Any, high: Any) -> Any:
    return builder.or_(builder.lshr(low, _I32(16)), builder.and_(high, _I32(_UPPER)))


def _to_odd(builder: Any, x: Any) -> Any:
    rounded = builder.fptrunc(x, _F32)
    back, bits = builder.fpext(rounded, _F64), builder.bitcast(rounded, _I32)
    # Towards zero first, where rounding went away from it.
    magnitude, limit = (builder.and_(builder.bitcast(y, _I64), _I64((1 << 63) - 1)) for y in (back, x))
    away = builder.icmp_unsigned(">", magnitude, limit)
    bits = builder.sub(bits, builder.zext(away, _I32))
    inexact = builder.icmp_unsigned("!=", magnitude, limit)
    return builder.bitcast(builder.or_(bits, builder.zext(inexact, _I32)), _F32)


def _with_nan(builder: Any, bits: Any, rounded: Any) -> Any:
    """Return what was rounded, or a quiet NaN where there was one: its lower bits alone may have told it."""
    is_nan = builder.icmp_unsigned(">", builder.and_(bits, _I32(0x7FFFFFFF)), _I32(_INFINITY))
    return builder.select(is_nan, builder.or_(builder.lshr(bits, _I32(16)), _I32(0x40)), rounded)


def _assembled(builder: Any, x: Any, rest: Any, raised: Any, small: Any) -> Any:
    """Return the float16 for a float32, its bits without the sign, these with what rounds them added, and if small."""
    ended = builder.icmp_unsigned("<", raised, _I32(_BEYOND))
    raised = builder.select(ended, raised, _I32(_BEYOND))
    normal = builder.lshr(builder.sub(raised, _I32(_BIAS)), _I32(13))
    found = builder.select(builder.icmp_unsigned("<", rest, _I32(_LEAST_NORMAL)), small, normal)
    found = builder.select(builder.fcmp_unordered("uno", x, x), _I32(0x7E00), found)
    sign = builder.and_(builder.lshr(builder.bitcast(x, _I32), _I32(16)), _I32(0x8000))
    return builder.trunc(builder.or_(found, sign), _I16)
