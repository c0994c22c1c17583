"""How many threads loops may use. Imports no Numba, so that it can be set before anything is compiled."""

import os

# Who has limited Numba or OpenMP means its successor too.
_VARIABLES = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS")


def _initial() -> int:
    for name in _VARIABLES:
        text = os.environ.get(name, "").strip()
        if text.isdecimal() and int(text):
            return int(text)
    usable = getattr(os, "sched_getaffinity", None)  # Linux has it
    return len(usable(0)) if usable is not None else os.cpu_count() or 1


class _Threads:
    count = _initial()


def get_count() -> int:
    """Return how many threads a loop may use, the caller's included."""
    return _Threads.count


def set_count(count: int) -> None:
    """Set how many threads a loop may use, the caller's included."""
    _Threads.count = count
