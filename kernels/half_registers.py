"""Rounding to 16 bits with the instructions of a processor that has registers of 512 bits: the bits of ``half``.

Stochastic rounding to float16 takes half of the operations. In ``half`` a number is cut at the place where the format
ends after random bits below it have been added; here a fused multiply-add adds them to the float32, wherever that place
is, and the instruction that converts cuts it. Both round towards zero. To the nearest bfloat16 it is two operations.
"""

from typing import Any

from llvmlite import ir

from refoptim.kernels.operations import call, constant
from refoptim.kernels.registers import has

# How many numbers a register has.
WIDTH = 16

_I16, _I32 = ir.IntType(16), ir.IntType(32)
_F32 = ir.FloatType()
_WORDS, _NUMBERS, _BITS = (ir.VectorType(kind, WIDTH) for kind in (_I32, _F32, _I16))

_ALL = ir.Constant(_I16, 0xFFFF)  # of the places of a register
_TOWARDS_ZERO, _AS_USUAL = ir.Constant(_I32, 3 | 8), ir.Constant(_I32, 4)
_EITHER = ir.Constant(_I32, 0xF8)  # a, or b and c
_LARGER_MAGNITUDE = ir.Constant(_I32, 3)  # with the sign of the first of two

_POWER = 0xFF800000  # what is left of a number is its sign and the power of two below it
_LEAST_NORMAL = 2.0**-14  # of float16
_SHARE = 26 << 23  # down to the last place, 2**-10, and its share of 2**-16, in the bits of an exponent
_OVERFLOW = 2.0**112  # what ends float16 ends float32, so much larger


def has_registers(context: Any) -> bool:
    """Return whether the processor that code is generated for has these."""
    return has(context, "avx512vnni")


def raised(builder: Any, x: Any) -> Any:
    """Return words of which the upper halves are the nearest bfloat16, as ``half.raised``.

    To the bits of a float32 half of the last place is added, less one, and one if that place is odd: as the sum of two
    products, by 1 each, of the halves of a word.
    """
    bits = builder.bitcast(x, _WORDS)
    odd = builder.and_(bits, constant(_WORDS, 1 << 16))
    added = builder.or_(odd, constant(_WORDS, (1 << 15) - 1))
    ones = constant(_WORDS, 1 << 16 | 1)
    # The one that saturates, which no number's bits come near: LLVM makes two operations of the other one.
    return call(builder, "llvm.x86.avx512.vpdpwssds.512", _WORDS, [bits, added, ones])


def stochastic(builder: Any, x: Any, words: Any) -> Any:
    """Return the bits of one of the neighbours of each float32, chosen by a word below 2**16 for each."""
    chance = builder.sitofp(words, _NUMBERS)
    power = builder.and_(builder.bitcast(x, _WORDS), constant(_WORDS, _POWER))
    power = _larger(builder, builder.bitcast(power, _NUMBERS), constant(_NUMBERS, _LEAST_NORMAL))
    name = "llvm.x86.avx512.vfmadd.ps.512"
    # As an integer: a product would be infinite where x is, and NaN times a chance of zero.
    share = builder.sub(builder.bitcast(power, _WORDS), constant(_WORDS, _SHARE))
    share = builder.bitcast(share, _NUMBERS)
    added = call(builder, name, _NUMBERS, [chance, share, x, _TOWARDS_ZERO])
    # What ends float16 would become its largest number.
    ended = builder.fmul(added, constant(_NUMBERS, _OVERFLOW))
    added = builder.fmul(ended, constant(_NUMBERS, 1 / _OVERFLOW))
    name = "llvm.x86.avx512.mask.vcvtps2ph.512"
    return call(builder, name, _BITS, [added, _TOWARDS_ZERO, constant(_BITS, 0), _ALL])


def packed(builder: Any, low: Any, high: Any) -> Any:
    """Return words of the upper halves of two words, as ``half.packed``, for which LLVM takes a slow permutation."""
    low = builder.lshr(low, constant(_WORDS, 16))
    arguments = [low, high, constant(_WORDS, 0xFFFF0000), _EITHER]
    return call(builder, "llvm.x86.avx512.pternlog.d.512", _WORDS, arguments)


def _larger(builder: Any, a: Any, b: Any) -> Any:
    """Return the number of larger magnitude, with the sign of the first one; if one is NaN, the other."""
    name = "llvm.x86.avx512.mask.range.ps.512"
    return call(builder, name, _NUMBERS, [a, b, _LARGER_MAGNITUDE, constant(_NUMBERS, 0.0), _ALL, _AS_USUAL])
