"""Memory for long vectors that come and go: what nobody refers to any more holds the next one.

The pages of fresh memory are cleared by the system when they are touched, which takes as long as several passes over
them, and memory that was used a moment ago may still be in a cache.
"""

from typing import Any
from weakref import ref

import numpy as np

from . import kernels
from .arrays import Array
from .devices import on_gpu
from .pages import LONG, long_zeros


class _Loan:
    """What an array in some memory, and every view of it, refers to."""

    def __init__(self, memory: Array, dtype: np.dtype[Any]) -> None:
        self.__array_interface__ = memory.view(dtype).__array_interface__
        self.memory = memory


class Recycler:
    """Makes long vectors, in the memory of earlier ones of the same length that are gone.

    A vector that somebody else still has, or a view of it, is never written over. The memory is the system's again when
    this object and the vectors are gone; a copy of this object has none.
    """

    def __init__(self) -> None:
        self._places: list[tuple[ref[_Loan], Array]] = []

    def __reduce__(self) -> tuple[Any, ...]:
        return Recycler, ()

    def empty(self, size: int, dtype: np.dtype[Any], like: Any) -> Any:
        """Return a vector of any numbers where another one lies; on a GPU it is a new one."""
        length = size * dtype.itemsize
        if length < LONG or on_gpu(like):
            return kernels.memory.empty(size, dtype, like)
        for i, (loan, memory) in enumerate(self._places):
            if memory.size == length and loan() is None:
                found = _Loan(memory, dtype)
                self._places[i] = ref(found), memory
                return np.asarray(found)
        # What is free has another length, and will hardly be asked for again.
        self._places = [place for place in self._places if place[0]() is not None]
        found = _Loan(long_zeros(length), dtype)
        self._places.append((ref(found), found.memory))
        return np.asarray(found)
