"""Steps of a rule over elements of 16 bits, in code that is being generated: one by one, or two packs at a time.

They are rounded to the nearest numbers, also in two stages of the rule, or stochastically, or from master weights.
"""

import math
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from refoptim.kernels import half, philox
from refoptim.kernels.calls import call_of, changed
from refoptim.kernels.half_elements import Elements, Packs
from refoptim.kernels.operations import constant
from refoptim.kernels.pack_steps import stage_of
from refoptim.kernels.packs import AFTER, BEFORE, struct

# Numba passes a typing context that the caller does not: to a type checker the two signatures do not agree.
_intrinsic: Any = intrinsic

_I64 = ir.IntType(64)

# How many elements are stepped side by side, or after each other where they are of float32 too; and how far ahead the
# memory is asked meanwhile: waiting for it would take longer than the step.
TWO_PACKS, BLOCK, AHEAD = Packs.count, 128, 1024


def _asking(count: int) -> Any:
    @_intrinsic
    def ask(typing_context, arrays, i):
        def generate(context, builder, signature, arguments):
            Elements(context, builder, arrays, *arguments).ask_for(count)
            return context.get_dummy_value()

        return types.void(arrays, i), generate

    return ask


# Ask for so many elements from one on. There need not be any.
ask_for_packs, ask_for_block = map(_asking, (TWO_PACKS, BLOCK))


def _stages(typing_context: Any, rule: Any, arrays: Any, h: Any, name: str) -> list[Any]:
    return [stage_of(typing_context, rule, len(arrays), h, kind) for kind in Packs.numbers(h[0], name)]


@_intrinsic
def begin_nearest(typing_context, rule, arrays, i, h):
    """Take two packs through the first stage of a rule, and return what they wait for."""
    stages = _stages(typing_context, rule, arrays, h, BEFORE)
    first = stages[0]

    def generate(context, builder, signature, arguments):
        _, values, i, scalars = arguments
        packs = Packs(context, builder, arrays, values, i)
        numbers = zip(*(packs.widened(number, h[0]) for number in range(len(arrays))))
        new = zip(*(stage.call(context, builder, each, scalars) for stage, each in zip(stages, numbers)))
        waiting = []
        for number, results in zip(first.results, new):
            if number in first.written:
                packs.store(number, results, h[0])
            else:
                waiting = results
        return context.make_tuple(builder, signature.return_type, waiting)

    return types.Tuple([stage.delayed for stage in stages])(rule, arrays, i, h), generate


@_intrinsic
def end_nearest(typing_context, rule, arrays, i, h, waiting):
    """Take two packs, and what they have waited for, through the second stage."""
    stages = _stages(typing_context, rule, arrays, h, AFTER)
    written = _stages(typing_context, rule, arrays, h, BEFORE)[0].written

    def generate(context, builder, signature, arguments):
        _, values, i, scalars, waiting = arguments
        packs = Packs(context, builder, arrays, values, i)
        # What has been written over since is nothing that the rest of the rule may need.
        gone = constant(context.get_value_type(stages[0].kind).elements[0], math.nan)
        columns = [[gone] * 2 if number in written else packs.widened(number, h[0]) for number in range(len(arrays))]
        new = []
        for stage, numbers, found in zip(stages, zip(*columns), cgutils.unpack_tuple(builder, waiting)):
            divided = [builder.extract_value(found, place) for place in (0, 1)]
            new.append(stage.call(context, builder, [struct(builder, x, *divided) for x in numbers], scalars))
        for number, results in zip(stages[0].results, zip(*new)):
            if number not in written:
                packs.store(number, [builder.extract_value(x, 0) for x in results], h[0])
        return context.get_dummy_value()

    return types.void(rule, arrays, i, h, waiting), generate


def _calls(typing_context, rule, arrays, h, kind):
    return [call_of(typing_context, rule, len(arrays), h, number)[0] for number in kind.numbers(h[0])]


def _step(context, builder, elements, calls, scalars, wide):
    """Step elements and yield, for each result, the number of its array and the values."""
    count = len(elements.pointers)
    numbers = zip(*(elements.widened(number, wide) for number in range(count)))
    new = [call(context, builder, each, scalars) for call, each in zip(calls, numbers, strict=True)]
    return zip(changed(count, len(new[0])), zip(*new))


def _nearest_step(kind: type[Elements]) -> Any:
    @_intrinsic
    def step(typing_context, rule, arrays, i, h):
        calls = _calls(typing_context, rule, arrays, h, kind)

        def generate(context, builder, signature, arguments):
            _, values, i, scalars = arguments
            elements = kind(context, builder, arrays, values, i)
            for number, results in _step(context, builder, elements, calls, scalars, h[0]):
                elements.store(number, results, h[0])
            return context.get_dummy_value()

        return types.void(rule, arrays, i, h), generate

    return step


def _stochastic_step(kind: type[Elements]) -> Any:
    @_intrinsic
    def step(typing_context, rule, arrays, i, h, words):
        calls = _calls(typing_context, rule, arrays, h, kind)

        def generate(context, builder, signature, arguments):
            _, values, i, scalars, zero = arguments
            elements = kind(context, builder, arrays, values, i)
            new = _step(context, builder, elements, calls, scalars, h[0])
            for result, (number, results) in enumerate(new):
                elements.store(number, results, h[0], elements.drawn(zero, i, result))
            return context.get_dummy_value()

        return types.void(rule, arrays, i, h, words), generate

    return step


step_nearest, step_nearest_packs = map(_nearest_step, (Elements, Packs))
step_stochastic, step_stochastic_packs = map(_stochastic_step, (Elements, Packs))


@_intrinsic
def draw(typing_context, rule, arrays, h, draws, first, stop):
    """Draw for the results of some elements, as ``philox.fill`` does."""
    _, results = call_of(typing_context, rule, len(arrays), h)

    def generate(context, builder, signature, arguments):
        _, values, _, given, first, stop = arguments

        def ask_for(i):
            i = builder.add(i, _I64(AHEAD))
            Elements(context, builder, arrays, values, i).ask_for(philox.TILE)

        bits = half.RANDOM_BITS[arrays[0].dtype]
        made = philox.fill(builder, cgutils.unpack_tuple(builder, given), first, stop, bits, results, meanwhile=ask_for)
        return context.make_tuple(builder, signature.return_type, made)

    return types.Tuple((types.voidptr, types.intp))(rule, arrays, h, draws, first, stop), generate


@_intrinsic
def step_master(typing_context, rule, arrays, i, h):
    """Step element i of master weights, and round it to the parameters."""
    call, results = call_of(typing_context, rule, len(arrays) - 1, h)

    def generate(context, builder, signature, arguments):
        _, values, i, scalars = arguments
        elements = Elements(context, builder, arrays, values, i)
        # Where the parameter is not the rounded master, somebody has written to it, and that is what counts.
        current, master, own = elements.load(0), elements.load(1), elements.kinds[0]
        kept = builder.icmp_unsigned("==", current, elements.nearest(own, master))
        theta = builder.select(kept, master, elements.wide(own, current))
        numbers = [context.cast(builder, theta, types.float32, h[0])]
        for number in range(2, len(arrays)):
            numbers += elements.widened(number, h[0])
        first, *others = call(context, builder, numbers, scalars)
        elements.store(0, [elements.store(1, [first], h[0])], types.float32)
        for number, result in zip(changed(len(arrays) - 1, results)[1:], others):
            elements.store(number + 1, [result], h[0])
        return context.get_dummy_value()

    return types.void(rule, arrays, i, h), generate
