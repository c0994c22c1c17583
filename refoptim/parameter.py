"""Parameters: arrays that an optimizer changes, each with the gradient that says how."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from .buffers import REAL_TYPE, Array, FlatBuffer
from .errors import GradientShapeError, GradientTypeError
from .formulas.namespace import namespace
from .sparse import SparseGrad, is_scipy

_ACCEPTED = ", ".join(dtype.name for dtype in REAL_TYPE)


class Parameter:
    """An array to be optimized, and its gradient.

    The values are copied, so the array handed in is neither changed nor kept. Building an optimizer moves the values
    once more, into one flat buffer per group and dtype: arrays that ``data`` and ``grad`` returned before that become
    read-only, so that nothing is written to the old place unnoticed. After that ``data`` and ``grad`` stay the same
    arrays for good: keep them, write into them, hand them to ``out=``.

    Args:
        array: anything that ``numpy.asarray`` takes, of float32, float64, complex64 or complex128, of any shape.
            Arrays of autograd, JAX and torch that carry derivatives are kept as they are, for optimizers with
            ``differentiable=True``.
        name: what to call it in messages and ``repr`` (default: None).

    Raises:
        TypeError: the array is of another dtype, or masked.

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

    def __init__(self, array: Any, name: str | None = None) -> None:
        self.name = name
        self.offset = 0
        self.has_flat_grad, self._sparse = False, None
        if carries_derivatives(array):
            self.buffer, self._data, self._grad = None, array, None
            return
        values = unmasked(array, f"the values of {self._label}")
        dtype = values.dtype.newbyteorder("=")
        if dtype not in REAL_TYPE:
            raise TypeError(
                f"{self._label} must be of {_ACCEPTED}, but is of {values.dtype}: write array.astype(np.float32)"
            )
        self._hold(values.astype(dtype, copy=False))

    def _hold(self, values: Array) -> None:
        """Copy the values into a buffer of their own, without a gradient."""
        self.offset, self.has_flat_grad, self._sparse = 0, False, None
        self.buffer = FlatBuffer(values.dtype, values.size)
        self.buffer.missing = 1
        self._data, self._grad = self.buffer.views(0, values.shape)
        self._data[...] = values

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
            self._data[...] = checked

    @property
    def grad(self) -> Any:
        """The gradient, as an array that shares the parameter's flat gradient, or None. Assigning copies into it.

        A :class:`SparseGrad` is kept beside it and returned; a sparse matrix of SciPy's becomes one.
        """
        return self._grad if self.has_flat_grad else self._sparse

    @grad.setter
    def grad(self, gradient: Any) -> None:
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
                self._grad[...] = checked
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
            self._grad[...] = 0

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
        """Where the values are."""
        return "cpu"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self._data, dtype=dtype, copy=copy)

    def __len__(self) -> int:
        return len(self._data)

    def __repr__(self) -> str:
        def text(values: Any) -> str:
            plain = self.buffer is not None and not isinstance(values, SparseGrad)
            return np.array2string(np.asarray(values), separator=", ", threshold=20) if plain else repr(values)

        name = "" if self.name is None else f", name={self.name!r}"
        dtype = "" if self.dtype == np.float64 or self.buffer is None else f", dtype={self.dtype}"
        grad = "" if self.grad is None else f", grad={text(self.grad)}"
        return f"Parameter({text(self._data)}{dtype}{name}{grad})"

    def __copy__(self) -> "Parameter":
        copied = Parameter(self._data, self.name)
        copied.grad = self.grad
        return copied

    def __getstate__(self) -> dict[str, Any]:
        # Not the buffer: a copy of one parameter would carry all of its neighbours. Slots gather theirs again.
        return {"name": self.name, "data": self._data, "grad": self.grad, "loose": self.buffer is None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.name = state["name"]
        if state["loose"]:
            self.offset, self.buffer, self._data, self._grad = 0, None, state["data"], state["grad"]
            self.has_flat_grad, self._sparse = self._grad is not None, None
        else:
            self._hold(state["data"])
            self.grad = state["grad"]

    def move_to(self, buffer: FlatBuffer, offset: int) -> None:
        """Move values and gradient into a buffer, at this element. Arrays of the old place become read-only."""
        data, grad = buffer.views(offset, self.shape)
        data[...] = self._data
        if self._grad is not None and self.has_flat_grad:
            grad[...] = self._grad
        self._leave()
        buffer.missing += not self.has_flat_grad
        self.buffer, self.offset, self._data, self._grad = buffer, offset, data, grad

    def release(self) -> None:
        """Keep values and gradient as two arrays on their own, which the next step replaces instead of changing."""
        if self.buffer is not None:
            data, grad = self._data.copy(), self._grad.copy()
            self._leave()
            self.buffer, self._data, self._grad = None, data, grad

    def _leave(self) -> None:
        if self.buffer is None:
            return
        self.buffer.moves += 1
        self.buffer.missing -= not self.has_flat_grad
        self._data.flags.writeable = False
        self._grad.flags.writeable = False

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
        return sparse

    def _checked(self, values: Any, what: str) -> Any:
        keep = self.buffer is None and (
            carries_derivatives(values) or (self.is_foreign and library(values) == library(self._data))
        )
        if not keep and not hasattr(values, "__array__") and not hasattr(values, "__array_interface__"):
            raise GradientTypeError(
                f"assigned {what} of {self._label} expected to be an array or None but got {what} of type "
                f"{type(values).__name__!r}: write np.asarray(values, np.{dtype_name(self.dtype)})"
            )
        array = values if keep else unmasked(values, f"the {what} of {self._label}")
        if array.dtype != self.dtype and dtype_name(array.dtype) != dtype_name(self.dtype):
            raise GradientTypeError(
                f"assigned {what} of {self._label} has dtype {array.dtype}, but the parameter has dtype {self.dtype}: "
                f"write values.astype(np.{dtype_name(self.dtype)})"
            )
        shape = tuple(array.shape)
        if shape != self.shape:
            raise GradientShapeError(
                f"assigned {what} of {self._label} has shape {shape}, but the parameter has shape {self.shape}"
            )
        return array


def carries_derivatives(array: Any) -> bool:
    """Return whether an array carries another library's derivatives, which a copy into NumPy would cut off."""
    if library(array) == "torch":
        return bool(getattr(array, "requires_grad", False))
    # JAX's concrete arrays are jaxlib's; what it traces is its own.
    return library(array) in ("autograd", "jax")


def library(value: Any) -> str:
    """Return the name of the package that a value's type comes from."""
    return type(value).__module__.partition(".")[0]


def unmasked(values: Any, what: str) -> Array:
    """Return the values as a NumPy array. Raise if they are masked: what lies under a mask would be used unnoticed."""
    if isinstance(values, np.ma.MaskedArray):
        raise TypeError(f"{what} must not be a masked array: write array.filled(0)")
    return np.asarray(values)


def _owned(array: Any) -> Any:
    # An array of another library may be part of its graph and is never changed in place.
    return np.array(array) if isinstance(array, np.ndarray) else array


def dtype_name(dtype: Any) -> str:
    """Return what a dtype is called whatever its byte order and its library, so that torch's equal NumPy's."""
    return dtype.name if isinstance(dtype, np.dtype) else str(dtype).rpartition(".")[2]


def gather(params: Sequence[Parameter]) -> None:
    """Make parameters of one dtype neighbours in one buffer, in this order, unless they are already."""
    if params[0].buffer is not None and all(is_neighbour(left, right) for left, right in pairwise(params)):
        return
    for param in params:
        param.check_plain()
    buffer = FlatBuffer(params[0].dtype, sum(param.size for param in params))
    offset = 0
    for param in params:
        param.move_to(buffer, offset)
        offset += param.size


def is_neighbour(left: Parameter, right: Parameter) -> bool:
    """Return whether one parameter starts in memory where the other ends."""
    return left.buffer is right.buffer and left.offset + left.size == right.offset
