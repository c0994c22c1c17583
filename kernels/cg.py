"""Conjugate gradients: the rule of the direction, and its factors, which are made of dot products."""

import math
from typing import Any, NamedTuple

import numpy as np

from refoptim.kernels.arithmetic import fma, unpack, widen
from refoptim.kernels.jit import cpu_kernel, cpu_rule
from refoptim.kernels.memory import copied, temporaries
from refoptim.kernels.reductions import dot, sum_of_squares
from refoptim.kernels.strips import gpu_elementwise
from refoptim.kernels.vectors import add


class Scalars(NamedTuple):
    """What a direction needs beside the arrays: computed on the host in float64, rounded once to the vectors' type."""

    beta: float


def cg_direction(d, g, h):
    """Return the next direction, given the last one and the gradient."""
    return fma(h.beta, d, -g)


_cg_direction_cpu, cg_direction_gpu = cpu_rule(cg_direction), gpu_elementwise(cg_direction)


@cpu_kernel
def cg_direction_cpu(d, g, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in range(d.size):
        d[i] = _cg_direction_cpu(widen(d[i], h), widen(g[i], h), h)


def direction(g: Any, d: Any, beta: float) -> Any:
    """Return the next direction, as a new vector."""
    new = copied(d)
    with np.errstate(over="ignore"):
        cg_direction_cpu(new, g, np.array((beta,), g.dtype))
    return new


def polak_ribiere(g: Any, before: Any, d: Any) -> float:
    """Return Polak and Ribière's beta, at least 0; 0 also where there is none."""
    with temporaries(g) as empty:
        beta = _quotient(dot(g, _change(g, before, empty)), sum_of_squares(before))
    return max(beta, 0.0) if math.isfinite(beta) else 0.0


def hager_zhang(g: Any, before: Any, d: Any, eta: float) -> float:
    """Return Hager and Zhang's beta, at least their bound; 0 where there is none."""
    with temporaries(g) as empty:
        y = _change(g, before, empty)
        curvature = dot(d, y)
        beta = _quotient(dot(y, g) - 2.0 * _quotient(sum_of_squares(y), curvature) * dot(d, g), curvature)
    least = _quotient(-1.0, math.sqrt(sum_of_squares(d)) * min(eta, math.sqrt(sum_of_squares(before))))
    return max(beta, least) if math.isfinite(beta) else 0.0


def _change(g: Any, before: Any, empty: Any) -> Any:
    y = empty(g.size, g.dtype)
    add(y, g, before, -1.0)
    return y


def _quotient(a: float, b: float) -> float:
    return a / b if b else math.nan
