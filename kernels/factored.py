"""Matrices whose elements are scaled by a product of two factors, one of the row and one of the column.

Factors are given as their squares: one root of everything that goes into them halves the errors of that.

Arrays of more than two dimensions are many matrices, one behind the other: ``x`` has the shape (matrices, rows,
columns), what belongs to rows (matrices, rows) and what belongs to columns (matrices, columns). Sums and factors are
float64. A sum has a fixed order, whoever adds: in a row, lane ``j`` adds the columns ``j``, ``j + LANES`` and so on,
then the upper half of the lanes is added to the lower until one is left; a column is added in bands of ``BAND`` rows.
"""

from typing import NamedTuple

import numpy as np
from numba import float64, prange

from refoptim.kernels.arithmetic import fma, maximum, minimum, sqrt, unpack, widen
from refoptim.kernels.jit import cpu_loop, cpu_part, cpu_rule, cuda, gpu_kernel, gpu_rule
from refoptim.kernels.reductions import add, product, rounded

LANES = 64
BAND = 64


class StepScalars(NamedTuple):
    """What the last pass needs beside the arrays, in the type to compute in."""

    sign: float  # -1 maximizes
    most: float  # the largest factor of an element, not squared
    decay: float  # the part of the parameter that it loses; 0 is off


def moment(old, total, count, kept, fresh):
    """Return a mean of means, after that of this many more numbers."""
    return fma(kept, float64(old), fresh * (total / count))


def scaled(x, row, column, most):
    """Return an element times the factors of its row and its column."""
    return float64(x) * minimum(sqrt(row * column), most)


def step(theta, g, row, column, h):
    """Return the parameter less the gradient times its factors."""
    factor = h.sign * minimum(sqrt(row * column), h.most)
    if h.decay != 0:
        return theta - fma(h.decay, theta, factor * g)
    return fma(-factor, g, theta)


_add_cpu, _product_cpu, _rounded_cpu = cpu_rule(add), cpu_rule(product), cpu_rule(rounded)
_add_gpu, _product_gpu, _rounded_gpu = gpu_rule(add), gpu_rule(product), gpu_rule(rounded)
_moment_cpu, _scaled_cpu, _step_cpu = cpu_rule(moment), cpu_rule(scaled), cpu_rule(step)
_moment_gpu, _scaled_gpu, _step_gpu = gpu_rule(moment), gpu_rule(scaled), gpu_rule(step)


@cpu_part
def _row_squares(x, row, columns, most, high, low):
    """Return the sum of the squares of a row times its factors. The lanes are the caller's."""
    high[:], low[:] = 0.0, 0.0
    for start in range(0, x.size, LANES):
        xs, factors = x[start : start + LANES], columns[start : start + LANES]
        for lane in range(xs.size):
            u = _scaled_cpu(xs[lane], row, factors[lane], most)
            a, b = _product_cpu(u, u)
            high[lane], low[lane] = _add_cpu(high[lane], low[lane], a, b)
    width = LANES // 2
    while width:
        # What lies above the columns is 0.
        for lane in range(min(width, x.size - width)):
            high[lane], low[lane] = _add_cpu(high[lane], low[lane], high[lane + width], low[lane + width])
        width //= 2
    return _rounded_cpu(high[0], low[0])


@cpu_part
def _band_of_sums(x, top, rows, high, low):
    """Sum the squares of a band of rows, each row and each column."""
    ones, lane_high, lane_low = np.ones(x.shape[1]), np.empty(LANES), np.empty(LANES)
    for i in range(top, min(top + BAND, x.shape[0])):
        xs = x[i]
        rows[i] = _row_squares(xs, 1.0, ones, np.inf, lane_high, lane_low)
        for j in range(xs.size):
            a, b = _product_cpu(xs[j], xs[j])
            high[j], low[j] = _add_cpu(high[j], low[j], a, b)


@cpu_part
def _join_bands(columns, high, low):
    for band in range(1, high.shape[0]):
        for j in range(columns.size):
            high[0, j], low[0, j] = _add_cpu(high[0, j], low[0, j], high[band, j], low[band, j])
    for j in range(columns.size):
        columns[j] = _rounded_cpu(high[0, j], low[0, j])


@cpu_loop
def sums_cpu(x, rows, columns):
    matrices, height, width = x.shape
    bands = (height + BAND - 1) // BAND
    high, low = np.zeros((matrices * bands, width)), np.zeros((matrices * bands, width))
    for task in prange(matrices * bands):
        matrix, band = task // bands, task % bands
        _band_of_sums(x[matrix], band * BAND, rows[matrix], high[task], low[task])
    for matrix in prange(matrices):
        span = slice(matrix * bands, (matrix + 1) * bands)
        _join_bands(columns[matrix], high[span], low[span])


