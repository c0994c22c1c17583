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

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from refoptim.kernels.operations import constant
from refoptim.kernels.registers import has

# What Numba takes bits of each format for.
BFLOAT16, FLOAT16 = types.uint16, types.int16

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
    return has(context, "f16c")


def widen(builder: Any, kind: Any, bits: Any, native: bool = False) -> Any:
    """Return the float32 that is the number with these bits."""
    words, numbers = _like(bits, _I32), _like(bits, _F32)
    if native and kind == FLOAT16:
        return builder.fpext(builder.bitcast(bits, _like(bits, _F16)), numbers)
    wide = builder.zext(bits, words)
    if kind == BFLOAT16:
        return builder.bitcast(builder.shl(wide, constant(words, 16)), numbers)
    shifted = builder.shl(builder.and_(wide, constant(words, 0x7FFF)), constant(words, 13))
    exponent = builder.and_(wide, constant(words, 0x7C00))
    normal = builder.add(shifted, constant(words, _BIAS))
    unbounded = builder.add(normal, constant(words, _BIAS))  # infinity and NaN have the largest exponent in both
    # A small number has no leading one: given one, it is too large by exactly the value of that.
    leading = constant(words, _LEAST_NORMAL)
    led = builder.bitcast(builder.add(shifted, leading), numbers)
    small = builder.bitcast(builder.fsub(led, builder.bitcast(leading, numbers)), words)
    found = builder.select(builder.icmp_unsigned("==", exponent, constant(words, 0x7C00)), unbounded, normal)
    found = builder.select(builder.icmp_unsigned("==", exponent, constant(words, 0)), small, found)
    sign = builder.shl(builder.and_(wide, constant(words, 0x8000)), constant(words, 16))
    return builder.bitcast(builder.or_(found, sign), numbers)


def nearest(builder: Any, kind: Any, x: Any, native: bool = False) -> Any:
    """Return the bits of the nearest number, of two the one that is even."""
    x = to_odd(builder, x)
    words, numbers = _like(x, _I32), x.type
    if native and kind == FLOAT16:
        return builder.bitcast(builder.fptrunc(x, _like(x, _F16)), _like(x, _I16))
    bits = builder.bitcast(x, words)
    if kind == BFLOAT16:
        rounded = builder.lshr(_raised(builder, bits, 16), constant(words, 16))
        return builder.trunc(_with_nan(builder, bits, rounded), _like(x, _I16))
    rest = builder.and_(bits, constant(words, 0x7FFFFFFF))
    # Adding rounds at the place where the format ends.
    half = builder.bitcast(constant(words, _HALF), numbers)
    sum_ = builder.fadd(builder.bitcast(rest, numbers), half)
    small = builder.sub(builder.bitcast(sum_, words), constant(words, _HALF))
    return _assembled(builder, x, rest, _raised(builder, rest, 13), small)


def stochastic(builder: Any, kind: Any, x: Any, word: Any) -> Any:
    """Return the bits of one of the two neighbours, chosen by a word below 2**16, or of x itself if it has them."""
    words = _like(x, _I32)
    x = single(builder, x)
    bits = builder.bitcast(x, words)
    if kind == BFLOAT16:
        rounded = builder.lshr(builder.add(bits, word), constant(words, 16))
        return builder.trunc(_with_nan(builder, bits, rounded), _like(x, _I16))
    rest = builder.and_(bits, constant(words, 0x7FFFFFFF))
    raised = builder.add(rest, builder.lshr(word, constant(words, 3)))
    # Small numbers are counted in units of the last place, 2**-24, with 16 bits behind the point.
    scaled = builder.fmul(builder.bitcast(rest, x.type), constant(x.type, 2.0**40))
    raised_small = builder.add(builder.fptosi(scaled, words), word)
    return _assembled(builder, x, rest, raised, builder.lshr(raised_small, constant(words, 16)))


def widen_pair(builder: Any, word: Any) -> list[Any]:
    """Return the two float32 that are the numbers of bfloat16 in a word, the one in its lower half first."""
    halves = builder.shl(word, constant(word.type, 16)), builder.and_(word, constant(word.type, _UPPER))
    return [builder.bitcast(half, _like(word, _F32)) for half in halves]


