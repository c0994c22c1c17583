"""GPUs: how memory is allocated, filled and copied there, and what other libraries' arrays and streams are.

Kernels see arrays of numba.cuda's; users see CuPy's, where it is installed. Nothing here is imported or started before
somebody asks for a GPU.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache, cached_property
from importlib import import_module
from typing import Any
from warnings import catch_warnings, simplefilter

import numpy as np
from numpy.typing import DTypeLike

from . import kernels
from .arrays import Array, dtype_name, library
from .cpu import Device, Launch

# CUDA's number for the stream that numba.cuda calls 0.
_LEGACY_STREAM = 1


class Gpu(Device):
    """A GPU. Arrays are numba.cuda's; users see CuPy's, if it is installed."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.name = f"cuda:{index}"

    def zeros(self, size: int, dtype: DTypeLike) -> Any:
        """Return a flat array of zeros, aligned for kernels."""
        array = self._empty((size,), np.dtype(dtype))
        self.fill(array, 0)
        return array

    def _empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        # Not on the stream of this moment: an array would use it for good.
        with self.here():
            return kernels.memory.allocated(shape, dtype)

    def fill(self, array: Any, value: float) -> None:
        """Set all elements to a number. The host does not wait."""
        if not array.size:
            return
        with self.here():
            flat = self.kernels_array(array).reshape(-1)
            if value == 0:
                memset = import_module("numba.cuda.cudadrv.driver").device_memset
                kernels.jit.cuda.current_context()  # of this thread: the others have their own
                memset(flat, 0, flat.nbytes, stream=kernels.jit.current_stream())
            else:
                number = kernels.half.as_bits(np.full(1, value, flat.dtype))[0]
                kernels.rows.fill_gpu.launch(kernels.half.as_bits(flat), number)

    def copy(self, target: Any, source: Any) -> None:
        """Copy an array, this GPU's or NumPy's, into one of this GPU's of the same shape and dtype.

        The host does not wait for a copy that stays on the GPU.
        """
        if not target.size:
            return
        with self.here():
            target, stream = self.kernels_array(target), kernels.jit.current_stream()
            bits = kernels.half.as_bits  # Numba has no bfloat16
            if isinstance(source, np.ndarray):
                source = np.asarray(source, target.dtype, order="C")
                bits(target).copy_to_device(bits(source), stream=stream)
                return
            target, source = bits(target), bits(self.kernels_array(source))
            if source.is_c_contiguous():
                target.copy_to_device(source, stream=stream)
            else:
                # Numba waits for the end of an assignment unless it gets a stream, which its simulator does not take.
                put = getattr(target, "setitem", None)
                if put is None:
                    target[:] = source
                else:
                    with catch_warnings():
                        simplefilter("ignore")  # Numba advises against small grids. An array may be small.
                        put(slice(None), source, stream or kernels.jit.cuda.default_stream())

    def uploaded(self, array: Array) -> Any:
        """Return NumPy's array on this device."""
        there = self._empty(array.shape, array.dtype)
        self.copy(there, array)
        return there

    def host(self, array: Any) -> Array:
        """Return a copy of an array in NumPy's memory. The host waits for it."""
        with self.here():
            return kernels.memory.to_host(self.kernels_array(array))

    def retire(self, array: Any) -> None:
        """Do nothing: neither Numba nor CuPy has arrays that are read-only."""

    def array(self, flat: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Any:
        """Return a flat array of real numbers as users see it, in its own dtype and shape, without a copy."""
        return self._shown(flat.view(dtype).reshape(shape))

    def _shown(self, array: Any) -> Any:
        with self.here():
            if not (is_shared(array) and _cupy_has(array.dtype)):
                return array
            shown = cupy().asarray(kernels.half.as_bits(array))
            return shown if shown.dtype == array.dtype else shown.view(array.dtype)

    def kernels_array(self, array: Any) -> Any:
        """Return an array of this GPU's as kernels see it, without a copy. What is to write it comes first."""
        if is_numbas(array):
            return array
        view_of = import_module("cuda.core.utils").StridedMemoryView.from_any_interface
        with self.here():
            # The handle is the consumer's: the producer's stream is made to come before it, without the host.
            view = view_of(array, stream_ptr=_handle(kernels.jit.current_stream()))
            dtype = _dtype_of(view)
            # The protocol has no name for bfloat16.
            bits = np.dtype(np.uint16) if dtype.itemsize == 2 else dtype
            interface = {
                "shape": tuple(view.shape),
                "strides": None if view.strides is None else tuple(dtype.itemsize * n for n in view.strides),
                "typestr": bits.str,
                "data": (view.ptr, view.readonly),
                "version": 3,
            }
            found = kernels.jit.cuda.from_cuda_array_interface(interface, owner=view, sync=False)
            return found if bits == dtype else found.view(dtype)

    def check_formulas(self) -> None:
        """Raise if CuPy is not installed, which formulas compute with."""
        if not cupy():
            raise RuntimeError(
                f"foreach and fused=False compute with CuPy on {self.name}, and it is not installed: leave both at "
                "None, or install CuPy"
            )

    def formulas_array(self, array: Any) -> Any:
        """Return an array as CuPy's, without a copy. Raise if it is not installed."""
        self.check_formulas()
        return self._shown(array)

    def launches(self, launches: list[Launch]) -> list[Launch]:
        """Return what makes these calls on this device."""
        return [(self._call, (call, arguments)) for call, arguments in launches]

    def __reduce__(self) -> Any:
        return gpu, (self.index,)

    def _call(self, call: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        with self.here():
            call(*arguments)

    def here(self) -> AbstractContextManager[Any]:
        """Return a context in which numba.cuda launches and allocates on this GPU."""
        return nullcontext() if self._is_alone else kernels.jit.cuda.gpus[self.index]

    @cached_property
    def _is_alone(self) -> bool:
        return len(kernels.jit.cuda.gpus) == 1


def _dtype_of(view: Any) -> np.dtype[Any]:
    """Return the dtype of another library's array. Raise if it takes ml_dtypes, and that is not installed."""
    try:
        return view.dtype
    except NotImplementedError as error:
        raise TypeError(f"bfloat16 needs ml_dtypes, write pip install 'refoptim[half]': {error}") from error


def is_numbas(array: Any) -> bool:
    """Return whether an array is numba.cuda's, or its simulator's."""
    return bool(getattr(array, "__cuda_ndarray__", False))


@contextmanager
def on_stream(stream: Any) -> Iterator[None]:
    """Launch kernels, copy and evaluate formulas on a stream: numba.cuda's, CuPy's, torch's, or its CUDA handle."""
    ours = numbas_stream(stream)
    with kernels.jit.on_stream(ours):
        if hasattr(ours, "handle") and cupy():
            streams = cupy().cuda
            # The first is what CuPy 14 has, and deprecates the second for.
            known = getattr(streams.Stream, "from_external", None)
            with known(ours) if known else streams.ExternalStream(_handle(ours)):
                yield
        else:
            yield


def numbas_stream(stream: Any) -> Any:
    """Return a stream as numba.cuda's."""
    if library(stream) == "numba" or (isinstance(stream, int) and stream == 0):
        return stream
    protocol = getattr(stream, "__cuda_stream__", None)
    handle = protocol()[1] if protocol else getattr(stream, "cuda_stream", getattr(stream, "ptr", stream))
    if not isinstance(handle, int):
        raise TypeError(f"stream must be numba.cuda's, CuPy's, torch's or a CUDA handle, but is {stream!r}")
    return _external_stream(handle) if handle else 0


@cache
def _external_stream(handle: int) -> Any:
    # One object for each stream: launches are prepared once for each.
    count_gpus("cuda")
    return kernels.jit.cuda.external_stream(handle)


@cache
def cupy() -> Any:
    """Return CuPy, or None if it is not installed."""
    try:
        return import_module("cupy")
    except ImportError:
        return None


def _cupy_has(dtype: np.dtype[Any]) -> bool:
    """Return whether CuPy is installed, and has arrays of this dtype."""
    return bool(cupy()) and (dtype_name(dtype) != "bfloat16" or int(cupy().__version__.partition(".")[0]) >= 14)


@cache
def gpu(index: int) -> Gpu:
    """Return a GPU by its number. Raise if there is no such GPU."""
    count = count_gpus(f"cuda:{index}")
    if index >= count:
        raise RuntimeError(f"device 'cuda:{index}' does not exist: there are {count} GPUs, the first is 'cuda:0'")
    return Gpu(index)


def current_gpu() -> Gpu:
    """Return the GPU that numba.cuda uses now."""
    count_gpus("cuda")
    # The simulator's device has no number.
    return gpu(getattr(kernels.jit.cuda.get_current_device(), "id", 0))


def count_gpus(name: str) -> int:
    """Return how many GPUs there are. Raise if there is none, and say what is missing for a device of this name."""
    try:
        import_module("numba_cuda")
        cuda = kernels.jit.cuda
        if cuda.is_available():
            return len(cuda.gpus)
        reason = cuda.cuda_error() or "there is no GPU"
    except ImportError as error:
        raise RuntimeError(f"device {name!r} needs numba-cuda: write pip install 'refoptim[cuda]'") from error
    raise RuntimeError(f"device {name!r} cannot be used: {reason}")


def is_shared(array: Any) -> bool:
    """Return whether other libraries can see an array where it lies; the simulator's cannot be."""
    return hasattr(array, "__cuda_array_interface__")


def address(array: Any) -> int:
    """Return where the first element of an array of numba.cuda's lies."""
    # The simulator's arrays are NumPy's.
    return array.device_ctypes_pointer.value or 0 if is_shared(array) else array.ctypes.data


def _handle(stream: Any) -> int:
    return (int(stream) if stream else 0) or _LEGACY_STREAM
