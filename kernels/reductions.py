"""Sums over flat arrays by one fixed tree: the same bits on any number of threads, any vector width, CPU or GPU.

An array is cut into chunks of ``CHUNK`` elements, however large it is. In a chunk, lane ``i`` adds the elements ``i``,
``i + LANES``, ``i + 2 * LANES`` and so on, in this order; then the upper half of the lanes is added to the lower half
until one is left. The chunks' sums are an array again, of which ``LANES`` are added in the same way, until one is left.

A sum is a pair of float64 numbers: the sum, and what its roundings lost. So a sum of positive terms is within 1 ulp of
the exact one, however many there are, and terms that cancel leave twice as many digits as float64 has.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from refoptim.kernels import reductions_gpu as gpu
from refoptim.kernels import threads
from refoptim.kernels.half import as_bits
from refoptim.kernels.half_arrays import number, widened
from refoptim.kernels.jit import cpu_loop, cpu_part, cpu_rule, cpu_tasks, renamed
from refoptim.kernels.magnitudes import largest_chunk
from refoptim.kernels.memory import on_gpu, temporaries, to_host
from refoptim.kernels.pairs import CHUNK, EXACT_SQUARES, LANES, add, magnitude, pair, product, rounded
from refoptim.kernels.registers import use_whole_registers

# The elements below one sum of chunks' sums: arrays that are taken as one are copied in pieces of this size.
BLOCK = CHUNK * LANES
# How many chunks a thread adds up at a time, at least, and at most where it asks for those ahead.
TURN, _LONGEST = 4, 32
# The norms that have the same bits on every machine.
_SAME_EVERYWHERE = (2, 1, 0, math.inf, -math.inf)

_add_cpu = cpu_rule(add)


@cpu_part
def fold_lanes(high, low):
    """Add the upper half of the lanes to the lower half until one is left."""
    width = LANES // 2
    while width:
        for lane in range(width):
            high[lane], low[lane] = _add_cpu(high[lane], low[lane], high[lane + width], low[lane + width])
        width //= 2
    return high[0], low[0]


def _sum_of(term, name):
    """Return what adds the terms of one chunk, compiled for this kind of term.

    It needs a name of its own: compiled code that is loaded from a file finds what it calls by name and types, and by a
    number that another process counts otherwise.
    """

    def sum_chunk(x, y, start, stop):
        use_whole_registers()
        high, low = np.empty(LANES), np.empty(LANES)
        for lane in range(LANES):
            high[lane] = low[lane] = 0.0
        for row in range(start, stop if stop < x.size else x.size, LANES):
            # Slices, because loops over their whole length become vector loads.
            xs, ys = x[row : row + LANES], y[row : row + LANES]
            for lane in range(xs.size):
                a, b = term(number(xs[lane]), number(ys[lane]))
                high[lane], low[lane] = _add_cpu(high[lane], low[lane], a, b)
        return fold_lanes(high, low)

    return cpu_part(renamed(sum_chunk, name, __name__))


dot_chunk = _sum_of(cpu_part(product), "dot_chunk")
_magnitudes_chunk = _sum_of(cpu_part(magnitude), "_magnitudes_chunk")
_pairs_chunk = _sum_of(cpu_part(pair), "_pairs_chunk")


@cpu_tasks
def dot_cpu(x, y, high, low, first, stop):
    for chunk in range(first, stop):
        high[chunk], low[chunk] = dot_chunk(x, y, chunk * CHUNK, (chunk + 1) * CHUNK)


@cpu_tasks
def magnitudes_cpu(x, high, low, first, stop):
    for chunk in range(first, stop):
        high[chunk], low[chunk] = _magnitudes_chunk(x, x, chunk * CHUNK, (chunk + 1) * CHUNK)


@cpu_loop
def pairs_cpu(high, low):
    """Add the chunks' sums up, until one is left in front."""
    while high.size > 1:
        sums = (high.size + LANES - 1) // LANES
        for i in range(sums):
            # In place: what is written over has been read.
            high[i], low[i] = _pairs_chunk(high, low, i * LANES, (i + 1) * LANES)
        high, low = high[:sums], low[:sums]


@cpu_tasks
def largest_cpu(x, largest, first, stop):
    for chunk in range(first, stop):
        largest[chunk] = largest_chunk(x, chunk * CHUNK)


def _sum_on_gpu(term: gpu.Term, x: Any) -> tuple[float, float]:
    if not x.size:
        return 0.0, 0.0
    with temporaries(x) as empty:
        return gpu.numbers(gpu.total(term, [x], empty))


