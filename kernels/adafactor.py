"""Adafactor: the rules of a vector's step, and the steps of a vector and of a matrix, which need norms on the way.

A step is a program of several launches, by which threads share one long parameter; or it is the same in compiled code,
where threads share many short ones.
"""

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import float64

from refoptim.kernels import factored, factored_gpu
from refoptim.kernels.addresses import address_of, array_of, call
from refoptim.kernels.arithmetic import fma, maximum, sqrt, unpack, widen
from refoptim.kernels.factored import count_bands
from refoptim.kernels.jit import GRAIN, Row, cpu_kernel, cpu_part, cpu_rule, cpu_tasks, gpu_kernel, gpu_rule
from refoptim.kernels.memory import on_gpu, temporaries
from refoptim.kernels.pairs import CHUNK, rounded
from refoptim.kernels.parts import keep, part
from refoptim.kernels.reductions import room_for_sums, sum_of_magnitudes, sum_of_squares
from refoptim.kernels.reductions_gpu import magnitudes, squares, total
from refoptim.kernels.strips import gpu_elementwise
from refoptim.kernels.whole_sums import sums_at, whole_dot, whole_squares


class Scalars(NamedTuple):
    """What one step needs beside the arrays: computed on the host in float64, rounded once to the arithmetic's type."""

    sign: float  # -1 maximizes
    kept: float  # 1 - t**beta2_decay
    fresh: float  # t**beta2_decay
    rho: float  # the smaller of lr and 1 / sqrt(t)
    eps: float  # below 0 it is that of the parameter's type
    eps_of_size: float
    d: float
    decay: float  # lr * weight_decay; 0 is off
    step_size: float = 0.0  # known when the norms are


class UpdateScalars(NamedTuple):
    """What the update reads of these where they lie on a GPU."""

    decay: float
    step_size: float


def adafactor_direction(u, g, v, h):
    """Return the update, before its size is limited, and the second moment; u is what was there before."""
    v = fma(h.kept, v, h.fresh * g * g)
    u = g / maximum(sqrt(v), h.eps)
    return u, v


def adafactor_update(theta, u, h):
    """Return the parameter after one step."""
    if h.decay != 0:
        return theta - fma(h.decay, theta, h.step_size * u)
    return fma(-h.step_size, u, theta)


def squared_step_size(parameter, update, size, rho, eps_of_size, d):
    """Return the square of what multiplies an update, so that it fits the parameter, given sums of their squares."""
    mean = maximum(parameter / size, eps_of_size * eps_of_size)
    return rho * rho * (mean / maximum(update / (size * (d * d)), 1.0))


_adafactor_direction_cpu, adafactor_direction_gpu = cpu_rule(adafactor_direction), gpu_elementwise(adafactor_direction)
_adafactor_update_cpu, adafactor_update_gpu = cpu_rule(adafactor_update), gpu_elementwise(adafactor_update)
_rounded_gpu, _squared_step_size_gpu = map(gpu_rule, (rounded, squared_step_size))
_squared_step_size_cpu, _count_bands_cpu = map(cpu_part, (squared_step_size, count_bands))

# Parameters of fewer elements are stepped by one thread each. For longer ones there are several.
SHORT = 1 << 17
# How many bytes a loop that only moves them would move while this one steps an element.
_BYTES = 100


