"""Adam, AdamW and AMSGrad for one element, and the loops that run them over flat arrays."""

from typing import NamedTuple

from refoptim.kernels.arithmetic import fma, maximum, sqrt, unpack, widen
from refoptim.kernels.jit import cpu_kernel, cpu_rule
from refoptim.kernels.strips import gpu_elementwise


class Scalars(NamedTuple):
    """What one step needs beside the arrays: computed on the host in float64, rounded once to the arithmetic's type."""

    sign: float  # -1 maximizes
    weight_decay: float  # L2, added to the gradient; 0 is off
    decay: float  # decoupled: lr * weight_decay / step_size; 0 is off
    beta1: float
    one_minus_beta1: float
    beta2: float
    one_minus_beta2: float
    eps: float  # eps * sqrt(1 - beta2**t); as it is where the root is of a corrected moment, and for eps hat
    step_size: float  # lr * sqrt(1 - beta2**t) / (1 - beta1**t); without the root where it is of a corrected moment
    correction: float  # 1 / (1 - beta2**t), of the second moment before its maximum is taken


def adam(theta, g, m, v, h):
    """Return the parameter and both moments after one step.

    The second moment's bias correction is taken out of the quotient, into eps and step_size: one rounding less.
    """
    g = h.sign * g
    if h.weight_decay != 0:
        g = fma(h.weight_decay, theta, g)
    m = fma(h.beta1, m, h.one_minus_beta1 * g)
    v = fma(h.beta2, v, h.one_minus_beta2 * g * g)
    delta = m / (sqrt(v) + h.eps)
    if h.decay != 0:
        delta = fma(h.decay, theta, delta)
    return fma(-h.step_size, delta, theta), m, v


def amsgrad(theta, g, m, v, v_max, h):
    """Return the parameter, both moments and the largest second moment so far after one step."""
    g = h.sign * g
    if h.weight_decay != 0:
        g = fma(h.weight_decay, theta, g)
    m = fma(h.beta1, m, h.one_minus_beta1 * g)
    v = fma(h.beta2, v, h.one_minus_beta2 * g * g)
    v_max = maximum(v_max, v)
    delta = m / (sqrt(v_max) + h.eps)
    if h.decay != 0:
        delta = fma(h.decay, theta, delta)
    return fma(-h.step_size, delta, theta), m, v, v_max


def amsgrad_corrected(theta, g, m, v, v_max, h):
    """Return the parameter, both moments and the largest corrected second moment after one step, as optax has it."""
    g = h.sign * g
    if h.weight_decay != 0:
        g = fma(h.weight_decay, theta, g)
    m = fma(h.beta1, m, h.one_minus_beta1 * g)
    v = fma(h.beta2, v, h.one_minus_beta2 * g * g)
    v_max = maximum(v_max, h.correction * v)
    delta = m / (sqrt(v_max) + h.eps)
    if h.decay != 0:
        delta = fma(h.decay, theta, delta)
    return fma(-h.step_size, delta, theta), m, v, v_max


_adam_cpu, adam_gpu = cpu_rule(adam), gpu_elementwise(adam)
_amsgrad_cpu, amsgrad_gpu = cpu_rule(amsgrad), gpu_elementwise(amsgrad)
_amsgrad_corrected_cpu, amsgrad_corrected_gpu = cpu_rule(amsgrad_corrected), gpu_elementwise(amsgrad_corrected)


@cpu_kernel
def adam_cpu(theta, g, m, v, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in range(theta.size):
        theta[i], m[i], v[i] = _adam_cpu(widen(theta[i], h), widen(g[i], h), widen(m[i], h), widen(v[i], h), h)


@cpu_kernel
def amsgrad_cpu(theta, g, m, v, v_max, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in range(theta.size):
        theta[i], m[i], v[i], v_max[i] = _amsgrad_cpu(
            widen(theta[i], h), widen(g[i], h), widen(m[i], h), widen(v[i], h), widen(v_max[i], h), h
        )


@cpu_kernel
def amsgrad_corrected_cpu(theta, g, m, v, v_max, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in range(theta.size):
        theta[i], m[i], v[i], v_max[i] = _amsgrad_corrected_cpu(
            widen(theta[i], h), widen(g[i], h), widen(m[i], h), widen(v[i], h), widen(v_max[i], h), h
        )
