"""L-BFGS: the rule of a step, and the direction, which is made of steps and changes by dot products and sums."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import prange

from refoptim.kernels.arithmetic import unpack, widen
from refoptim.kernels.jit import cpu_kernel, cpu_rule
from refoptim.kernels.memory import copied, empty
from refoptim.kernels.reductions import dot
from refoptim.kernels.strips import gpu_elementwise
from refoptim.kernels.vectors import add, negative


class Scalars(NamedTuple):
    """What a step needs beside the arrays: computed on the host in float64, rounded once to the vectors' type."""

    t: float  # how long the step is, as a multiple of its direction


def lbfgs_step(s, h):
    """Return the step, given its direction."""
    return h.t * s


_lbfgs_step_cpu, lbfgs_step_gpu = cpu_rule(lbfgs_step), gpu_elementwise(lbfgs_step)


@cpu_kernel
def lbfgs_step_cpu(s, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in prange(s.size):
        s[i] = _lbfgs_step_cpu(widen(s[i], h), h)


def pair(g: Any, before: Any, d: Any, t: float) -> tuple[Any, Any]:
    """Return the change of the gradient and the step, as new vectors."""
    y, s = empty(g.size, g.dtype, g), copied(d)
    add(y, g, before, -1.0)
    _scale(s, t)
    return y, s


def direction(
    g: Any, ys: Sequence[Any], steps: Sequence[Any], ro: Sequence[float], scale: float
) -> tuple[Any, list[float]]:
    """Return minus the approximate inverse Hessian times the gradient, and the factors of the first loop.

    Changes of the gradient, steps and the reciprocals of their products go from the oldest to the newest.
    """
    d = negative(g)
    al = [0.0] * len(ro)
    for i in reversed(range(len(ro))):
        al[i] = dot(steps[i], d) * ro[i]
        add(d, d, ys[i], -al[i])
    _scale(d, scale)
    for i in range(len(ro)):
        add(d, d, steps[i], al[i] - dot(ys[i], d) * ro[i])
    return d, al


def _scale(s: Any, t: float) -> None:
    with np.errstate(over="ignore"):
        lbfgs_step_cpu(s, np.array((t,), s.dtype))
