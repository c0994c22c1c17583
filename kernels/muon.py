"""Muon: the rules of its element-wise parts, and the step of one matrix that puts them and the products together."""

import math
from typing import Any, NamedTuple

import numpy as np

from refoptim.kernels.arithmetic import fma, unpack, widen
from refoptim.kernels.bfloat16 import round_to_bfloat16
from refoptim.kernels.jit import cpu_kernel, cpu_rule
from refoptim.kernels.matmul import gram, matmul, transposed
from refoptim.kernels.memory import on_gpu, temporaries
from refoptim.kernels.reductions import norm
from refoptim.kernels.reductions_gpu import norm_into
from refoptim.kernels.scaling import divide
from refoptim.kernels.strips import gpu_elementwise


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


_muon_direction_cpu, muon_direction_gpu = cpu_rule(muon_direction), gpu_elementwise(muon_direction)
_muon_factor_cpu, muon_factor_gpu = cpu_rule(muon_factor), gpu_elementwise(muon_factor)
_muon_polynomial_cpu, muon_polynomial_gpu = cpu_rule(muon_polynomial), gpu_elementwise(muon_polynomial)
_muon_update_cpu, muon_update_gpu = cpu_rule(muon_update), gpu_elementwise(muon_update)


@cpu_kernel
def muon_direction_cpu(u, g, buffer, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in range(u.size):
        u[i], buffer[i] = _muon_direction_cpu(widen(u[i], h), widen(g[i], h), widen(buffer[i], h), h)


@cpu_kernel
def muon_factor_cpu(square, gram, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in range(square.size):
        square[i] = _muon_factor_cpu(widen(square[i], h), widen(gram[i], h), h)


@cpu_kernel
def muon_polynomial_cpu(product, x, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in range(product.size):
        product[i] = _muon_polynomial_cpu(widen(product[i], h), widen(x[i], h), h)


@cpu_kernel
def muon_update_cpu(theta, x, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in range(theta.size):
        theta[i] = _muon_update_cpu(widen(theta[i], h), widen(x[i], h), h)


def muon(theta: Any, grad: Any, buffer: Any, scalars: Any) -> None:
    """Step one matrix, in the arithmetic of the scalars."""
    _step(theta, grad, buffer, scalars, scalars.dtype, lambda x: x)


def muon_bfloat16(theta: Any, grad: Any, buffer: Any, scalars: Any) -> None:
    """Step one matrix, and round what is made orthogonal to bfloat16 after each operation, as torch does."""
    _step(theta, grad, buffer, scalars, np.dtype(np.float32), round_to_bfloat16)


def _step(theta: Any, grad: Any, buffer: Any, scalars: Any, kind: Any, rounded: Any) -> None:
    h = Scalars(*scalars.tolist())
    rows, columns = theta.shape
    size = 0.2 * math.sqrt(max(rows, columns)) if h.match_rms else math.sqrt(max(1.0, rows / columns))
    if on_gpu(theta):
        _reserve(theta, kind)
    with np.errstate(all="ignore"), temporaries(theta) as empty:
        u = empty((rows, columns), kind)
        muon_direction_cpu(u.reshape(-1), grad.reshape(-1), buffer.reshape(-1), scalars)
        x = _orthogonal(rounded(u), h, scalars.astype(kind), rounded, empty)
        scalars = np.array(h._replace(step_size=h.step_size * size), scalars.dtype)
        muon_update_cpu(theta.reshape(-1), x.reshape(-1), scalars)


def _reserve(theta: Any, kind: Any) -> None:
    """Allocate what a step takes as temporaries, so that a GPU that has no room says so before anything changes."""
    rows, columns = theta.shape
    side, turned = min(rows, columns), [(columns, rows)] * 2 if rows > columns else []
    with temporaries(theta) as empty:
        for shape in [(rows, columns)] * 2 + turned + [(side, side)] * 2:
            empty(shape, kind)


def _orthogonal(u: Any, h: Scalars, scalars: Any, rounded: Any, empty: Any) -> Any:
    """Return u, which may be overwritten, with all its singular values near 1."""
    rows, columns = u.shape
    tall = rows > columns
    x = transposed(u, empty) if tall else u
    x = rounded(_divided(x, u.reshape(-1), h.eps, rounded, empty))
    side = min(rows, columns)
    square, factor = (empty((side, side), x.dtype) for _ in range(2))
    product = empty(tuple(x.shape), x.dtype)
    for _ in range(int(h.steps)):
        gram(square, x)
        # A Gram matrix is symmetric: its square is the Gram matrix of itself.
        gram(factor, rounded(square))
        muon_factor_cpu(factor.reshape(-1), square.reshape(-1), scalars)
        matmul(product, rounded(factor), x)
        muon_polynomial_cpu(product.reshape(-1), x.reshape(-1), scalars)
        x, product = rounded(product), x
    return transposed(x, empty) if tall else x


def _divided(x: Any, u: Any, eps: float, rounded: Any, empty: Any) -> Any:
    """Return x over the norm of u, or over eps, if that is larger."""
    if not on_gpu(x):
        size = rounded(np.array([norm(u), eps], x.dtype))
        return x / size.max()
    size = empty(1, x.dtype)
    norm_into(size, u, empty, eps)
    divide(x.reshape(-1), rounded(size))
    return x
