"""Loops that run again and again over the same arrays: described once, and shared where that pays."""

from time import monotonic_ns
from typing import Any

from refoptim.kernels.pool import Job, current, described

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

    def __call__(self, *arguments: Any) -> None:
        """Run. The arguments are the same each time."""
        pool, start = current(), monotonic_ns()
        if start - pool.asked > SOON:
            pool.since = start
        pool.asked = start
        steady = start - pool.since > STEADY
        if self._is_long or ((steady or pool.is_awake()) and start > pool.alone_until):
            if self._job is None:
                self._job = described(self._loop, arguments, self._sliced, self._tasks, self._grain)
            taken = 0 if self._job is None else pool.run(self._job)
            if taken:
                self._least = min(self._least, taken)
                if taken > LOST + 2 * self._least:
                    pool.alone_until = start + RESTS * taken
                return
        self._loop(*arguments)