def raised(builder: Any, x: Any) -> Any:
    """Return words of which the upper halves are the nearest bfloat16.

    NaN must be computed from bfloat16 alone: all that tells it is kept.
    """
    return _raised(builder, builder.bitcast(to_odd(builder, x), _like(x, _I32)), 16)


def raised_by_chance(builder: Any, x: Any, word: Any) -> Any:
    """Return words of which the upper halves are one neighbour of each bfloat16, chosen by a word below 2**16.

    NaN is as in ``raised``.
    """
    return builder.add(builder.bitcast(x, word.type), word)


def packed(builder: Any, low: Any, high: Any) -> Any:
    """Return words of the upper halves of two words."""
    return builder.or_(builder.lshr(low, constant(low.type, 16)), builder.and_(high, constant(high.type, _UPPER)))


def _raised(builder: Any, bits: Any, count: int) -> Any:
    """Return bits with what rounds them to the nearest number, of two the even one, when so many are cut off."""
    kind = bits.type
    odd = builder.and_(builder.lshr(bits, constant(kind, count)), constant(kind, 1))
    return builder.add(builder.add(bits, constant(kind, (1 << count - 1) - 1)), odd)


def to_odd(builder: Any, x: Any) -> Any:
    """Return numbers of float64 as float32 *to odd*, and others as they are."""
    if not _is_double(x):
        return x
    words, longs = _like(x, _I32), _like(x, _I64)
    rounded = builder.fptrunc(x, _like(x, _F32))
    back, bits = builder.fpext(rounded, x.type), builder.bitcast(rounded, words)
    # Towards zero first, where rounding went away from it.
    magnitude, limit = (builder.and_(builder.bitcast(y, longs), constant(longs, (1 << 63) - 1)) for y in (back, x))
    away = builder.icmp_unsigned(">", magnitude, limit)
    bits = builder.sub(bits, builder.zext(away, words))
    inexact = builder.icmp_unsigned("!=", magnitude, limit)
    return builder.bitcast(builder.or_(bits, builder.zext(inexact, words)), rounded.type)


def _with_nan(builder: Any, bits: Any, rounded: Any) -> Any:
    """Return what was rounded, or a quiet NaN where there was one: its lower bits alone may have told it."""
    words = bits.type
    is_nan = builder.icmp_unsigned(">", builder.and_(bits, constant(words, 0x7FFFFFFF)), constant(words, _INFINITY))
    quiet = builder.or_(builder.lshr(bits, constant(words, 16)), constant(words, 0x40))
    return builder.select(is_nan, quiet, rounded)


def _assembled(builder: Any, x: Any, rest: Any, raised: Any, small: Any) -> Any:
    """Return the float16 for a float32, its bits without the sign, these with what rounds them added, and if small."""
    words = rest.type
    ended = builder.icmp_unsigned("<", raised, constant(words, _BEYOND))
    raised = builder.select(ended, raised, constant(words, _BEYOND))
    normal = builder.lshr(builder.sub(raised, constant(words, _BIAS)), constant(words, 13))
    is_small = builder.icmp_unsigned("<", rest, constant(words, _LEAST_NORMAL))
    found = builder.select(is_small, small, normal)
    found = builder.select(builder.fcmp_unordered("uno", x, x), constant(words, 0x7E00), found)
    sign = builder.lshr(builder.bitcast(x, words), constant(words, 16))
    sign = builder.and_(sign, constant(words, 0x8000))
    return builder.trunc(builder.or_(found, sign), _like(x, _I16))


def _is_double(x: Any) -> bool:
    return x.type == _like(x, _F64)


def single(builder: Any, x: Any) -> Any:
    """Return numbers of float64 as float32, and others as they are."""
    kind = _like(x, _F32)
    return x if x.type == kind else builder.fptrunc(x, kind)


def _like(x: Any, element: Any) -> Any:
    """Return the type of as many elements of this one as x has: of one, or of a vector."""
    return ir.VectorType(element, x.type.count) if isinstance(x.type, ir.VectorType) else element