@cpu_part
def _factors(rows, columns, row_var, col_var, kept, fresh, eps):
    high, low = 0.0, 0.0
    for i in range(rows.size):
        rows[i] = _moment_cpu(row_var[i], rows[i], columns.size, kept, fresh)
        row_var[i] = rows[i]
        high, low = _add_cpu(high, low, rows[i], 0.0)
    for j in range(columns.size):
        columns[j] = _moment_cpu(col_var[j], columns[j], rows.size, kept, fresh)
        col_var[j] = columns[j]
    mean = maximum(_rounded_cpu(high, low) / rows.size, eps)
    for i in range(rows.size):
        rows[i] = mean / rows[i]
    for j in range(columns.size):
        columns[j] = 1 / columns[j]


@cpu_loop
def factors_cpu(rows, columns, row_var, col_var, kept, fresh, eps):
    for matrix in prange(rows.shape[0]):
        _factors(rows[matrix], columns[matrix], row_var[matrix], col_var[matrix], kept, fresh, eps)


@cpu_part
def _band_of_squares(x, top, rows, columns, most, squares):
    high, low = np.empty(LANES), np.empty(LANES)
    for i in range(top, min(top + BAND, x.shape[0])):
        squares[i] = _row_squares(x[i], rows[i], columns, most, high, low)


@cpu_loop
def squares_cpu(x, rows, columns, most, squares):
    matrices, height, _ = x.shape
    bands = (height + BAND - 1) // BAND
    for task in prange(matrices * bands):
        matrix, band = task // bands, task % bands
        _band_of_squares(x[matrix], band * BAND, rows[matrix], columns[matrix], most, squares[matrix])


@cpu_part
def _step_row(theta, g, row, columns, h):
    row = widen(row, h)
    for j in range(theta.size):
        theta[j] = _step_cpu(widen(theta[j], h), widen(g[j], h), row, widen(columns[j], h), h)


@cpu_loop
def step_cpu(theta, g, rows, columns, scalars):
    h = StepScalars(*unpack(StepScalars, scalars))
    matrices, height, _ = theta.shape
    for task in prange(matrices * height):
        matrix, i = task // height, task % height
        _step_row(theta[matrix, i], g[matrix, i], rows[matrix, i], columns[matrix], h)


@gpu_kernel
def squares_gpu(x, rows, columns, most, squares):
    """Sum the squares of a row times its factors: a block for each row. With factors of 1 it is the sum of the row."""
    i, matrix, lane, width = cuda.blockIdx.x, cuda.blockIdx.y, cuda.threadIdx.x, LANES // 2
    high, low = 0.0, 0.0
    for j in range(lane, x.shape[2], LANES):
        u = _scaled_gpu(x[matrix, i, j], rows[matrix, i], columns[matrix, j], most)
        a, b = _product_gpu(u, u)
        high, low = _add_gpu(high, low, a, b)
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
        squares[matrix, i] = _rounded_gpu(high, low)


@gpu_kernel
def column_sums_gpu(x, columns):
    """Sum the squares of the columns, a thread for each."""
    place = cuda.grid(1)
    if place < columns.size:
        matrix, j = place // x.shape[2], place % x.shape[2]
        high, low = 0.0, 0.0
        for top in range(0, x.shape[1], BAND):
            band_high, band_low = 0.0, 0.0
            for i in range(top, min(top + BAND, x.shape[1])):
                a, b = _product_gpu(x[matrix, i, j], x[matrix, i, j])
                band_high, band_low = _add_gpu(band_high, band_low, a, b)
            high, low = _add_gpu(high, low, band_high, band_low)
        columns[matrix, j] = _rounded_gpu(high, low)


@gpu_kernel
def factors_gpu(rows, columns, row_var, col_var, kept, fresh, eps):
    """Turn the sums of a matrix into its factors: a block for each matrix."""
    matrix, first, stride = cuda.blockIdx.x, cuda.threadIdx.x, cuda.blockDim.x
    height, width = rows.shape[1], columns.shape[1]
    for i in range(first, height, stride):
        rows[matrix, i] = _moment_gpu(row_var[matrix, i], rows[matrix, i], width, kept, fresh)
        row_var[matrix, i] = rows[matrix, i]
    for j in range(first, width, stride):
        columns[matrix, j] = _moment_gpu(col_var[matrix, j], columns[matrix, j], height, kept, fresh)
        col_var[matrix, j] = columns[matrix, j]
        columns[matrix, j] = 1 / columns[matrix, j]
    cuda.syncthreads()
    high, low = 0.0, 0.0
    for i in range(height):
        high, low = _add_gpu(high, low, rows[matrix, i], 0.0)
    mean = maximum(_rounded_gpu(high, low) / height, eps)
    cuda.syncthreads()
    for i in range(first, height, stride):
        rows[matrix, i] = mean / rows[matrix, i]


@gpu_kernel
def step_gpu(theta, g, rows, columns, h):
    height, width = theta.shape[1], theta.shape[2]
    for place in range(cuda.grid(1), theta.size, cuda.gridsize(1)):
        matrix, i, j = place // (height * width), place // width % height, place % width
        theta[matrix, i, j] = _step_gpu(
            widen(theta[matrix, i, j], h),
            widen(g[matrix, i, j], h),
            widen(rows[matrix, i], h),
            widen(columns[matrix, j], h),
            h,
        )
