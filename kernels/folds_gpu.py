"""The CUDA kernels of sums and extremes: a block folds a chunk of an array, or many pairs, into a pair.

Sums are those of the tree of :mod:`refoptim.kernels.reductions`.
"""

import math

from numba import float64

from refoptim.kernels.arithmetic import absolute, fma, maximum, minimum, sqrt
from refoptim.kernels.jit import cuda, gpu_kernel, gpu_part, gpu_rule
from refoptim.kernels.lanes_gpu import ROWS, begun, take_few, take_rows
from refoptim.kernels.pairs import CHUNK, EXACT_SQUARES, LANES, add, product, rounded

_add_gpu, _product_gpu, _rounded_gpu = map(gpu_rule, (add, product, rounded))
_INFINITY = math.inf


@gpu_part
def _product_taken(high, low, x, y, _):
    a, b = _product_gpu(x, y)
    return _add_gpu(high, low, a, b)


@gpu_part
def _product_chained(total, unused, x, y, _):
    return fma(x, y, total), unused


@gpu_part
def _chains_joined(total, unused, other, _):
    return total + other, unused


@gpu_part
def square_taken(high, low, x, _):
    a, b = _product_gpu(x, x)
    return _add_gpu(high, low, a, b)


@gpu_part
def _scaled_square_taken(high, low, x, exponent):
    u = math.ldexp(x, -exponent)
    a, b = _product_gpu(u, u)
    return _add_gpu(high, low, a, b)


@gpu_part
def _magnitude_taken(high, low, x, _):
    return _add_gpu(high, low, absolute(x), 0.0)


@gpu_part
def _count_taken(high, low, x, _):
    return _add_gpu(high, low, float64(x != 0), 0.0)


@gpu_part
def _pair_taken(high, low, x, y, _):
    return _add_gpu(high, low, x, y)


@gpu_part
def _extremes_taken(largest, smallest, x, _):
    return maximum(largest, absolute(x)), minimum(smallest, absolute(x))


@gpu_part
def _extremes_joined(largest, smallest, other, another):
    return maximum(largest, other), minimum(smallest, another)


@gpu_part
def _extreme_pair_taken(largest, smallest, x, y, _):
    return maximum(largest, x), minimum(smallest, y)


@gpu_part
def fold(take, join, begin, arrays, start, stop, whole, h, highs, lows):
    """Fold elements into pairs, of which the first that is left is that of all: of these arrays, which threads share.

    A thread has as many neighbouring lanes as its part of the block. ``whole`` allows loads of 16 bytes.
    """
    lanes = highs.size
    first = cuda.threadIdx.x * (lanes // cuda.blockDim.x)
    i, pairs = start + first, begun(arrays, 0.0, begin)
    own = len(pairs) // 2
    while whole and i + (ROWS - 1) * lanes + own <= stop:
        pairs = take_rows(take, pairs, arrays, i, lanes, h)
        i += ROWS * lanes
    while i < stop:
        pairs = take_few(take, pairs, arrays, i, stop, h)
        i += lanes
    for j in range(own):
        highs[first + j], lows[first + j] = pairs[2 * j], pairs[2 * j + 1]
    cuda.syncthreads()
    width = lanes // 2
    while width:
        for lane in range(cuda.threadIdx.x, width, cuda.blockDim.x):
            highs[lane], lows[lane] = join(highs[lane], lows[lane], highs[lane + width], lows[lane + width])
        cuda.syncthreads()
        width //= 2


@gpu_part
def _fold_chunk(take, join, begin, arrays, whole, size, h, found, column):
    """Fold the chunk of this size that is the block's, and write the pair into a column."""
    # The simulator takes two arrays made in one line for one.
    highs = cuda.shared.array(LANES, float64)
    lows = cuda.shared.array(LANES, float64)
    start, column = cuda.blockIdx.x * size, column + cuda.blockIdx.x
    fold(take, join, begin, arrays, start, min(start + size, arrays[0].size), whole, h, highs, lows)
    if cuda.threadIdx.x == 0:
        found[0, column], found[1, column] = highs[0], lows[0]


@gpu_kernel
def dot_gpu(x, y, whole, sums, column):
    _fold_chunk(_product_taken, _add_gpu, 0.0, (x, y), whole, CHUNK, 0, sums, column)


@gpu_kernel
def chains_gpu(x, y, whole, sums, column):
    """Sum the products of float32 numbers as :mod:`refoptim.kernels.chains` does."""
    _fold_chunk(_product_chained, _chains_joined, 0.0, (x, y), whole, CHUNK, 0, sums, column)


@gpu_kernel
def squares_gpu(x, whole, sums, column):
    _fold_chunk(square_taken, _add_gpu, 0.0, (x,), whole, CHUNK, 0, sums, column)


@gpu_kernel
def scaled_squares_gpu(x, whole, extremes, sums, column):
    """Sum the squares of x over the power of two next above the largest magnitude."""
    exponent = math.frexp(extremes[0, 0])[1]
    _fold_chunk(_scaled_square_taken, _add_gpu, 0.0, (x,), whole, CHUNK, exponent, sums, column)


@gpu_kernel
def magnitudes_gpu(x, whole, sums, column):
    _fold_chunk(_magnitude_taken, _add_gpu, 0.0, (x,), whole, CHUNK, 0, sums, column)


@gpu_kernel
def counts_gpu(x, whole, sums, column):
    """Count the elements that are not 0."""
    _fold_chunk(_count_taken, _add_gpu, 0.0, (x,), whole, CHUNK, 0, sums, column)


@gpu_kernel
def pairs_gpu(pairs, sums):
    """Add up what chunks have."""
    _fold_chunk(_pair_taken, _add_gpu, 0.0, (pairs[0], pairs[1]), False, LANES, 0, sums, 0)


@gpu_kernel
def extremes_gpu(x, whole, found):
    """Find the largest and the smallest magnitude."""
    _fold_chunk(_extremes_taken, _extremes_joined, _INFINITY, (x,), whole, CHUNK, 0, found, 0)


@gpu_kernel
def extreme_pairs_gpu(pairs, found):
    """Find the largest and the smallest of what chunks have."""
    _fold_chunk(_extreme_pair_taken, _extremes_joined, _INFINITY, (pairs[0], pairs[1]), False, LANES, 0, found, 0)


@gpu_kernel
def root_gpu(norm, squares, least):
    """Write the root of the sum of the squares, or what it must be at least."""
    norm[0] = maximum(sqrt(_rounded_gpu(squares[0, 0], squares[1, 0])), least)


@gpu_kernel
def norm_gpu(norm, squares, extremes, scaled, least):
    """Write the same, of the squares that stayed in the range."""
    square, largest = _rounded_gpu(squares[0, 0], squares[1, 0]), extremes[0, 0]
    if EXACT_SQUARES <= square < _INFINITY:
        found = sqrt(square)
    elif 0.0 < largest < _INFINITY:
        found = math.ldexp(sqrt(_rounded_gpu(scaled[0, 0], scaled[1, 0])), math.frexp(largest)[1])
    else:
        found = largest
    norm[0] = maximum(found, least)
