"""Muon: the rules of its element-wise parts, and the step of one matrix that puts them and the products together."""

import math
from typing import Any, NamedTuple

import numpy as np
from numba import prange

from refoptim.kernels.arithmetic import fma, unpack, widen
from refoptim.kernels.bfloat16 import round_to_bfloat16
from refoptim.kernels.jit import cpu_kernel, cpu_rule, cuda, gpu_kernel, gpu_rule
from refoptim.kernels.matmul import gram, matmul
from refoptim.kernels.reductions import norm


class Scalars(NamedTuple):
    """What one step needs beside the arrays: computed on the host in float64, rounded once to the arithmetic's type."""

    nesterov: float  # 0 is off
    momentum: float
    one_minus_momentum: float
    a: float  # the polynomial's coefficients: of the matrix, of its cube, of its fifth power
    b: float
    c: float
    decay: float  # lr * weight_decay; 0 is off
    step_size: float  # lr, until the matrix's shape is known
    eps: float
    steps: float  # how often the polynomial is applied
    match_rms: float  # not 0: the update gets the size that AdamW's has


def muon_direction(u, g, buffer, h):
    """Return the direction, which is to be made orthogonal, and the momentum; u is what was there before."""
    buffer = fma(h.momentum, buffer, h.one_minus_momentum * g)
    u = buffer
    if h.nesterov != 0:
        u = fma(h.momentum, buffer, h.one_minus_momentum * g)
    return u, buffer


def muon_factor(square, gram, h):
    """Return b * gram + c * gram @ gram, given the product."""
    return fma(h.b, gram, h.c * square)


def muon_polynomial(product, x, h):
    """Return a * x + (b * gram + c * gram @ gram) @ x, given the product."""
    return fma(h.a, x, product)


def muon_update(theta, x, h):
    """Return the parameter after one step."""
    if h.decay != 0:
        return theta - fma(h.decay, theta, h.step_size * x)
    return fma(-h.step_size, x, theta)


_muon_direction_cpu, _muon_direction_gpu = cpu_rule(muon_direction), gpu_rule(muon_direction)
_muon_factor_cpu, _muon_factor_gpu = cpu_rule(muon_factor), gpu_rule(muon_factor)
_muon_polynomial_cpu, _muon_polynomial_gpu = cpu_rule(muon_polynomial), gpu_rule(muon_polynomial)
_muon_update_cpu, _muon_update_gpu = cpu_rule(muon_update), gpu_rule(muon_update)


@cpu_kernel
def muon_direction_cpu(u, g, buffer, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in prange(u.size):
        u[i], buffer[i] = _muon_direction_cpu(widen(u[i], h), widen(g[i], h), widen(buffer[i], h), h)


@cpu_kernel
def muon_factor_cpu(square, gram, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in prange(square.size):
        square[i] = _muon_factor_cpu(widen(square[i], h), widen(gram[i], h), h)


@cpu_kernel
def muon_polynomial_cpu(product, x, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in prange(product.size):
        product[i] = _muon_polynomial_cpu(widen(product[i], h), widen(x[i], h), h)


@cpu_kernel
def muon_update_cpu(theta, x, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in prange(theta.size):
        theta[i] = _muon_update_cpu(widen(theta[i], h), widen(x[i], h), h)


@gpu_kernel
def muon_direction_gpu(u, g, buffer, h):
    for i in range(cuda.grid(1), u.size, cuda.gridsize(1)):
        u[i], buffer[i] = _muon_direction_gpu(widen(u[i], h), widen(g[i], h), widen(buffer[i], h), h)


@gpu_kernel
def muon_factor_gpu(square, gram, h):
    for i in range(cuda.grid(1), square.size, cuda.gridsize(1)):
        square[i] = _muon_factor_gpu(widen(square[i], h), widen(gram[i], h), h)


@gpu_kernel
def muon_polynomial_gpu(product, x, h):
    for i in range(cuda.grid(1), product.size, cuda.gridsize(1)):
        product[i] = _muon_polynomial_gpu(widen(product[i], h), widen(x[i], h), h)


@gpu_kernel
def muon_update_gpu(theta, x, h):
    for i in range(cuda.grid(1), theta.size, cuda.gridsize(1)):
        theta[i] = _muon_update_gpu(widen(theta[i], h), widen(x[i], h), h)


def muon(theta: Any, grad: Any, buffer: Any, scalars: Any) -> None:
    """Step one matrix, in the arithmetic of the scalars."""
    _step(theta, grad, buffer, scalars, scalars.dtype, lambda x: x)


def muon_bfloat16(theta: Any, grad: Any, buffer: Any, scalars: Any) -> None:
    """Step one matrix, and round what is made orthogonal to bfloat16 after each operation, as torch does."""
    _step(theta, grad, buffer, scalars, np.dtype(np.float32), round_to_bfloat16)


def _step(theta: Any, grad: Any, buffer: Any, scalars: Any, kind: Any, rounded: Any) -> None:
    h = Scalars(*scalars.tolist())
    u = np.empty(theta.shape, kind)
    with np.errstate(all="ignore"):
        muon_direction_cpu(u.reshape(-1), grad.reshape(-1), buffer.reshape(-1), scalars)
        x = _orthogonal(rounded(u), h, scalars.astype(kind), rounded)
    rows, columns = theta.shape
    size = 0.2 * math.sqrt(max(rows, columns)) if h.match_rms else math.sqrt(max(1.0, rows / columns))
    scalars = np.array(h._replace(step_size=h.step_size * size), scalars.dtype)
    muon_update_cpu(theta.reshape(-1), x.reshape(-1), scalars)


def _orthogonal(u: Any, h: Scalars, scalars: Any, rounded: Any) -> Any:
    """Return u with all its singular values near 1."""
    tall = u.shape[0] > u.shape[1]
    x = np.ascontiguousarray(u.T) if tall else u
    size = rounded(np.array([norm(u.reshape(-1)), h.eps], u.dtype))
    x = rounded(x / size.max())
    square = np.empty((x.shape[0], x.shape[0]), x.dtype)
    factor, product = np.empty_like(square), np.empty_like(x)
    for _ in range(int(h.steps)):
        gram(square, x)
        # A Gram matrix is symmetric: its square is the Gram matrix of itself.
        gram(factor, rounded(square))
        muon_factor_cpu(factor.reshape(-1), square.reshape(-1), scalars)
        matmul(product, rounded(factor), x)
        muon_polynomial_cpu(product.reshape(-1), x.reshape(-1), scalars)
        x, product = rounded(product), x
    return np.ascontiguousarray(x.T) if tall else x
