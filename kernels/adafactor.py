"""Adafactor: the rules of a vector's step, and the steps of a vector and of a matrix, which need norms on the way."""

import math
from typing import Any, NamedTuple

import numpy as np

from refoptim.kernels import factored, factored_gpu
from refoptim.kernels.arithmetic import fma, maximum, sqrt, unpack, widen
from refoptim.kernels.jit import Row, cpu_kernel, cpu_rule, gpu_kernel, gpu_rule
from refoptim.kernels.memory import launch, on_gpu, temporaries
from refoptim.kernels.pairs import rounded
from refoptim.kernels.reductions import sum_of_magnitudes, sum_of_squares
from refoptim.kernels.reductions_gpu import magnitudes, squares, total
from refoptim.kernels.strips import gpu_elementwise


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
    h = Scalars(*scalars.tolist())
    if h.eps < 0:
        h = h._replace(eps=float(np.finfo(theta.dtype).eps) if epsilon1 is None else epsilon1)
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


def _step_vector(theta: Any, g: Any, variance: Any, h: Scalars, kind: Any) -> None:
    u = np.empty(theta.shape, kind)
    adafactor_direction_cpu(u, g, variance, np.array(h, kind))
    h = h._replace(step_size=h.sign * math.sqrt(_squared_step_size(theta, sum_of_squares(u), h)))
    adafactor_update_cpu(theta, u, np.array(h, kind))


def _step_matrix(theta: Any, g: Any, row_var: Any, col_var: Any, h: Scalars, kind: Any) -> None:
    rows, columns, sums = np.empty(row_var.shape), np.empty(col_var.shape), np.empty(row_var.shape)
    factored.sum_up(g, rows, columns)
    factored.factors_cpu.serial(rows, columns, row_var, col_var, h.kept, h.fresh, h.eps)
    most = _most(h)
    factored.sum_scaled(g, rows, columns, most, sums)
    squared = _squared_step_size(theta, sum_of_magnitudes(sums.reshape(-1)), h)
    if squared == 0:
        # Factors may be infinite, and 0 times infinity is not 0.
        rows[...] = columns[...] = most = 0.0
    rows *= squared
    scalars = factored.StepScalars(h.sign, math.sqrt(squared) * most, h.decay)
    factored.step_all(theta, g, rows, columns, np.array(scalars, kind))


def _squared_step_size(theta: Any, update: float, h: Scalars) -> float:
    return squared_step_size(sum_of_squares(theta.reshape(-1)), update, theta.size, h.rho, h.eps_of_size, h.d)


def _most(h: Scalars) -> float:
    return 1 / h.eps if h.eps else math.inf


def _step_vector_on_gpu(theta: Any, g: Any, variance: Any, h: Scalars, kind: Any) -> None:
    with temporaries(theta) as empty:
        u = empty(theta.size, kind)
        adafactor_direction_cpu(u, g, variance, np.array(h, kind))
        squared = _squared_on_gpu(theta, total(squares, [u], empty), h, empty)
        numbers = empty(2, kind)
        launch(_update_scalars_gpu, 1, 1, numbers, squared, h.sign, h.decay)
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
    launch(_squared_gpu, 1, 1, squared, parameter, update, float(theta.size), h.rho, h.eps_of_size, h.d)
    return squared


# These are no kernels of a rule: their numbers come from the GPU's memory.
@gpu_kernel
def _squared_gpu(squared, parameter, update, size, rho, eps_of_size, d):
    sums = _rounded_gpu(parameter[0, 0], parameter[1, 0]), _rounded_gpu(update[0, 0], update[1, 0])
    squared[0] = _squared_step_size_gpu(sums[0], sums[1], size, rho, eps_of_size, d)


@gpu_kernel
def _update_scalars_gpu(numbers, squared, sign, decay):
    numbers[0], numbers[1] = decay, sign * sqrt(squared[0])