def room_for_sums(x: Any) -> Any:
    """Return memory for the sums of an array's chunks."""
    return np.empty((2, -(-x.size // CHUNK)))


def _dot(x: Any, y: Any, room: Any = None) -> tuple[float, float]:
    """Return the sum of the products of two flat arrays as a pair.

    Short arrays are summed as float64, which they are in the sum anyway: one compiled loop serves all their types.
    """
    if x.size <= CHUNK:
        wide = x.astype(np.float64)
        x, y = wide, wide if y is x else y.astype(np.float64)
    high, low = room_for_sums(x) if room is None else room
    dot_cpu.run(high.size, TURN, x.nbytes, as_bits(x), as_bits(y), high, low)
    return sum_of_chunks(high, low)


def _magnitudes(x: Any) -> tuple[float, float]:
    """Return the sum of a flat array's elements without their signs as a pair. A product with 1 is exact."""
    if x.size <= CHUNK:
        return _dot(np.abs(x.astype(np.float64)), np.ones(x.size))
    high, low = room_for_sums(x)
    magnitudes_cpu.run(high.size, TURN, x.nbytes, as_bits(x), high, low)
    return sum_of_chunks(high, low)


def turn(chunks: int) -> int:
    """Return how many chunks to take at a time in a pass that asks for the next ones, which should be one's own."""
    return min(max(TURN, chunks // (16 * threads.get_count())), _LONGEST)


def sum_of_chunks(high: Any, low: Any) -> tuple[float, float]:
    """Return the sum of the chunks' sums, which are overwritten."""
    if high.size > 1:
        pairs_cpu.serial(high, low)  # it works in place, one sum after the other
    return (float(high[0]), float(low[0])) if high.size else (0.0, 0.0)


def _largest(x: Any) -> float:
    # Nothing is rounded, so that no order needs to be kept.
    if x.size > BLOCK:
        largest = np.empty(-(-x.size // CHUNK))
        largest_cpu.run(largest.size, TURN, x.nbytes, as_bits(x), largest)
        x = largest
    return float(np.abs(widened(x)).max(initial=0.0))


def dot(x: Any, y: Any, room: Any = None) -> float:
    """Return the sum of the products of two flat arrays of one size, both NumPy's or both on the GPU.

    On the CPU ``room`` may be what :func:`room_for_sums` has returned for them.
    """
    if x.shape != y.shape:
        raise ValueError(f"a dot product takes two arrays of one size, but got shapes {x.shape} and {y.shape}")
    return rounded(*(_sum_on_gpu(gpu.products(y), x) if on_gpu(x) else _dot(x, y, room)))


def sum_of_squares(x: Any, room: Any = None) -> float:
    """Return the sum of the squares of a flat array's elements."""
    return dot(x, x, room)


def sum_of_magnitudes(x: Any) -> float:
    """Return the sum of a flat array's elements without their signs."""
    return rounded(*(_sum_on_gpu(gpu.magnitudes, x) if on_gpu(x) else _magnitudes(x)))


def largest_magnitude(x: Any) -> float:
    """Return the largest of a flat array's elements without their signs: NaN if one is, 0 if there are none."""
    return gpu.norm([x], math.inf) if on_gpu(x) else _largest(x)


def norm(x: Any, p: float = 2.0) -> float:
    """Return the p-norm of a flat array, or of several, taken as one: how it is cut into them changes no bit.

    inf takes the largest magnitude, -inf the smallest, 0 counts the elements that are not 0. With these, 1 and 2 the
    bits are the same on every machine and on a GPU; any other p takes NumPy's pow, and copies of what lies on a GPU.
    """
    arrays = x if isinstance(x, list | tuple) else [x]
    if any(map(on_gpu, arrays)):
        if p in _SAME_EVERYWHERE and all(map(on_gpu, arrays)):
            return gpu.norm(arrays, p)
        arrays = [widened(to_host(array)) for array in arrays]
    return _norm(arrays, p)


def _norm(arrays: Sequence[Any], p: float) -> float:
    if p == 2:
        squares = _sum(_squares, arrays)
        if EXACT_SQUARES <= squares < math.inf:
            return math.sqrt(squares)
    elif p == 1:
        return _sum(_magnitudes, arrays)
    elif p == 0:
        return float(sum(map(np.count_nonzero, arrays)))
    extreme = _extreme(arrays, largest=p > 0)
    if math.isinf(p) or not 0 < extreme < math.inf:
        return extreme
    blocks = list(_blocks(arrays))  # what follows makes copies
    if p == 2:
        # By a power of two, so that nothing that counts is rounded.
        exponent = math.frexp(extreme)[1]
        squares = _sum(lambda block: _squares(np.ldexp(widened(block), -exponent)), blocks)
        return math.ldexp(math.sqrt(squares), exponent)
    with np.errstate(all="ignore"):
        # The extreme one, as 1, can neither overflow nor vanish in the power.
        total = _sum(lambda block: _magnitudes((np.abs(block.astype(np.float64)) / extreme) ** p), blocks)
        return float(extreme * np.float64(total) ** (1 / p))


def _squares(x: Any) -> tuple[float, float]:
    return _dot(x, x)


def _extreme(arrays: Sequence[Any], largest: bool) -> float:
    if largest:
        return _largest(np.array([_largest(x) for x in arrays]))
    return float(np.min([np.abs(widened(x)).min(initial=math.inf) for x in _blocks(arrays)], initial=math.inf))


def _sum(part: Callable[[Any], tuple[float, float]], arrays: Sequence[Any]) -> float:
    """Return the sum of the sums of all blocks, by the same tree as if they were summed in one call."""
    if len(arrays) == 1:
        return rounded(*part(arrays[0]))
    high, low = np.array([part(block) for block in _blocks(arrays)]).reshape(-1, 2).T.copy()
    return rounded(*sum_of_chunks(high, low))


def _blocks(arrays: Sequence[Any]) -> Iterator[Any]:
    """Yield the arrays, taken as one, in blocks. Only a block that lies in several arrays is copied, and widened."""
    parts, missing = [], BLOCK
    for array in arrays:
        rest = array
        while rest.size >= missing:
            yield np.concatenate(list(map(widened, [*parts, rest[:missing]]))) if parts else rest[:missing]
            rest, parts, missing = rest[missing:], [], BLOCK
        if rest.size:
            parts.append(rest)
            missing -= rest.size
    if parts:
        yield np.concatenate(list(map(widened, parts))) if len(parts) > 1 else parts[0]
