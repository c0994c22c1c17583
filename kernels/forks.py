"""Forks while other threads compile.

Numba compiles under one lock, and LLVM is called under another. A child that was forked while another thread had one of
them would wait for ever, since that thread is not there: so a fork waits until nobody compiles.
"""

import os

from llvmlite.binding import ffi
from numba.core.compiler_lock import global_compiler_lock

# In the order in which compiling takes them. A thread can take its own locks again, so it may fork while it compiles.
_LOCKS = global_compiler_lock, ffi.lib._lock


def guard() -> None:
    """Make forks of this process wait until no other thread compiles."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_take, after_in_parent=_give_back, after_in_child=_give_back)


def _take() -> None:
    for lock in _LOCKS:
        lock.__enter__()


def _give_back() -> None:
    for lock in reversed(_LOCKS):
        lock.__exit__(None, None, None)
