"""L-BFGS: the rule of a step, and the direction, which is made of steps and changes by dot products and sums."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import prange

from refoptim.kernels.arithmetic import unpack, widen
from refoptim.kernels.jit import cpu_kernel, cpu_rule, cuda, gpu_kernel, gpu_rule
from refoptim.kernels.reductions import dot
from refoptim.kernels.vectors import add


class Scalars(NamedTuple):
    """What a step needs beside the arrays: computed on the host in float64, rounded once to the vectors' type."""

    t: float  # how long the step is, as a multiple of its direction


def lbfgs_step(s, h):
    """Return the step, given its direction."""
    return h.t * s


_lbfgs_step_cpu, _lbfgs_step_gpu = cpu_rule(lbfgs_step), gpu_rule(lbfgs_step)


@cpu_kernel
def lbfgs_step_cpu(s, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in prange(s.size):
        s[i] = _lbfgs_step_cpu(widen(s[i], h), h)


@gpu_kernel
def lbfgs_step_gpu(s, h):
    for i in range(cuda.grid(1), s.size, cuda.gridsize(1)):
        s[i] = _lbfgs_step_gpu(widen(s[i], h), h)


def pair(g: Any, before: Any, d: Any, t: float) -> tuple[Any, Any]:
    """Return the change of the gradient and the step, as new vectors."""
    y, s = np.empty_like(g), d.copy()
    add(y, g, before, -1.0)
    with np.errstate(over="ignore"):
        lbfgs_step_cpu(s, np.array((t,), g.dtype))
    return y, s


def direction(
    g: Any, ys: Sequence[Any], steps: Sequence[Any], ro: Sequence[float], scale: float
) -> tuple[Any, list[float]]:
    """Return minus the approximate inverse Hessian times the gradient, and the factors of the first loop.

    Changes of the gradient, steps and the reciprocals of their products go from the oldest to the newest.
    """
    d = np.negative(g)
    al = [0.0] * len(ro)
    for i in reversed(range(len(ro))):
        al[i] = dot(steps[i], d) * ro[i]
        add(d, d, ys[i], -al[i])
    with np.errstate(all="ignore"):
        d *= d.dtype.type(scale)
    for i in range(len(ro)):
        add(d, d, steps[i], al[i] - dot(ys[i], d) * ro[i])
    return d, al
