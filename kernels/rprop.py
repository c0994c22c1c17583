"""Rprop for one element, and the loops that run it over flat arrays."""

from typing import NamedTuple

from refoptim.kernels.arithmetic import by_sign, fma, limited, unpack, widen
from refoptim.kernels.jit import cpu_kernel, cpu_rule
from refoptim.kernels.strips import gpu_elementwise


class Scalars(NamedTuple):
    """What one step needs beside the arrays: computed on the host in float64, rounded once to the arithmetic's type."""

    sign: float  # -1 maximizes
    eta_minus: float
    eta_plus: float
    smallest: float  # step size
    largest: float
    zero: float  # a rule has no literals
    one: float


def rprop(theta, g, prev, step, h):
    """Return the parameter, the gradient to compare the next one with, and the step size after one step.

    The product of both gradients may underflow, its sign does not. The step size is a product, so that an fma takes it
    from the parameter.
    """
    g = h.sign * g
    turn = by_sign(prev, -g, prev, g)
    factor = by_sign(turn, h.eta_minus, h.one, h.eta_plus)
    step = limited(step * factor, h.smallest, h.largest)
    g = by_sign(turn, h.zero, g, g)
    return fma(-h.one, by_sign(g, -step, h.zero, step), theta), g, step


_rprop_cpu, rprop_gpu = cpu_rule(rprop), gpu_elementwise(rprop)


@cpu_kernel
def rprop_cpu(theta, g, prev, step, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in range(theta.size):
        theta[i], prev[i], step[i] = _rprop_cpu(
            widen(theta[i], h), widen(g[i], h), widen(prev[i], h), widen(step[i], h), h
        )
