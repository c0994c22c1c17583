"""A running average for one element, equal or exponential, and the loops that run it over flat arrays."""

from typing import NamedTuple

from numba import prange

from refoptim.kernels.arithmetic import fma, unpack, widen
from refoptim.kernels.jit import cpu_kernel, cpu_rule, cuda, gpu_kernel, gpu_rule


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


_average_cpu, _average_gpu = cpu_rule(average), gpu_rule(average)


@cpu_kernel
def average_cpu(a, c, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in prange(a.size):
        a[i] = _average_cpu(widen(a[i], h), widen(c[i], h), h)


@gpu_kernel
def average_gpu(a, c, h):
    for i in range(cuda.grid(1), a.size, cuda.gridsize(1)):
        a[i] = _average_gpu(widen(a[i], h), widen(c[i], h), h)
