"""The stages of a factored step on a GPU, by the sums of :mod:`refoptim.kernels.factored`. Nothing waits for another.

A block has rows or a segment of one, a thread some columns or a band of either. Where rows begin at addresses that
allow it, threads load and store 16 bytes at a time.
"""

from typing import Any, NamedTuple

from numba import float64

from refoptim.kernels.arithmetic import maximum, sqrt, widen
from refoptim.kernels.factored import BAND, LANES, StepScalars, moment, scaled_square, step
from refoptim.kernels.folds_gpu import fold, square_taken
from refoptim.kernels.jit import GpuKernel, cuda, gpu_kernel, gpu_part, gpu_rule
from refoptim.kernels.lanes_gpu import ROWS, aligned, begun, lanes_of_a_thread, take_few, take_rows
from refoptim.kernels.pairs import add, rounded
from refoptim.kernels.strips import step as step_one
from refoptim.kernels.strips import step_strip
from refoptim.kernels.strips import width as strip_width

THREADS = 256
# The rows that a block sums, at most: as many as a thread has columns.
MOST_ROWS = lanes_of_a_thread([4])
# The columns that a block steps. With few rows, others step the rest of them.
SEGMENT = 16 * THREADS

_add, _rounded = map(gpu_rule, (add, rounded))
_moment, _scaled_square, _step = map(gpu_rule, (moment, scaled_square, step))


class RowScalars(NamedTuple):
    """What the last pass needs beside the arrays of a row, in the type to compute in."""

    sign: float
    most: float
    decay: float
    row: float  # the row's factor, squared


@gpu_part
def _scaled_square_taken(high, low, x, column, h):
    return _add(high, low, _scaled_square(x, h[0], column, h[1]), 0.0)


@gpu_part
def _row_step(theta, g, column, h):
    return _step(theta, g, h.row, column, h)


@gpu_part
def _sum_row(take, arrays, stop, whole, h):
    """Return the sum of a row in its first thread. A block has as many rows as one of its threads has columns."""
    # The simulator takes two arrays made in one line for one.
    highs = cuda.shared.array((MOST_ROWS, LANES), float64)
    lows = cuda.shared.array((MOST_ROWS, LANES), float64)
    own = cuda.threadIdx.y
    fold(take, _add, 0.0, arrays, 0, stop, whole, h, highs[own], lows[own])
    return _rounded(highs[own, 0], lows[own, 0])


@gpu_kernel
def row_squares_gpu(x, whole, squares):
    """Sum the squares of every row."""
    place, stop = cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y, x.shape[2]
    exists = place < squares.size
    if not exists:
        place = stop = 0  # it meets the others of its block while they sum
    matrix, i = place // x.shape[1], place % x.shape[1]
    total = _sum_row(square_taken, (x[matrix, i],), stop, whole, 0)
    if exists and cuda.threadIdx.x == 0:
        squares[matrix, i] = total


@gpu_kernel
def scaled_squares_gpu(x, columns, whole, rows, most, squares):
    """Sum the squares of every row times its factors."""
    place, stop = cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y, x.shape[2]
    exists = place < squares.size
    if not exists:
        place = stop = 0
    matrix, i = place // x.shape[1], place % x.shape[1]
    factors = rows[matrix, i], most
    total = _sum_row(_scaled_square_taken, (x[matrix, i], columns[matrix]), stop, whole, factors)
    if exists and cuda.threadIdx.x == 0:
        squares[matrix, i] = total


@gpu_kernel
def column_bands_gpu(x, whole, sums, height):
    """Sum the squares of bands of neighbouring columns of flat matrices."""
    matrices, bands, width = sums.shape[1], sums.shape[2], sums.shape[3]
    pairs = begun((x,), 0.0, 0.0)
    own = len(pairs) // 2
    across = (width + own - 1) // own
    task, left = cuda.grid(1) // across, cuda.grid(1) % across * own
    matrix, band = task // bands, task % bands
    if matrix < matrices:
        i, bottom, right = band * BAND, min((band + 1) * BAND, height), min(own, width - left)
        start = (matrix * height + i) * width + left
        while whole and i + ROWS <= bottom:
            pairs = take_rows(square_taken, pairs, (x,), start, width, 0)
            i, start = i + ROWS, start + ROWS * width
        while i < bottom:
            pairs = take_few(square_taken, pairs, (x,), start, start + right, 0)
            i, start = i + 1, start + width
        for j in range(own):
            if j < right:
                sums[0, matrix, band, left + j], sums[1, matrix, band, left + j] = pairs[2 * j], pairs[2 * j + 1]


@gpu_kernel
def column_factors_gpu(columns, sums, col_var, height, kept, fresh):
    """Add the bands of a column up, and turn the sum into its factor."""
    place = cuda.grid(1)
    if place < columns.size:
        matrix, j = place // columns.shape[1], place % columns.shape[1]
        high, low = sums[0, matrix, 0, j], sums[1, matrix, 0, j]
        for band in range(1, sums.shape[2]):
            high, low = _add(high, low, sums[0, matrix, band, j], sums[1, matrix, band, j])
        mean = _moment(col_var[matrix, j], _rounded(high, low), height, kept, fresh)
        col_var[matrix, j] = mean
        columns[matrix, j] = 1 / mean


