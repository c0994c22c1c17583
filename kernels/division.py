"""Division by multiplication: the same bits as the processor's own, in less time.

A processor divides float64 slowly, with the unit that takes roots, too: a rule that needs both waits for it twice.
Meanwhile fused multiply-adds find the quotient. Newton's steps give the inverse of the divisor, correctly rounded, and
what the product leaves of the dividend corrects the quotient (Markstein: "Computation of elementary functions on the
IBM RISC System/6000 processor", 1990).

It is for loops over float32 that compute in float64. There no quotient is subnormal, and no divisor is, or above 1e300,
unless options are as absurd: such quotients have other digits, but are not NaN.
"""

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import ir as numba_ir
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.untyped_passes import IRProcessing
from numba.extending import intrinsic

_I64, _F64 = ir.IntType(64), ir.DoubleType()
# Subtracted from this, the bits of a number become those of its inverse, but for 6 %.
_SEED = 0x7FDE623822FC16E6
# Subtracted from this, those of 0 become those of infinity, the other way round, and those of NaN are of a NaN still.
_INFINITY = 0x7FF0000000000000

# Numba passes a typing context that the caller does not: to a type checker the two signatures do not agree.
_intrinsic: Any = intrinsic


def generate_quotient(builder: Any, a: Any, b: Any) -> Any:
    """Return a / b of two float64 numbers."""
    bits, minus_b, one, change = builder.bitcast(b, _I64), builder.fneg(b), _F64(1.0), None
    inverse = builder.bitcast(builder.sub(_I64(_SEED), bits), _F64)
    for _ in range(2):  # each leaves the third power of the error
        error = builder.fma(minus_b, inverse, one)
        change = builder.fma(error, error, error)
        inverse = builder.fma(inverse, change, inverse)
    inverse = builder.fma(inverse, builder.fma(minus_b, inverse, one), inverse)
    # With 0 and infinity the error has become infinite, or NaN.
    turned = builder.bitcast(builder.sub(_I64(_INFINITY), bits), _F64)
    inverse = builder.select(builder.fcmp_ordered("<", change, one), inverse, turned)
    quotient = builder.fmul(a, inverse)
    corrected = builder.fma(builder.fma(minus_b, quotient, a), inverse, quotient)
    # A zero keeps its sign, and what is infinite has nothing left to correct it by.
    return builder.select(builder.fcmp_ordered("!=", corrected, _F64(0.0)), corrected, quotient)


@_intrinsic
def quotient(typing_context, a, b):
    """Return a / b."""

    def generate(context, builder, signature, arguments):
        return generate_quotient(builder, *arguments)

    return types.float64(types.float64, types.float64), generate


@register_pass(mutates_CFG=False, analysis_only=False)
class _Multiply(FunctionPass):
    """Puts ``quotient(a, b)`` in the place of ``a / b``."""

    _name = "refoptim_division_by_multiplication"

    def __init__(self) -> None:  # abstract in the base
        super().__init__()

    def run_pass(self, state: Any) -> Any:
        for block in state.func_ir.blocks.values():
            for assignment in block.find_insts(numba_ir.Assign):
                expression = assignment.value
                if isinstance(expression, numba_ir.Expr) and expression.op == "binop":
                    expression.fn = quotient if expression.fn is operator.truediv else expression.fn
        return True


class ByMultiplication(CompilerBase):
    """Compiles a function whose numbers are float64, and which divides by multiplication."""

    def define_pipelines(self) -> list[Any]:
        """Return Numba's passes, and the one above."""
        passes = DefaultPassBuilder.define_nopython_pipeline(self.state)
        passes.add_pass_after(_Multiply, IRProcessing)
        passes.finalize()
        return [passes]
