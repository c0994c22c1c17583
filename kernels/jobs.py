"""Jobs: a compiled loop and its arguments as words, which threads take their chunks from."""

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numba import typeof

from refoptim.kernels.addresses import address_of

# Where a job is described: an array of 64-bit integers. What several threads write has a cache line of its own.
LEFT = 0  # the chunks that nobody has taken: how many, times 2**32, and the first of them
DONE = 8  # how many chunks are done
BUSY, HIRED = 16, 17  # whether somebody's job is running; how many other threads there are
AWAKE = 24  # how many of them look for chunks
ADDRESS, CHUNKS, GRAIN, TASKS, FAILED, NUMBER = range(32, 38)
WORDS = 96  # the most words that arguments have
JOB = ADDRESS  # from here on it is the same in every run of a job
BASE = 40  # a word is its base, plus a step times the first task of the chunk, plus a factor times their number
STEP, FACTOR = BASE + WORDS, BASE + 2 * WORDS
SIZE = BASE + 3 * WORDS


def _flat(arguments: tuple[Any, ...]) -> Iterator[Any]:
    """Yield arguments as compiled code gets them, where a tuple's items take the place of the tuple."""
    for argument in arguments:
        if isinstance(argument, tuple):
            yield from argument
        else:
            yield argument


class Plan:
    """How a loop is called for arguments of these types: its address, and how words depend on the chunk."""

    def __init__(self, loop: Any, arguments: tuple[Any, ...], sliced: int) -> None:
        address = address_of(loop, tuple(map(typeof, arguments)))
        steps, factors = np.zeros((2, WORDS), np.int64)
        place = 0
        for position, argument in enumerate(_flat(arguments)):
            if not isinstance(argument, np.ndarray):
                place += 1
                continue
            if position < sliced:
                factors[place + 2] = factors[place + 5] = 1
                steps[place + 4] = argument.itemsize
            place += 5 + 2 * argument.ndim
        if not sliced:  # the last two are the range
            steps[place - 2 : place] = 1
            factors[place - 1] = 1
        self._words = np.zeros(SIZE, np.int64)
        self._words[ADDRESS] = address
        self._words[STEP:] = np.concatenate([steps, factors])

    def job(self, words: list[int], tasks: int, grain: int) -> "Job":
        """Return the job of the loop over all tasks, for these arguments."""
        own, chunks = self._words.copy(), -(-tasks // grain)
        own[CHUNKS : NUMBER + 1] = (chunks, grain, tasks, 0, next(_numbers))
        own[BASE : BASE + len(words)] = words
        return Job(chunks, own)


class Job(NamedTuple):
    """A loop and its arguments as the threads see them. It does not keep the arguments alive."""

    chunks: int
    words: Any  # as in the box


_plans: dict[Any, Plan] = {}
# No two jobs have the same number, as they may have the same address one after the other.
_numbers = itertools.count(1)


def described(loop: Any, arguments: tuple[Any, ...], sliced: int, tasks: int, grain: int) -> Job | None:
    """Return a loop and arguments, as in :func:`share`, as the threads see them. None is that they cannot."""
    kinds: list[Any] = [loop, sliced]
    words: list[int] = []
    for argument in _flat(arguments):
        if isinstance(argument, np.ndarray):
            seen = argument.__array_interface__
            address, frozen = seen["data"]
            if seen["strides"] is not None or address % argument.itemsize:
                return None
            kinds += (seen["typestr"], argument.ndim, frozen)
            words += (0, 0, argument.size, argument.itemsize, address, *argument.shape, *argument.strides)
            if len(kinds) <= 3 * sliced + 2:
                words[-5] = words[-2] = 0
        else:
            kinds.append(None)
            words.append(argument)
    if not sliced:  # each thread gets a range of its own, wherever all tasks begin and end
        words[-2:] = (0, 0)
    plan = _plans.get(tuple(kinds))
    if plan is None:
        plan = _plans[tuple(kinds)] = Plan(loop, arguments, sliced)
    return plan.job(words, tasks, grain)
