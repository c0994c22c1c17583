"""Adagrad for one element, and the loops that run it over flat arrays."""

from typing import NamedTuple

from refoptim.kernels.arithmetic import fma, sqrt, unpack, widen
from refoptim.kernels.jit import cpu_kernel, cpu_rule
from refoptim.kernels.strips import gpu_elementwise


class Scalars(NamedTuple):
    """What one step needs beside the arrays: computed on the host in float64, rounded once to the arithmetic's type."""

    sign: float  # -1 maximizes
    weight_decay: float  # L2, added to the gradient; 0 is off
    step_size: float  # lr / (1 + (t - 1) * lr_decay)
    eps: float
    decay: float  # decoupled: lr * weight_decay / step_size; 0 is off


def adagrad(theta, g, s, h):
    """Return the parameter and the sum of squared gradients after one step."""
    g = h.sign * g
    if h.weight_decay != 0:
        g = fma(h.weight_decay, theta, g)
    s = fma(g, g, s)
    return fma(-h.step_size, g / (sqrt(s) + h.eps), theta), s


def adagrad_inside(theta, g, s, h):
    """Return the parameter and the sum of squared gradients after one step of Keras's and optax's: eps in the root."""
    g = h.sign * g
    if h.weight_decay != 0:
        g = fma(h.weight_decay, theta, g)
    s = fma(g, g, s)
    delta = g / sqrt(s + h.eps)
    if h.decay != 0:
        delta = fma(h.decay, theta, delta)
    return fma(-h.step_size, delta, theta), s


_adagrad_cpu, adagrad_gpu = cpu_rule(adagrad), gpu_elementwise(adagrad)
_adagrad_inside_cpu, adagrad_inside_gpu = cpu_rule(adagrad_inside), gpu_elementwise(adagrad_inside)


@cpu_kernel
def adagrad_cpu(theta, g, s, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in range(theta.size):
        theta[i], s[i] = _adagrad_cpu(widen(theta[i], h), widen(g[i], h), widen(s[i], h), h)


@cpu_kernel
def adagrad_inside_cpu(theta, g, s, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in range(theta.size):
        theta[i], s[i] = _adagrad_inside_cpu(widen(theta[i], h), widen(g[i], h), widen(s[i], h), h)
