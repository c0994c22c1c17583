"""Matrices whose elements are scaled by a product of two factors, one of the row and one of the column.

Factors are given as their squares: one root of everything that goes into them halves the errors of that.

Arrays of more than two dimensions are many matrices, one behind the other: ``x`` has the shape (matrices, rows,
columns), what belongs to rows (matrices, rows) and what belongs to columns (matrices, columns). Sums and factors are
float64. A sum has a fixed order, whoever adds: in a row, lane ``j`` adds the columns ``j``, ``j + LANES`` and so on,
then the upper half of the lanes is added to the lower until one is left; columns, and the moments of all rows, are
added in bands of ``BAND`` rows.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import float64, types

from refoptim.kernels.addresses import address_of, array_of
from refoptim.kernels.arithmetic import fma, maximum, minimum, sqrt, unpack, widen
from refoptim.kernels.jit import GRAIN, cpu_loop, cpu_part, cpu_rule, cpu_tasks
from refoptim.kernels.pairs import add, product, rounded
from refoptim.kernels.parts import part
from refoptim.kernels.registers import use_whole_registers

LANES = 64
BAND = 64
# Lanes of a row that are left when those of a band are summed side by side, and what a register has of them.
FEW, REGISTER = 4, 8


class StepScalars(NamedTuple):
    """What the last pass needs beside the arrays, in the type to compute in."""

    sign: float  # -1 maximizes
    most: float  # the largest factor of an element, not squared
    decay: float  # the part of the parameter that it loses; 0 is off


def moment(old, total, count, kept, fresh):
    """Return a mean of means, after that of this many more numbers."""
    return fma(kept, float64(old), fresh * (total / count))


def scaled_square(x, row, column, most):
    """Return the square of an element times the factors of its row and its column."""
    x = float64(x)
    # As an fma, the product cannot be contracted with the sum that it goes into.
    return fma(fma(x, x, -0.0), minimum(row * column, most * most), -0.0)


def step(theta, g, row, column, h):
    """Return the parameter less the gradient times its factors."""
    factor = h.sign * minimum(sqrt(row * column), h.most)
    if h.decay != 0:
        return theta - fma(h.decay, theta, factor * g)
    return fma(-factor, g, theta)


_add_cpu, _product_cpu, _rounded_cpu = cpu_rule(add), cpu_rule(product), cpu_rule(rounded)
_moment_cpu, _scaled_square_cpu, _step_cpu = cpu_rule(moment), cpu_rule(scaled_square), cpu_rule(step)


@cpu_rule
def _fold(high, low, size, few):
    """Add the upper half of the lanes to the lower until few are left. From so many on lanes are 0: nothing to add."""
    width = LANES // 2
    while width >= FEW:
        # Whole registers, of a number that the compiler does not know: a known one it unrolls into one lane at a time.
        unit = min(width, REGISTER)
        for lane in range((min(width, size - width) + unit - 1) // unit * unit):
            high[lane], low[lane] = _add_cpu(high[lane], low[lane], high[lane + width], low[lane + width])
        width //= 2
    for lane in range(FEW):
        few[lane], few[lane + FEW] = high[lane], low[lane]


@cpu_part
def _sum_few(few, sums):
    """Sum the lanes that are left, of several rows at a time."""
    use_whole_registers()
    for i in range(sums.size):
        high = 2 * FEW * i
        low = high + FEW
        even, even_low = _add_cpu(few[high], few[low], few[high + 2], few[low + 2])
        odd, odd_low = _add_cpu(few[high + 1], few[low + 1], few[high + 3], few[low + 3])
        total, total_low = _add_cpu(even, even_low, odd, odd_low)
        sums[i] = _rounded_cpu(total, total_low)


@cpu_rule
def _row_squares(x, high, low, few):
    first = part(x, 0, min(LANES, x.size))
    for lane in range(first.size):
        high[lane], low[lane] = _product_cpu(first[lane], first[lane])
    for start in range(LANES, x.size, LANES):
        xs = part(x, start, min(LANES, x.size - start))
        for lane in range(xs.size):
            a, b = _product_cpu(xs[lane], xs[lane])
            high[lane], low[lane] = _add_cpu(high[lane], low[lane], a, b)
    _fold(high, low, x.size, few)


@cpu_rule
def _row_scaled_squares(x, row, columns, most, high, low, few):
    first = part(x, 0, min(LANES, x.size))
    for lane in range(first.size):
        high[lane], low[lane] = _scaled_square_cpu(first[lane], row, columns[lane], most), 0.0
    for start in range(LANES, x.size, LANES):
        count = min(LANES, x.size - start)
        xs, factors = part(x, start, count), part(columns, start, count)
        for lane in range(xs.size):
            square = _scaled_square_cpu(xs[lane], row, factors[lane], most)
            high[lane], low[lane] = _add_cpu(high[lane], low[lane], square, 0.0)
    _fold(high, low, x.size, few)


@cpu_rule
def _add_squares(x, high, low):
    for j in range(x.size):
        a, b = _product_cpu(x[j], x[j])
        high[j], low[j] = _add_cpu(high[j], low[j], a, b)


@cpu_part
def _sum_columns(sums, high, low):
    """Sum what the bands of a matrix, one behind the other, have given for its columns."""
    for start in range(sums.size, high.size, sums.size):
        for j in range(sums.size):
            high[j], low[j] = _add_cpu(high[j], low[j], high[start + j], low[start + j])
    for j in range(sums.size):
        sums[j] = _rounded_cpu(high[j], low[j])


@cpu_part
def _turn_into_factors(rows, columns, row_var, col_var, kept, fresh, eps):
    high, low = 0.0, 0.0
    for top in range(0, rows.size, BAND):
        band_high, band_low = 0.0, 0.0
        for i in range(top, min(top + BAND, rows.size)):
            rows[i] = _moment_cpu(row_var[i], rows[i], columns.size, kept, fresh)
            row_var[i] = rows[i]
            band_high, band_low = _add_cpu(band_high, band_low, rows[i], 0.0)
        high, low = _add_cpu(high, low, band_high, band_low)
    for j in range(columns.size):
        columns[j] = _moment_cpu(col_var[j], columns[j], rows.size, kept, fresh)
        col_var[j] = columns[j]
        columns[j] = 1 / columns[j]
    mean = maximum(_rounded_cpu(high, low) / rows.size, eps)
    for i in range(rows.size):
        rows[i] = mean / rows[i]


@cpu_tasks
def squares_cpu(x, height, width, row_sums, high, low, first, stop):
    """Sum the squares of the rows of some bands, and those of the columns of each. All arrays are flat."""
    use_whole_registers()
    bands, lanes, few = (height + BAND - 1) // BAND, np.zeros(2 * LANES), np.empty(2 * FEW * BAND)
    for task in range(first, stop):
        own_high, own_low, top = part(high, task * width, width), part(low, task * width, width), task % bands * BAND
        for j in range(width):
            own_high[j] = own_low[j] = 0.0
        sums = part(row_sums, task // bands * height + top, min(BAND, height - top))
        for i in range(sums.size):
            xs, left = part(x, (task // bands * height + top + i) * width, width), part(few, 2 * FEW * i, 2 * FEW)
            _row_squares(xs, part(lanes, 0, LANES), part(lanes, LANES, LANES), left)
            _add_squares(xs, own_high, own_low)
        _sum_few(few, sums)


@cpu_loop
def factors_cpu(rows, columns, row_var, col_var, high, low, height, width, moments):
    """Take sums of squares into the moments of flat matrices, and turn them into the squares of factors."""
    sums = (height + BAND - 1) // BAND * width
    for matrix in range(rows.size // height):
        own, other = part(rows, matrix * height, height), part(columns, matrix * width, width)
        _sum_columns(other, part(high, matrix * sums, sums), part(low, matrix * sums, sums))
        own_var, other_var = part(row_var, matrix * height, height), part(col_var, matrix * width, width)
        _turn_into_factors(own, other, own_var, other_var, moments[0], moments[1], moments[2])


@cpu_tasks
def scaled_squares_cpu(x, height, width, rows, columns, most, row_sums, first, stop):
    """Sum the squares of the rows of some bands, times the factors. All arrays are flat."""
    use_whole_registers()
    bands, lanes, few = (height + BAND - 1) // BAND, np.zeros(2 * LANES), np.empty(2 * FEW * BAND)
    for task in range(first, stop):
        own, top = part(columns, task // bands * width, width), task % bands * BAND
        sums = part(row_sums, task // bands * height + top, min(BAND, height - top))
        for i in range(sums.size):
            k, left = task // bands * height + top + i, part(few, 2 * FEW * i, 2 * FEW)
            xs, high, low = part(x, k * width, width), part(lanes, 0, LANES), part(lanes, LANES, LANES)
            _row_scaled_squares(xs, rows[k], own, most[0], high, low, left)
        _sum_few(few, sums)


@cpu_tasks
def step_cpu(theta, g, height, width, rows, columns, scalars, first, stop):
    """Step some rows, given the squares of the factors. All arrays are flat."""
    use_whole_registers()
    h = StepScalars(*unpack(StepScalars, scalars))
    for i in range(first, stop):
        row, own = widen(rows[i], h), part(columns, i // height * width, width)
        values, grads = part(theta, i * width, width), part(g, i * width, width)
        for j in range(width):
            values[j] = _step_cpu(widen(values[j], h), widen(grads[j], h), row, widen(own[j], h), h)


def count_bands(height: Any, rows: Any) -> Any:
    """Return how many bands so many rows have, of matrices of this height."""
    return rows // height * ((height + BAND - 1) // BAND)


def calls(real: Any, kind: Any) -> list[int]:
    """Return the addresses of the four kernels above, for arrays of one type and scalars of another."""
    x, wide, two = array_of(real), array_of(np.float64), (types.intp, types.intp)
    return [
        address_of(squares_cpu.serial, (x, *two, wide, wide, wide, *two)),
        address_of(factors_cpu.serial, (wide, wide, x, x, wide, wide, *two, wide)),
        address_of(scaled_squares_cpu.serial, (x, *two, wide, wide, wide, wide, *two)),
        address_of(step_cpu.serial, (x, x, *two, wide, wide, array_of(kind), *two)),
    ]


def factors(x: Any, row_var: Any, col_var: Any, kept: float, fresh: float, eps: float) -> tuple[Any, Any]:
    """Take the squares of matrices into the moments, and return the squares of the factors of rows and columns."""
    height, width = x.shape[1:]
    rows, columns, bands = np.empty(row_var.size), np.empty(col_var.size), count_bands(height, row_var.size)
    high, low = np.empty((2, bands * width))
    squares_cpu.run(bands, 1, x.nbytes, x.reshape(-1), height, width, rows, high, low)
    state, moments = (row_var.reshape(-1), col_var.reshape(-1)), np.array([kept, fresh, eps])
    factors_cpu.serial(rows, columns, *state, high, low, height, width, moments)
    return rows, columns


def scaled_squares(x: Any, rows: Any, columns: Any, most: float) -> Any:
    """Return the sum of the squares of every row times its factors."""
    bands, sums = count_bands(x.shape[1], rows.size), np.empty(rows.size)
    given = x.reshape(-1), *x.shape[1:], rows, columns, np.array([most])
    scaled_squares_cpu.run(bands, 1, x.nbytes, *given, sums)
    return sums


def step_all(theta: Any, g: Any, rows: Any, columns: Any, scalars: Any) -> None:
    """Step every element of every matrix, given the scalars of the last pass."""
    height, width = theta.shape[1:]
    given = theta.reshape(-1), g.reshape(-1), height, width, rows, columns, scalars
    step_cpu.run(rows.size, max(1, GRAIN // width), 3 * theta.nbytes, *given)
