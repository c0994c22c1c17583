"""Dot products of many vectors with others, and sums of them, in one pass over the memory each.

A pass goes over all vectors chunk by chunk: what meets every one of them stays in the cache. It gives the same bits as
one loop after the other.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from refoptim.kernels import reductions_gpu as gpu
from refoptim.kernels.arithmetic import fma
from refoptim.kernels.chains import STRIP, sum_products
from refoptim.kernels.jit import cpu_loop, cpu_part, cpu_rule, cpu_tasks
from refoptim.kernels.lanes import dot_any_chunk, vector
from refoptim.kernels.magnitudes import largest_chunk
from refoptim.kernels.memory import on_gpu, temporaries
from refoptim.kernels.pairs import CHUNK, LANES, rounded
from refoptim.kernels.reductions import TURN, dot, dot_chunk, pairs_cpu

_rounded_cpu = cpu_rule(rounded)
_sum_pairs = pairs_cpu.serial


@cpu_loop
def short_products_cpu(x, y, totals, start, stop):
    """Write the products of the rows of one matrix with those of another, from one of at most a chunk's columns on.

    All are float64. The ends are arguments because constants would have the sum compiled once more.
    """
    for i in range(totals.shape[0]):
        for j in range(totals.shape[1]):
            high, low = dot_chunk(x[i], y[j], start, stop)
            totals[i, j] = _rounded_cpu(high, low)


@cpu_tasks
def products_cpu(g, pair, factor, rows, columns, high, low, first, stop):
    """Write the sums of some chunks of the product of each row with each column, all of which are addresses.

    A pair, if there is one, is written chunk by chunk before it meets the others: g minus a vector, another scaled.
    """
    both, lanes = np.empty((2, CHUNK // LANES * STRIP // g.itemsize)), np.empty((rows.size, 2, 2, LANES))
    space = np.empty(CHUNK, g.dtype)
    for chunk in range(first, stop):
        if pair.size:
            start, end = chunk * CHUNK, min((chunk + 1) * CHUNK, g.size)
            y, s = vector(g, pair[0])[start:end], vector(g, pair[1])[start:end]
            # In place, because a vector that is another one is no vector loop's.
            if pair[2] != pair[0]:
                _assign(y, vector(g, pair[2])[start:end])
            if pair[3] != pair[1]:
                _assign(s, vector(g, pair[3])[start:end])
            _difference(y, g[start:end])
            _scaled(s, factor[0])
        sum_products(g, rows, columns, high, low, chunk, both, lanes, space)


@cpu_part
def _assign(z, x):
    for k in range(z.size):
        z[k] = x[k]


@cpu_part
def _difference(y, g):
    for k in range(y.size):
        y[k] = g[k] - y[k]


@cpu_part
def _scaled(s, factor):
    for k in range(s.size):
        s[k] = factor * s[k]


@cpu_tasks
def totals_cpu(totals, high, low, first, stop):
    """Add up the sums of the chunks of each product of some rows."""
    for i in range(first, stop):
        for j in range(totals.shape[1]):
            _sum_pairs(high[i, j], low[i, j])
            totals[i, j] = _rounded_cpu(high[i, j, 0], low[i, j, 0])


@cpu_part
def _add_rows(part, start, like, rows, factors):
    """Add multiples of vectors to what a part of their sum is so far, one after the other."""
    stop, i = start + part.size, 0
    while i + 4 <= rows.size:
        # Four at a time, so that the sum is loaded and stored once for all of them.
        a, b = vector(like, rows[i])[start:stop], vector(like, rows[i + 1])[start:stop]
        c, d = vector(like, rows[i + 2])[start:stop], vector(like, rows[i + 3])[start:stop]
        for k in range(part.size):
            two = fma(factors[i + 1], b[k], fma(factors[i], a[k], part[k]))
            part[k] = fma(factors[i + 3], d[k], fma(factors[i + 2], c[k], two))
        i += 4
    while i < rows.size:
        a = vector(like, rows[i])[start:stop]
        for k in range(part.size):
            part[k] = fma(factors[i], a[k], part[k])
        i += 1


@cpu_tasks
def recursion_cpu(d, g, rows, factors, high, low, largest, first, stop):
    """Write what is left of -g after two loops, each of which adds multiples of vectors; the first ends with a product.

    Rows and factors are those of one loop, then of the other; the last factor is that of the product. Also written are
    the sums of chunks of the product with g, and the largest magnitude of each chunk.
    """
    half = rows.size // 2
    for chunk in range(first, stop):
        start = chunk * CHUNK
        part = d[start : start + CHUNK]
        for k in range(part.size):
            part[k] = -g[start + k]
        _add_rows(part, start, d, rows[:half], factors[:half])
        for k in range(part.size):
            part[k] = factors[-1] * part[k]
        _add_rows(part, start, d, rows[half:], factors[half:-1])
        high[chunk], low[chunk] = dot_any_chunk(d, g, start)
        largest[chunk] = largest_chunk(d, start)


@cpu_loop
def chain_cpu(d, rows, factors):
    """Add multiples of short vectors one after the other: simpler than the above, because a first step waits for it."""
    for i in range(factors.size):
        for k in range(d.size):
            d[k] = fma(factors[i], rows[i, k], d[k])


def product(x: Any, y: Any) -> float:
    """Return the dot product of two vectors, as passes over many have it."""
    return float(products([x], [y])[0, 0]) if x.size > CHUNK and x.dtype.itemsize < 8 else dot(x, y)


def addresses(vectors: Sequence[Any]) -> Any:
    """Return where vectors on the host begin."""
    return np.array([x.__array_interface__["data"][0] for x in vectors], np.intp)


def products(rows: Sequence[Any], columns: Sequence[Any], pair: Sequence[Any] = (), factor: Any = None) -> Any:
    """Return the dot product of each vector with each of others, of at least one, all of one type and size.

    A pair y, s, before, d is written first, in the same pass, and may be among them: y becomes the first column minus
    before, and s the factor, in an array, times d. That is for more than a chunk, on the host.
    """
    like = columns[0]
    if not like.size or not rows:
        return np.zeros((len(rows), len(columns)))
    if on_gpu(like):
        with temporaries(like) as empty:
            # The host waits once all of them are on their way.
            term = gpu.products if like.size <= CHUNK or like.dtype.itemsize == 8 else gpu.chains
            sums = [[gpu.total(term(y), [x], empty) for y in columns] for x in rows]
            return np.array([[rounded(*gpu.numbers(pair)) for pair in row] for row in sums])
    shape = len(rows), len(columns)
    totals = np.empty(shape)
    if like.size <= CHUNK:
        # As float64, which they are in a sum anyway: what is compiled for other short sums serves these.
        short_products_cpu.serial(np.array(rows, np.float64), np.array(columns, np.float64), totals, 0, like.size)
        return totals
    chunks = -(-like.size // CHUNK)
    high, low = np.empty((2, *shape, chunks))
    moved = (len(rows) + len(columns)) * like.nbytes
    factor = np.ones(1, like.dtype) if factor is None else factor
    arguments = addresses(pair), factor, addresses(rows), addresses(columns), high, low
    products_cpu.run(chunks, TURN, moved, like, *arguments)
    totals_cpu.run(len(rows), 1, high.nbytes, totals, high, low)
    return totals
