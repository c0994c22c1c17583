"""Adafactor: the rules of a vector's step, and the steps of a vector and of a matrix, which need norms on the way."""

import math
from typing import Any, NamedTuple

import numpy as np
from numba import prange

from refoptim.kernels import factored
from refoptim.kernels.arithmetic import fma, maximum, sqrt, unpack, widen
from refoptim.kernels.jit import cpu_kernel, cpu_rule, cuda, gpu_kernel, gpu_rule
from refoptim.kernels.reductions import sum_of_magnitudes, sum_of_squares


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


_adafactor_direction_cpu, _adafactor_direction_gpu = cpu_rule(adafactor_direction), gpu_rule(adafactor_direction)
_adafactor_update_cpu, _adafactor_update_gpu = cpu_rule(adafactor_update), gpu_rule(adafactor_update)


@cpu_kernel
def adafactor_direction_cpu(u, g, v, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in prange(u.size):
        u[i], v[i] = _adafactor_direction_cpu(widen(u[i], h), widen(g[i], h), widen(v[i], h), h)


@cpu_kernel
def adafactor_update_cpu(theta, u, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in prange(theta.size):
        theta[i] = _adafactor_update_cpu(widen(theta[i], h), widen(u[i], h), h)


@gpu_kernel
def adafactor_direction_gpu(u, g, v, h):
    for i in range(cuda.grid(1), u.size, cuda.gridsize(1)):
        u[i], v[i] = _adafactor_direction_gpu(widen(u[i], h), widen(g[i], h), widen(v[i], h), h)


@gpu_kernel
def adafactor_update_gpu(theta, u, h):
    for i in range(cuda.grid(1), theta.size, cuda.gridsize(1)):
        theta[i] = _adafactor_update_gpu(widen(theta[i], h), widen(u[i], h), h)


def adafactor(theta: Any, g: Any, row_var: Any, col_var: Any, variance: Any, scalars: Any) -> None:
    """Step one parameter of any shape. What its shape has no state for is empty."""
    h = Scalars(*scalars.tolist())
    if h.eps < 0:
        h = h._replace(eps=float(np.finfo(theta.dtype).eps))
    if theta.ndim < 2:
        _step_vector(theta.reshape(-1), g.reshape(-1), variance.reshape(-1), h, scalars.dtype)
    else:
        shape = (-1, *theta.shape[-2:])
        _step_matrix(theta.reshape(shape), g.reshape(shape), row_var, col_var, h, scalars.dtype)


def _step_vector(theta: Any, g: Any, variance: Any, h: Scalars, kind: Any) -> None:
    u = np.empty(theta.shape, kind)
    adafactor_direction_cpu(u, g, variance, np.array(h, kind))
    h = h._replace(step_size=h.sign * math.sqrt(_squared_step_size(theta, sum_of_squares(u), h)))
    adafactor_update_cpu(theta, u, np.array(h, kind))


def _step_matrix(theta: Any, g: Any, row_var: Any, col_var: Any, h: Scalars, kind: Any) -> None:
    matrices, height, width = g.shape
    rows, columns, squares = np.empty((matrices, height)), np.empty((matrices, width)), np.empty((matrices, height))
    factored.sum_up(g, rows, columns)
    factored.factors_cpu(
        rows, columns, row_var.reshape(rows.shape), col_var.reshape(columns.shape), h.kept, h.fresh, h.eps
    )
    most = 1 / h.eps if h.eps else math.inf
    factored.sum_scaled(g, rows, columns, most, squares)
    squared = _squared_step_size(theta, sum_of_magnitudes(squares.reshape(-1)), h)
    if squared == 0:
        # Factors may be infinite, and 0 times infinity is not 0.
        rows[...] = columns[...] = most = 0.0
    rows *= squared
    scalars = factored.StepScalars(h.sign, math.sqrt(squared) * most, h.decay)
    factored.step_cpu(theta, g, rows, columns, np.array(scalars, kind))


def _squared_step_size(theta: Any, squares: float, h: Scalars) -> float:
    """Return the square of what to multiply an update by whose squares have this sum, so that it fits the parameter."""
    size = maximum(sum_of_squares(theta.reshape(-1)) / theta.size, h.eps_of_size * h.eps_of_size)
    return h.rho * h.rho * (size / maximum(squares / (theta.size * (h.d * h.d)), 1.0))
