"""Flat buffers: the memory in which the parameters of a group and their gradients lie side by side."""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from .arrays import Array, dtype_name
from .cpu import ALIGNMENT, CPU, Device, aligned_zeros

__all__ = ["ACCEPTED", "ALIGNMENT", "REAL_TYPE", "Array", "FlatBuffer", "aligned_zeros"]


class _RealTypes(dict[np.dtype[Any], np.dtype[Any]]):
    """Knows bfloat16 by name: its dtype is ml_dtypes', which only those import who have such numbers."""

    def __missing__(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        if dtype in self:
            return dtype
        raise KeyError(dtype)

    def __contains__(self, dtype: object) -> bool:
        return super().__contains__(dtype) or dtype_name(dtype) == "bfloat16"


# What parameters may be made of, and the type of the real numbers that kernels see: a complex number is a pair of them.
REAL_TYPE = _RealTypes(
    {
        np.dtype(np.float32): np.dtype(np.float32),
        np.dtype(np.float64): np.dtype(np.float64),
        np.dtype(np.complex64): np.dtype(np.float32),
        np.dtype(np.complex128): np.dtype(np.float64),
        np.dtype(np.float16): np.dtype(np.float16),
    }
)

# The same by name.
ACCEPTED = (*(dtype.name for dtype in REAL_TYPE), "bfloat16")


@lru_cache(maxsize=64)
def native(dtype: Any) -> np.dtype[Any] | None:
    """Return NumPy's dtype, in this machine's byte order, for a dtype of any library; None if it is not accepted."""
    name = dtype_name(dtype)
    return np.dtype(name) if name in ACCEPTED else None


class FlatBuffer:
    """Parameters and gradients of one dtype, each in one aligned array, without gaps.

    ``theta`` and ``grad`` are the arrays as kernels see them: real numbers, pairs of them for a complex dtype.
    ``missing`` counts the parameters that lie here and have no gradient, so that "all have one" is a comparison with 0.
    ``moves`` counts the parameters that have left for another buffer: whoever keeps slices of this one compares it.

    Around a contiguous array of NumPy's it has the values there, wherever that starts.
    """

    __slots__ = ("device", "dtype", "grad", "missing", "moves", "theta")

    def __init__(self, dtype: np.dtype[Any], size: int, device: Device = CPU, around: Array | None = None) -> None:
        self.dtype = dtype
        self.device = device
        real = REAL_TYPE[dtype]
        size *= dtype.itemsize // real.itemsize
        self.theta = device.zeros(size, real) if around is None else around.reshape(-1).view(real)
        self.grad = device.zeros(size, real)
        self.missing = 0
        self.moves = 0

    def flats(self, offset: int, size: int) -> tuple[Any, Any]:
        """Return the parameter of this size that starts at this element, and its gradient, as kernels see them."""
        width = self.dtype.itemsize // REAL_TYPE[self.dtype].itemsize
        span = slice(width * offset, width * (offset + size))
        return self.theta[span], self.grad[span]

    def views(self, offset: int, shape: tuple[int, ...]) -> tuple[Any, Any]:
        """Return the parameter of this shape that starts at this element, and its gradient, as users see them."""
        theta, grad = self.flats(offset, prod(shape))
        return self.device.array(theta, self.dtype, shape), self.device.array(grad, self.dtype, shape)

    def cut(self, shapes: Iterable[tuple[int, ...]]) -> Iterator[tuple[Any, Any]]:
        """Yield the parameters of these shapes, which lie here one behind the other, and their gradients."""
        stop = 0
        if self.device is CPU:
            theta, grad = self.theta.view(self.dtype), self.grad.view(self.dtype)
            for shape in shapes:
                start, stop = stop, stop + prod(shape)
                views = theta[start:stop], grad[start:stop]
                # A view takes a tenth of the time of building an optimizer with small parameters.
                yield views if len(shape) == 1 else (views[0].reshape(shape), views[1].reshape(shape))
            return
        for shape in shapes:
            yield self.views(stop, shape)
            stop += prod(shape)
