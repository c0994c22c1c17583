"""The CPU loops over parameters of 16 bits, made from the rule: each load is widened, each result is rounded once.

There are three for every rule: to the nearest number, stochastic, and with float32 master weights, whose rounded copy
the parameters are.
"""

from collections.abc import Callable
from functools import cached_property
from types import FunctionType
from typing import Any

import numpy as np
from numba import njit

from refoptim.kernels import half
from refoptim.kernels.arithmetic import unpack
from refoptim.kernels.half_steps import (
    AHEAD,
    BLOCK,
    TWO_PACKS,
    ask_for_block,
    ask_for_packs,
    begin,
    end,
    nothing_begun,
    step,
    step_master,
    step_packs,
)
from refoptim.kernels.jit import CpuTasks, grain_of, kept_loop, loop_of
from refoptim.kernels.pack_steps import ends_with_quotient
from refoptim.kernels.philox import Draws, draw
from refoptim.kernels.registers import use_whole_registers

_WORD = 0xFFFFFFFF

# How many times as many elements as of wider numbers a thread takes: its first ones nobody has asked for.
TIMES = 4

# What the loops below name, and the copy for each rule has of its own.
rule: Any = None
Scalars: Any = None


def _over(rule, arrays, h, draws, first, stop):
    while first < stop:
        words, behind = draw(draws, first, stop)
        single = behind - (behind - first) % TWO_PACKS
        for i in range(first, single, TWO_PACKS):
            ask_for_packs(arrays, i + AHEAD)
            step_packs(rule, arrays, i, h, words)
        for i in range(single, behind):
            step(rule, arrays, i, h, words)
        first = behind


def _over_in_stages(rule, arrays, h, draws, first, stop):
    begun = nothing_begun(rule, arrays, h, draws)
    while first < stop:
        words, behind = draw(draws, first, stop)
        single = behind - (behind - first) % TWO_PACKS
        if first < single:
            ask_for_packs(arrays, first + AHEAD)
            following = begin(rule, arrays, first, h, words)
            if begun[0] >= 0:
                end(rule, arrays, h, begun)
            begun = following
        for i in range(first + TWO_PACKS, single, TWO_PACKS):
            ask_for_packs(arrays, i + AHEAD)
            following = begin(rule, arrays, i, h, words)
            end(rule, arrays, h, begun)
            begun = following
        for i in range(single, behind):
            step(rule, arrays, i, h, words)
        first = behind
    if begun[0] >= 0:
        end(rule, arrays, h, begun)


over, over_in_stages = (njit(inline="always", error_model="numpy")(loop) for loop in (_over, _over_in_stages))


def nearest(arrays, scalars, first, stop):
    use_whole_registers()
    over(rule, arrays, Scalars(*unpack(Scalars, scalars)), None, first, stop)


def stochastic(arrays, scalars, draws, first, stop):
    use_whole_registers()
    h = Scalars(*unpack(Scalars, scalars))
    over(rule, arrays, h, unpack(Draws, draws), first, stop)


def master(arrays, scalars, first, stop):
    use_whole_registers()
    h = Scalars(*unpack(Scalars, scalars))
    while first < stop:
        end = min(first + BLOCK, stop)
        ask_for_block(arrays, first + AHEAD)
        for i in range(first, end):
            step_master(rule, arrays, i, h)
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
        stages = over_in_stages if ends_with_quotient(self._rule) else over
        name = f"{self._rule.__name__}_half_{loop.__name__}"
        return HalfLoop(loop_of(self._rule, loop, name, self._compiled, over=stages))


def _bytes(arrays: tuple[Any, ...]) -> int:
    """Return how many bytes arrays of float32 would have, which take as long to step."""
    return 4 * arrays[0].size * len(arrays)


def draws(seed: int, step: int, stream: int, place: int) -> Any:
    """Return what a stochastic loop takes for its random numbers: an array of ``Draws``, for results from the first."""
    return np.array(Draws(seed & _WORD, seed >> 32, step & _WORD, stream, place), np.uint64)
