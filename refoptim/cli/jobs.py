"""``--jobs``: work that is shared among processes, its results in order."""

import argparse
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

# A process takes as long to start as some works take to do, and half a gigabyte where it imports torch.
_WORKS_EACH = 4
_MOST = 8


def add(parser: argparse.ArgumentParser) -> None:
    """Add the option."""
    what = f"how many processes (default: one for each core, at most {_MOST})"
    parser.add_argument("--jobs", type=positive, default=None, metavar="N", help=what)


def positive(text: str) -> int:
    """Return a number of processes, which is at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def each(jobs: int | None) -> Callable[[Callable[[Any], Any], Sequence[Any]], Iterator[Any]]:
    """Return what takes a function and its arguments, as ``map``, and calls it in so many processes."""
    from refoptim.kernels import threads

    def shared(function: Callable[[Any], Any], works: Sequence[Any]) -> Iterator[Any]:
        count = min(jobs or threads.get_count(), len(works))
        if jobs is None:
            count = min(count, _MOST, -(-len(works) // _WORKS_EACH))
        if count <= 1:
            yield from map(function, works)
            return
        from multiprocessing import active_children, get_context

        try:
            with ProcessPoolExecutor(count, get_context("spawn"), _end_at_once) as pool:
                try:
                    # Not by its map, which cancels what is left, and then trips over it if processes have ended.
                    for future in [pool.submit(function, work) for work in works]:
                        yield future.result()
                except BaseException:
                    for process in active_children():
                        process.terminate()
                    raise
        except BrokenProcessPool:
            print("one of the processes was killed, perhaps for want of memory: try --jobs 1", file=sys.stderr)
            raise SystemExit(2) from None

    return shared


def _end_at_once() -> None:
    """End at Ctrl-C without a word: who has started this process says something."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
