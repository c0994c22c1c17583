"""Conjugate gradients: the rule of the direction, and its factors, which are made of dot products."""

import math
from typing import Any, NamedTuple

import numpy as np

from refoptim.kernels.arithmetic import fma, unpack, widen
from refoptim.kernels.jit import cpu_kernel, cpu_rule, cpu_tasks
from refoptim.kernels.lanes import dot_any_chunk, vector
from refoptim.kernels.magnitudes import largest_chunk
from refoptim.kernels.measures import Measured, Sums, is_long, measured
from refoptim.kernels.memory import assign, temporaries
from refoptim.kernels.pairs import CHUNK, rounded
from refoptim.kernels.products import addresses, product
from refoptim.kernels.reductions import TURN, sum_of_chunks
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
def measured_direction_cpu(new, others, g, scalars, high, low, largest, first, stop):
    """Write chunks of the next direction, the sums of their products with the gradient, and how large they are."""
    h = Scalars(*unpack(Scalars, scalars))
    for chunk in range(first, stop):
        start = chunk * CHUNK
        part, gradient = new[start : start + CHUNK], g[start : start + CHUNK]
        if others.size:
            # In place, because a vector that may be another one is no vector loop's.
            d = vector(g, others[0])[start : start + CHUNK]
            for k in range(part.size):
                part[k] = d[k]
        for k in range(part.size):
            part[k] = _cg_direction_cpu(widen(part[k], h), widen(gradient[k], h), h)
        high[chunk], low[chunk] = dot_any_chunk(new, g, start)
        largest[chunk] = largest_chunk(new, start)


def direction(new: Any, g: Any, d: Any, beta: float) -> Measured:
    """Write the next direction into a vector, which may be the last one. Return it, measured along the gradient."""
    with np.errstate(over="ignore"):
        scalars = np.array((beta,), g.dtype)
    if is_long(g):
        sums = Sums(g.size)
        others = addresses([] if new is d else [d])
        measured_direction_cpu.run(sums.chunks, TURN, 3 * g.nbytes, new, others, g, scalars, *sums.arrays)
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
    yy: float = math.nan
    dy: float = math.nan
    dg: float = math.nan
    dd: float = math.nan


@cpu_tasks
def sums_of_products_cpu(g, others, high, low, first, stop):
    """Write the sums of chunks of these products, or of the first three; b and d are addresses."""
    change, b, d = np.empty(CHUNK, g.dtype), vector(g, others[0]), vector(g, others[1])
    for chunk in range(first, stop):
        start, end = chunk * CHUNK, min((chunk + 1) * CHUNK, g.size)
        y = change[: end - start]
        for k in range(y.size):
            y[k] = g[start + k] - b[start + k]
        high[0, chunk], low[0, chunk] = dot_any_chunk(g, g, start)
        high[1, chunk], low[1, chunk] = dot_any_chunk(b, b, start)
        high[2, chunk], low[2, chunk] = dot_any_chunk(g[start:end], y, 0)
        if high.shape[0] > 3:
            high[3, chunk], low[3, chunk] = dot_any_chunk(y, y, 0)
            high[4, chunk], low[4, chunk] = dot_any_chunk(d[start:end], y, 0)
            high[5, chunk], low[5, chunk] = dot_any_chunk(d, g, start)
            high[6, chunk], low[6, chunk] = dot_any_chunk(d, d, start)


def products(g: Any, before: Any, d: Any, count: int) -> Products:
    """Return the products, or the first three if no more are asked for."""
    if is_long(g):
        high, low = np.empty((2, count, -(-g.size // CHUNK)))
        sums_of_products_cpu.run(high.shape[1], TURN, 3 * g.nbytes, g, addresses([before, d]), high, low)
        return Products(*(rounded(*sum_of_chunks(*sums)) for sums in zip(high, low)))
    with temporaries(g) as empty:
        y = empty(g.size, g.dtype)
        add(y, g, before, -1.0)
        pairs = [(g, g), (before, before), (g, y), (y, y), (d, y), (d, g), (d, d)]
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
