"""Adadelta for one element, and the loops that run it over flat arrays."""

from math import frexp
from typing import NamedTuple

from refoptim.kernels.arithmetic import fma, sqrt, unpack
from refoptim.kernels.jit import cpu_kernel, cpu_rule
from refoptim.kernels.strips import gpu_elementwise
from refoptim.kernels.tiles import over


class Scalars(NamedTuple):
    """What one step needs beside the arrays: computed on the host in float64, rounded once to the arithmetic's type."""

    sign: float  # -1 maximizes
    weight_decay: float  # L2, added to the gradient; 0 is off
    step_size: float  # lr / sqrt(scale)
    rho: float
    one_minus_rho: float
    share: float  # (1 - rho) / scale
    eps: float
    scale: float  # of the quotient of both means: a power of 4, which rounds nothing
    scaled_eps: float  # eps * scale


def scale_for(eps: float) -> float:
    """Return the scale of quotients that keeps them in float32's range.

    For eps from 1e-15 on it does whatever the gradients are, while the mean above is at most 1e7; below that it leaves
    room for such means, and none for quotients of eps and the largest gradients.
    """
    exponent = frexp(eps or 1e-6)[1]
    return 4.0 ** (max(0, min(4 - exponent, 104 + exponent)) // 2)


def adadelta(theta, g, v, u, h):
    """Return the parameter and the mean squares of gradient and update after one step.

    The quotient of the means serves both the step, by its root, and the step's square. Both have the range of their
    type, so the quotient is scaled: for eps of 1e-6 gradients of 1e17 have quotients of 1e-40.
    """
    g = h.sign * g
    if h.weight_decay != 0:
        g = fma(h.weight_decay, theta, g)
    v = fma(h.rho, v, h.one_minus_rho * g * g)
    quotient = fma(h.scale, u, h.scaled_eps) / (v + h.eps)
    # In this order: where a square is infinite the quotient is 0, and so is the product.
    u = fma(h.rho, u, h.share * g * (g * quotient))
    return fma(-h.step_size, sqrt(quotient) * g, theta), v, u


_adadelta_cpu, adadelta_gpu = cpu_rule(adadelta), gpu_elementwise(adadelta)


@cpu_kernel
def adadelta_cpu(theta, g, v, u, scalars):
    over(_adadelta_cpu, (theta, g, v, u), Scalars(*unpack(Scalars, scalars)))
