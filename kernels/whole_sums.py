"""Sums over short arrays in compiled code, by one thread and by the tree of :mod:`refoptim.kernels.reductions`."""

import math

import numpy as np
from numba import float64, types

from refoptim.kernels.addresses import address_of, array_of, call
from refoptim.kernels.arithmetic import absolute, maximum
from refoptim.kernels.jit import cpu_rule
from refoptim.kernels.pairs import CHUNK, EXACT_SQUARES, rounded
from refoptim.kernels.parts import part
from refoptim.kernels.reductions import dot_cpu, pairs_cpu

_rounded_cpu = cpu_rule(rounded)


def sums_at(is_long: bool) -> list[int]:
    """Return what these functions call, for arrays of more than a chunk or shorter ones: sums of float64 copies."""
    wide = array_of(np.float64)
    dot = address_of(dot_cpu.serial, (wide, wide, wide, wide, types.intp, types.intp))
    return [dot, address_of(pairs_cpu.serial, (wide, wide)) if is_long else 0]


@cpu_rule
def whole_dot(x, y, dot, pairs):
    """Return the sum of the products of two float64 arrays of at least one element."""
    chunks = (x.size + CHUNK - 1) // CHUNK
    sums = np.empty(2 * chunks)
    high, low = part(sums, 0, chunks), part(sums, chunks, chunks)
    call(dot, (x, y, high, low, 0, chunks))
    if chunks > 1:
        call(pairs, (high, low))
    return _rounded_cpu(sums[0], sums[chunks])


@cpu_rule
def whole_squares(x, dot, pairs):
    """Return the sum of the squares of an array of at least one element."""
    wide = np.empty(x.size)
    for k in range(x.size):
        wide[k] = x[k]
    return whole_dot(wide, wide, dot, pairs)


@cpu_rule
def whole_norm(x, dot, pairs):
    """Return the 2-norm of an array of at least one element."""
    norm, squares = 0.0, whole_squares(x, dot, pairs)
    if EXACT_SQUARES <= squares < math.inf:
        norm = math.sqrt(squares)
    else:
        for k in range(x.size):
            norm = maximum(norm, absolute(float64(x[k])))
        if 0 < norm < math.inf:
            # By a power of two, so that nothing that counts is rounded.
            exponent, scaled = math.frexp(norm)[1], np.empty(x.size)
            for k in range(x.size):
                scaled[k] = math.ldexp(float64(x[k]), -exponent)
            norm = math.ldexp(math.sqrt(whole_dot(scaled, scaled, dot, pairs)), exponent)
    return norm
