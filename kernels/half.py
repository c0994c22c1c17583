"""Numbers of 16 bits, bfloat16 and float16: what turns them into float32, and back with one rounding.

Numba has no arithmetic for either. Kernels see their bits as integers, uint16 for bfloat16 and int16 for float16, and
the conversions are integer arithmetic, which gives the same bits on every processor and fits into vector registers. A
processor that has instructions for float16 uses these: with the same bits, in half the time.
float64 is first rounded to float32 *to odd*: what was cut off shows in the last bit, so that the second rounding is
that of the number itself.

Stochastic rounding goes up with the probability that makes the mean exact. Its random bits are Philox4x32-10, with step
and element as the counter: whoever computes an element, in whatever order, finds the same bits.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

# What Numba takes bits of each format for.
BFLOAT16, FLOAT16 = types.uint16, types.int16

_I16, _I32, _I64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
_F16, _F32, _F64 = ir.HalfType(), ir.FloatType(), ir.DoubleType()

# Philox4x32-10 is by Salmon, Moraes, Dror and Shaw: "Parallel Random Numbers: As Easy as 1, 2, 3", 2011
ROUNDS = 10
MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
WEYL = 0x9E3779B9, 0xBB67AE85

# The bits of float32: exponents begin at the 23rd.
_INFINITY, _ONE = 0x7F800000, 0x3F800000
_LEAST_NORMAL = (127 - 14) << 23  # of float16
_BEYOND = (127 + 16) << 23  # where float16 has ended
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
    normal = builder.lshr(builder.sub(raised, _I32(_BIAS)), _I32(13))
    half = builder.bitcast(_I32(_HALF), _F32)
    # Adding rounds at the place where the format ends.
    sum_ = builder.fadd(builder.bitcast(rest, _F32), half)
    small = builder.sub(builder.bitcast(sum_, _I32), _I32(_HALF))
    return _assembled(builder, bits, rest, normal, small)


def stochastic(builder: Any, kind: Any, x: Any, word: Any) -> Any:
    """Return the bits of one of the two neighbours, chosen by 32 random bits, or of x itself if it has them."""
    x = builder.fptrunc(x, _F32) if x.type == _F64 else x
    bits = builder.bitcast(x, _I32)
    if kind == BFLOAT16:
        raised = builder.add(bits, builder.lshr(word, _I32(16)))
        unbounded = builder.icmp_unsigned(">=", builder.and_(bits, _I32(0x7FFFFFFF)), _I32(_INFINITY))
        rounded = builder.lshr(builder.select(unbounded, bits, raised), _I32(16))
        return builder.trunc(_with_nan(builder, bits, rounded), _I16)
    rest = builder.and_(bits, _I32(0x7FFFFFFF))
    raised = builder.add(rest, builder.lshr(word, _I32(19)))
    normal = builder.lshr(builder.sub(raised, _I32(_BIAS)), _I32(13))
    # Small numbers are counted in units of the last place, 2**-24. Infinities stay out of the conversion to integers.
    is_small = builder.icmp_unsigned("<", rest, _I32(_LEAST_NORMAL))
    scaled = builder.fmul(builder.bitcast(builder.select(is_small, rest, _I32(0)), _F32), _F32(2.0**24))
    whole = builder.fptosi(scaled, _I32)
    fraction = builder.fsub(scaled, builder.sitofp(whole, _F32))
    drawn = builder.fmul(builder.sitofp(builder.lshr(word, _I32(8)), _F32), _F32(2.0**-24))
    small = builder.add(whole, builder.zext(builder.fcmp_ordered("<", drawn, fraction), _I32))
    return _assembled(builder, bits, rest, normal, small)


def philox(builder: Any, counter: Sequence[Any], key: Sequence[Any]) -> list[Any]:
    """Return four words of random bits for four words of a counter and two of a key: Philox4x32-10."""
    a, b, c, d = counter
    first, second = key
    for _ in range(ROUNDS):
        high_a, low_a = _product(builder, a, MULTIPLIERS[0])
        high_c, low_c = _product(builder, c, MULTIPLIERS[1])
        a, b = builder.xor(builder.xor(high_c, b), first), low_c
        c, d = builder.xor(builder.xor(high_a, d), second), low_a
        first, second = (builder.add(part, _I32(weyl)) for part, weyl in zip((first, second), WEYL))
    return [a, b, c, d]


def _product(builder: Any, x: Any, multiplier: int) -> tuple[Any, Any]:
    product = builder.mul(builder.zext(x, _I64), _I64(multiplier))
    return builder.trunc(builder.lshr(product, _I64(32)), _I32), builder.trunc(product, _I32)


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


def _assembled(builder: Any, bits: Any, rest: Any, normal: Any, small: Any) -> Any:
    """Return the float16 for the bits of a float32 and those without the sign, rounded in both ranges."""
    nan = builder.or_(_I32(0x7E00), builder.and_(builder.lshr(rest, _I32(13)), _I32(0x3FF)))
    unbounded = builder.select(builder.icmp_unsigned(">", rest, _I32(_INFINITY)), nan, _I32(0x7C00))
    found = builder.select(builder.icmp_unsigned("<", rest, _I32(_LEAST_NORMAL)), small, normal)
    found = builder.select(builder.icmp_unsigned(">=", rest, _I32(_BEYOND)), unbounded, found)
    sign = builder.and_(builder.lshr(bits, _I32(16)), _I32(0x8000))
    return builder.trunc(builder.or_(found, sign), _I16)