@gpu_kernel
def row_moments_gpu(rows, sums, row_var, width, kept, fresh):
    """Turn the sums of a band of rows into moments, and sum these."""
    place, bands = cuda.grid(1), sums.shape[2]
    if place < rows.shape[0] * bands:
        matrix, band = place // bands, place % bands
        high, low = 0.0, 0.0
        for i in range(band * BAND, min((band + 1) * BAND, rows.shape[1])):
            mean = _moment(row_var[matrix, i], rows[matrix, i], width, kept, fresh)
            rows[matrix, i] = mean
            row_var[matrix, i] = mean
            high, low = _add(high, low, mean, 0.0)
        sums[0, matrix, band], sums[1, matrix, band] = high, low


@gpu_kernel
def row_factors_gpu(rows, sums, eps):
    """Turn the moments of a matrix's rows into factors: a block for each matrix."""
    matrix, height = cuda.blockIdx.x, rows.shape[1]
    mean = cuda.shared.array(1, float64)
    if cuda.threadIdx.x == 0:
        high, low = sums[0, matrix, 0], sums[1, matrix, 0]
        for band in range(1, sums.shape[2]):
            high, low = _add(high, low, sums[0, matrix, band], sums[1, matrix, band])
        mean[0] = maximum(_rounded(high, low) / height, eps)
    cuda.syncthreads()
    for i in range(cuda.threadIdx.x, height, cuda.blockDim.x):
        rows[matrix, i] = mean[0] / rows[matrix, i]


@gpu_kernel
def step_columns_gpu(rounded, columns, squared):
    """Round the columns' factors to the type of the last pass."""
    i = cuda.grid(1)
    if i < columns.size:
        # Factors may be infinite, and 0 times infinity is not 0.
        rounded[i] = columns[i] if squared[0] != 0 else 0.0


@gpu_kernel
def step_gpu(theta, g, columns, strip, rows, squared, most, h):
    """Step a segment of a row, given the square of what multiplies it beside its factors.

    A strip has so many elements: 0, if rows begin anywhere.
    """
    width, first = theta.shape[2], cuda.threadIdx.x
    segments = (width + SEGMENT - 1) // SEGMENT
    place, left = cuda.blockIdx.x // segments, cuda.blockIdx.x % segments * SEGMENT
    right = min(left + SEGMENT, width)
    matrix, i = place // theta.shape[1], place % theta.shape[1]
    row, size = rows[matrix, i] * squared[0], widen(sqrt(squared[0]) * most, h)
    if squared[0] == 0:
        row, size = 0.0, widen(0.0, h)
    own, arrays = RowScalars(h.sign, size, h.decay, widen(row, h)), (theta[matrix, i], g[matrix, i], columns[matrix])
    j = left + first * max(strip, 1)
    while j < right:
        if strip:
            step_strip(_row_step, arrays, j, own)
        else:
            step_one(_row_step, arrays, j, own)
        j += cuda.blockDim.x * max(strip, 1)


def factors(g: Any, row_var: Any, col_var: Any, kept: float, fresh: float, eps: float, empty: Any) -> tuple[Any, Any]:
    """Return the factors of rows and columns, and take the gradient into the moments."""
    matrices, height, width = g.shape
    bands = -(-height // BAND)
    # All that may not fit comes before anything changes.
    rows, columns = empty((matrices, height)), empty((matrices, width))
    band_sums, moment_sums = empty((2, matrices, bands, width)), empty((2, matrices, bands))
    _sum_rows(row_squares_gpu, [g], rows)
    own = lanes_of_a_thread([g.dtype.itemsize])
    whole = width % own == 0 and aligned(g)
    _start(column_bands_gpu, matrices * bands * -(-width // own), g.reshape(-1), whole, band_sums, height)
    _start(column_factors_gpu, matrices * width, columns, band_sums, col_var, height, kept, fresh)
    _start(row_moments_gpu, matrices * bands, rows, moment_sums, row_var, width, kept, fresh)
    row_factors_gpu.run(matrices, min(THREADS, height), rows, moment_sums, eps)
    return rows, columns


def scaled_squares(g: Any, rows: Any, columns: Any, most: float, empty: Any) -> Any:
    """Return the sum of the squares of every row times its factors."""
    squares = empty(tuple(rows.shape))
    _sum_rows(scaled_squares_gpu, [g, columns], squares, rows, most)
    return squares


def step_all(
    theta: Any, g: Any, rows: Any, columns: Any, squared: Any, most: float, h: StepScalars, empty: Any
) -> None:
    """Step all matrices, in the type of the scalars."""
    matrices, height, width = theta.shape
    rounded = empty(tuple(columns.shape), type(h.sign))
    _start(step_columns_gpu, columns.size, rounded.reshape(-1), columns.reshape(-1), squared)
    arrays = theta, g, rounded
    strip = strip_width([x.dtype.itemsize for x in arrays])
    if width % strip or not aligned(*arrays):
        strip = 0
    blocks = matrices * height * -(-width // SEGMENT)
    step_gpu.run(blocks, min(THREADS, -(-width // (strip or 1))), *arrays, strip, rows, squared, most, h)


def _sum_rows(kernel: GpuKernel, arrays: Any, sums: Any, *others: Any) -> None:
    own = lanes_of_a_thread([x.dtype.itemsize for x in arrays])
    whole = arrays[0].shape[2] % own == 0 and aligned(*arrays)
    kernel.run(-(-sums.size // own), (LANES // own, own), *arrays, whole, *others, sums)


def _start(kernel: GpuKernel, threads: int, *arguments: Any) -> None:
    kernel.run(-(-threads // THREADS), min(THREADS, threads), *arguments)
