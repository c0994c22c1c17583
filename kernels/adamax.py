"""Adamax for one element, and the loops that run it over flat arrays."""

from typing import NamedTuple

from refoptim.kernels.arithmetic import absolute, fma, maximum, unpack, widen
from refoptim.kernels.jit import cpu_kernel, cpu_rule
from refoptim.kernels.strips import gpu_elementwise


class Scalars(NamedTuple):
    """What one step needs beside the arrays: computed on the host in float64, rounded once to the arithmetic's type."""

    sign: float  # -1 maximizes
    weight_decay: float  # L2, added to the gradient; outside, decoupled: lr * weight_decay / step_size; 0 is off
    beta1: float
    one_minus_beta1: float
    beta2: float
    eps: float
    step_size: float  # lr / (1 - beta1**t)
    one: float  # u may be a product, which must not meet a sum but in an fma


def adamax(theta, g, m, u, h):
    """Return the parameter, the first moment and the infinity norm after one step."""
    g = h.sign * g
    if h.weight_decay != 0:
        g = fma(h.weight_decay, theta, g)
    m = fma(h.beta1, m, h.one_minus_beta1 * g)
    u = maximum(h.beta2 * u, absolute(g) + h.eps)
    return fma(-h.step_size, m / u, theta), m, u


def adamax_outside(theta, g, m, u, h):
    """Return the parameter, the first moment and the infinity norm after one step of Keras's: eps beside the norm."""
    g = h.sign * g
    m = fma(h.beta1, m, h.one_minus_beta1 * g)
    u = maximum(h.beta2 * u, absolute(g))
    delta = m / fma(h.one, u, h.eps)
    if h.weight_decay != 0:
        delta = fma(h.weight_decay, theta, delta)
    return fma(-h.step_size, delta, theta), m, u


_adamax_cpu, adamax_gpu = cpu_rule(adamax), gpu_elementwise(adamax)
_adamax_outside_cpu, adamax_outside_gpu = cpu_rule(adamax_outside), gpu_elementwise(adamax_outside)


@cpu_kernel
def adamax_cpu(theta, g, m, u, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in range(theta.size):
        theta[i], m[i], u[i] = _adamax_cpu(widen(theta[i], h), widen(g[i], h), widen(m[i], h), widen(u[i], h), h)


@cpu_kernel
def adamax_outside_cpu(theta, g, m, u, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in range(theta.size):
        theta[i], m[i], u[i] = _adamax_outside_cpu(
            widen(theta[i], h), widen(g[i], h), widen(m[i], h), widen(u[i], h), h
        )
