"""Averaged stochastic gradient descent for one element, and the loops that run it over flat arrays."""

from typing import NamedTuple

from refoptim.kernels.arithmetic import by_sign, fma, unpack, widen
from refoptim.kernels.jit import cpu_kernel, cpu_rule
from refoptim.kernels.strips import gpu_elementwise


class Scalars(NamedTuple):
    """What one step needs beside the arrays: computed on the host in float64, rounded once to the arithmetic's type."""

    sign: float  # -1 maximizes
    weight_decay: float  # weight_decay + lambd, added to the gradient; 0 is off
    eta: float
    mu: float
    one_minus_mu: float  # 0 where the average is of the last parameter alone


def asgd(theta, g, ax, h):
    """Return the parameter and its average after one step."""
    g = h.sign * g
    if h.weight_decay != 0:
        g = fma(h.weight_decay, theta, g)
    theta = fma(-h.eta, g, theta)
    mean = theta
    if h.one_minus_mu != 0:
        mean = fma(h.mu, theta - ax, ax)
    return theta, mean


_asgd_cpu, asgd_gpu = cpu_rule(asgd), gpu_elementwise(asgd)


@cpu_kernel
def asgd_cpu(theta, g, ax, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in range(theta.size):
        before = widen(ax[i], h)
        theta[i], mean = _asgd_cpu(widen(theta[i], h), widen(g[i], h), before, h)
        # The mean, as mu is above 0. The compiler does not know that and reads ax, also where the mean is theta: a CPU
        # takes half as long again to write an array that it has not read.
        ax[i] = by_sign(fma(-mean, mean, -h.mu), mean, mean, before)
