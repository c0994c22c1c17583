"""A running average for one element, equal or exponential, and the loops that run it over flat arrays."""

from typing import NamedTuple

from refoptim.kernels.arithmetic import fma, unpack, widen
from refoptim.kernels.jit import cpu_kernel, cpu_rule
from refoptim.kernels.strips import gpu_elementwise


class Scalars(NamedTuple):
    """What one update needs beside the arrays: computed on the host in float64, rounded once to the arithmetic's."""

    weight: float  # of the current value: 1 - decay, or 1 / (n + 1)
    keep: float  # of the average, where it weighs less than the current value; else 0


def average(a, c, h):
    """Return the average after one more value."""
    # From the nearer side the correction is small, and so is what rounding does to it.
    if h.keep != 0:
        return fma(h.keep, a - c, c)
    return fma(h.weight, c - a, a)


_average_cpu, average_gpu = cpu_rule(average), gpu_elementwise(average)


@cpu_kernel
def average_cpu(a, c, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in range(a.size):
        a[i] = _average_cpu(widen(a[i], h), widen(c[i], h), h)
