"""Ctrl-C comes before a step or after it, never between its parts; and so with all else that changes state.

Python handles signals in its main thread, between bytecodes, which is why nobody can tell from outside whether a call
of a Python function that was interrupted has done its work. So Ctrl-C waits while a step is carried out. That costs a
microsecond, which is much for the usual step: one compiled loop on short arrays, and what counts it. A compiled loop is
called from C and is not interrupted, or tells whether it has run; counting twice is counting once. There the step is
completed after the fact.
"""

from collections.abc import Iterator
from operator import length_hint
from traceback import walk_tb
from typing import Any

from .cpu import Launch
from .kernels.interrupts import Uninterrupted
from .slots import Slots


def carry_out(launches: list[Launch], left: Iterator[Launch]) -> None:
    """Make these calls through their iterator, all of them or none, and only then what Ctrl-C asks for."""
    count = len(launches)
    counted = count == 1 or (count == 2 and getattr(launches[1][0], "__func__", None) is Slots.set_host)
    if not counted or not hasattr(launches[0][0], "py_func"):  # which compiled loops have
        _without_interrupts(left)
        return
    try:
        for call, arguments in left:
            call(*arguments)
    except KeyboardInterrupt as interrupt:
        if length_hint(left) < count and _has_run(launches[0][0], interrupt):
            _without_interrupts(iter(launches[1:]))
        raise


def _has_run(loop: Any, interrupt: KeyboardInterrupt) -> bool:
    """Return whether a loop that was called before the interrupt has run: it may have been about to, or compiled."""
    frames = [frame for frame, _ in walk_tb(interrupt.__traceback__)]
    if any(str(frame.f_globals.get("__name__")).startswith("numba.") for frame in frames):
        return False
    return not any(frame.f_locals.get("self") is loop for frame in frames) or loop.has_run()


def _without_interrupts(launches: Iterator[Launch]) -> None:
    with Uninterrupted():
        for call, arguments in launches:
            call(*arguments)
