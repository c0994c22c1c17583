"""Stochastic gradient descent for one element, plain, with momentum and with Nesterov's, and the loops that run it.

The rules called ``inside`` are Keras's: the learning rate is inside the momentum buffer.
"""

from typing import NamedTuple

from refoptim.kernels.arithmetic import fma, unpack, widen
from refoptim.kernels.jit import cpu_kernel, cpu_rule
from refoptim.kernels.strips import gpu_elementwise


class Scalars(NamedTuple):
    """What one step needs beside the arrays: computed on the host in float64, rounded once to the arithmetic's type."""

    sign: float  # -1 maximizes
    weight_decay: float  # L2, added to the gradient; inside, decoupled: lr * weight_decay; 0 is off
    lr: float
    momentum: float
    one_minus_dampening: float  # 1 when a parameter's momentum buffer starts


def sgd(theta, g, h):
    """Return the parameter after one step."""
    # A choice, which is made outside the loop: with weight decay one product more is 5 % of a step of a long array.
    if h.sign < 0:
        g = -g
    if h.weight_decay != 0:
        g = fma(h.weight_decay, theta, g)
    return fma(-h.lr, g, theta)


def momentum(theta, g, b, h):
    """Return the parameter and the momentum buffer after one step."""
    g = h.sign * g
    if h.weight_decay != 0:
        g = fma(h.weight_decay, theta, g)
    b = fma(h.momentum, b, h.one_minus_dampening * g)
    return fma(-h.lr, b, theta), b


def nesterov(theta, g, b, h):
    """Return the parameter and the momentum buffer after one step that looks ahead along the momentum."""
    g = h.sign * g
    if h.weight_decay != 0:
        g = fma(h.weight_decay, theta, g)
    b = fma(h.momentum, b, g)
    return fma(-h.lr, fma(h.momentum, b, g), theta), b


def momentum_inside(theta, g, b, h):
    """Return the parameter and the momentum buffer after one step."""
    g = h.sign * g
    b = fma(h.momentum, b, h.one_minus_dampening * (h.lr * g))
    delta = b
    if h.weight_decay != 0:
        delta = fma(h.weight_decay, theta, delta)
    return theta - delta, b


def nesterov_inside(theta, g, b, h):
    """Return the parameter and the momentum buffer after one step that looks ahead along the momentum."""
    g = h.sign * g
    pull = h.lr * g
    b = fma(h.momentum, b, pull)
    delta = fma(h.momentum, b, pull)
    if h.weight_decay != 0:
        delta = fma(h.weight_decay, theta, delta)
    return theta - delta, b


_sgd_cpu, sgd_gpu = cpu_rule(sgd), gpu_elementwise(sgd)
_momentum_cpu, momentum_gpu = cpu_rule(momentum), gpu_elementwise(momentum)
_nesterov_cpu, nesterov_gpu = cpu_rule(nesterov), gpu_elementwise(nesterov)
_momentum_inside_cpu, momentum_inside_gpu = cpu_rule(momentum_inside), gpu_elementwise(momentum_inside)
_nesterov_inside_cpu, nesterov_inside_gpu = cpu_rule(nesterov_inside), gpu_elementwise(nesterov_inside)


@cpu_kernel
def sgd_cpu(theta, g, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in range(theta.size):
        theta[i] = _sgd_cpu(widen(theta[i], h), widen(g[i], h), h)


@cpu_kernel
def momentum_cpu(theta, g, b, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in range(theta.size):
        theta[i], b[i] = _momentum_cpu(widen(theta[i], h), widen(g[i], h), widen(b[i], h), h)


@cpu_kernel
def nesterov_cpu(theta, g, b, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in range(theta.size):
        theta[i], b[i] = _nesterov_cpu(widen(theta[i], h), widen(g[i], h), widen(b[i], h), h)


@cpu_kernel
def momentum_inside_cpu(theta, g, b, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in range(theta.size):
        theta[i], b[i] = _momentum_inside_cpu(widen(theta[i], h), widen(g[i], h), widen(b[i], h), h)


@cpu_kernel
def nesterov_inside_cpu(theta, g, b, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in range(theta.size):
        theta[i], b[i] = _nesterov_inside_cpu(widen(theta[i], h), widen(g[i], h), widen(b[i], h), h)
