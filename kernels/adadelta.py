"""Adadelta for one element, and the loops that run it over flat arrays."""

from typing import NamedTuple

from refoptim.kernels.arithmetic import fma, sqrt, unpack
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

    The step is the quotient of two roots, not the root of a quotient, which could leave the range of the format. Its
    square is taken from before the roots, whose errors it would double.
    """
    g = h.sign * g
    if h.weight_decay != 0:
        g = fma(h.weight_decay, theta, g)
    v = fma(h.rho, v, h.one_minus_rho * g * g)
    above, below = u + h.eps, v + h.eps
    u = fma(h.rho, u, h.one_minus_rho * g * (g / below * above))
    delta = sqrt(above) / sqrt(below) * g
    return fma(-h.lr, delta, theta), v, u


_adadelta_cpu, adadelta_gpu = cpu_rule(adadelta), gpu_elementwise(adadelta)


@cpu_kernel
def adadelta_cpu(theta, g, v, u, scalars):
    over(_adadelta_cpu, (theta, g, v, u), Scalars(*unpack(Scalars, scalars)))
