"""Arrays wherever they lie: NumPy's on the CPU, numba.cuda's on a GPU. What allocates and copies there.

Everything happens on the stream of :func:`refoptim.kernels.jit.on_stream`; only ``to_host`` waits for it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from refoptim.kernels.elements import move
from refoptim.kernels.half import as_bits
from refoptim.kernels.jit import cuda, current_stream, gpu_kernel

# Temporaries that no step uses at the moment, by device, stream, shape and dtype.
_unused: dict[tuple[Any, ...], list[Any]] = {}


def on_gpu(x: Any) -> bool:
    """Return whether an array is numba.cuda's."""
    return not isinstance(x, np.ndarray)


def empty(shape: Any, dtype: Any, like: Any) -> Any:
    """Return a new array where another one lies."""
    return allocated(shape, dtype, current_stream()) if on_gpu(like) else np.empty(shape, dtype)


def allocated(shape: Any, dtype: Any, stream: Any = 0) -> Any:
    """Return a new array on the current GPU. Raise MemoryError if that is full."""
    try:
        return cuda.device_array(shape, dtype, stream=stream)
    except Exception as error:
        if "OUT_OF_MEMORY" not in str(error):
            raise
        size = np.prod(shape, dtype=int) * np.dtype(dtype).itemsize
        # The simulator's device has no number.
        name = f"cuda:{getattr(cuda.get_current_device(), 'id', 0)}"
        raise MemoryError(f"{name} has no room for {size} bytes more: {error}") from error


@contextmanager
def temporaries(like: Any) -> Iterator[Callable[..., Any]]:
    """Return a function like ``np.empty``, for arrays that nobody needs when the context ends.

    On a GPU they are kept, and later steps on the same stream get them again: what these launch comes after what uses
    them now. Allocating would be slow, freeing would wait for the GPU, and neither can be part of a CUDA graph.
    """
    if not on_gpu(like):
        yield np.empty
        return
    stream = current_stream()
    # The simulator's streams are no numbers, and its device has none.
    place = getattr(cuda.get_current_device(), "id", 0), int(stream) if hasattr(stream, "__int__") else stream
    taken = []

    def empty(shape: Any, dtype: Any = np.float64) -> Any:
        key = (*place, shape, np.dtype(dtype))
        try:
            array = _unused.setdefault(key, []).pop()  # at once, so that no other thread gets it too
        except IndexError:
            array = allocated(shape, dtype, stream)
        taken.append((key, array))
        return array

    try:
        yield empty
    finally:
        for key, array in taken:
            _unused[key].append(array)


def release_temporaries() -> None:
    """Free the temporaries that are kept. No CUDA graph that was captured from steps may be launched afterwards."""
    for arrays in list(_unused.values()):  # other threads add to them
        arrays.clear()


def to_host(x: Any) -> Any:
    """Return an array as NumPy's: itself, or a copy, which the host waits for."""
    if not on_gpu(x):
        return x
    stream = current_stream()
    copy = as_bits(x).copy_to_host(stream=stream)
    if stream:
        # With a stream, Numba does not wait.
        stream.synchronize()
    return copy if copy.dtype == x.dtype else copy.view(x.dtype)


def to_gpu(x: Any) -> Any:
    """Return a copy of NumPy's array on the current GPU."""
    return cuda.to_device(x, stream=current_stream())


def copied(x: Any) -> Any:
    """Return a copy of a C-contiguous array, where it lies."""
    if not on_gpu(x):
        return x.copy()
    copy = empty(tuple(x.shape), x.dtype, x)
    assign(copy, x)
    return copy


def assign(target: Any, source: Any) -> None:
    """Copy one C-contiguous array into another of its shape, where it lies, in the target's dtype.

    A target on a GPU takes sources of either kind.
    """
    if not on_gpu(target):
        target[...] = to_host(source)
        return
    target, source = as_bits(target), as_bits(source)
    if source.dtype == target.dtype:
        if target.size:
            target.copy_to_device(source, stream=current_stream())
    else:
        source = source if on_gpu(source) else to_gpu(source)
        convert_gpu.launch(target.reshape(-1), source.reshape(-1))


@gpu_kernel
def convert_gpu(target, source):
    """Copy numbers of one type into an array of another, those of 16 bits by their bits."""
    i = cuda.grid(1)
    if i < target.size:
        move(target, source, i)
