"""Loops that run again and again over the same arrays: described once, and shared where that pays."""

from collections.abc import Iterator
from operator import length_hint
from time import monotonic_ns
from typing import Any

from refoptim.kernels.jobs import Job, described
from refoptim.kernels.pool import current

# In nanoseconds: how soon after one run the next follows it, and for how long they must have followed each other before
# short ones wake threads. These then do not go back to sleep.
SOON, STEADY = 200_000, 1_000_000
# A run that takes so much more than twice what the fastest took has waited for a processor. For so many times as long
# as it took, short ones then run alone.
LOST, RESTS = 100_000, 20


class Kept:
    """A loop over arrays that stay where they are from call to call, as in :func:`share`: described once.

    A long run wakes the other threads. A short one is theirs too if they look for work anyway, or if many have followed
    each other: to wake them for one takes longer than it does. On a busy machine a short run that waits for a thread
    without a processor loses many times what it can gain: those that follow run alone for a while.
    """

    def __init__(self, loop: Any, sliced: int, tasks: int, grain: int, *, is_long: bool) -> None:
        self._loop, self._sliced, self._tasks, self._grain, self._is_long = loop, sliced, tasks, grain, is_long
        self._job: Job | None = None
        self._least = SOON  # the nanoseconds of the fastest shared run
        self._once: Iterator[Any] | None = None
        # The loop before it was compiled, under the name that Numba has for it.
        self.py_func = loop.py_func

    def __call__(self, *arguments: Any) -> None:
        """Run. The arguments are the same each time."""
        # Whoever takes from this runs the loop next, and Python does not look for Ctrl-C between.
        once = self._once = iter((None,))
        pool, start = current(), monotonic_ns()
        if start - pool.asked > SOON:
            pool.since = start
        pool.asked = start
        steady = start - pool.since > STEADY
        if self._is_long or ((steady or pool.is_awake()) and start > pool.alone_until):
            if self._job is None:
                self._job = described(self._loop, arguments, self._sliced, self._tasks, self._grain)
            taken = 0 if self._job is None else pool.run(self._job, once)
            if taken:
                self._least = min(self._least, taken)
                if taken > LOST + 2 * self._least:
                    pool.alone_until = start + RESTS * taken
        for _ in once:
            self._loop(*arguments)
        self._once = None

    def has_run(self) -> bool:
        """Return whether the loop has run in the call that was interrupted."""
        once, self._once = self._once, None
        return once is not None and not length_hint(once)
