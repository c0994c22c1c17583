"""Parameters: arrays that an optimizer changes, each with the gradient that says how."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from . import devices
from .arrays import Array, carries_derivatives, dtype_name, is_half, library, unmasked
from .assignment import checked
from .buffers import ACCEPTED, FlatBuffer
from .cpu import CPU, Device
from .errors import GradientTypeError
from .formulas.namespace import namespace
from .sparse import SparseGrad, is_scipy


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

    __slots__ = ("__weakref__", "_data", "_grad", "_sparse", "buffer", "has_flat_grad", "name", "offset")

    buffer: FlatBuffer | None
    has_flat_grad: bool  # whether the array that belongs to the parameter holds its gradient
    _data: Any
    _grad: Any
    _sparse: SparseGrad | None

    def __init__(self, array: Any, name: str | None = None, device: Any = None) -> None:
        self.name = name
        self.offset = 0
        self.has_flat_grad, self._sparse = False, None
        if carries_derivatives(array):
            if device is not None:
                kind = type(array).__name__
                raise TypeError(f"{self._label} leaves its {kind}, which carries derivatives, where it is: omit device")
            self.buffer, self._data, self._grad = None, array, None
            return
        source = devices.device_of(array)
        target = source if device is None else devices.device(device)
        values = array
        if source is CPU and type(array) is not np.ndarray:
            values = unmasked(array, f"the values of {self._label}")
        if dtype_name(values.dtype) not in ACCEPTED:
            raise TypeError(
                f"{self._label} must be of {', '.join(ACCEPTED)}, but is of {values.dtype}: "
                "write array.astype(np.float32)"
            )
        values = values if source is CPU else source.kernels_array(values)
        self._hold(values if target is source else source.host(values), target)

    def _hold(self, values: Any, device: Device) -> None:
        """Copy the values into a buffer of their own, without a gradient."""
        self.offset, self.has_flat_grad, self._sparse = 0, False, None
        self.buffer = FlatBuffer(np.dtype(dtype_name(values.dtype)), values.size, device)
        self.buffer.missing = 1
        self._data, self._grad = self.buffer.views(0, tuple(values.shape))
        device.copy(self._data, values)

    @property
    def data(self) -> Any:
        """The values, as an array that shares the parameter's memory. Assigning copies into it."""
        return self._data

    @data.setter
    def data(self, values: Any) -> None:
        if values is self._data:
            return
        checked = self._checked(values, "values")
        if self.buffer is None:
            self._data = _owned(checked)
        else:
            self.buffer.device.copy(self._data, checked)

    @property
    def grad(self) -> Any:
        """The gradient, as an array that shares the parameter's flat gradient, or None. Assigning copies into it.

        A :class:`SparseGrad` is kept beside it and returned; a sparse matrix of SciPy's becomes one.
        """
        return self._grad if self.has_flat_grad else self._sparse

    @grad.setter
    def grad(self, gradient: Any) -> None:
        own, buffer = self._grad, self.buffer
        is_usual = type(gradient) is type(own) is np.ndarray and buffer is not None
        if is_usual and gradient.dtype is own.dtype and gradient.shape == own.shape:
            # What comes below, in less than half of the time.
            own[...] = gradient
            if not self.has_flat_grad:
                self._mark(True)
            self._sparse = None
            return
        if gradient is None:
            self._mark(False)
            self._sparse = None
            return
        if isinstance(gradient, SparseGrad) or is_scipy(gradient):
            sparse = self._checked_sparse(gradient)
            self._mark(False)
            self._sparse = sparse
            return
        if gradient is not self._grad:
            checked = self._checked(gradient, "gradient")
            if self.buffer is None:
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
        if isinstance(gradient, SparseGrad) or is_scipy(gradient):
            self._checked_sparse(gradient)
        else:
            self._checked(gradient, "gradient")

    def check_plain(self) -> None:
        """Raise if the values or the gradient carry another library's derivatives, so that no buffer can hold them."""
        for array in (self._data, self.grad):
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
        return tuple(self._data.shape)

    @property
    def dtype(self) -> Any:
        """The dtype of the values."""
        return self._data.dtype

    @property
    def size(self) -> int:
        """How many numbers there are."""
        # The array's own count, where it is NumPy's, is ten times as fast.
        return int(np.prod(self.shape, dtype=np.int64)) if self.buffer is None else self._data.size

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
        """The device that has the buffer."""
        return CPU if self.buffer is None else self.buffer.device

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
            gathered([self], target)()
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
            plain = self.buffer is not None and not isinstance(values, SparseGrad)
            if not plain:
                return repr(values)
            return np.array2string(devices.to_host(values), separator=", ", threshold=20)

        name = "" if self.name is None else f", name={self.name!r}"
        dtype = "" if self.dtype == np.float64 or self.buffer is None else f", dtype={self.dtype}"
        grad = "" if self.grad is None else f", grad={text(self.grad)}"
        device = "" if self.place is CPU else f", device={self.device!r}"
        return f"Parameter({text(self._data)}{dtype}{name}{device}{grad})"

    def __copy__(self) -> "Parameter":
        copied = Parameter(self._data, self.name)
        copied.grad = self.grad
        return copied

    def __getstate__(self) -> dict[str, Any]:
        # Not the buffer: a copy of one parameter would carry all of its neighbours. Slots gather theirs again.
        state = {"name": self.name, "data": self._data, "grad": self.grad, "loose": self.buffer is None}
        if self.place is CPU:
            return state
        arrays = {name: devices.to_host(state[name]) for name in ("data", "grad")}
        return state | arrays | {"device": self.place}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.name = state["name"]
        if state["loose"]:
            self.offset, self.buffer, self._data, self._grad = 0, None, state["data"], state["grad"]
            self.has_flat_grad, self._sparse = self._grad is not None, None
            return
        place = state.get("device", CPU)
        self._hold(state["data"], place)
        if isinstance(state["grad"], np.ndarray):
            place.copy(self._grad, state["grad"])
            self._mark(True)
        else:
            self.grad = state["grad"]

    def copy_to(self, buffer: FlatBuffer, offset: int) -> tuple[Any, Any]:
        """Copy values and gradient into a buffer, at this element, and return the arrays that show them there."""
        data, grad = buffer.views(offset, self.shape)
        place, target = self.place, buffer.device
        target.copy(data, self._data if place is target else place.host(self._data))
        if self._grad is not None and self.has_flat_grad:
            target.copy(grad, self._grad if place is target else place.host(self._grad))
        return data, grad

    def move_to(self, buffer: FlatBuffer, offset: int, data: Any, grad: Any) -> None:
        """Be what these arrays of a buffer show. Arrays of the old place become read-only."""
        self._leave()
        buffer.missing += not self.has_flat_grad
        self.buffer, self.offset, self._data, self._grad = buffer, offset, data, grad

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
        if self.buffer is not None:
            data, grad = self._data.copy(), self._grad.copy()
            self._leave()
            self.buffer, self._data, self._grad = None, data, grad

    def _leave(self) -> None:
        if self.buffer is None:
            return
        self.buffer.moves += 1
        self.buffer.missing -= not self.has_flat_grad
        self.place.retire(self._data)
        self.place.retire(self._grad)

    @property
    def _label(self) -> str:
        return "a Parameter" if self.name is None else f"Parameter {self.name!r}"

    def _mark(self, has_grad: bool) -> None:
        if self.buffer is not None:
            self.buffer.missing += self.has_flat_grad - has_grad
        self.has_flat_grad = has_grad

    def _checked_sparse(self, gradient: Any) -> SparseGrad:
        if self.buffer is None:
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
        return checked(values, what, self._label, self._data, None if self.buffer is None else self.buffer.device)


