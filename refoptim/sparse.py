"""Gradients that are zero but for some rows."""

from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from . import devices
from .arrays import Array, dtype_name, spelled
from .buffers import ACCEPTED
from .cpu import CPU, Device
from .errors import GradientShapeError, GradientTypeError


class SparseGrad:
    """A gradient that is zero but for some rows. Where a row is named twice, its values are added.

    ``p.grad = SparseGrad(...)`` makes SparseAdam, SGD and Adagrad read and write these rows alone. A matrix or array of
    ``scipy.sparse`` can be assigned in its place; its entries then are rows of one element.

    Args:
        indices: integers of shape (n,), the rows; or of shape (k, n), as ``torch.sparse_coo_tensor`` has them: n
            positions in the first k dimensions.
        values: what is there, of shape (n, ...) with the remaining dimensions of the shape. Copied where they are; on a
            GPU they stay there, unless a row is named twice. Indices are checked and kept on the host.
        shape: the shape of the parameter.

    Raises:
        IndexError: an index is outside of the shape.
        ValueError: indices, values and shape do not fit together.
        TypeError: indices are not integers, or values are of a dtype that parameters cannot have.

    >>> grad = SparseGrad([2, 0, 2], [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], (4, 2))
    >>> grad.to_dense()
    array([[3., 4.],
           [0., 0.],
           [6., 8.],
           [0., 0.]])

    """

    indices: Array
    values: Any
    shape: tuple[int, ...]

    def __init__(self, indices: Any, values: Any, shape: tuple[int, ...]) -> None:
        shape = tuple(int(length) for length in shape)
        places = np.array(devices.to_host(indices), ndmin=2)  # a copy, which is not the user's to write to
        if places.size and places.dtype.kind not in "iu":
            raise TypeError(f"indices must be integers, but are of {places.dtype}")
        places = places.astype(np.int64, copy=False)
        device = devices.device_of(values)
        if device is CPU:
            values = np.array(values, order="C")
        if dtype_name(values.dtype) not in ACCEPTED:
            raise TypeError(
                f"values must be of {', '.join(ACCEPTED)}, but are of {values.dtype}: write values.astype(np.float32)"
            )
        if places.ndim != 2 or len(places) > len(shape):
            raise ValueError(f"indices of shape {np.shape(indices)} do not fit into the shape {shape}")
        leading, width = shape[: len(places)], shape[len(places) :]
        if tuple(values.shape) != (places.shape[1], *width):
            raise ValueError(
                f"values have shape {tuple(values.shape)}, but {places.shape[1]} indices into {shape} need "
                f"{(places.shape[1], *width)}"
            )
        for axis, (place, length) in enumerate(zip(places, leading, strict=True)):
            if place.size and not 0 <= place.min() <= place.max() < length:
                outside = place[(place < 0) | (place >= length)]
                raise IndexError(f"index {outside[0]} is out of bounds for axis {axis} with size {length}")
        values = values if device is CPU else device.duplicate(values)
        device.retire(values)
        places.flags.writeable = False
        vars(self).update(indices=places, values=values, shape=shape)

    def __setattr__(self, name: str, value: Any) -> None:
        # Compiled loops go where these say, and do not look.
        raise AttributeError(f"{name} of a SparseGrad cannot be exchanged: write SparseGrad(indices, values, shape)")

    @classmethod
    def from_scipy(cls, matrix: Any) -> "SparseGrad":
        """Return a sparse matrix or array of SciPy's as a gradient, each stored entry a row of one element."""
        entries = matrix.tocoo()
        return cls(np.stack([np.asarray(axis) for axis in entries.coords]), entries.data, entries.shape)

    @property
    def place(self) -> Device:
        """The device that has the values."""
        return devices.device_of(self.values)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the values."""
        return self.values.dtype

    @property
    def ndim(self) -> int:
        """How many dimensions the gradient has."""
        return len(self.shape)

    @property
    def height(self) -> int:
        """How many rows a parameter of this shape has."""
        return prod(self.shape[: len(self.indices)])

    @property
    def width(self) -> int:
        """How many elements a row has."""
        return prod(self.shape[len(self.indices) :])

    @cached_property
    def rows(self) -> Array:
        """The rows by number, when the first dimensions are counted as one, in the order of ``values``. Read-only."""
        rows: Array = self.indices[0] if len(self.indices) else np.zeros(self.indices.shape[1], np.int64)
        if len(self.indices) > 1:
            rows = np.array(np.ravel_multi_index(tuple(self.indices), self.shape[: len(self.indices)]), np.int64)
        rows.flags.writeable = False
        return rows

    def summed(self) -> "SparseGrad":
        """Return the same gradient with no row twice, in any order."""
        ordered = np.sort(self.rows)
        return self.coalesce() if np.any(ordered[1:] == ordered[:-1]) else self

    def coalesce(self) -> "SparseGrad":
        """Return the same gradient with its rows in order and none twice.

        A row's parts are added in float64; what they sum to is rounded to the gradient's dtype.
        """
        if np.all(self.rows[1:] > self.rows[:-1]):
            return self
        if self.place is not CPU:
            return self._on_host().coalesce()
        order = np.argsort(self.rows, kind="stable")
        rows = self.rows[order]
        starts = np.flatnonzero(np.r_[True, rows[1:] != rows[:-1]])
        values = self.values[order[starts]]
        counts = np.diff(starts, append=len(rows))
        repeated = counts > 1
        if repeated.any():
            parts = self.values[order[np.repeat(repeated, counts)]]
            wide = np.complex128 if self.dtype.kind == "c" else np.float64
            firsts = np.cumsum(counts[repeated]) - counts[repeated]
            with np.errstate(over="ignore", invalid="ignore"):
                values[repeated] = np.add.reduceat(parts.astype(wide), firsts, axis=0)
        return SparseGrad(self.indices[:, order[starts]], values, self.shape)

    def to_dense(self) -> Any:
        """Return the gradient as an array of its shape, where its values are."""
        dense = np.zeros(self.shape, self.dtype)
        summed = self.coalesce()
        dense[tuple(summed.indices)] = devices.to_host(summed.values)
        return self.place.uploaded(dense)

    def _on_host(self) -> "SparseGrad":
        return self if self.place is CPU else SparseGrad(self.indices, devices.to_host(self.values), self.shape)

    def check(self, label: str, shape: tuple[int, ...], dtype: Any) -> None:
        """Raise if this cannot be the gradient of a parameter of this shape and dtype."""
        if self.shape != shape:
            raise GradientShapeError(
                f"assigned gradient of {label} has shape {self.shape}, but the parameter has shape {shape}"
            )
        if self.dtype != dtype:
            raise GradientTypeError(
                f"assigned gradient of {label} has dtype {self.dtype}, but the parameter has dtype {dtype}: "
                f"write values.astype({spelled(dtype)})"
            )

    def __add__(self, other: Any) -> "SparseGrad":
        if not isinstance(other, SparseGrad):
            return NotImplemented
        if other.shape != self.shape or len(other.indices) != len(self.indices):
            raise ValueError(f"gradients of shapes {self.shape} and {other.shape} have different rows")
        indices = np.concatenate([self.indices, other.indices], axis=1)
        values = [devices.to_host(grad.values) for grad in (self, other)]
        return SparseGrad(indices, np.concatenate(values), self.shape)

    def __mul__(self, factor: Any) -> "SparseGrad":
        if np.ndim(factor):
            return NotImplemented
        values = devices.to_host(self.values) * factor
        return SparseGrad(self.indices, values.astype(self.dtype, copy=False), self.shape)

    __rmul__ = __mul__

    def __reduce__(self) -> tuple[Any, ...]:
        return SparseGrad, (self.indices, devices.to_host(self.values), self.shape)

    def __repr__(self) -> str:
        return f"SparseGrad({self.indices.shape[1]} of {self.shape}, dtype={self.dtype})"


def is_scipy(value: Any) -> bool:
    """Return whether a value is a sparse matrix or array of SciPy's, which is not imported for the question."""
    return type(value).__module__.startswith("scipy.sparse") and hasattr(value, "tocoo")
