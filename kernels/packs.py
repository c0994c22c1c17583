"""Packs: some dozen numbers that a rule computes with side by side, as if they were one.

A rule is compiled for packs as it is for numbers: whatever it does is done to all numbers of a pack before the next
thing is. A processor waits for an operation that needs the one before it, and can only look at some hundred at once;
so those that depend on each other are far apart. In LLVM a pack is a vector, longer than any register.

A rule may also be taken in two stages, so that the quotients of one pack are on their way while the next pack's
divisors are computed. *Before*, what it divides is all that it tells about results that depend on the quotient.
*After*, every number carries that along, the quotient is taken of it, and what nobody needs any more LLVM leaves out.
"""

import operator
from collections.abc import Callable
from itertools import product
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin, models, register_model

from refoptim.kernels import arithmetic, newton, operations

# How many numbers are a pack. With more, registers do not hold what a rule computes.
WIDTH = 16
WHOLE, BEFORE, AFTER = "whole", "before", "after"

# To a type checker this is what it is before Numba is started.
_infer_global: Any = infer_global
_Type: Any = types.Type
_Template: Any = AbstractTemplate
_Model: Any = models.PrimitiveModel


class Pack(_Type):
    """As many numbers of one type as a pack has.

    Args:
        element: their type.
        by_newton: whether Newton's steps may find quotients or roots: float64 must have been float32 in memory.
        stage: of the rule that computes with them.

    """

    def __init__(self, element: Any, *, by_newton: bool, stage: str = WHOLE) -> None:
        self.element, self.by_newton, self.stage = element, by_newton, stage
        super().__init__(name=f"{type(self).__name__}({element}, by_newton={by_newton}, {stage})")


class Delayed(Pack):
    """Numbers that depend on a quotient that is taken later: what they are is its dividends and divisors."""


@register_model(Pack)
@register_model(Delayed)
class PackModel(_Model):
    """A pack is a vector; one that is delayed two, and one that carries these along three."""

    def __init__(self, manager: Any, kind: Any) -> None:
        vector = ir.VectorType(manager[kind.element].get_value_type(), WIDTH)
        count = 2 if isinstance(kind, Delayed) else 3 if kind.stage == AFTER else 1
        super().__init__(manager, kind, vector if count == 1 else ir.LiteralStructType([vector] * count))


def struct(builder: Any, *vectors: Any) -> Any:
    """Return vectors as one value."""
    made = ir.Constant(ir.LiteralStructType([x.type for x in vectors]), ir.Undefined)
    for place, x in enumerate(vectors):
        made = builder.insert_value(made, x, place)
    return made


def _takes_packs(function: Callable[..., Any], count: int, generate: Callable[..., Any]) -> None:
    """Have a function of so many numbers take packs, and numbers among them, which are then in all places."""

    @_infer_global(function)
    class Template(_Template):
        def generic(self, arguments: Any, keywords: Any) -> Any:
            result = _result_of(function, arguments)
            return result and signature(result, *arguments)

    def lowered(context: Any, builder: Any, found: Any, arguments: Any) -> Any:
        kind = found.return_type
        if isinstance(kind, Delayed):
            return _delayed(context, builder, found, arguments)
        vector = ir.VectorType(context.get_value_type(kind.element), WIDTH)
        given, waiting = [_vector(builder, vector, x) for x in arguments], []
        if kind.stage == AFTER:
            [carrier, *_] = [x for x, each in zip(arguments, found.args) if isinstance(each, Pack)]
            waiting = [builder.extract_value(carrier, place) for place in (1, 2)]
        if function is operator.truediv:
            given = waiting or given
        beside = _BESIDE.get(function) if kind.by_newton else None
        new = beside(context, builder, *given) if beside else generate(builder, *given)
        return struct(builder, new, *waiting) if waiting else new

    for kinds in product((Pack, types.Float), repeat=count):
        if Pack in kinds:
            lower_builtin(function, *kinds)(lowered)


def _result_of(function: Callable[..., Any], arguments: Any) -> Any:
    """Return the type of what a function gives, if it takes packs."""
    packs = {kind for kind in arguments if isinstance(kind, Pack)}
    delayed = [kind for kind in packs if isinstance(kind, Delayed)]
    if delayed or len(packs) != 1:
        return delayed[0] if delayed else None
    [pack] = packs
    if pack.stage == BEFORE and function is operator.truediv:
        return Delayed(pack.element, by_newton=pack.by_newton, stage=BEFORE)
    return pack


def _delayed(context: Any, builder: Any, found: Any, arguments: Any) -> Any:
    """Return dividends and divisors: those of an argument that has some, or else the arguments themselves."""
    for x, kind in zip(arguments, found.args):
        if isinstance(kind, Delayed):
            return x
    vector = ir.VectorType(context.get_value_type(found.return_type.element), WIDTH)
    return struct(builder, *(_vector(builder, vector, x) for x in arguments))


def _vector(builder: Any, kind: Any, x: Any) -> Any:
    """Return the numbers of a pack, or one number in all places."""
    if x.type == kind:
        return x
    return operations.everywhere(builder, kind, x) if x.type == kind.element else builder.extract_value(x, 0)


_BESIDE = {operator.truediv: newton.divide, arithmetic.sqrt: newton.take_root}


_takes_packs(operator.neg, 1, lambda builder, x: builder.fneg(x))
_takes_packs(operator.add, 2, lambda builder, a, b: builder.fadd(a, b))
_takes_packs(operator.sub, 2, lambda builder, a, b: builder.fsub(a, b))
_takes_packs(operator.mul, 2, lambda builder, a, b: builder.fmul(a, b))
_takes_packs(operator.truediv, 2, lambda builder, a, b: builder.fdiv(a, b))
_takes_packs(arithmetic.fma, 3, operations.fma)
_takes_packs(arithmetic.sqrt, 1, operations.sqrt)
_takes_packs(arithmetic.maximum, 2, operations.maximum)
_takes_packs(arithmetic.minimum, 2, operations.minimum)
_takes_packs(arithmetic.limited, 3, operations.limited)
_takes_packs(arithmetic.absolute, 1, operations.absolute)
_takes_packs(arithmetic.by_sign, 4, operations.by_sign)