def _owned(array: Any) -> Any:
    # An array of another library may be part of its graph and is never changed in place.
    return np.array(array) if isinstance(array, np.ndarray) else array


def gathered(params: Sequence[Parameter], device: Device) -> Callable[[], None]:
    """Copy parameters of one dtype into one buffer of a device, in this order, unless they lie so already.

    Returns what makes the buffer theirs. Until it is called nothing has changed, and it does not fail.
    """
    is_there = params[0].buffer is not None and params[0].place is device
    if is_there and all(is_neighbour(left, right) for left, right in pairwise(params)):
        return lambda: None
    for param in params:
        param.check_plain()
    buffer = FlatBuffer(params[0].dtype, sum(param.size for param in params), device)
    moves, offset = [], 0
    for param in params:
        moves.append((param, offset, *param.copy_to(buffer, offset)))
        offset += param.size

    def move() -> None:
        for param, offset, data, grad in moves:
            param.move_to(buffer, offset, data, grad)

    return move


def gather(params: Sequence[Parameter]) -> None:
    """Make parameters of one dtype and device neighbours in one buffer, in this order, unless they are already."""
    gathered(params, params[0].place)()


def is_neighbour(left: Parameter, right: Parameter) -> bool:
    """Return whether one parameter starts in memory where the other ends."""
    return left.buffer is right.buffer and left.offset + left.size == right.offset