@cpu_kernel
def adafactor_direction_cpu(u, g, v, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in range(u.size):
        u[i], v[i] = _adafactor_direction_cpu(widen(u[i], h), widen(g[i], h), widen(v[i], h), h)


@cpu_kernel
def adafactor_update_cpu(theta, u, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in range(theta.size):
        theta[i] = _adafactor_update_cpu(widen(theta[i], h), widen(u[i], h), h)


def adafactor(
    theta: Any, g: Any, row_var: Any, col_var: Any, variance: Any, scalars: Any, epsilon1: float | None = None
) -> None:
    """Step one parameter of any shape. What its shape has no state for is empty.

    Where eps is that of the parameter's type, ``epsilon1`` is what it is, unless the array is of that type.
    """
    h = _with_eps(scalars, theta.dtype, epsilon1)
    with np.errstate(all="ignore"):
        if theta.ndim < 2:
            step = _step_vector_on_gpu if on_gpu(theta) else _step_vector
            step(theta.reshape(-1), g.reshape(-1), variance.reshape(-1), h, scalars.dtype)
        else:
            height, width = theta.shape[-2:]
            matrices = theta.size // (height * width)
            shape, by_row, by_column = (matrices, height, width), (matrices, height), (matrices, width)
            step = _step_matrix_on_gpu if on_gpu(theta) else _step_matrix
            state = row_var.reshape(by_row), col_var.reshape(by_column)
            step(theta.reshape(shape), g.reshape(shape), *state, h, scalars.dtype)


def adafactor_together(
    theta: Any,
    g: Any,
    row_var: Any,
    col_var: Any,
    variance: Any,
    places: Any,
    scalars: Any,
    epsilon1: float | None = None,
) -> None:
    """Step many parameters on the CPU, each by one thread. Arrays are flat; for places see ``slots.Places``."""
    calls = _calls(theta.dtype, scalars.dtype, places.longest > CHUNK, places.has_flat, places.has_matrices)
    numbers = np.array(_with_eps(scalars, theta.dtype, epsilon1), scalars.dtype)
    grain = max(1, len(places.table) * GRAIN // (4 * places.elements))
    arrays = theta, g, row_var, col_var, variance
    adafactor_cpu.run(len(places.table), grain, _BYTES * places.elements, *arrays, places.table, calls, numbers)


@cache
def _calls(real: Any, kind: Any, is_long: bool, has_flat: bool, has_matrices: bool) -> Any:
    """Return the addresses of what is called for such parameters, in the order of the constants below."""
    x, wide = array_of(real), array_of(kind)
    flat = ((adafactor_direction_cpu, (wide, x, x, wide)), (adafactor_update_cpu, (x, wide, wide)))
    own = [address_of(kernel.serial, kinds) if has_flat else 0 for kernel, kinds in flat]
    sums = sums_at(is_long)
    return np.array([*sums, *own, *(factored.calls(real, kind) if has_matrices else ())], np.intp)


_DOT, _PAIRS, _DIRECTION, _UPDATE, _SQUARES, _FACTORS, _SCALED_SQUARES, _STEP = range(8)


def _with_eps(scalars: Any, dtype: Any, epsilon1: float | None) -> Scalars:
    h = Scalars(*scalars.tolist())
    return h if h.eps >= 0 else h._replace(eps=float(np.finfo(dtype).eps) if epsilon1 is None else epsilon1)


@cpu_tasks
def adafactor_cpu(theta, g, row_var, col_var, variance, places, calls, scalars, first, stop):
    for task in range(first, stop):
        start, matrices, height, width = places[task, 0], places[task, 1], places[task, 2], places[task, 3]
        if matrices:
            size, tall, wide = matrices * height * width, matrices * height, matrices * width
            own, other = part(row_var, places[task, 4], tall), part(col_var, places[task, 5], wide)
            values, grads = part(theta, start, size), part(g, start, size)
            _step_short_matrices(values, grads, own, other, height, width, calls, scalars)
        else:
            own = part(variance, places[task, 6], width)
            _step_short_vector(part(theta, start, width), part(g, start, width), own, calls, scalars)


@cpu_part
def _step_short_vector(theta, g, variance, calls, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    u = np.empty(theta.size, scalars.dtype)
    call(calls[_DIRECTION], (u, g, variance, scalars))
    squared = _short_step_size(theta, whole_squares(u, calls[_DOT], calls[_PAIRS]), calls, h)
    numbers = scalars.copy()
    numbers[-1] = float64(h.sign) * math.sqrt(squared)
    call(calls[_UPDATE], (theta, u, numbers))


@cpu_part
def _step_short_matrices(theta, g, row_var, col_var, height, width, calls, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    tall, wide, bands = row_var.size, col_var.size, _count_bands_cpu(height, row_var.size)
    # One allocation, because each takes long to compile.
    count, begin = bands * width, 3 * tall + wide
    space = np.empty(begin + 2 * count + 4)
    rows, sums, ones = part(space, 0, tall), part(space, tall, tall), part(space, 2 * tall, tall)
    columns, high, low = part(space, 3 * tall, wide), part(space, begin, count), part(space, begin + count, count)
    moments, most = part(space, space.size - 4, 3), part(space, space.size - 1, 1)
    call(calls[_SQUARES], (g, height, width, rows, high, low, 0, bands))
    moments[0], moments[1], moments[2] = h.kept, h.fresh, h.eps
    call(calls[_FACTORS], (rows, columns, row_var, col_var, high, low, height, width, moments))
    most[0] = 1 / moments[2] if moments[2] else math.inf
    call(calls[_SCALED_SQUARES], (g, height, width, rows, columns, most, sums, 0, bands))
    # None is negative: what adds magnitudes, too, has these bits.
    for i in range(ones.size):
        ones[i] = 1.0
    total = whole_dot(sums, ones, calls[_DOT], calls[_PAIRS])
    squared = _short_step_size(theta, total, calls, h)
    if squared == 0:
        # Factors may be infinite, and 0 times infinity is not 0.
        most[0] = 0.0
        for j in range(columns.size):
            columns[j] = 0.0
    for i in range(rows.size):
        rows[i] = rows[i] * squared if squared != 0 else 0.0
    own = np.empty(3, scalars.dtype)
    own[0], own[1], own[2] = h.sign, math.sqrt(squared) * most[0], h.decay
    call(calls[_STEP], (theta, g, height, width, rows, columns, own, 0, rows.size))
    keep(space)


@cpu_part
def _short_step_size(theta, update, calls, h):
    squares = whole_squares(theta, calls[_DOT], calls[_PAIRS])
    rho, eps_of_size, d = float64(h.rho), float64(h.eps_of_size), float64(h.d)
    return _squared_step_size_cpu(squares, update, float64(theta.size), rho, eps_of_size, d)


def _step_vector(theta: Any, g: Any, variance: Any, h: Scalars, kind: Any) -> None:
    # All memory is asked for before the state changes.
    u, room = np.empty(theta.shape, kind), room_for_sums(theta)
    parameter = sum_of_squares(theta, room)
    adafactor_direction_cpu(u, g, variance, np.array(h, kind))
    squared = _squared_step_size(parameter, sum_of_squares(u, room), theta.size, h)
    adafactor_update_cpu(theta, u, np.array(h._replace(step_size=h.sign * math.sqrt(squared)), kind))


def _step_matrix(theta: Any, g: Any, row_var: Any, col_var: Any, h: Scalars, kind: Any) -> None:
    moments, most = (row_var.copy(), col_var.copy()), _most(h)
    rows, columns = factored.factors(g, *moments, h.kept, h.fresh, h.eps)
    update = sum_of_magnitudes(factored.scaled_squares(g, rows, columns, most))
    squared = _squared_step_size(sum_of_squares(theta.reshape(-1)), update, theta.size, h)
    if squared == 0:
        # Factors may be infinite, and 0 times infinity is not 0.
        rows[...] = columns[...] = most = 0.0
    rows *= squared
    scalars = np.array(factored.StepScalars(h.sign, math.sqrt(squared) * most, h.decay), kind)
    # Only now, when nothing is left that needs memory.
    row_var[...], col_var[...] = moments
    factored.step_all(theta, g, rows, columns, scalars)


def _squared_step_size(parameter: float, update: float, size: int, h: Scalars) -> float:
    return squared_step_size(parameter, update, size, h.rho, h.eps_of_size, h.d)


def _most(h: Scalars) -> float:
    return 1 / h.eps if h.eps else math.inf


def _step_vector_on_gpu(theta: Any, g: Any, variance: Any, h: Scalars, kind: Any) -> None:
    with temporaries(theta) as empty:
        u = empty(theta.size, kind)
        adafactor_direction_cpu(u, g, variance, np.array(h, kind))
        squared = _squared_on_gpu(theta, total(squares, [u], empty), h, empty)
        numbers = empty(2, kind)
        _update_scalars_gpu.run(1, 1, numbers, squared, h.sign, h.decay)
        adafactor_update_gpu.launch(theta, u, Row(UpdateScalars, numbers))


def _step_matrix_on_gpu(theta: Any, g: Any, row_var: Any, col_var: Any, h: Scalars, kind: Any) -> None:
    most = _most(h)
    with temporaries(theta) as empty:
        rows, columns = factored_gpu.factors(g, row_var, col_var, h.kept, h.fresh, h.eps, empty)
        sums = factored_gpu.scaled_squares(g, rows, columns, most, empty)
        squared = _squared_on_gpu(theta, total(magnitudes, [sums.reshape(-1)], empty), h, empty)
        scalars = factored.StepScalars(*np.array((h.sign, most, h.decay), kind))
        factored_gpu.step_all(theta, g, rows, columns, squared, most, scalars, empty)


def _squared_on_gpu(theta: Any, update: Any, h: Scalars, empty: Any) -> Any:
    """Return the square of the step size, given the sum of the update's squares, as an array on the GPU."""
    squared, parameter = empty(1), total(squares, [theta.reshape(-1)], empty)
    _squared_gpu.run(1, 1, squared, parameter, update, float(theta.size), h.rho, h.eps_of_size, h.d)
    return squared


# These are no kernels of a rule: their numbers come from the GPU's memory.
@gpu_kernel
def _squared_gpu(squared, parameter, update, size, rho, eps_of_size, d):
    sums = _rounded_gpu(parameter[0, 0], parameter[1, 0]), _rounded_gpu(update[0, 0], update[1, 0])
    squared[0] = _squared_step_size_gpu(sums[0], sums[1], size, rho, eps_of_size, d)


@gpu_kernel
def _update_scalars_gpu(numbers, squared, sign, decay):
    numbers[0], numbers[1] = decay, sign * sqrt(squared[0])
