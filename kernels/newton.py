"""Quotients and roots by Newton's steps, beside the unit that divides.

A processor has one unit that divides and takes roots of float64, and it is slow: a rule that needs both waits for it
twice. Meanwhile fused multiply-adds find one of them: the root, where the processor has seeds for it, and the quotient
elsewhere. What a first result leaves of the dividend, or of the radicand, corrects it (Markstein: "Computation of
elementary functions on the IBM RISC System/6000 processor", 1990).

They are for loops over float32 that compute in float64. There no number is subnormal, nor any divisor above 1e300,
unless options are as absurd: such results have other digits, but are not NaN.
"""

from typing import Any

from llvmlite import ir
from numba.core import cgutils

from refoptim.kernels import operations
from refoptim.kernels.operations import bits_of, constant, fma, joined, parts

# Subtracted from this, the bits of a number become those of its inverse, but for 6 %.
_SEED = 0x7FDE623822FC16E6
# Subtracted from this, those of 0 become those of infinity, the other way round, and those of NaN are of a NaN still.
_INFINITY = 0x7FF0000000000000

# How many numbers a register holds for which the processor has seeds.
_REGISTER = 8
# Classes of numbers, for the instruction that tells them.
_ZERO, _POSITIVE_INFINITY = 0x02 | 0x04, 0x08


def has_seeds(context: Any) -> bool:
    """Return whether the processor that code is generated for has seeds of roots."""
    # Numba's cache goes by the same features.
    return "+avx512dq" in context.codegen().magic_tuple()[-1]


def divide(context: Any, builder: Any, a: Any, b: Any) -> Any:
    """Return the quotients of two vectors of float64."""
    return builder.fdiv(a, b) if has_seeds(context) else quotient(builder, a, b)


def take_root(context: Any, builder: Any, x: Any) -> Any:
    """Return the square roots of a vector of float64."""
    if not has_seeds(context):
        return operations.sqrt(builder, x)
    return joined(builder, [root(builder, register) for register in parts(builder, x, _REGISTER)])


def quotient(builder: Any, a: Any, b: Any) -> Any:
    """Return a / b of float64, numbers or vectors."""
    integers, one, change = bits_of(b.type), constant(b.type, 1.0), None
    bits, minus_b = builder.bitcast(b, integers), builder.fneg(b)
    inverse = builder.bitcast(builder.sub(constant(integers, _SEED), bits), b.type)
    for _ in range(2):  # each leaves the third power of the error
        error = fma(builder, minus_b, inverse, one)
        change = fma(builder, error, error, error)
        inverse = fma(builder, inverse, change, inverse)
    inverse = fma(builder, inverse, fma(builder, minus_b, inverse, one), inverse)
    # With 0 and infinity the error has become infinite, or NaN.
    turned = builder.bitcast(builder.sub(constant(integers, _INFINITY), bits), b.type)
    inverse = builder.select(builder.fcmp_ordered("<", change, one), inverse, turned)
    found = builder.fmul(a, inverse)
    corrected = fma(builder, fma(builder, minus_b, found, a), inverse, found)
    # A zero keeps its sign, and what is infinite has nothing left to correct it by.
    return builder.select(builder.fcmp_ordered("!=", corrected, constant(b.type, 0.0)), corrected, found)


def root(builder: Any, x: Any) -> Any:
    """Return the square roots of a register.

    A seed of 14 bits becomes a root of 40, and this one of 79 before it is rounded: one in a billion or so is rounded
    to the neighbour of the processor's root.
    """
    seed = _seed(builder, x)
    found, half = builder.fmul(x, seed), builder.fmul(seed, constant(x.type, 0.5))  # half of the root's inverse
    error = fma(builder, builder.fneg(found), half, constant(x.type, 0.5))
    change = builder.fmul(error, fma(builder, error, constant(x.type, 1.5), constant(x.type, 1.0)))
    found, half = fma(builder, found, change, found), fma(builder, half, change, half)
    corrected = fma(builder, fma(builder, builder.fneg(found), found, x), half, found)
    # Of these the steps make NaN.
    return builder.select(_is(builder, x, _ZERO | _POSITIVE_INFINITY), x, corrected)


def _seed(builder: Any, x: Any) -> Any:
    """Return the inverses of roots; those of zeros are infinite."""
    byte = ir.IntType(8)
    declared = ir.FunctionType(x.type, [x.type, x.type, byte])
    function = cgutils.get_or_insert_function(builder.module, declared, "llvm.x86.avx512.rsqrt14.pd.512")
    return builder.call(function, [x, constant(x.type, 0.0), byte(255)])


def _is(builder: Any, x: Any, classes: int) -> Any:
    """Return which numbers are of some classes."""
    word = ir.IntType(32)
    declared = ir.FunctionType(ir.VectorType(ir.IntType(1), _REGISTER), [x.type, word])
    function = cgutils.get_or_insert_function(builder.module, declared, "llvm.x86.avx512.fpclass.pd.512")
    return builder.call(function, [x, word(classes)])
