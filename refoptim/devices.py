"""Devices: where flat arrays lie. They are found by name, or by an array that a user hands over."""

from importlib import import_module
from typing import Any

import numpy as np

from .cpu import CPU, Device
from .gpu import address, count_gpus, current_gpu, gpu, is_numbas, is_shared

# DLPack's numbers for memory of a GPU, and for memory that a GPU shares with the CPU.
_CUDA, _CUDA_MANAGED = 2, 13


def device(name: Any) -> Device:
    """Return a device by name: ``"cpu"``, ``"cuda"`` for the current GPU, ``"cuda:1"`` for the second one.

    Raises:
        ValueError: there is no device of such a name.
        RuntimeError: numba-cuda is not installed, or there is no driver, or no such GPU.

    """
    if isinstance(name, Device):
        return name
    kind, colon, number = str(name).partition(":")
    if kind not in ("cpu", "cuda") or (colon and not (number.isdecimal() and number.isascii())):
        raise ValueError(f"device must be 'cpu', 'cuda' or 'cuda:' and a number, but is {name!r}")
    if kind == "cpu":
        if colon:
            raise ValueError(f"there is one CPU: write 'cpu' instead of {name!r}")
        return CPU
    return gpu(int(number)) if colon else current_gpu()


def device_of(array: Any) -> Device:
    """Return where an array lies that a user hands over. What is no array at all is the CPU's."""
    if isinstance(array, np.ndarray):
        return CPU
    if is_numbas(array):
        # The simulator's arrays have no data of their own, and its only GPU is the first.
        return gpu(array.gpu_data.context.device.id if is_shared(array) else 0)
    where = getattr(array, "__dlpack_device__", None)
    if where is not None:
        kind, index = where()
        return gpu(int(index)) if int(kind) in (_CUDA, _CUDA_MANAGED) else CPU
    if not is_shared(array):
        return CPU
    count_gpus("cuda")
    view_of = import_module("cuda.core.utils").StridedMemoryView.from_cuda_array_interface
    return gpu(view_of(array, stream_ptr=-1).device_id)


def on_gpu(value: Any) -> bool:
    """Return whether something is an array that lies on a GPU."""
    return device_of(value) is not CPU


def to_host(value: Any) -> Any:
    """Return NumPy's copy of an array of a GPU, and anything else as it is."""
    place = device_of(value)
    return value if place is CPU else place.host(value)


def may_overlap(array: Any, flat: Any) -> bool:
    """Return whether an array that a user hands over may lie in a flat one."""
    place = device_of(array)
    if place is not device_of(flat):
        return False
    if place is CPU:
        return isinstance(array, np.ndarray) and np.may_share_memory(array, flat)
    array = place.kernels_array(array)
    start, first = address(array), address(flat)
    return start < first + flat.nbytes and first < start + array.alloc_size
