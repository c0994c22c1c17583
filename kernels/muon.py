"""Muon: the rules of its element-wise parts, and the step of one matrix that puts them and the products together."""

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import float64, types

from refoptim.kernels.addresses import address_of, array_of, call
from refoptim.kernels.arithmetic import fma, maximum, unpack, widen
from refoptim.kernels.bfloat16 import round_to_bfloat16
from refoptim.kernels.jit import cpu_kernel, cpu_part, cpu_rule, cpu_tasks
from refoptim.kernels.matmul import LINE, gram, matmul, small_product_cpu, transposed
from refoptim.kernels.memory import assign, on_gpu, temporaries
from refoptim.kernels.pairs import CHUNK
from refoptim.kernels.parts import keep, part, shaped
from refoptim.kernels.reductions import norm
from refoptim.kernels.reductions_gpu import norm_into
from refoptim.kernels.scaling import divide
from refoptim.kernels.strips import gpu_elementwise
from refoptim.kernels.whole_sums import sums_at, whole_norm


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


_STEP_SIZE = Scalars._fields.index("step_size")
# How many bytes a loop that only moves them would move while an element of a short matrix is stepped.
_BYTES = 1000
# Matrices of fewer elements are stepped by one thread each. For longer ones there are several.
SHORT = 1 << 16


def muon_together(theta: Any, grad: Any, buffer: Any, places: Any, scalars: Any) -> None:
    """Step many matrices on the CPU, each by one thread. Arrays are flat; for places see ``slots.Places``."""
    calls = _calls(theta.dtype, scalars.dtype, places.longest > CHUNK)
    muon_cpu.run(len(places.table), 1, _BYTES * places.elements, theta, grad, buffer, places.table, calls, scalars)


@cache
def _calls(real: Any, kind: Any, is_long: bool) -> Any:
    """Return the addresses of what is called, in the order of the constants below."""
    x, wide = array_of(real), array_of(kind)
    matrix, strips = array_of(kind, 2), array_of(kind, 3)
    called = (
        (muon_direction_cpu, (wide, x, x, wide)),
        (muon_factor_cpu, (wide, wide, wide)),
        (muon_polynomial_cpu, (wide, wide, wide)),
        (muon_update_cpu, (x, wide, wide)),
        (small_product_cpu, (matrix, matrix, wide, strips, types.intp)),
    )
    own = [address_of(kernel.serial, kinds) for kernel, kinds in called]
    return np.array([*sums_at(is_long), *own], np.intp)


_DOT, _PAIRS, _DIRECTION, _FACTOR, _POLYNOMIAL, _UPDATE, _PRODUCT = range(7)


@cpu_tasks
def muon_cpu(theta, grad, buffer, places, calls, scalars, first, stop):
    for task in range(first, stop):
        rows, columns, start, state = places[task, 2], places[task, 3], places[task, 0], places[task, 4]
        size = rows * columns
        own, momentum = part(grad, start, size), part(buffer, state, size)
        _step_short(part(theta, start, size), own, momentum, rows, columns, calls, scalars)


@cpu_part
def _step_short(theta, grad, buffer, rows, columns, calls, scalars):
    h, size = Scalars(*unpack(Scalars, scalars)), theta.size
    side, longer = min(rows, columns), max(rows, columns)
    width = LINE // scalars.itemsize
    own, others = (side + width - 1) // width * width, (longer + width - 1) // width * width
    # One allocation, because each takes long to compile: what is made orthogonal, twice, and three more for products.
    strips = own * longer + own * side + others * side
    space = np.empty(3 * size + 2 * side * side + strips, scalars.dtype)
    u, x = part(space, 0, size), part(space, size, size)
    for i in range(space.size - strips, space.size):
        space[i] = 0
    call(calls[_DIRECTION], (u, grad, buffer, scalars))
    divisor = maximum(widen(whole_norm(u, calls[_DOT], calls[_PAIRS]), h), h.eps)
    # A tall matrix is turned: where its row i has element j, the other one's row j has element i.
    down, across = (1, columns) if rows > columns else (columns, 1)
    for i in range(side):
        for j in range(longer):
            x[i * longer + j] = u[i * down + j * across] / divisor
    x = _orthogonal_short(part(space, size, space.size - size), side, longer, int(h.steps), calls, scalars)
    for i in range(side):
        for j in range(longer):
            u[i * down + j * across] = x[i * longer + j]
    numbers = scalars.copy()
    ratio = 0.2 * math.sqrt(longer) if h.match_rms else math.sqrt(max(1.0, rows / columns))
    numbers[_STEP_SIZE] = float64(h.step_size) * ratio
    call(calls[_UPDATE], (theta, u, numbers))
    keep(space)


@cpu_part
def _orthogonal_short(space, side, longer, steps, calls, scalars):
    """Return what space begins with, with its singular values near 1. What the strips at its end do not fill is 0."""
    size, area, width = side * longer, side * side, LINE // scalars.itemsize
    own, others = (side + width - 1) // width, (longer + width - 1) // width
    x, product = part(space, 0, size), part(space, size, size)
    square, factor, place = part(space, 2 * size, area), part(space, 2 * size + area, area), 2 * (size + area)
    of_x = shaped(space, place, (own, longer, width))
    of_square = shaped(space, place + of_x.size, (own, side, width))
    of_product = shaped(space, place + of_x.size + of_square.size, (others, side, width))
    squares, factors = shaped(square, 0, (side, side)), shaped(factor, 0, (side, side))
    for _ in range(steps):
        call(calls[_PRODUCT], (squares, shaped(x, 0, (side, longer)), x, of_x, 1))
        call(calls[_PRODUCT], (factors, squares, square, of_square, 1))
        call(calls[_FACTOR], (factor, square, scalars))
        call(calls[_PRODUCT], (shaped(product, 0, (side, longer)), factors, x, of_product, 0))
        call(calls[_POLYNOMIAL], (product, x, scalars))
        x, product = product, x
    return x


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
    with np.errstate(all="ignore"), temporaries(theta) as empty:
        # The state is written last, when nothing is left that needs memory.
        u, momentum = empty((rows, columns), kind), empty((rows, columns), buffer.dtype)
        assign(momentum, buffer)
        muon_direction_cpu(u.reshape(-1), grad.reshape(-1), momentum.reshape(-1), scalars)
        x = _orthogonal(rounded(u), h, scalars.astype(kind), rounded, empty)
        scalars = np.array(h._replace(step_size=h.step_size * size), scalars.dtype)
        assign(buffer, momentum)
        muon_update_cpu(theta.reshape(-1), x.reshape(-1), scalars)


def _orthogonal(u: Any, h: Scalars, scalars: Any, rounded: Any, empty: Any) -> Any:
    """Return u, which may be overwritten, with all its singular values near 1."""
    rows, columns = u.shape
    tall = rows > columns
    x = transposed(u, empty) if tall else u
    x = rounded(_divided(x, u.reshape(-1), h.eps, rounded, empty))
    side = min(rows, columns)
    square, factor = (empty((side, side), x.dtype) for _ in range(2))
    # Of a tall matrix x is a copy by now, unless it is a column.
    product = u.reshape(x.shape) if tall and columns > 1 else empty(tuple(x.shape), x.dtype)
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
        return np.divide(x, size.max(), out=x)
    size = empty(1, x.dtype)
    norm_into(size, u, empty, eps)
    divide(x.reshape(-1), rounded(size))
    return x
