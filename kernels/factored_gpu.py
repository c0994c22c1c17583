"""The stages of a factored step on a GPU, by the sums of :mod:`refoptim.kernels.factored`. Nothing waits for another.

A block has a row, a thread a column or a band of either.
"""

from typing import Any

from numba import float64

from refoptim.kernels.arithmetic import maximum, sqrt, widen
from refoptim.kernels.factored import BAND, LANES, StepScalars, moment, scaled, step
from refoptim.kernels.jit import GpuKernel, cuda, gpu_kernel, gpu_part, gpu_rule
from refoptim.kernels.memory import launch
from refoptim.kernels.pairs import add, product, rounded

THREADS = 256
# The columns that a block steps. With few rows, others step the rest of them.
SEGMENT = 16 * THREADS

_add, _product, _rounded = map(gpu_rule, (add, product, rounded))
_moment, _scaled, _step = map(gpu_rule, (moment, scaled, step))


@gpu_part
def _fold_lanes(high, low):
    """Return the sum of what the threads have, in the first thread."""
    lane, width = cuda.threadIdx.x, LANES // 2
    # The simulator takes two arrays made in one line for one.
    highs = cuda.shared.array(LANES, float64)
    lows = cuda.shared.array(LANES, float64)
    highs[lane], lows[lane] = high, low
    cuda.syncthreads()
    while width:
        if lane < width:
            high, low = _add(high, low, highs[lane + width], lows[lane + width])
            highs[lane], lows[lane] = high, low
        cuda.syncthreads()
        width //= 2
    return _rounded(high, low)


@gpu_kernel
def row_squares_gpu(x, squares):
    """Sum the squares of a row."""
    place, high, low = cuda.blockIdx.x, 0.0, 0.0
    matrix, i = place // x.shape[1], place % x.shape[1]
    for j in range(cuda.threadIdx.x, x.shape[2], LANES):
        a, b = _product(x[matrix, i, j], x[matrix, i, j])
        high, low = _add(high, low, a, b)
    total = _fold_lanes(high, low)
    if cuda.threadIdx.x == 0:
        squares[matrix, i] = total


@gpu_kernel
def scaled_squares_gpu(x, rows, columns, most, squares):
    """Sum the squares of a row times its factors."""
    place, high, low = cuda.blockIdx.x, 0.0, 0.0
    matrix, i = place // x.shape[1], place % x.shape[1]
    for j in range(cuda.threadIdx.x, x.shape[2], LANES):
        u = _scaled(x[matrix, i, j], rows[matrix, i], columns[matrix, j], most)
        a, b = _product(u, u)
        high, low = _add(high, low, a, b)
    total = _fold_lanes(high, low)
    if cuda.threadIdx.x == 0:
        squares[matrix, i] = total


@gpu_kernel
def column_bands_gpu(x, sums):
    """Sum the squares of a band of a column."""
    place = cuda.grid(1)
    bands, width = sums.shape[2], x.shape[2]
    if place < x.shape[0] * bands * width:
        task, j = place // width, place % width
        matrix, band = task // bands, task % bands
        high, low = 0.0, 0.0
        for i in range(band * BAND, min((band + 1) * BAND, x.shape[1])):
            a, b = _product(x[matrix, i, j], x[matrix, i, j])
            high, low = _add(high, low, a, b)
        sums[0, matrix, band, j], sums[1, matrix, band, j] = high, low


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
def step_gpu(theta, g, rows, columns, squared, most, h):
    """Step a segment of a row, given the square of what multiplies it beside its factors."""
    width = theta.shape[2]
    segments = (width + SEGMENT - 1) // SEGMENT
    place, left = cuda.blockIdx.x // segments, cuda.blockIdx.x % segments * SEGMENT
    matrix, i = place // theta.shape[1], place % theta.shape[1]
    row, size = rows[matrix, i] * squared[0], widen(sqrt(squared[0]) * most, h)
    if squared[0] == 0:
        # Factors may be infinite, and 0 times infinity is not 0.
        row, size = 0.0, widen(0.0, h)
    own = StepScalars(h.sign, size, h.decay)
    for j in range(left + cuda.threadIdx.x, min(left + SEGMENT, width), cuda.blockDim.x):
        column = columns[matrix, j]
        if squared[0] == 0:
            column = 0.0
        theta[matrix, i, j] = _step(
            widen(theta[matrix, i, j], h), widen(g[matrix, i, j], h), widen(row, h), widen(column, h), own
        )


def factors(g: Any, row_var: Any, col_var: Any, kept: float, fresh: float, eps: float, empty: Any) -> tuple[Any, Any]:
    """Return the factors of rows and columns, and take the gradient into the moments."""
    matrices, height, width = g.shape
    bands = -(-height // BAND)
    rows, columns = empty((matrices, height)), empty((matrices, width))
    launch(row_squares_gpu, matrices * height, LANES, g, rows)
    sums = empty((2, matrices, bands, width))
    _start(column_bands_gpu, matrices * bands * width, g, sums)
    _start(column_factors_gpu, matrices * width, columns, sums, col_var, height, kept, fresh)
    sums = empty((2, matrices, bands))
    _start(row_moments_gpu, matrices * bands, rows, sums, row_var, width, kept, fresh)
    launch(row_factors_gpu, matrices, min(THREADS, height), rows, sums, eps)
    return rows, columns


def scaled_squares(g: Any, rows: Any, columns: Any, most: float, empty: Any) -> Any:
    """Return the sum of the squares of every row times its factors."""
    squares = empty(tuple(rows.shape))
    launch(scaled_squares_gpu, squares.size, LANES, g, rows, columns, most, squares)
    return squares


def step_all(theta: Any, g: Any, rows: Any, columns: Any, squared: Any, most: float, h: StepScalars) -> None:
    """Step all matrices."""
    matrices, height, width = theta.shape
    blocks = matrices * height * -(-width // SEGMENT)
    launch(step_gpu, blocks, min(THREADS, width), theta, g, rows, columns, squared, most, h)


def _start(kernel: GpuKernel, threads: int, *arguments: Any) -> None:
    launch(kernel, -(-threads // THREADS), min(THREADS, threads), *arguments)
