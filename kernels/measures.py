"""Vectors with what a search along them asks for, found in the pass that writes them."""

from typing import Any, NamedTuple

import numpy as np

from refoptim.kernels.jit import cpu_tasks
from refoptim.kernels.lanes import dot_any_chunk
from refoptim.kernels.magnitudes import largest_chunk
from refoptim.kernels.memory import assign, on_gpu
from refoptim.kernels.pairs import CHUNK, rounded
from refoptim.kernels.prefetch import copy_chunk
from refoptim.kernels.products import product
from refoptim.kernels.reductions import largest_magnitude, sum_of_chunks, turn


class Measured(NamedTuple):
    """A vector, how large it is, and how much of it lies along another one."""

    vector: Any
    largest: float  # magnitude of its elements
    product: float  # with the other vector; 0 if there is none
    products: Any = None  # others, if the pass has found them


class Sums:
    """What a pass over long vectors writes down for each chunk."""

    def __init__(self, size: int) -> None:
        self.chunks = -(-size // CHUNK)
        self.high, self.low, self.largest = self.arrays = np.zeros((3, self.chunks))

    def measured(self, x: Any) -> Measured:
        """Return the vector with what was written down."""
        return Measured(x, float(self.largest.max()), rounded(*sum_of_chunks(self.high, self.low)))


@cpu_tasks
def copy_cpu(z, x, y, sums, first, stop):
    for chunk in range(first, stop):
        start = chunk * CHUNK
        copy_chunk(z[start:], x[start : start + CHUNK])
        if sums.size:
            sums[2, chunk] = largest_chunk(z, start)
        if y.size:
            sums[0, chunk], sums[1, chunk] = dot_any_chunk(z, y, start)


def is_long(x: Any) -> bool:
    """Return whether one pass for everything is worth a loop of its own."""
    return x.size > CHUNK and not on_gpu(x)


def measured(x: Any, y: Any = None) -> Measured:
    """Return a vector with its largest magnitude and its product with another one."""
    if is_long(x) and x.flags.writeable:
        # A copy onto itself: the loop that other vectors have compiled.
        return _copy(x, x, x[:0] if y is None else y)
    return Measured(x, largest_magnitude(x), 0.0 if y is None else product(x, y))


def copy(z: Any, x: Any) -> None:
    """Copy a flat array into another one, on several threads if they are of one type."""
    if is_long(z) and x.dtype == z.dtype:
        chunks = -(-z.size // CHUNK)
        copy_cpu.run(chunks, turn(chunks), 2 * z.nbytes, z, x, z[:0], np.empty((3, 0)))
    else:
        assign(z, x)


def copy_measured(z: Any, x: Any, y: Any = None) -> Measured:
    """Copy x into z, if it is another. Return z with its largest magnitude and its product with y, of its type."""
    if is_long(z) and x.dtype == z.dtype:
        return _copy(z, x, z[:0] if y is None else y)
    if z is not x:
        assign(z, x)
    return measured(z, y)


def _copy(z: Any, x: Any, y: Any) -> Measured:
    sums = Sums(z.size)
    copy_cpu.run(sums.chunks, turn(sums.chunks), 2 * z.nbytes + y.nbytes, z, x, y, sums.arrays)
    return sums.measured(z)
