"""Parameters: arrays that an optimizer changes, each with the gradient that says how."""

from typing import Any

import numpy as np
from numpy import ndarray

from . import devices
from .arrays import Array, carries_derivatives, dtype_name, is_half, library, unmasked
from .assignment import checked
from .buffers import ACCEPTED, FlatBuffer, native
from .cpu import CPU, Device
from .errors import GradientTypeError
from .formulas.namespace import namespace
from .sparse import SparseGrad, is_scipy

# Up to how many bytes values get a buffer when somebody asks for it. Before that most move into an optimizer's.
_SHORT = 1 << 14


class Parameter:
    """An array to be optimized, and its gradient.

    The values are copied, so the array handed in is neither changed nor kept. Building an optimizer moves the values
    once more, into one flat buffer per group and dtype: arrays that ``data`` and ``grad`` returned before that become
    read-only, so that nothing is written to the old place unnoticed. After that ``data`` and ``grad`` stay the same
    arrays for good: keep them, write into them, hand them to ``out=``.

    On a GPU ``data`` and ``grad`` are CuPy arrays, if CuPy is installed, and Numba device arrays otherwise. Arrays have
    no read-only flag there: take them anew after building an optimizer, and after ``to``.

    Args:
        array: anything that ``numpy.asarray`` takes, of float32, float64, complex64, complex128, float16 or the
            bfloat16 of ml_dtypes, of any shape; or an array on a GPU with ``__cuda_array_interface__`` or DLPack, as
            CuPy, Numba, JAX and torch have them. Arrays of autograd, JAX and torch that carry derivatives are kept as
            they are, for optimizers with ``differentiable=True``.
        name: what to call it in messages and ``repr`` (default: None).
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:1"``, where the values are to be (default: None, where the array is).

    Raises:
        TypeError: the array is of another dtype, or masked.
        ValueError: there is no device of that name.
        RuntimeError: there is no such GPU, or no driver, or numba-cuda is not installed.

    >>> p = Parameter([1.0, 2.0], name="w")
    >>> p.grad = np.array([0.5, 0.5])
    >>> p.grad *= 2
    >>> p
    Parameter([1., 2.], name='w', grad=[1., 1.])

    """

    # fmt: off
    __slots__ = (
        "__weakref__", "_buffer", "_data", "_grad", "_memory", "_shape", "_sparse",
        "has_flat_grad", "is_loose", "name", "offset",
    )
    # fmt: on

    has_flat_grad: bool  # whether the array that belongs to the parameter holds its gradient
    is_loose: bool  # whether values and gradient are arrays on their own, for derivatives to flow through
    _buffer: FlatBuffer | None
    _data: Any
    _grad: Any  # None while there is no buffer
    _memory: memoryview | None  # the gradient's, once one has been copied, if it is one that can be assigned to
    _shape: tuple[int, ...]
    _sparse: SparseGrad | None

    def __init__(self, array: Any, name: str | None = None, device: Any = None) -> None:
        self.name = name
        if carries_derivatives(array):
            if device is not None:
                kind = type(array).__name__
                raise TypeError(f"{self._label} leaves its {kind}, which carries derivatives, where it is: omit device")
            self._hold_loose(array, None)
            return
        source = CPU if type(array) is ndarray else devices.device_of(array)
        target = source if device is None else devices.device(device)
        values = array
        if source is CPU and type(array) is not ndarray:
            values = unmasked(array, f"the values of {self._label}")
        dtype = native(values.dtype)
        if dtype is None:
            raise TypeError(
                f"{self._label} must be of {', '.join(ACCEPTED)}, but is of {values.dtype}: "
                "write array.astype(np.float32)"
            )
        values = values if source is CPU else source.kernels_array(values)
        self._hold(values if target is source else source.host(values), dtype, target)

    def _hold(self, values: Any, dtype: np.dtype[Any], device: Device) -> None:
        """Copy the values, without a gradient."""
        self.offset, self._shape = 0, tuple(values.shape)
        self.is_loose = self.has_flat_grad = False
        self._buffer = self._grad = self._memory = self._sparse = None
        if device is CPU and values.nbytes <= _SHORT:
            self._data = values.copy() if values.dtype is dtype else values.astype(dtype, order="C")
            return
        self._buffer = FlatBuffer(dtype, values.size, device)
        self._buffer.missing = 1
        self._data, self._grad = self._buffer.views(0, self._shape)
        device.copy(self._data, values)

    def _hold_loose(self, data: Any, grad: Any) -> None:
        """Keep these arrays as they are."""
        self.offset, self._shape = 0, tuple(data.shape)
        self.is_loose, self.has_flat_grad = True, grad is not None
        self._buffer = self._memory = self._sparse = None
        self._data, self._grad = data, grad

    @property
    def buffer(self) -> FlatBuffer | None:
        """Where values and gradient lie, made when asked for. Those of a loose parameter have none."""
        if self._buffer is None and not self.is_loose:
            buffer = FlatBuffer(self._data.dtype, self._data.size, around=self._data)
            buffer.missing = 1
            grad = buffer.views(0, self._shape)[1]
            self._buffer, self._grad = buffer, grad  # where Python does not look for signals
        return self._buffer

    @property
    def data(self) -> Any:
        """The values, as an array that shares the parameter's memory. Assigning copies into it."""
        return self._data

    @data.setter
    def data(self, values: Any) -> None:
        if values is self._data:
            return
        checked = self._checked(values, "values")
        if self.is_loose:
            self._data = _owned(checked)
        else:
            self.place.copy(self._data, checked)

    @property
    def grad(self) -> Any:
        """The gradient, as an array that shares the parameter's flat gradient, or None. Assigning copies into it.

        A :class:`SparseGrad` is kept beside it and returned; a sparse matrix of SciPy's becomes one.
        """
        return self._grad if self.has_flat_grad else self._sparse

    @grad.setter
    def grad(self, gradient: Any) -> None:
        own, memory, is_done = self._grad, self._memory, False
        # The usual, in less than half of the time of what comes below, which says what is wrong.
        if type(gradient) is type(own) is ndarray:
            if memory is not None:
                try:
                    # It compares shapes and formats, in half of the time that arrays take to copy.
                    memory[:] = gradient
                    is_done = True
                except (TypeError, ValueError):
                    pass
            elif not self.is_loose and gradient.shape == self._shape and gradient.dtype is own.dtype:
                own[...] = gradient
                is_done = True
                if len(self._shape) == 1 and own.dtype.char in "efd":
                    self._memory = own.data
        if is_done:
            if not self.has_flat_grad:
                self._mark(True)
            self._sparse = None
            return
        if gradient is None:
            self._mark(False)
            self._sparse = None
            return
        self._assign(gradient)

    def _assign(self, gradient: Any) -> None:
        if isinstance(gradient, SparseGrad) or is_scipy(gradient):
            sparse = self._checked_sparse(gradient)
            self._mark(False)
            self._sparse = sparse
            return
        if gradient is not self._grad:
            checked = self._checked(gradient, "gradient")
            if self.buffer is None:  # which is made here, if the parameter has none yet
                self._grad = _owned(checked)
            else:
                self.buffer.device.copy(self._grad, checked)
        self._mark(True)
        self._sparse = None

    @property
    def has_sparse_grad(self) -> bool:
        """Whether the gradient is a :class:`SparseGrad`."""
        return self._sparse is not None

    def check_grad(self, gradient: Any) -> None:
        """Raise if the gradient cannot be this parameter's. Nothing is changed."""
        data = self._data
        if type(gradient) is type(data) is ndarray and gradient.shape == self._shape and gradient.dtype is data.dtype:
            return
        if isinstance(gradient, SparseGrad) or is_scipy(gradient):
            self._checked_sparse(gradient)
        else:
            self._checked(gradient, "gradient")

    def check_plain(self) -> None:
        """Raise if the values or the gradient carry another library's derivatives, so that no buffer can hold them."""
        for array in (self._data, self.grad) if self.is_loose else ():
            if carries_derivatives(array):
                raise TypeError(
                    f"{self._label}, which holds a {type(array).__name__}, needs an optimizer with "
                    "differentiable=True; to optimize its values write Parameter(np.asarray(array))"
                )

    def zero_grad(self) -> None:
        """Set the gradient, if there is one, to zero in place. A sparse one then has no rows."""
        if self._sparse is not None:
            self._sparse = SparseGrad(self._sparse.indices[:, :0], self._sparse.values[:0], self.shape)
        if not self.has_flat_grad:
            return
        if self.is_foreign or carries_derivatives(self._grad):
            self._grad = namespace(self._grad).zeros_like(self._grad)
        else:
            self.place.fill(self._grad, 0)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the values."""
        return self._shape

    @property
    def dtype(self) -> Any:
        """The dtype of the values."""
        return self._data.dtype

    @property
    def size(self) -> int:
        """How many numbers there are."""
        # The array's own count, where it is NumPy's, is ten times as fast.
        return int(np.prod(self.shape, dtype=np.int64)) if self.is_loose else self._data.size

    @property
    def ndim(self) -> int:
        """How many dimensions the values have."""
        return len(self.shape)

    @property
    def is_foreign(self) -> bool:
        """Whether the values are an array that carries another library's derivatives."""
        return carries_derivatives(self._data)

    @property
    def device(self) -> str:
        """Where the values are: "cpu", or "cuda:0" and so on."""
        return str(self._data.device) if library(self._data) == "torch" else self.place.name

    @property
    def place(self) -> Device:
        """The device that has the buffer: the CPU, if there is none."""
        return CPU if self._buffer is None else self._buffer.device

    def to(self, device: Any) -> "Parameter":
        """Move values and gradient to a device, and return the parameter. Its optimizer's state follows in a step.

        Raises:
            TypeError: the values carry another library's derivatives.
            ValueError: there is no device of that name.
            RuntimeError: there is no such GPU, or no driver, or numba-cuda is not installed.

        """
        target = devices.device(device)
        self.check_plain()
        if self.place is not target:
            buffer = FlatBuffer(self.dtype, self.size, target)
            arrays = buffer.views(0, self._shape)
            self.copy_to(target, *arrays)
            self.move_to(buffer, 0, *arrays)
        return self

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if self.place is CPU:
            return np.array(self._data, dtype=dtype, copy=copy)
        if copy is False:
            raise ValueError(f"{self._label} is on {self.device}, and NumPy sees no more than a copy of it")
        return np.asarray(self.place.host(self._data), dtype=dtype)

    def __len__(self) -> int:
        return len(self._data)

    def __repr__(self) -> str:
        def text(values: Any) -> str:
            plain = not self.is_loose and not isinstance(values, SparseGrad)
            if not plain:
                return repr(values)
            return np.array2string(devices.to_host(values), separator=", ", threshold=20)

        name = "" if self.name is None else f", name={self.name!r}"
        dtype = "" if self.dtype == np.float64 or self.is_loose else f", dtype={self.dtype}"
        grad = "" if self.grad is None else f", grad={text(self.grad)}"
        device = "" if self.place is CPU else f", device={self.device!r}"
        return f"Parameter({text(self._data)}{dtype}{name}{device}{grad})"

    def __copy__(self) -> "Parameter":
        copied = Parameter(self._data, self.name)
        copied.grad = self.grad
        return copied

    def __getstate__(self) -> dict[str, Any]:
        # Not the buffer: a copy of one parameter would carry all of its neighbours. Slots gather theirs again.
        state = {"name": self.name, "data": self._data, "grad": self.grad, "loose": self.is_loose}
        if self.place is CPU:
            return state
        arrays = {name: devices.to_host(state[name]) for name in ("data", "grad")}
        return state | arrays | {"device": self.place}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.name = state["name"]
        if state["loose"]:
            self._hold_loose(state["data"], state["grad"])
            return
        place = state.get("device", CPU)
        self._hold(state["data"], np.dtype(dtype_name(state["data"].dtype)), place)
        if isinstance(state["grad"], ndarray) and place is not CPU:
            place.copy(self._grad, state["grad"])
            self._mark(True)
        else:
            self.grad = state["grad"]

    def copy_to(self, device: Device, data: Any, grad: Any) -> None:
        """Copy values and gradient into these arrays of a device."""
        place = self.place
        device.copy(data, self._data if place is device else place.host(self._data))
        if self.has_flat_grad:
            device.copy(grad, self._grad if place is device else place.host(self._grad))

    def move_to(self, buffer: FlatBuffer, offset: int, data: Any, grad: Any) -> None:
        """Be what these arrays of a buffer show. Arrays of the old place become read-only."""
        self._leave()
        buffer.missing += not self.has_flat_grad
        self._buffer, self.offset, self._data, self._grad = buffer, offset, data, grad

    def check_release(self) -> None:
        """Raise if values and gradient cannot be on their own."""
        if self.place is not CPU:
            raise RuntimeError(
                f"{self._label} is on {self.device}, where arrays carry no derivatives: differentiable=True needs an "
                "array of JAX's or torch's that does, or Parameter.to('cpu')"
            )
        if is_half(self.dtype) and not self.is_foreign:
            raise TypeError(
                f"{self._label} is of {self.dtype}, whose steps are computed in float32: differentiable=True needs an "
                "array of JAX's or torch's, or Parameter(array.astype(np.float32))"
            )

    def release(self) -> None:
        """Keep values and gradient as two arrays on their own, which the next step replaces instead of changing."""
        self.check_release()
        if not self.is_loose:
            data, grad = self._data.copy(), None if self._grad is None else self._grad.copy()
            self._leave()
            self._buffer, self.is_loose, self._data, self._grad = None, True, data, grad

    def _leave(self) -> None:
        if not self.is_loose:
            self.place.retire(self._data)
        if self._buffer is not None:
            self._buffer.moves += 1
            self._buffer.missing -= not self.has_flat_grad
            self.place.retire(self._grad)
        self.is_loose, self._memory = False, None

    @property
    def _label(self) -> str:
        return "a Parameter" if self.name is None else f"Parameter {self.name!r}"

    def _mark(self, has_grad: bool) -> None:
        if self._buffer is not None:
            self._buffer.missing += self.has_flat_grad - has_grad
        self.has_flat_grad = has_grad

    def _checked_sparse(self, gradient: Any) -> SparseGrad:
        if self.is_loose:
            raise GradientTypeError(
                f"{self._label} belongs to an optimizer with differentiable=True, which takes no sparse gradient"
            )
        sparse = gradient if isinstance(gradient, SparseGrad) else SparseGrad.from_scipy(gradient)
        sparse.check(self._label, self.shape, self.dtype)
        if sparse.place not in (CPU, self.place):
            raise GradientTypeError(
                f"assigned gradient of {self._label} is on {sparse.place.name}, but the parameter is on {self.device}"
            )
        return sparse

    def _checked(self, values: Any, what: str) -> Any:
        return checked(values, what, self._label, self._data, None if self.is_loose else self.place)


def _owned(array: Any) -> Any:
    # An array of another library may be part of its graph and is never changed in place.
    return np.array(array) if isinstance(array, np.ndarray) else array
