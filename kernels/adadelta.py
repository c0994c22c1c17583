"""Adadelta for one element, and the loops that run it over flat arrays."""

from typing import NamedTuple

from refoptim.kernels.arithmetic import fma, is_double, sqrt, unpack
from refoptim.kernels.jit import cpu_kernel, cpu_rule
from refoptim.kernels.strips import gpu_elementwise
from refoptim.kernels.tiles import over


class Scalars(NamedTuple):
    """What one step needs beside the arrays: computed on the host in float64, rounded once to the arithmetic's type."""

    sign: float  # -1 maximizes
    weight_decay: float  # L2, added to the gradient; 0 is off
    lr: float
    rho: float
    one_minus_rho: float
    eps: float


def adadelta(theta, g, v, u, h):
    """Return the parameter and the mean squares of gradient and update after one step.

    The square of the step is taken from before the roots, whose errors it would double. The quotient of the means could
    leave the range of float32. In that of float64, but for gradients of 1e150, one division and one root do.
    """
    g = h.sign * g
    if h.weight_decay != 0:
        g = fma(h.weight_decay, theta, g)
    v = fma(h.rho, v, h.one_minus_rho * g * g)
    above, below = u + h.eps, v + h.eps
    if is_double(g):
        quotient = above / below
        change, ratio = g * quotient, sqrt(quotient)
    else:
        change, ratio = g / below * above, sqrt(above) / sqrt(below)
    u = fma(h.rho, u, h.one_minus_rho * g * change)
    return fma(-h.lr, ratio * g, theta), v, u


_adadelta_cpu, adadelta_gpu = cpu_rule(adadelta), gpu_elementwise(adadelta)


@cpu_kernel
def adadelta_cpu(theta, g, v, u, scalars):
    over(_adadelta_cpu, (theta, g, v, u), Scalars(*unpack(Scalars, scalars)))
