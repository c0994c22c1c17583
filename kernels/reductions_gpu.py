"""Sums of arrays on a GPU, by the tree of :mod:`refoptim.kernels.reductions`: a block for a chunk, a thread for a lane.

Sums stay on the GPU, as the two rows of an array with one column, until somebody asks for the number.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import float64

from refoptim.kernels.arithmetic import absolute, maximum, minimum, sqrt
from refoptim.kernels.jit import cuda, gpu_kernel, gpu_part, gpu_rule
from refoptim.kernels.memory import convert_gpu, launch, temporaries, to_gpu, to_host
from refoptim.kernels.pairs import CHUNK, EXACT_SQUARES, LANES, add, magnitude, product, rounded

# What adds the terms of an array up: it writes the sums of its chunks into columns, from this one on.
Term = Callable[[Any, Any, int], None]
Empty = Callable[..., Any]  # as np.empty

_add_gpu, _product_gpu, _magnitude_gpu, _rounded_gpu = map(gpu_rule, (add, product, magnitude, rounded))
_INFINITY = math.inf


@gpu_part
def _fold_lanes(high, low, sums, column):
    lane, width = cuda.threadIdx.x, LANES // 2
    # The simulator takes two arrays made in one line for one.
    highs = cuda.shared.array(LANES, float64)
    lows = cuda.shared.array(LANES, float64)
    highs[lane], lows[lane] = high, low
    cuda.syncthreads()
    while width:
        if lane < width:
            high, low = _add_gpu(high, low, highs[lane + width], lows[lane + width])
            highs[lane], lows[lane] = high, low
        cuda.syncthreads()
        width //= 2
    if lane == 0:
        sums[0, column], sums[1, column] = high, low


@gpu_kernel
def dot_gpu(x, y, sums, column):
    high, low, start = 0.0, 0.0, cuda.blockIdx.x * CHUNK
    for i in range(start + cuda.threadIdx.x, min(start + CHUNK, x.size), LANES):
        a, b = _product_gpu(x[i], y[i])
        high, low = _add_gpu(high, low, a, b)
    _fold_lanes(high, low, sums, column + cuda.blockIdx.x)


@gpu_kernel
def scaled_squares_gpu(x, extremes, sums, column):
    """Sum the squares of x over the power of two next above the largest magnitude."""
    high, low, start = 0.0, 0.0, cuda.blockIdx.x * CHUNK
    exponent = math.frexp(extremes[0, 0])[1]
    for i in range(start + cuda.threadIdx.x, min(start + CHUNK, x.size), LANES):
        u = math.ldexp(float64(x[i]), -exponent)
        a, b = _product_gpu(u, u)
        high, low = _add_gpu(high, low, a, b)
    _fold_lanes(high, low, sums, column + cuda.blockIdx.x)


@gpu_kernel
def magnitudes_gpu(x, sums, column):
    high, low, start = 0.0, 0.0, cuda.blockIdx.x * CHUNK
    for i in range(start + cuda.threadIdx.x, min(start + CHUNK, x.size), LANES):
        a, b = _magnitude_gpu(x[i], x[i])
        high, low = _add_gpu(high, low, a, b)
    _fold_lanes(high, low, sums, column + cuda.blockIdx.x)


@gpu_kernel
def counts_gpu(x, sums, column):
    """Count the elements that are not 0."""
    count, start = 0.0, cuda.blockIdx.x * CHUNK
    for i in range(start + cuda.threadIdx.x, min(start + CHUNK, x.size), LANES):
        if x[i] != 0:
            count += 1.0
    _fold_lanes(count, 0.0, sums, column + cuda.blockIdx.x)


@gpu_kernel
def pairs_gpu(terms, sums):
    high, low, i = 0.0, 0.0, cuda.blockIdx.x * LANES + cuda.threadIdx.x
    if i < terms.shape[1]:
        high, low = terms[0, i], terms[1, i]
    _fold_lanes(high, low, sums, cuda.blockIdx.x)


@gpu_kernel
def extremes_gpu(x, y, found):
    """Find the largest magnitude of x and the smallest of y."""
    lane, width, start = cuda.threadIdx.x, LANES // 2, cuda.blockIdx.x * CHUNK
    largest, smallest = 0.0, _INFINITY
    for i in range(start + lane, min(start + CHUNK, x.size), LANES):
        largest = maximum(largest, absolute(float64(x[i])))
        smallest = minimum(smallest, absolute(float64(y[i])))
    above = cuda.shared.array(LANES, float64)
    below = cuda.shared.array(LANES, float64)
    above[lane], below[lane] = largest, smallest
    cuda.syncthreads()
    while width:
        if lane < width:
            above[lane] = maximum(above[lane], above[lane + width])
            below[lane] = minimum(below[lane], below[lane + width])
        cuda.syncthreads()
        width //= 2
    if lane == 0:
        found[0, cuda.blockIdx.x], found[1, cuda.blockIdx.x] = above[0], below[0]


@gpu_kernel
def root_gpu(norm, squares):
    norm[0] = sqrt(_rounded_gpu(squares[0, 0], squares[1, 0]))


@gpu_kernel
def norm_gpu(norm, squares, extremes, scaled):
    """Write the root of the sum of the squares, of those that stayed in the range."""
    square, largest = _rounded_gpu(squares[0, 0], squares[1, 0]), extremes[0, 0]
    if EXACT_SQUARES <= square < _INFINITY:
        norm[0] = sqrt(square)
    elif 0.0 < largest < _INFINITY:
        norm[0] = math.ldexp(sqrt(_rounded_gpu(scaled[0, 0], scaled[1, 0])), math.frexp(largest)[1])
    else:
        norm[0] = largest


def products(y: Any) -> Term:
    """Return what sums the products of one array with another of its size."""

    def term(x: Any, sums: Any, column: int) -> None:
        launch(dot_gpu, _chunks(x.size), LANES, x, y, sums, column)

    return term


def squares(part: Any, sums: Any, column: int) -> None:
    """Sum the squares."""
    launch(dot_gpu, _chunks(part.size), LANES, part, part, sums, column)


def magnitudes(part: Any, sums: Any, column: int) -> None:
    """Sum the magnitudes."""
    launch(magnitudes_gpu, _chunks(part.size), LANES, part, sums, column)


def counts(part: Any, sums: Any, column: int) -> None:
    """Count what is not 0."""
    launch(counts_gpu, _chunks(part.size), LANES, part, sums, column)


def scaled_squares(extremes: Any) -> Term:
    """Return what sums the squares over the power of two next above the largest magnitude."""

    def term(part: Any, sums: Any, column: int) -> None:
        launch(scaled_squares_gpu, _chunks(part.size), LANES, part, extremes, sums, column)

    return term


def total(term: Term, arrays: Sequence[Any], empty: Empty) -> Any:
    """Return the sum over flat arrays, taken as one, none of them empty. How they are cut changes no bit."""
    sums = empty((2, _chunks(sum(x.size for x in arrays))))
    if len(arrays) == 1:
        term(arrays[0], sums, 0)
    else:
        _sum_chunks(term, arrays, sums, empty(CHUNK))
    while sums.shape[1] > 1:
        terms, sums = sums, empty((2, -(-sums.shape[1] // LANES)))
        launch(pairs_gpu, sums.shape[1], LANES, terms, sums)
    return sums


def _sum_chunks(term: Term, arrays: Sequence[Any], sums: Any, chunk: Any) -> None:
    """Sum the chunks. Only those that lie in several arrays are copied."""
    column = filled = 0
    for x in arrays:
        # What completes the chunk that is begun, whole ones, and what begins another.
        head = min(-filled % CHUNK, x.size)
        whole = (x.size - head) // CHUNK
        end = head + whole * CHUNK
        if head:
            convert_gpu.launch(chunk[filled : filled + head], x[:head])
            filled += head
        if filled == CHUNK:
            term(chunk, sums, column)
            column, filled = column + 1, 0
        if whole:
            term(x[head:end], sums, column)
            column += whole
        if end < x.size:
            filled = x.size - end
            convert_gpu.launch(chunk[:filled], x[end:])
    if filled:
        term(chunk[:filled], sums, column)


def extremes(x: Any, empty: Empty) -> Any:
    """Return the largest and the smallest magnitude of a flat array that is not empty: NaN, if one is."""
    found = empty((2, _chunks(x.size)))
    launch(extremes_gpu, found.shape[1], LANES, x, x, found)
    while found.shape[1] > 1:
        terms, found = found, empty((2, _chunks(found.shape[1])))
        launch(extremes_gpu, found.shape[1], LANES, terms[0], terms[1], found)
    return found


def norm_into(norm: Any, x: Any, empty: Empty) -> None:
    """Write the 2-norm of a flat array that is not empty into the first element of another, and do not wait for it."""
    sums = total(squares, [x], empty)
    if x.dtype.itemsize < sums.dtype.itemsize:
        # float64 has room for the squares of all other types.
        launch(root_gpu, 1, 1, norm, sums)
    else:
        found = extremes(x, empty)
        launch(norm_gpu, 1, 1, norm, sums, found, total(scaled_squares(found), [x], empty))


def norm(arrays: Sequence[Any], p: float) -> float:
    """Return the p-norm of flat arrays, taken as one, for a p of 2, 1, 0, inf or -inf. The host waits for it."""
    arrays = [x for x in arrays if x.size]
    if not arrays:
        return math.inf if p < 0 else 0.0
    with temporaries(arrays[0]) as empty:
        if p == 2:
            square = rounded(*numbers(total(squares, arrays, empty)))
            if EXACT_SQUARES <= square < math.inf:
                return math.sqrt(square)
        elif math.isfinite(p):
            return rounded(*numbers(total(magnitudes if p else counts, arrays, empty)))
        found = np.array([numbers(extremes(x, empty)) for x in arrays])
        extreme = float(found[:, 0].max() if p > 0 else found[:, 1].min())
        if math.isinf(p) or not 0 < extreme < math.inf:
            return extreme
        # By a power of two, so that nothing that counts is rounded.
        scaled = total(scaled_squares(to_gpu(np.array([[extreme], [extreme]]))), arrays, empty)
        return math.ldexp(math.sqrt(rounded(*numbers(scaled))), math.frexp(extreme)[1])


def numbers(sums: Any) -> tuple[float, float]:
    """Return the two numbers of a sum. The host waits for them."""
    first, second = to_host(sums)[:, 0]
    return float(first), float(second)


def _chunks(size: int) -> int:
    return -(-size // CHUNK)
