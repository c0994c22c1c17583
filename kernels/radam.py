"""RAdam for one element, and the loops that run it over flat arrays."""

from typing import NamedTuple

from refoptim.kernels.arithmetic import by_sign, fma, sqrt, unpack, widen
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
    rectification: float  # 0 where the second moment is not yet divided by
    eps: float
    step_size: float  # lr / (1 - beta1**t), rectified times rectification * sqrt(1 - beta2**t)
    one: float  # a rule has no literals


def radam(theta, g, m, v, h):
    """Return the parameter and both moments after one step.

    The bias corrections and the rectification are all in step_size: what is left is Adam's quotient, or its numerator,
    divided by 1. Of two divisors one is chosen, because a branch would keep the rule from being taken in two stages.
    """
    g = h.sign * g
    if h.weight_decay != 0:
        g = fma(h.weight_decay, theta, g)
    m = fma(h.beta1, m, h.one_minus_beta1 * g)
    v = fma(h.beta2, v, h.one_minus_beta2 * g * g)
    delta = m / by_sign(h.rectification, h.one, h.one, sqrt(v) + h.eps)
    if h.decay != 0:
        delta = fma(h.decay, theta, delta)
    return fma(-h.step_size, delta, theta), m, v


_radam_cpu, radam_gpu = cpu_rule(radam), gpu_elementwise(radam)


@cpu_kernel
def radam_cpu(theta, g, m, v, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in range(theta.size):
        theta[i], m[i], v[i] = _radam_cpu(widen(theta[i], h), widen(g[i], h), widen(m[i], h), widen(v[i], h), h)
