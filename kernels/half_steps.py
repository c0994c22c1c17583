"""Steps of a rule over elements of 16 bits, in code that is being generated: one by one, or two packs at a time.

They are rounded to the nearest numbers, or stochastically where there are random words; also in two stages of the rule;
or from master weights.
"""

from typing import Any

from numba import types
from numba.core import cgutils

from refoptim.kernels import half
from refoptim.kernels.calls import call_of, changed, results_of
from refoptim.kernels.half_elements import Elements, Packs
from refoptim.kernels.intrinsics import intrinsic
from refoptim.kernels.pack_steps import nobodys, stage_of
from refoptim.kernels.packs import AFTER, BEFORE, WHOLE, Pack
from refoptim.kernels.philox import kind_of_words

# How many elements are stepped side by side, or after each other where they are of float32 too; and how far ahead the
# memory is asked meanwhile: waiting for it would take longer than the step.
TWO_PACKS, BLOCK, AHEAD = Packs.count, 128, 1024


def _asking(count: int) -> Any:
    @intrinsic
    def ask(typing_context, arrays, i):
        def generate(context, builder, signature, arguments):
            Elements(context, builder, arrays, *arguments).ask_for(count)
            return context.get_dummy_value()

        return types.void(arrays, i), generate

    return ask


# Ask for so many elements from one on. There need not be any.
ask_for_packs, ask_for_block = map(_asking, (TWO_PACKS, BLOCK))


def _packs(typing_context: Any, rule: Any, arrays: Any, h: Any, words: Any, stage: str = WHOLE) -> list[Pack]:
    """Return the types of two packs that a rule computes with.

    Where a step has little else to do, and waits for the divider, Newton's steps find the roots of the second one.
    Stochastic rounding to float16 is much to do.
    """
    is_short = words == types.none or all(array.dtype == half.BFLOAT16 for array in arrays)
    is_short = is_short and len(results_of(typing_context, rule, len(arrays), h)) <= 2
    is_double = h[0] == types.float64
    return [Pack(h[0], by_newton=by_newton, stage=stage) for by_newton in (is_double, is_double or is_short)]


def _stages(typing_context: Any, rule: Any, arrays: Any, h: Any, words: Any, stage: str) -> list[Any]:
    kinds = _packs(typing_context, rule, arrays, h, words, stage)
    return [stage_of(typing_context, rule, len(arrays), h, kind) for kind in kinds]


def _begun(stages: list[Any], words: Any) -> Any:
    """Return the type of what has begun: from which element on, its random words, and the results that wait."""
    return types.Tuple([types.intp, words, *(stage.delayed for stage in stages)])


@intrinsic
def nothing_begun(typing_context, rule, arrays, h, draws):
    """Return what :func:`begin` returns, but for an element that there is not."""
    words = kind_of_words(draws)
    kind = _begun(_stages(typing_context, rule, arrays, h, words, BEFORE), words)

    def generate(context, builder, signature, arguments):
        zeros = cgutils.get_null_value(context.get_value_type(kind))
        return builder.insert_value(zeros, context.get_constant(types.intp, -1), 0)

    return kind(rule, arrays, h, draws), generate


@intrinsic
def begin(typing_context, rule, arrays, i, h, words):
    """Take two packs through the first stage of a rule, and return what the second one takes."""
    stages = _stages(typing_context, rule, arrays, h, words, BEFORE)
    first = stages[0]

    def generate(context, builder, signature, arguments):
        _, values, i, scalars, zero = arguments
        packs = Packs(context, builder, arrays, values, i)
        numbers = zip(*(packs.widened(number, h[0]) for number in range(len(arrays))))
        new = zip(*(stage.call(context, builder, each, scalars) for stage, each in zip(stages, numbers)))
        waiting = []
        for result, (number, results) in enumerate(zip(first.results, new)):
            if number in first.written:
                packs.store(number, results, h[0], _drawn(packs, words, zero, i, result))
            else:
                waiting = results
        return context.make_tuple(builder, signature.return_type, [i, zero, *waiting])

    return _begun(stages, words)(rule, arrays, i, h, words), generate


@intrinsic
def end(typing_context, rule, arrays, h, begun):
    """Take two packs that have begun through the second stage."""
    words = begun[1]
    stages = _stages(typing_context, rule, arrays, h, words, AFTER)
    written = _stages(typing_context, rule, arrays, h, words, BEFORE)[0].written

    def generate(context, builder, signature, arguments):
        _, values, scalars, waiting = arguments
        i, zero, *waiting = cgutils.unpack_tuple(builder, waiting)
        packs = Packs(context, builder, arrays, values, i)
        gone = nobodys(stages[0].vector(context))
        columns = [[gone] * 2 if number in written else packs.widened(number, h[0]) for number in range(len(arrays))]
        found = zip(stages, zip(*columns), waiting)
        new = [stage.resume(context, builder, numbers, each, scalars) for stage, numbers, each in found]
        for result, (number, results) in enumerate(zip(stages[0].results, zip(*new))):
            if number not in written:
                packs.store(number, results, h[0], _drawn(packs, words, zero, i, result))
        return context.get_dummy_value()

    return types.void(rule, arrays, h, begun), generate


def _drawn(elements: Elements, words: Any, zero: Any, i: Any, result: int) -> Any:
    """Return the random bits for a result, or None where the nearest numbers are wanted."""
    return None if words == types.none else elements.drawn(zero, i, result)


def _step(kind: type[Elements]) -> Any:
    @intrinsic
    def step(typing_context, rule, arrays, i, h, words):
        kinds = _packs(typing_context, rule, arrays, h, words) if kind is Packs else [h[0]]
        calls = [call_of(typing_context, rule, len(arrays), h, each)[0] for each in kinds]

        def generate(context, builder, signature, arguments):
            _, values, i, scalars, zero = arguments
            elements, count = kind(context, builder, arrays, values, i), len(arrays)
            numbers = zip(*(elements.widened(number, h[0]) for number in range(count)))
            new = [call(context, builder, each, scalars) for call, each in zip(calls, numbers, strict=True)]
            for result, (number, results) in enumerate(zip(changed(count, len(new[0])), zip(*new))):
                elements.store(number, results, h[0], _drawn(elements, words, zero, i, result))
            return context.get_dummy_value()

        return types.void(rule, arrays, i, h, words), generate

    return step


# Step an element, or two packs of them from one on.
step, step_packs = map(_step, (Elements, Packs))


@intrinsic
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
