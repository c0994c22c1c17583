"""``--jobs``: work that is shared among processes, its results in order."""

import argparse
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from refoptim.cli.refusals import RefusedError

Each = Callable[[Callable[[Any], Any], Sequence[Any]], Iterator[Any]]

# A process takes as long to start as some works take to do, and half a gigabyte where it imports torch.
_WORKS_EACH = 4
_MOST = 8
_LIMIT = 256


def add(parser: argparse.ArgumentParser) -> None:
    """Add the option."""
    what = f"how many processes (default: one for each core, at most {_MOST})"
    parser.add_argument("--jobs", type=positive, default=None, metavar="N", help=what)


def positive(text: str) -> int:
    """Return a number of processes."""
    number = int(text) if text.isdecimal() else 0
    if not 1 <= number <= _LIMIT:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1 to {_LIMIT}")
    return number


@contextmanager
def each(jobs: int | None) -> Iterator[Each]:
    """Lend what takes a function and its arguments, as ``map``, and calls it in so many processes.

    They are started when there is enough for several to do, and end with the context.
    """
    processes = _Processes(jobs)
    try:
        yield processes.shared
    except BrokenProcessPool:
        raise RefusedError("one of the processes was killed, perhaps for want of memory: try --jobs 1") from None
    except BaseException:
        processes.terminate()
        raise
    finally:
        processes.end()


class _Processes:
    def __init__(self, jobs: int | None) -> None:
        self._jobs = jobs
        self._pool: ProcessPoolExecutor | None = None

    def shared(self, function: Callable[[Any], Any], works: Sequence[Any]) -> Iterator[Any]:
        count = self._count(len(works))
        if self._pool is None and count > 1:
            from multiprocessing import get_context

            self._pool = ProcessPoolExecutor(count, get_context("spawn"), _end_at_once)
        if self._pool is None:
            yield from map(function, works)
            return
        # Not by the pool's map, which cancels what is left, and then trips over it if processes have ended.
        for future in [self._pool.submit(function, work) for work in works]:
            yield future.result()

    def _count(self, works: int) -> int:
        from refoptim.kernels import threads

        count = min(self._jobs or threads.get_count(), works)
        return count if self._jobs else min(count, _MOST, -(-works // _WORKS_EACH))

    def terminate(self) -> None:
        if self._pool is not None:
            from multiprocessing import active_children

            for process in active_children():
                process.terminate()

    def end(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()


def _end_at_once() -> None:
    """End at Ctrl-C without a word: who has started this process says something."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
