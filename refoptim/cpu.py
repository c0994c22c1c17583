"""What a device does: allocate, fill and copy flat arrays. The CPU's way, with NumPy's arrays."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from ctypes import addressof, c_char
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .arrays import Array
from .pages import LONG, long_zeros

# What to call, and with what.
Launch = tuple[Callable[..., None], tuple[Any, ...]]

# A cache line, the widest vector register, and what DLPack consumers ask for.
ALIGNMENT = 64


def aligned_zeros(size: int, dtype: DTypeLike) -> Array:
    """Return a flat array of zeros that starts on a cache line. Its pages are not touched until they are used."""
    dtype = np.dtype(dtype)
    length = size * dtype.itemsize
    if length >= LONG:
        return long_zeros(length).view(dtype)
    raw = np.zeros(length + ALIGNMENT, np.uint8)
    start = -addressof(c_char.from_buffer(raw.data)) % ALIGNMENT  # a tenth of the time that NumPy takes to tell
    return np.ndarray(size, dtype, raw, start)


class Device:
    """The CPU. Arrays are NumPy's."""

    name = "cpu"

    def zeros(self, size: int, dtype: DTypeLike) -> Any:
        """Return a flat array of zeros, aligned for kernels."""
        return aligned_zeros(size, dtype)

    def fill(self, array: Any, value: float) -> None:
        """Set all elements to a number."""
        array[...] = value

    def copy(self, target: Any, source: Any) -> None:
        """Copy an array, this device's or NumPy's, into one of this device's of the same shape and dtype."""
        target[...] = source

    def duplicate(self, array: Any) -> Any:
        """Return a copy of an array of this device's, as kernels see it."""
        array = self.kernels_array(array)
        copy = self.zeros(array.size, array.dtype).reshape(tuple(array.shape))
        self.copy(copy, array)
        return copy

    def uploaded(self, array: Array) -> Any:
        """Return NumPy's array on this device."""
        return array

    def host(self, array: Any) -> Array:
        """Return a copy of an array in NumPy's memory."""
        return np.array(array)

    def retire(self, array: Any) -> None:
        """Make an array read-only, where there is such a thing, because its numbers have moved elsewhere."""
        array.setflags(write=False)  # a quarter of the time of array.flags.writeable = False

    def array(self, flat: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Any:
        """Return a flat array of real numbers as users see it, in its own dtype and shape, without a copy."""
        # As a rule there is nothing to do, and views cost a third of building an optimizer with small parameters.
        array = flat if flat.dtype is dtype else flat.view(dtype)
        return array if array.shape == shape else array.reshape(shape)

    def kernels_array(self, array: Any) -> Any:
        """Return an array of this device's as kernels see it, without a copy."""
        return array

    def check_formulas(self) -> None:
        """Raise if formulas cannot compute on this device's arrays."""

    def formulas_array(self, array: Any) -> Any:
        """Return an array as formulas compute on it, without a copy. Raise where there is no such thing."""
        return array

    def here(self) -> AbstractContextManager[Any]:
        """Return a context in which numba.cuda launches and allocates on this device, if it is a GPU."""
        return nullcontext()

    def launches(self, launches: list[Launch]) -> list[Launch]:
        """Return what makes these calls on this device."""
        return launches

    def __repr__(self) -> str:
        return f"<device {self.name}>"

    def __reduce__(self) -> Any:
        return "CPU"  # the one


CPU = Device()
