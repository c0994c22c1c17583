"""Quotients and roots by Newton's steps, beside the unit that divides.

A processor has one unit that divides and takes roots of float64, and it is slow: a rule that needs both waits for it
twice. Meanwhile fused multiply-adds find one of them: the root, where the processor has seeds for it, and the quotient
elsewhere. What a first result leaves of the dividend, or of the radicand, corrects it (Markstein: "Computation of
elementary functions on the IBM RISC System/6000 processor", 1990).

Those of float64 are for loops over float32. There no number is subnormal, nor any divisor above 1e300, unless options
are as absurd: such results have other digits, but are not NaN.
"""

from typing import Any

from llvmlite import ir

from refoptim.kernels import operations
from refoptim.kernels.operations import bits_of, constant, fma
from refoptim.kernels.registers import has

# Subtracted from this, the bits of a number become those of its inverse, but for 6 %.
_SEED = 0x7FDE623822FC16E6
# Subtracted from this, those of 0 become those of infinity, the other way round, and those of NaN are of a NaN still.
_INFINITY = 0x7FF0000000000000

# Classes of numbers, for the instruction that tells them.
_ZERO, _POSITIVE_INFINITY = 0x02 | 0x04, 0x08


def has_seeds(context: Any) -> bool:
    """Return whether the processor that code is generated for has seeds of roots."""
    return has(context, "avx512dq")


def divide(context: Any, builder: Any, a: Any, b: Any) -> Any:
    """Return the quotients of two vectors."""
    is_fast = has_seeds(context) or a.type.element == ir.FloatType()
    return builder.fdiv(a, b) if is_fast else quotient(builder, a, b)


def take_root(context: Any, builder: Any, x: Any) -> Any:
    """Return the square roots of a vector."""
    if not has_seeds(context):
        return operations.sqrt(builder, x)
    width, root = (8, double_root) if x.type.element == ir.DoubleType() else (16, single_root)
    return operations.by_parts(root, builder, width, x)


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


def double_root(builder: Any, x: Any) -> Any:
    """Return the square roots of a register of float64.

    A seed of 14 bits becomes a root of 40, and this one of 79 before it is rounded: one in a billion or so is rounded
    to the neighbour of the processor's root.
    """
    found, half, error = _first(builder, x)
    change = builder.fmul(error, fma(builder, error, constant(x.type, 1.5), constant(x.type, 1.0)))
    return _corrected(builder, x, fma(builder, found, change, found), fma(builder, half, change, half))


def single_root(builder: Any, x: Any) -> Any:
    """Return the square roots of a register of float32: a seed of 14 bits becomes a root of 27, and this one of 54.

    All have the bits of the processor's. Below 2**-96 what is left of a number would be subnormal.
    """
    is_small = builder.fcmp_ordered("<", x, constant(x.type, 2.0**-96))
    x = builder.select(is_small, builder.fmul(x, constant(x.type, 2.0**64)), x)
    found, half, error = _first(builder, x)
    root = _corrected(builder, x, fma(builder, found, error, found), fma(builder, half, error, half))
    return builder.select(is_small, builder.fmul(root, constant(x.type, 2.0**-32)), root)


def _first(builder: Any, x: Any) -> tuple[Any, Any, Any]:
    """Return roots to 14 bits, the halves of their inverses, and half of what the product of both lacks to 1."""
    seed, a_half = _instruction(builder, "rsqrt14", x, constant(x.type, 0.0), _mask(x.type, -1)), constant(x.type, 0.5)
    found, half = builder.fmul(x, seed), builder.fmul(seed, a_half)
    return found, half, fma(builder, builder.fneg(found), half, a_half)


def _corrected(builder: Any, x: Any, found: Any, half: Any) -> Any:
    """Return roots with what they leave, given half of their inverses."""
    corrected = fma(builder, fma(builder, builder.fneg(found), found, x), half, found)
    # Of these numbers the steps make NaN: the seeds of zeros are infinite.
    own = _instruction(builder, "fpclass", x, ir.IntType(32)(_ZERO | _POSITIVE_INFINITY), result=_flags(x.type))
    return builder.select(own, x, corrected)


def _instruction(builder: Any, name: str, x: Any, *others: Any, result: Any = None) -> Any:
    """Return what an instruction gives for a register."""
    suffix = "pd" if x.type.element == ir.DoubleType() else "ps"
    return operations.call(builder, f"llvm.x86.avx512.{name}.{suffix}.512", result or x.type, [x, *others])


def _flags(kind: Any) -> Any:
    return ir.VectorType(ir.IntType(1), kind.count)


def _mask(kind: Any, bits: int) -> Any:
    return ir.IntType(kind.count)(bits)
