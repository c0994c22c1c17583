"""Adam for one element of a row that has a gradient, and the loops that run it over flat arrays of such rows."""

from typing import NamedTuple

from refoptim.kernels.arithmetic import fma, sqrt, unpack, widen
from refoptim.kernels.jit import cpu_kernel, cpu_rule
from refoptim.kernels.strips import gpu_elementwise


class Scalars(NamedTuple):
    """What one step needs beside the arrays: computed on the host in float64, rounded once to the arithmetic's type."""

    sign: float  # -1 maximizes
    beta1: float
    one_minus_beta1: float
    beta2: float
    one_minus_beta2: float
    eps: float
    step_size: float  # lr * sqrt(1 - beta2**t) / (1 - beta1**t)


def sparse_adam(theta, g, m, v, h):
    """Return the parameter and both moments after one step."""
    g = h.sign * g
    m = fma(h.beta1, m, h.one_minus_beta1 * g)
    v = fma(h.beta2, v, h.one_minus_beta2 * g * g)
    return fma(-h.step_size, m / (sqrt(v) + h.eps), theta), m, v


_sparse_adam_cpu, sparse_adam_gpu = cpu_rule(sparse_adam), gpu_elementwise(sparse_adam)


@cpu_kernel
def sparse_adam_cpu(theta, g, m, v, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in range(theta.size):
        theta[i], m[i], v[i] = _sparse_adam_cpu(widen(theta[i], h), widen(g[i], h), widen(m[i], h), widen(v[i], h), h)
