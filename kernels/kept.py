"""Loops that run again and again over the same arrays: described once, and shared where that pays."""

from collections.abc import Iterator
from operator import length_hint
from time import monotonic_ns
from typing import Any

from refoptim.kernels.chunks import FEW_ARE_AWAKE, work
from refoptim.kernels.jobs import AWAKE, Job, described
from refoptim.kernels.pool import current
from refoptim.kernels.threads import get_count


class Kept:
    """A loop over arrays that stay where they are from call to call, as in :func:`share`: described once.

    A long run wakes the other threads. A short one is theirs too if they look for work anyway, and wakes them for the
    next ones if many have followed each other: to wake them for one takes longer than it does. On a busy machine a
    short run that waits for a thread without a processor loses many times what it can gain: those that follow run alone
    for a while.
    """

    def __init__(self, loop: Any, sliced: int, tasks: int, grain: int, *, is_long: bool) -> None:
        self._loop, self._sliced, self._tasks, self._grain, self._is_long = loop, sliced, tasks, grain, is_long
        self._job: Job | None = None
        self._once: Iterator[Any] | None = None
        # The loop before it was compiled, under the name that Numba has for it.
        self.py_func = loop.py_func

    def __call__(self, *arguments: Any) -> None:
        """Run. The arguments are the same each time."""
        # Whoever takes from this runs the loop next, and Python does not look for Ctrl-C between.
        once = self._once = iter((None,))
        pool, job = current(), self._job
        if self._is_long or job is None or pool.alone_until:
            self._run(pool, arguments, once)
        else:
            box, words, count, said = pool.box, job.words, get_count(), 0
            for _ in once:
                said = work(box, words, count)
            if said:
                if said & FEW_ARE_AWAKE and pool.is_steady():
                    pool.wake(job)
                pool.heed(said)
        self._once = None

    def _run(self, pool: Any, arguments: tuple[Any, ...], once: Iterator[Any]) -> None:
        if self._is_long:
            self._describe(arguments)
            if self._job is not None:
                pool.run(self._job, once)
        elif monotonic_ns() >= pool.alone_until:
            pool.alone_until = 0
            if get_count() > 1 and (pool.is_steady() or pool.box[AWAKE]):
                self._describe(arguments)
        for _ in once:
            self._loop(*arguments)

    def _describe(self, arguments: tuple[Any, ...]) -> None:
        if self._job is None:
            self._job = described(self._loop, arguments, self._sliced, self._tasks, self._grain)

    def has_run(self) -> bool:
        """Return whether the loop has run in the call that was interrupted."""
        once, self._once = self._once, None
        return once is not None and not length_hint(once)
