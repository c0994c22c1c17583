"""Conjugate gradients: the rule of the direction, and its factors, which are made of dot products."""

import math
from typing import Any, NamedTuple

import numpy as np

from refoptim.kernels.arithmetic import fma, unpack, widen
from refoptim.kernels.changes import FEW, PRODUCTS, measured_chunk
from refoptim.kernels.jit import cpu_kernel, cpu_rule, cpu_tasks
from refoptim.kernels.lanes import dot_any_chunk, vector
from refoptim.kernels.magnitudes import largest_chunk
from refoptim.kernels.measures import Measured, Sums, is_long, measured
from refoptim.kernels.memory import assign, temporaries
from refoptim.kernels.pairs import CHUNK
from refoptim.kernels.prefetch import copy_chunk
from refoptim.kernels.products import addresses, product, totals_cpu
from refoptim.kernels.reductions import turn
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


@cpu_tasks
def measured_direction_cpu(new, others, g, scalars, sums, first, stop):
    """Write chunks of the next direction, the sums of their products with the gradient, and how large they are."""
    h = Scalars(*unpack(Scalars, scalars))
    for chunk in range(first, stop):
        start = chunk * CHUNK
        part, gradient = new[start : start + CHUNK], g[start : start + CHUNK]
        if others.size:
            # In place, because a vector that may be another one is no vector loop's.
            copy_chunk(part, vector(g, others[0])[start : start + CHUNK])
        for k in range(part.size):
            part[k] = _cg_direction_cpu(widen(part[k], h), widen(gradient[k], h), h)
        sums[0, chunk], sums[1, chunk] = dot_any_chunk(new, g, start)
        sums[2, chunk] = largest_chunk(new, start)


def direction(new: Any, g: Any, d: Any, beta: float) -> Measured:
    """Write the next direction into a vector, which may be the last one. Return it, measured along the gradient."""
    with np.errstate(over="ignore"):
        scalars = np.array((beta,), g.dtype)
    if is_long(g):
        sums = Sums(g.size)
        others = addresses([] if new is d else [d])
        measured_direction_cpu.run(sums.chunks, turn(sums.chunks), 3 * g.nbytes, new, others, g, scalars, sums.arrays)
        return sums.measured(new)
    if new is not d:
        assign(new, d)
    cg_direction_cpu(new, g, scalars)
    return measured(new, g)


class Products(NamedTuple):
    """What the factors are made of: g is the gradient, b the last one, y their difference and d the last direction."""

    gg: float
    bb: float
    gy: float
    dg: float = math.nan
    yy: float = math.nan
    dy: float = math.nan
    dd: float = math.nan


@cpu_tasks
def measured_gradient_cpu(g, x, others, sums, first, stop):
    """Write chunks of the gradient, the sums of its products, and how large it is; the last one and d are addresses."""
    b, d = vector(g, others[0]), vector(g, others[1])
    for chunk in range(first, stop):
        measured_chunk(g, x, b, d, sums, chunk)


def gradient(g: Any, x: Any, before: Any, d: Any, count: int) -> Measured:
    """Copy x into g, a long vector, if it is another. Return g, measured along d, with so many products or more."""
    if x.dtype != g.dtype:
        assign(g, x)
        x = g
    chunks, count = -(-g.size // CHUNK), FEW if count <= FEW else len(PRODUCTS)
    sums, totals = np.empty((2 * count + 1, chunks)), np.empty((1, count))
    measured_gradient_cpu.run(chunks, turn(chunks), 4 * g.nbytes, g, x, addresses([before, d]), sums)
    totals_cpu.serial(totals, *sums[:-1].reshape(2, 1, count, chunks), 0, 1)
    found = Products(*totals[0].tolist())
    return Measured(g, float(sums[-1].max()), found.dg, found)


def products(g: Any, before: Any, d: Any, count: int) -> Products:
    """Return so many of the products, each by a pass of its own."""
    with temporaries(g) as empty:
        y = empty(g.size, g.dtype)
        add(y, g, before, -1.0)
        pairs = [(g, g), (before, before), (g, y), (d, g), (y, y), (d, y), (d, d)]
        return Products(*(product(*pair) for pair in pairs[:count]))


def polak_ribiere(p: Products) -> float:
    """Return Polak and Ribière's beta, at least 0; 0 also where there is none."""
    beta = _quotient(p.gy, p.bb)
    return max(beta, 0.0) if math.isfinite(beta) else 0.0


def hager_zhang(p: Products, eta: float) -> float:
    """Return Hager and Zhang's beta, at least their bound; 0 where there is none."""
    beta = _quotient(p.gy - 2.0 * _quotient(p.yy, p.dy) * p.dg, p.dy)
    least = _quotient(-1.0, math.sqrt(p.dd) * min(eta, math.sqrt(p.bb)))
    return max(beta, least) if math.isfinite(beta) else 0.0


def _quotient(a: float, b: float) -> float:
    return a / b if b else math.nan
