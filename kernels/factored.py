"""Matrices whose elements are scaled by a product of two factors, one of the row and one of the column.

Factors are given as their squares: one root of everything that goes into them halves the errors of that.

Arrays of more than two dimensions are many matrices, one behind the other: ``x`` has the shape (matrices, rows,
columns), what belongs to rows (matrices, rows) and what belongs to columns (matrices, columns). Sums and factors are
float64. A sum has a fixed order, whoever adds: in a row, lane ``j`` adds the columns ``j``, ``j + LANES`` and so on,
then the upper half of the lanes is added to the lower until one is left; columns, and the moments of all rows, are
added in bands of ``BAND`` rows.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numba import float64

from refoptim.kernels.arithmetic import fma, maximum, minimum, sqrt, unpack, widen
from refoptim.kernels.jit import GRAIN, cpu_loop, cpu_part, cpu_rule, cpu_tasks
from refoptim.kernels.pairs import add, product, rounded

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
_moment_cpu, _scaled_cpu, _step_cpu = cpu_rule(moment), cpu_rule(scaled), cpu_rule(step)


@cpu_part
def _row_squares(x, row, columns, most, high, low):
    """Return the sum of the squares of a row times its factors. The lanes are the caller's."""
    for lane in range(LANES):
        high[lane] = low[lane] = 0.0
    for start in range(0, x.size, LANES):
        xs, factors = x[start : start + LANES], columns[start : start + LANES]
        for lane in range(xs.size):
            u = _scaled_cpu(xs[lane], row, factors[lane], most)
            a, b = _product_cpu(u, u)
            high[lane], low[lane] = _add_cpu(high[lane], low[lane], a, b)
    width = LANES // 2
    while width:
        # Lanes above the columns are 0, and so is what they add.
        for lane in range(width):
            high[lane], low[lane] = _add_cpu(high[lane], low[lane], high[lane + width], low[lane + width])
        width //= 2
    return _rounded_cpu(high[0], low[0])


@cpu_tasks
def squares_cpu(x, rows, columns, scalars, row_sums, high, low, lanes, first, stop):
    """Sum the squares of the rows times their factors, and those of the columns without, as far as there is room."""
    matrices, height, _ = x.shape
    bands, width, most = lanes.shape[0] // matrices, high.shape[1], scalars[0]
    for task in range(first, stop):
        matrix, top = task // bands, task % bands * BAND
        for i in range(top, height if height < top + BAND else top + BAND):
            row_sums[matrix, i] = _row_squares(
                x[matrix, i], rows[matrix, i], columns[matrix], most, lanes[task, 0], lanes[task, 1]
            )
            for j in range(width):
                a, b = _product_cpu(x[matrix, i, j], x[matrix, i, j])
                high[task, j], low[task, j] = _add_cpu(high[task, j], low[task, j], a, b)


@cpu_loop
def columns_cpu(column_sums, high, low):
    """Sum what the bands of every matrix have given for its columns."""
    matrices, width = column_sums.shape
    bands = high.shape[0] // matrices
    for matrix in range(matrices):
        first = matrix * bands
        for band in range(first + 1, first + bands):
            for j in range(width):
                high[first, j], low[first, j] = _add_cpu(high[first, j], low[first, j], high[band, j], low[band, j])
        for j in range(width):
            column_sums[matrix, j] = _rounded_cpu(high[first, j], low[first, j])


@cpu_loop
def factors_cpu(rows, columns, row_var, col_var, kept, fresh, eps):
    height, width = rows.shape[1], columns.shape[1]
    for matrix in range(rows.shape[0]):
        high, low = 0.0, 0.0
        for top in range(0, height, BAND):
            band_high, band_low = 0.0, 0.0
            for i in range(top, height if height < top + BAND else top + BAND):
                rows[matrix, i] = _moment_cpu(row_var[matrix, i], rows[matrix, i], width, kept, fresh)
                row_var[matrix, i] = rows[matrix, i]
                band_high, band_low = _add_cpu(band_high, band_low, rows[matrix, i], 0.0)
            high, low = _add_cpu(high, low, band_high, band_low)
        for j in range(width):
            columns[matrix, j] = _moment_cpu(col_var[matrix, j], columns[matrix, j], height, kept, fresh)
            col_var[matrix, j] = columns[matrix, j]
            columns[matrix, j] = 1 / columns[matrix, j]
        mean = maximum(_rounded_cpu(high, low) / height, eps)
        for i in range(height):
            rows[matrix, i] = mean / rows[matrix, i]


@cpu_tasks
def step_cpu(theta, g, rows, columns, scalars, first, stop):
    h = StepScalars(*unpack(StepScalars, scalars))
    _, height, width = theta.shape
    for task in range(first, stop):
        matrix, i = task // height, task % height
        row = widen(rows[matrix, i], h)
        for j in range(width):
            theta[matrix, i, j] = _step_cpu(
                widen(theta[matrix, i, j], h), widen(g[matrix, i, j], h), row, widen(columns[matrix, j], h), h
            )


def sum_up(x: Any, rows: Any, columns: Any) -> None:
    """Write the sums of the squares of every row and every column."""
    _squares(x, np.ones(rows.shape), np.ones(columns.shape), math.inf, rows, columns)


def sum_scaled(x: Any, rows: Any, columns: Any, most: float, squares: Any) -> None:
    """Write the sum of the squares of every row times its factors."""
    _squares(x, rows, columns, most, squares, np.empty((len(x), 0)))


def _squares(x: Any, rows: Any, columns: Any, most: float, row_sums: Any, column_sums: Any) -> None:
    tasks = x.shape[0] * -(-x.shape[1] // BAND)
    high, low = np.zeros((2, tasks, column_sums.shape[1]))
    lanes = np.empty((tasks, 2, LANES))
    squares_cpu.run(tasks, 1, x.nbytes, x, rows, columns, np.array([most]), row_sums, high, low, lanes)
    if column_sums.size:
        columns_cpu.serial(column_sums, high, low)


def step_all(theta: Any, g: Any, rows: Any, columns: Any, scalars: Any) -> None:
    """Step every element of every matrix, given the scalars of the last pass."""
    matrices, height, width = theta.shape
    tasks, grain = matrices * height, max(1, GRAIN // max(1, width))
    step_cpu.run(tasks, grain, 3 * theta.nbytes, theta, g, rows, columns, scalars)
