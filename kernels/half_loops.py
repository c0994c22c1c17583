"""The CPU loops over parameters of 16 bits, made from the rule: each load is widened, each result is rounded once.

There are three for every rule: to the nearest number, stochastic, and with float32 master weights, whose rounded copy
the parameters are.
"""

from collections.abc import Callable
from functools import cached_property
from types import FunctionType
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from refoptim.kernels import half, philox
from refoptim.kernels.arithmetic import unpack
from refoptim.kernels.calls import call_of, changed
from refoptim.kernels.half_elements import Elements, Packs, Pairs
from refoptim.kernels.jit import CpuTasks, grain_of, kept_loop, loop_of
from refoptim.kernels.philox import Draws
from refoptim.kernels.registers import use_whole_registers

# Numba passes a typing context that the caller does not: to a type checker the two signatures do not agree.
_intrinsic: Any = intrinsic

_I64 = ir.IntType(64)
_WORD = 0xFFFFFFFF

# How many elements are stepped at a time, while as many are asked for that come so much later: waiting for them would
# take longer than the step.
BLOCK, AHEAD = 128, 1024
# How many elements are stepped side by side where rounding is stochastic.
TWO_PACKS = Packs.count
# How many times as many elements as of wider numbers a thread takes: its first ones nobody has asked for.
TIMES = 4

# What the loops below name, and the copy for each rule has of its own.
rule: Any = None
Scalars: Any = None


def nearest(arrays, scalars, first, stop):
    use_whole_registers()
    h = Scalars(*unpack(Scalars, scalars))
    while first < stop:
        end = min(first + BLOCK, stop)
        _ask_for_block(arrays, first + AHEAD)
        single = first + _paired(arrays, end - first)
        for i in range(first, single, 2):
            _step_nearest_pair(rule, arrays, i, h)
        for i in range(single, end):
            _step_nearest(rule, arrays, i, h)
        first = end


def stochastic(arrays, scalars, draws, first, stop):
    use_whole_registers()
    h = Scalars(*unpack(Scalars, scalars))
    draws = unpack(Draws, draws)
    while first < stop:
        words, end = _draw(rule, arrays, h, draws, first, stop)
        single = end - (end - first) % TWO_PACKS
        for i in range(first, single, TWO_PACKS):
            _step_stochastic_pack(rule, arrays, i, h, words)
        for i in range(single, end):
            _step_stochastic(rule, arrays, i, h, words)
        first = end


def master(arrays, scalars, first, stop):
    use_whole_registers()
    h = Scalars(*unpack(Scalars, scalars))
    while first < stop:
        end = min(first + BLOCK, stop)
        _ask_for_block(arrays, first + AHEAD)
        for i in range(first, end):
            _step_master(rule, arrays, i, h)
        first = end


class HalfLoop(CpuTasks):
    """A loop over the bits of 16-bit numbers, and over arrays of float32 beside them."""

    def __call__(self, arrays: tuple[Any, ...], *arguments: Any) -> None:
        """Run over all elements; the arguments are the packed scalars, and what else the loop takes."""
        size = arrays[0].size
        self.run(size, grain_of(size, TIMES), _bytes(arrays), tuple(map(half.as_bits, arrays)), *arguments)

    def kept(self, arrays: tuple[Any, ...], *arguments: Any) -> tuple[Callable[..., None], tuple[Any, ...]]:
        """Return what to call again and again for these arrays, and with what: see ``jit.entry``."""
        given = tuple(map(half.as_bits, arrays)), *arguments, 0, arrays[0].size
        return kept_loop(self.serial, 0, arrays[0].size, _bytes(arrays), TIMES), given


class HalfLoops:
    """The loops of a rule over parameters of 16 bits, each compiled when it is first called."""

    def __init__(self, rule: FunctionType, compiled: Any) -> None:
        self._rule, self._compiled = rule, compiled

    @cached_property
    def nearest(self) -> HalfLoop:
        """Takes the arrays that a rule's loop takes, and its scalars."""
        return self._made(nearest)

    @cached_property
    def stochastic(self) -> HalfLoop:
        """Takes what :func:`draws` returns, too."""
        return self._made(stochastic)

    @cached_property
    def master(self) -> HalfLoop:
        """Takes the parameters first, then the master weights in the place of the parameters."""
        return self._made(master)

    def _made(self, loop: Any) -> HalfLoop:
        return HalfLoop(loop_of(self._rule, loop, f"{self._rule.__name__}_half_{loop.__name__}", self._compiled))


def _bytes(arrays: tuple[Any, ...]) -> int:
    """Return how many bytes arrays of float32 would have, which take as long to step."""
    return 4 * arrays[0].size * len(arrays)


def draws(seed: int, step: int, stream: int, place: int) -> Any:
    """Return what a stochastic loop takes for its random numbers: key, step, stream, and the place of element 0."""
    return np.array([seed & _WORD, seed >> 32, step & _WORD, stream, place], np.uint64)


@_intrinsic
def _paired(typing_context, arrays, count):
    """Return how many of so many elements are stepped in pairs: all or all but one, or none."""

    def generate(context, builder, signature, arguments):
        return builder.and_(arguments[1], _I64(-2 if Pairs.suit(arrays) else 0))

    return types.intp(arrays, types.intp), generate


@_intrinsic
def _ask_for_block(typing_context, arrays, i):
    """Ask for a block of elements from one on. There need not be any."""

    def generate(context, builder, signature, arguments):
        Elements(context, builder, arrays, *arguments).ask_for(BLOCK)
        return context.get_dummy_value()

    return types.void(arrays, i), generate


def _step(context, builder, elements, call, scalars, wide):
    """Step elements and yield, for each result, the number of its array and the values."""
    count = len(elements.pointers)
    numbers = zip(*(elements.widened(number, wide) for number in range(count)))
    new = [call(context, builder, each, scalars) for each in numbers]
    return zip(changed(count, len(new[0])), zip(*new))


def _nearest_step(kind: type[Elements]) -> Any:
    @_intrinsic
    def step(typing_context, rule, arrays, i, h):
        call, _ = call_of(typing_context, rule, len(arrays), h)

        def generate(context, builder, signature, arguments):
            if kind.suit(arrays):
                _, values, i, scalars = arguments
                elements = kind(context, builder, arrays, values, i)
                for number, results in _step(context, builder, elements, call, scalars, h[0]):
                    elements.store(number, results, h[0])
            return context.get_dummy_value()

        return types.void(rule, arrays, i, h), generate

    return step


def _stochastic_step(kind: type[Elements]) -> Any:
    @_intrinsic
    def step(typing_context, rule, arrays, i, h, words):
        call, _ = call_of(typing_context, rule, len(arrays), h, kind.number(h[0]))

        def generate(context, builder, signature, arguments):
            if kind.suit(arrays):
                _, values, i, scalars, zero = arguments
                elements = kind(context, builder, arrays, values, i)
                new = _step(context, builder, elements, call, scalars, h[0])
                for result, (number, results) in enumerate(new):
                    elements.store(number, results, h[0], elements.drawn(zero, i, result))
            return context.get_dummy_value()

        return types.void(rule, arrays, i, h, words), generate

    return step


_step_nearest, _step_nearest_pair = map(_nearest_step, (Elements, Pairs))
_step_stochastic, _step_stochastic_pack = map(_stochastic_step, (Elements, Packs))


@_intrinsic
def _draw(typing_context, rule, arrays, h, draws, first, stop):
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
def _step_master(typing_context, rule, arrays, i, h):
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
