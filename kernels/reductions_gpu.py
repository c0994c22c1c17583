"""Sums of arrays on a GPU, by the tree of :mod:`refoptim.kernels.reductions`, and their largest and smallest elements.

Sums stay on the GPU, as the two rows of an array with one column, until somebody asks for the number.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from refoptim.kernels import folds_gpu
from refoptim.kernels.half import as_bits
from refoptim.kernels.jit import GpuKernel
from refoptim.kernels.lanes_gpu import aligned, lanes_of_a_thread
from refoptim.kernels.memory import convert_gpu, temporaries, to_gpu, to_host
from refoptim.kernels.pairs import CHUNK, EXACT_SQUARES, LANES, rounded

# What adds the terms of an array up: it writes the sums of its chunks into columns, from this one on.
Term = Callable[[Any, Any, int], None]
Empty = Callable[..., Any]  # as np.empty


def products(y: Any) -> Term:
    """Return what sums the products of one array with another of its size."""

    def term(x: Any, sums: Any, column: int) -> None:
        _launch(folds_gpu.dot_gpu, (x, y), sums, column)

    return term


def chains(y: Any) -> Term:
    """Return what sums these products, of float32 numbers, as passes over many vectors do."""

    def term(x: Any, sums: Any, column: int) -> None:
        _launch(folds_gpu.chains_gpu, (x, y), sums, column)

    return term


def squares(part: Any, sums: Any, column: int) -> None:
    """Sum the squares."""
    _launch(folds_gpu.squares_gpu, (part,), sums, column)


def magnitudes(part: Any, sums: Any, column: int) -> None:
    """Sum the magnitudes."""
    _launch(folds_gpu.magnitudes_gpu, (part,), sums, column)


def counts(part: Any, sums: Any, column: int) -> None:
    """Count what is not 0."""
    _launch(folds_gpu.counts_gpu, (part,), sums, column)


def scaled_squares(extremes: Any) -> Term:
    """Return what sums the squares over the power of two next above the largest magnitude."""

    def term(part: Any, sums: Any, column: int) -> None:
        _launch(folds_gpu.scaled_squares_gpu, (part,), extremes, sums, column)

    return term


def total(term: Term, arrays: Sequence[Any], empty: Empty) -> Any:
    """Return the sum over flat arrays, taken as one, none of them empty. How they are cut changes no bit."""
    sums = empty((2, _chunks(sum(x.size for x in arrays))))
    if len(arrays) == 1:
        term(arrays[0], sums, 0)
    else:
        _sum_chunks(term, arrays, sums, empty(CHUNK))
    return _joined(folds_gpu.pairs_gpu, sums, empty)


def _sum_chunks(term: Term, arrays: Sequence[Any], sums: Any, chunk: Any) -> None:
    """Sum the chunks. Only those that lie in several arrays are copied."""
    column = filled = 0
    for x in arrays:
        # What completes the chunk that is begun, whole ones, and what begins another.
        head = min(-filled % CHUNK, x.size)
        whole = (x.size - head) // CHUNK
        end = head + whole * CHUNK
        if head:
            convert_gpu.launch(chunk[filled : filled + head], as_bits(x[:head]))
            filled += head
        if filled == CHUNK:
            term(chunk, sums, column)
            column, filled = column + 1, 0
        if whole:
            term(x[head:end], sums, column)
            column += whole
        if end < x.size:
            filled = x.size - end
            convert_gpu.launch(chunk[:filled], as_bits(x[end:]))
    if filled:
        term(chunk[:filled], sums, column)


def extremes(x: Any, empty: Empty) -> Any:
    """Return the largest and the smallest magnitude of a flat array that is not empty: NaN, if one is."""
    found = empty((2, _chunks(x.size)))
    _launch(folds_gpu.extremes_gpu, (x,), found)
    return _joined(folds_gpu.extreme_pairs_gpu, found, empty)


def norm_into(norm: Any, x: Any, empty: Empty, least: float = 0.0) -> None:
    """Write the 2-norm of a flat array that is not empty, or what it must be at least, into another's first element.

    The host does not wait for it.
    """
    sums = total(squares, [x], empty)
    if x.dtype.itemsize < sums.dtype.itemsize:
        # float64 has room for the squares of all other types.
        folds_gpu.root_gpu.run(1, 1, norm, sums, least)
    else:
        found = extremes(x, empty)
        folds_gpu.norm_gpu.run(1, 1, norm, sums, found, total(scaled_squares(found), [x], empty), least)


def norm(arrays: Sequence[Any], p: float) -> float:
    """Return the p-norm of flat arrays, taken as one, for a p of 2, 1, 0, inf or -inf. The host waits for it."""
    arrays = [x for x in arrays if x.size]
    if not arrays:
        return math.inf if p < 0 else 0.0
    with temporaries(arrays[0]) as empty:
        if p == 2:
            square = rounded(*numbers(total(squares, arrays, empty)))
            if EXACT_SQUARES <= square < math.inf:
                return math.sqrt(square)
        elif math.isfinite(p):
            return rounded(*numbers(total(magnitudes if p else counts, arrays, empty)))
        found = np.array([numbers(extremes(x, empty)) for x in arrays])
        extreme = float(found[:, 0].max() if p > 0 else found[:, 1].min())
        if math.isinf(p) or not 0 < extreme < math.inf:
            return extreme
        # By a power of two, so that nothing that counts is rounded.
        scaled = total(scaled_squares(to_gpu(np.array([[extreme], [extreme]]))), arrays, empty)
        return math.ldexp(math.sqrt(rounded(*numbers(scaled))), math.frexp(extreme)[1])


def numbers(sums: Any) -> tuple[float, float]:
    """Return the two numbers of a sum. The host waits for them."""
    first, second = to_host(sums)[:, 0]
    return float(first), float(second)


def _joined(kernel: GpuKernel, found: Any, empty: Empty) -> Any:
    """Return one column, given what chunks have."""
    while found.shape[1] > 1:
        pairs, found = found, empty((2, -(-found.shape[1] // LANES)))
        kernel.run(found.shape[1], LANES // lanes_of_a_thread([pairs.dtype.itemsize]), pairs, found)
    return found


def _launch(kernel: GpuKernel, arrays: Sequence[Any], *others: Any) -> None:
    """Launch a kernel of chunks: a block has one, and of its lanes a thread those that one load fills."""
    arrays = list(map(as_bits, arrays))
    threads = LANES // lanes_of_a_thread([x.dtype.itemsize for x in arrays])
    kernel.run(_chunks(arrays[0].size), threads, *arrays, aligned(*arrays), *others)


def _chunks(size: int) -> int:
    return -(-size // CHUNK)
