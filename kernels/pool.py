"""The threads that share long loops: one pool in a process, without a threading layer of Numba's.

A job is the address of a compiled loop, its arguments as machine words, and how many chunks it is cut into. The caller
takes chunks from the front, the other threads take them from the back, each with one compare-and-swap. Nobody waits for
a thread that has not come yet: on a busy machine the caller does everything itself. All of this is compiled code that
does not hold the GIL; a thread that has found nothing to do for a while sleeps on one of Python's locks.

One job runs at a time. Who finds the pool busy runs the loop alone, which gives the same bits, so nothing can wait for
itself. Compiled code takes the pool and gives it back, so that Ctrl-C leaves it free. A forked child makes its own pool
when it needs one.
"""

import atexit
import os
from _thread import allocate_lock
from collections.abc import Iterator
from contextlib import suppress
from threading import Thread
from time import monotonic_ns
from typing import Any

import numpy as np

from refoptim.kernels import threads
from refoptim.kernels.chunks import HAS_FAILED, HAS_WAITED, HELPER, OWNER, work
from refoptim.kernels.jobs import AWAKE, HIRED, NUMBER, SIZE, Job, described

# After a run that has waited for a thread without a processor, for how many nanoseconds short loops run alone: 20 times
# as long as one waits at worst.
REST = 80_000_000
# In nanoseconds: how soon after one run the next follows it, and for how long they must have followed each other before
# short ones wake threads. These then do not go back to sleep.
SOON, STEADY = 200_000, 1_000_000


class _Worker:
    """One of the other threads."""

    def __init__(self, box: Any) -> None:
        self._box = box
        self._lock = allocate_lock()
        self._lock.acquire()
        self._ends = False
        self._thread = Thread(target=self._run, name="refoptim", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def _run(self) -> None:
        while not self._ends:
            work(self._box, self._box, HELPER)
            self._lock.acquire()

    def wake(self) -> None:
        """Make it look for chunks. If it does, it will for longer."""
        with suppress(RuntimeError):  # it has been woken already
            self._lock.release()

    def end(self) -> None:
        """End the thread. A chunk that it has is finished first."""
        self._ends = True
        while self._thread.is_alive():
            self.wake()
            self._thread.join(0.001)


class _Pool:
    """The threads of this process, as many as a job has asked for, and where they find the job that they share."""

    def __init__(self) -> None:
        self.closed = False
        self.box = np.zeros(SIZE, np.int64)
        self._hires = allocate_lock()
        self._workers: list[_Worker] = []
        # By the clock: when a short loop has last found too few awake, since when such follow each other, and until
        # when short ones run alone, 0 if they do not. See the module ``kept``.
        self.asked = self.since = self.alone_until = 0

    def has(self, job: Job) -> bool:
        """Return whether this is the job that has been shared last."""
        return bool(self.box[NUMBER] == job.words[NUMBER])

    def run(self, job: Job, once: Iterator[Any]) -> bool:
        """Run a job on several threads, and return whether it has run.

        Python looks for Ctrl-C before it takes something from the iterator, and after the job that follows. Whoever has
        the iterator can tell whether the job has run.
        """
        if not self.wake(job):
            return False
        box, words, said = self.box, job.words, 0
        for _ in once:
            said = work(box, words, OWNER)
        self.heed(said)
        return True

    def wake(self, job: Job) -> bool:
        """Wake the threads that a job needs, and return whether there are any."""
        most, useful = threads.get_count() - 1, job.chunks - 1
        if self.closed or not most:
            return False
        if len(self._workers) != most:
            self._hire(most, useful)
        if self.box[AWAKE] < min(most, useful):
            for worker in self._workers[:useful]:
                worker.wake()
        return True

    def is_steady(self) -> bool:
        """Return whether short loops have followed each other for a while, to the one that asks."""
        now = monotonic_ns()
        if now - self.asked > SOON:
            self.since = now
        self.asked = now
        return now - self.since > STEADY

    def heed(self, said: int) -> None:
        """Take note of what ``work`` has said."""
        if said & HAS_WAITED:
            self.alone_until = monotonic_ns() + REST
        if said & HAS_FAILED:
            raise MemoryError("a loop has not got the memory that it needs")

    def _hire(self, most: int, useful: int) -> None:
        with self._hires:
            while len(self._workers) > most:
                self._workers.pop().end()
            while len(self._workers) < min(most, useful) and not self.closed:
                nothing = np.zeros(SIZE, np.int64)
                work(nothing, nothing, OWNER)  # compiled here, where an error can be seen
                self._workers.append(_Worker(self.box))
                try:
                    self._workers[-1].start()
                except RuntimeError:  # the system gives no more threads
                    self._workers.pop()
                    break
            self.box[HIRED] = len(self._workers)

    def close(self) -> None:
        """End all threads: Python must not end before them."""
        with self._hires:
            self.closed = True
            for worker in self._workers:
                worker.end()


class _Current:
    pool = _Pool()


def current() -> _Pool:
    """Return the pool of this process."""
    return _Current.pool


def _forked() -> None:
    # The other threads stayed behind, maybe with the lock.
    _Current.pool = _Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


@atexit.register
def _close() -> None:
    _Current.pool.close()


def share(loop: Any, arguments: tuple[Any, ...], sliced: int, tasks: int, grain: int) -> bool:
    """Run a compiled loop on several threads, and return whether it has run: else the caller does it alone.

    Args:
        loop: Numba's dispatcher.
        arguments: C-contiguous arrays, tuples of them, and integers.
        sliced: how many arrays in front have an element for each task, of which a thread gets its part. If 0, all get
            everything, and the last two arguments are the first task and the one behind the last.
        tasks: how many tasks there are.
        grain: how many of them a thread takes at a time.

    """
    if threads.get_count() == 1 or tasks <= grain or _Current.pool.closed:
        return False
    job = described(loop, arguments, sliced, tasks, grain)
    return job is not None and _Current.pool.run(job, iter((None,)))
