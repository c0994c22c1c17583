"""Flat buffers: the memory in which the parameters of a group and their gradients lie side by side."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]

# A cache line, the widest vector register, and what DLPack consumers ask for.
ALIGNMENT = 64

# What parameters may be made of, and the type of the real numbers that kernels see: a complex number is a pair of them.
REAL_TYPE = {
    np.dtype(np.float32): np.dtype(np.float32),
    np.dtype(np.float64): np.dtype(np.float64),
    np.dtype(np.complex64): np.dtype(np.float32),
    np.dtype(np.complex128): np.dtype(np.float64),
}


def aligned_zeros(size: int, dtype: DTypeLike) -> Array:
    """Return a flat array of zeros that starts on a cache line. Its pages are not touched until they are used."""
    dtype = np.dtype(dtype)
    raw = np.zeros(size * dtype.itemsize + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size * dtype.itemsize].view(dtype)


class FlatBuffer:
    """Parameters and gradients of one dtype, each in one aligned array, without gaps.

    ``theta`` and ``grad`` are the arrays as kernels see them: real numbers, pairs of them for a complex dtype.
    ``missing`` counts the parameters that lie here and have no gradient, so that "all have one" is a comparison with 0.
    ``moves`` counts the parameters that have left for another buffer: whoever keeps slices of this one compares it.
    """

    __slots__ = ("dtype", "grad", "missing", "moves", "theta")

    def __init__(self, dtype: np.dtype[Any], size: int) -> None:
        self.dtype = dtype
        self.theta = aligned_zeros(size, dtype).view(REAL_TYPE[dtype])
        self.grad = aligned_zeros(size, dtype).view(REAL_TYPE[dtype])
        self.missing = 0
        self.moves = 0

    def views(self, offset: int, shape: tuple[int, ...]) -> tuple[Array, Array]:
        """Return the parameter of this shape that starts at this element, and its gradient."""
        end = offset + int(np.prod(shape, dtype=np.int64))
        theta, grad = self.theta.view(self.dtype), self.grad.view(self.dtype)
        return theta[offset:end].reshape(shape), grad[offset:end].reshape(shape)
