"""Stochastic rounding to float16 with the instructions of a processor that has registers of 512 bits.

The bits are those of ``half.stochastic``, in half of its operations. There a number is cut at the place where the
format ends after random bits below it have been added; here a fused multiply-add adds them to the float32, wherever
that place is, and the instruction that converts cuts it. Both round towards zero.
"""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from refoptim.kernels.operations import constant, joined, parts

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
_UNIT = 2.0**-10  # of the last place, for a number between 1 and 2
_CHANCE = (127 - 10) << 23  # the bits of _UNIT
_OVERFLOW = 2.0**112  # what ends float16 ends float32, so much larger


def has_registers(context: Any) -> bool:
    """Return whether the processor that code is generated for has these."""
    # Numba's cache goes by the same features.
    return "+avx512dq" in context.codegen().magic_tuple()[-1]


def by_registers(function: Callable[..., Any], builder: Any, *vectors: Any) -> Any:
    """Return what a function of registers makes of vectors that are as long as some registers."""
    pieces = zip(*(parts(builder, vector, WIDTH) for vector in vectors))
    return joined(builder, [function(builder, *piece) for piece in pieces])


def stochastic(builder: Any, x: Any, words: Any) -> Any:
    """Return the bits of one of the neighbours of each float32, chosen by 32 random bits for each."""
    # What is added is below one unit of the last place, by 21 random bits: those that make a small number's mean exact.
    chance = builder.and_(builder.lshr(words, constant(_WORDS, 9)), constant(_WORDS, 0x7FFFFC))
    chance = builder.bitcast(builder.or_(chance, constant(_WORDS, _CHANCE)), _NUMBERS)
    chance = builder.fsub(chance, constant(_NUMBERS, _UNIT))
    power = builder.and_(builder.bitcast(x, _WORDS), constant(_WORDS, _POWER))
    power = _larger(builder, builder.bitcast(power, _NUMBERS), constant(_NUMBERS, _LEAST_NORMAL))
    name = "llvm.x86.avx512.vfmadd.ps.512"
    raised = _call(builder, name, _NUMBERS, [chance, power, x, _TOWARDS_ZERO])
    # No chance at all, times infinity, is NaN, beside which the other number counts.
    raised = _larger(builder, x, raised)
    # What ends float16 would become its largest number.
    ended = builder.fmul(raised, constant(_NUMBERS, _OVERFLOW))
    raised = builder.fmul(ended, constant(_NUMBERS, 1 / _OVERFLOW))
    name = "llvm.x86.avx512.mask.vcvtps2ph.512"
    return _call(builder, name, _BITS, [raised, _TOWARDS_ZERO, constant(_BITS, 0), _ALL])


def packed(builder: Any, low: Any, high: Any) -> Any:
    """Return words of the upper halves of two words, as ``half.packed``, for which LLVM takes a slow permutation."""
    low = builder.lshr(low, constant(_WORDS, 16))
    arguments = [low, high, constant(_WORDS, 0xFFFF0000), _EITHER]
    return _call(builder, "llvm.x86.avx512.pternlog.d.512", _WORDS, arguments)


def _larger(builder: Any, a: Any, b: Any) -> Any:
    """Return the number of larger magnitude, with the sign of the first one; if one is NaN, the other."""
    name = "llvm.x86.avx512.mask.range.ps.512"
    return _call(builder, name, _NUMBERS, [a, b, _LARGER_MAGNITUDE, constant(_NUMBERS, 0.0), _ALL, _AS_USUAL])


def _call(builder: Any, name: str, kind: Any, arguments: Sequence[Any]) -> Any:
    declared = ir.FunctionType(kind, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, declared, name), arguments)
