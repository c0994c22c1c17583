"""What is done with arrays that may lie on any device: copied, brought together, and seen as kernels see them."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import numpy as np

from .arrays import library
from .cpu import CPU, Device
from .devices import device_of, on_gpu, to_host


def copied(entry: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return a copy of state or options that shares nothing with them, a GPU's arrays as NumPy's."""
    return {name: _copied(value) for name, value in entry.items()}


def _copied(value: Any) -> Any:
    if _is_plain(value) or (type(value) is tuple and all(map(_is_plain, value))):
        return value
    if type(value) is np.ndarray and not value.dtype.hasobject:
        return value.copy(order="K")
    # Arrays that carry derivatives cannot be copied without cutting them off, and are never changed in place.
    if is_foreign(value):
        return value
    if type(value) in (list, tuple):
        copies = map(_copied, value)
        return tuple(copies) if type(value) is tuple else list(copies)
    return to_host(value) if on_gpu(value) else deepcopy(value)


def _is_plain(value: Any) -> bool:
    return type(value) in (int, float, bool, str)


def is_foreign(value: Any) -> bool:
    """Return whether a value is another library's array."""
    return library(value) in ("torch", "autograd", "jax")


def flat(array: Any) -> Any:
    """Return an array as a flat one that kernels take: a copy, if it is not contiguous."""
    place = device_of(array)
    if place is CPU:
        return np.ascontiguousarray(array).reshape(-1)
    array = place.kernels_array(array)
    return (array if array.is_c_contiguous() else place.duplicate(array)).reshape(-1)


def is_flat(array: Any) -> bool:
    """Return whether :func:`flat` shows an array where it lies."""
    place = device_of(array)
    return array.flags.c_contiguous if place is CPU else place.kernels_array(array).is_c_contiguous()


def brought(array: Any, place: Device) -> Any:
    """Return an array on this device: itself, if it is there."""
    source = device_of(array)
    return array if source is place else uploaded(to_host(array), place)


def uploaded(array: Any, place: Device) -> Any:
    """Return NumPy's array on a device, as its users see it there."""
    there = place.uploaded(np.asarray(array, order="C"))
    return there if place is CPU else place.array(there.reshape(-1), array.dtype, tuple(array.shape))


def duplicate(array: Any) -> Any:
    """Return a copy of an array, where it is, as its users see it."""
    place = device_of(array)
    if place is CPU:
        return np.array(array, order="C")
    return place.array(place.duplicate(array).reshape(-1), array.dtype, tuple(array.shape))


def put(target: Any, source: Any) -> None:
    """Copy an array into another one of its shape, in that one's dtype. They may be on different devices."""
    place = device_of(target)
    is_alike = device_of(source) is place and source.dtype == target.dtype
    place.copy(target, source if is_alike else to_host(source))
