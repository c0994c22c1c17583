"""Parameters: arrays that an optimizer changes, each with the gradient that says how."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from .buffers import REAL_TYPE, Array, FlatBuffer
from .errors import GradientShapeError, GradientTypeError

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
        TypeError: the array is of another dtype.

    >>> p = Parameter([1.0, 2.0], name="w")
    >>> p.grad = np.array([0.5, 0.5])
    >>> p.grad *= 2
    >>> p
    Parameter([1., 2.], name='w', grad=[1., 1.])

    """

    __slots__ = ("__weakref__", "_data", "_grad", "_has_grad", "buffer", "name", "offset")

    buffer: FlatBuffer | None
    _data: Any
    _grad: Any

    def __init__(self, array: Any, name: str | None = None) -> None:
        self.name = name
        self.offset = 0
        self._has_grad = False
        if carries_derivatives(array):
            self.buffer, self._data, self._grad = None, array, None
            return
        values = np.asarray(array)
        dtype = values.dtype.newbyteorder("=")
        if dtype not in REAL_TYPE:
            raise TypeError(
                f"{self._label} must be of {_ACCEPTED}, but is of {values.dtype}: write array.astype(np.float32)"
            )
        self.buffer = FlatBuffer(dtype, values.size)
        self.buffer.missing = 1
        self._data, self._grad = self.buffer.views(0, values.shape)
        self._data[...] = values

    @property
    def data(self) -> Any:
        """The values, as an array that shares the parameter's memory. Assigning copies into it."""
        return self._data

    @data.setter
    def data(self, values: Any) -> None:
        if self.buffer is None:
            self._data = values
        elif values is not self._data:
            self._data[...] = self._checked(values, "values")

    @property
    def grad(self) -> Any:
        """The gradient, as an array that shares the parameter's flat gradient, or None. Assigning copies into it."""
        return self._grad if self._has_grad else None

    @grad.setter
    def grad(self, gradient: Any) -> None:
        if gradient is None:
            self._mark(False)
            return
        if self.buffer is None:
            self._grad = gradient
        elif gradient is not self._grad:
            self._grad[...] = self._checked(gradient, "gradient")
        self._mark(True)

    def check_grad(self, gradient: Any) -> None:
        """Raise if the gradient cannot be this parameter's. Nothing is changed."""
        if self.buffer is not None:
            self._checked(gradient, "gradient")

    def zero_grad(self) -> None:
        """Set the gradient, if there is one, to zero in place."""
        if self.buffer is None:
            self._grad = None if self._grad is None else self._grad * 0
        elif self._has_grad:
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
        return int(np.prod(self.shape, dtype=np.int64))

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
            return np.array2string(np.asarray(values), separator=", ", threshold=20) if self.buffer else repr(values)

        name = "" if self.name is None else f", name={self.name!r}"
        dtype = "" if self.dtype == np.float64 or self.buffer is None else f", dtype={self.dtype}"
        grad = "" if self.grad is None else f", grad={text(self.grad)}"
        return f"Parameter({text(self._data)}{dtype}{name}{grad})"

    def __getstate__(self) -> dict[str, Any]:
        # The arrays are left out: as pickled views they would come back as copies that share nothing.
        state = {"buffer": self.buffer, "offset": self.offset, "has_grad": self._has_grad, "name": self.name}
        loose = {"data": self._data, "grad": self._grad} if self.buffer is None else {"shape": self.shape}
        return state | loose

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.name = state["name"]
        self.buffer, self.offset, self._has_grad = state["buffer"], state["offset"], state["has_grad"]
        if self.buffer is None:
            self._data, self._grad = state["data"], state["grad"]
        else:
            self._data, self._grad = self.buffer.views(self.offset, state["shape"])

    def move_to(self, buffer: FlatBuffer, offset: int) -> None:
        """Move values and gradient into a buffer, at this element. Arrays of the old place become read-only."""
        old = self.buffer
        assert old is not None
        data, grad = buffer.views(offset, self.shape)
        data[...] = self._data
        grad[...] = self._grad
        self._leave(old)
        buffer.missing += not self._has_grad
        self.buffer, self.offset, self._data, self._grad = buffer, offset, data, grad

    def release(self) -> None:
        """Keep values and gradient as two arrays on their own, which the next step replaces instead of changing."""
        if self.buffer is not None:
            data, grad = self._data.copy(), self._grad.copy()
            self._leave(self.buffer)
            self.buffer, self._data, self._grad = None, data, grad

    def _leave(self, old: FlatBuffer) -> None:
        old.moves += 1
        old.missing -= not self._has_grad
        self._data.flags.writeable = False
        self._grad.flags.writeable = False

    @property
    def _label(self) -> str:
        return "a Parameter" if self.name is None else f"Parameter {self.name!r}"

    def _mark(self, has_grad: bool) -> None:
        if self.buffer is not None:
            self.buffer.missing += self._has_grad - has_grad
        self._has_grad = has_grad

    def _checked(self, values: Any, what: str) -> Array:
        if not hasattr(values, "__array__") and not hasattr(values, "__array_interface__"):
            raise GradientTypeError(
                f"assigned {what} of {self._label} expected to be an array or None but got {what} of type "
                f"{type(values).__name__!r}: write np.asarray(values, np.{self.dtype})"
            )
        array = np.asarray(values)
        if array.dtype.newbyteorder("=") != self.dtype:
            raise GradientTypeError(
                f"assigned {what} of {self._label} has dtype {array.dtype}, but the parameter has dtype {self.dtype}: "
                f"write values.astype(np.{self.dtype})"
            )
        if array.shape != self.shape:
            raise GradientShapeError(
                f"assigned {what} of {self._label} has shape {array.shape}, but the parameter has shape {self.shape}"
            )
        return array


def carries_derivatives(array: Any) -> bool:
    """Return whether an array carries another library's derivatives, which a copy into NumPy would cut off."""
    library = type(array).__module__.partition(".")[0]
    if library == "torch":
        return bool(array.requires_grad)
    # JAX's concrete arrays are jaxlib's; what it traces is its own.
    return library in ("autograd", "jax")


def gather(params: Sequence[Parameter]) -> None:
    """Make parameters of one dtype neighbours in one buffer, in this order, unless they are already."""
    if all(is_neighbour(left, right) for left, right in pairwise(params)):
        return
    buffer = FlatBuffer(params[0].dtype, sum(param.size for param in params))
    offset = 0
    for param in params:
        param.move_to(buffer, offset)
        offset += param.size


def is_neighbour(left: Parameter, right: Parameter) -> bool:
    """Return whether one parameter starts in memory where the other ends."""
    return left.buffer is right.buffer and left.offset + left.size == right.offset
