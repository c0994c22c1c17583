"""NAdam for one element, and the loops that run it over flat arrays."""

from typing import NamedTuple

from refoptim.kernels.arithmetic import fma, sqrt, unpack, widen
from refoptim.kernels.jit import cpu_kernel, cpu_rule
from refoptim.kernels.strips import gpu_elementwise


class Scalars(NamedTuple):
    """What one step needs beside the arrays: computed on the host in float64, rounded once to the arithmetic's type.

    With u = (1 - mu) / (1 - product), the gradient's weight in the mean that looks ahead:
    """

    sign: float  # -1 maximizes
    weight_decay: float  # L2, added to the gradient; 0 is off
    decay: float  # decoupled: lr * weight_decay / step_size; 0 is off
    beta1: float
    one_minus_beta1: float
    beta2: float
    one_minus_beta2: float
    momentum: float  # mu_next / (1 - product * mu_next) / u
    eps: float  # eps * sqrt(1 - beta2**t)
    step_size: float  # lr * sqrt(1 - beta2**t) * u


def nadam(theta, g, m, v, h):
    """Return the parameter and both moments after one step.

    The gradient's weight and the second moment's bias correction are taken out of the quotient, into eps, momentum and
    step_size: two roundings less.
    """
    g = h.sign * g
    if h.weight_decay != 0:
        g = fma(h.weight_decay, theta, g)
    m = fma(h.beta1, m, h.one_minus_beta1 * g)
    v = fma(h.beta2, v, h.one_minus_beta2 * g * g)
    delta = fma(h.momentum, m, g) / (sqrt(v) + h.eps)
    if h.decay != 0:
        delta = fma(h.decay, theta, delta)
    return fma(-h.step_size, delta, theta), m, v


_nadam_cpu, nadam_gpu = cpu_rule(nadam), gpu_elementwise(nadam)


@cpu_kernel
def nadam_cpu(theta, g, m, v, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in range(theta.size):
        theta[i], m[i], v[i] = _nadam_cpu(widen(theta[i], h), widen(g[i], h), widen(m[i], h), widen(v[i], h), h)
