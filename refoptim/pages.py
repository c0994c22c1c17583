"""Memory for long arrays: on huge pages where there are any, each array at another place in its page.

Arrays that kernels read and write together are as long as each other, and a system that places each at the start of a
page makes their elements compete for the same lines of the first cache. Both together are worth a tenth of a step.
"""

import mmap
from contextlib import suppress
from itertools import count

import numpy as np

from .arrays import Array

# From how many bytes on an array is long. A shorter one has nothing to gain.
LONG = 1 << 20

_LINE, _PAGE, _HUGE_PAGE = 64, 4096, 1 << 21

# Linux has it. What NumPy itself asks for is not at the start of a huge page, and from 4 MiB on.
_ADVICE: int | None = getattr(mmap, "MADV_HUGEPAGE", None)

_turn = count()


def long_zeros(size: int) -> Array:
    """Return this many bytes of zeros that start on a cache line. The pages are not touched until they are used.

    Raises:
        MemoryError: there is not so much memory.

    """
    offset = _offset(next(_turn))
    if _ADVICE is None:
        raw = np.zeros(size + 2 * _PAGE, np.uint8)
        start = -raw.ctypes.data % _PAGE + offset
    else:
        raw, start = _huge_zeros(size + offset, _ADVICE)
        start += offset
    return raw[start : start + size]


def _huge_zeros(size: int, advice: int) -> tuple[Array, int]:
    """Return memory, and where in it this many bytes start at a huge page."""
    try:
        memory = mmap.mmap(-1, size + 2 * _HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"there is no room for an array of {size:,} bytes: {error.strerror}") from error
    raw = np.frombuffer(memory, np.uint8)
    start = -raw.ctypes.data % _HUGE_PAGE
    # The rest is on small pages, unless it fills most of a huge one.
    pages = round(size / _HUGE_PAGE)
    with suppress(OSError):  # a kernel without huge pages
        memory.madvise(advice, start, pages * _HUGE_PAGE)
    return raw, start


def _offset(turn: int) -> int:
    """Return how far from the start of a page an array starts, given how many long arrays there were before it."""
    # Of any five in turn no two are closer than ten lines.
    return turn * 27 * _LINE % _PAGE
