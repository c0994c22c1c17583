"""The rule that minimizers share: one vector and a multiple of another."""

from typing import Any, NamedTuple

import numpy as np
from numba import prange

from refoptim.kernels.arithmetic import fma, unpack, widen
from refoptim.kernels.jit import cpu_kernel, cpu_rule
from refoptim.kernels.memory import empty, on_gpu
from refoptim.kernels.scaling import negative_gpu
from refoptim.kernels.strips import gpu_elementwise


class Scalars(NamedTuple):
    """What a sum needs beside the arrays: computed on the host in float64, rounded once to the vectors' type."""

    factor: float


def combine(z, x, y, h):
    """Return x + factor * y; z is what was there before."""
    return fma(h.factor, y, x)


_combine_cpu, combine_gpu = cpu_rule(combine), gpu_elementwise(combine)


@cpu_kernel
def combine_cpu(z, x, y, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in prange(z.size):
        z[i] = _combine_cpu(widen(z[i], h), widen(x[i], h), widen(y[i], h), h)


def add(z: Any, x: Any, y: Any, factor: float) -> None:
    """Write x + factor * y to z, which may be one of them, in y's precision."""
    with np.errstate(over="ignore"):
        combine_cpu(z, x, y, np.array((factor,), y.dtype))


def negative(x: Any) -> Any:
    """Return -x, as a new vector."""
    if not on_gpu(x):
        return np.negative(x)
    z = empty(x.size, x.dtype, x)
    negative_gpu.launch(z, x)
    return z
