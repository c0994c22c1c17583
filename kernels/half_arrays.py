"""Whole arrays of 16-bit numbers: widened, rounded, and stored from wider ones."""

from typing import Any

import numpy as np
from numba import types

from refoptim.kernels import half, philox
from refoptim.kernels.arithmetic import unpack
from refoptim.kernels.half_elements import Elements
from refoptim.kernels.intrinsics import intrinsic
from refoptim.kernels.jit import GRAIN, cpu_loop, cpu_tasks
from refoptim.kernels.philox import Draws, draw


@intrinsic
def number(typing_context, x):
    """Return an element of an array as the number that it is, a float32 if it has 16 bits."""
    found = types.float32 if half.is_half(x) else x

    def generate(context, builder, signature, arguments):
        if not half.is_half(x):
            return arguments[0]
        return half.widen(builder, x, arguments[0], half.has_float16(context))

    return found(x), generate


@intrinsic
def _put(typing_context, target, x, i):
    def generate(context, builder, signature, arguments):
        values, i = context.make_tuple(builder, types.Tuple((target, x)), arguments[:2]), arguments[2]
        elements = Elements(context, builder, (target, x), values, i)
        wide = types.float32 if half.is_half(x.dtype) else x.dtype
        elements.store(0, elements.widened(1, wide), wide)
        return context.get_dummy_value()

    return types.void(target, x, i), generate


@intrinsic
def _put_drawn(typing_context, target, x, i, words):
    def generate(context, builder, signature, arguments):
        values, i = context.make_tuple(builder, types.Tuple((target, x)), arguments[:2]), arguments[2]
        elements = Elements(context, builder, (target, x), values, i)
        word = philox.bits_of(builder, arguments[3], i)
        elements.store(0, elements.widened(1, x.dtype), x.dtype, word)
        return context.get_dummy_value()

    return types.void(target, x, i, words), generate


@cpu_loop
def round_cpu(target, x):
    for i in range(target.size):
        _put(target, x, i)


@cpu_tasks
def round_drawn_cpu(target, x, draws, first, stop):
    draws = unpack(Draws, draws)
    while first < stop:
        words, end = draw(draws, first, stop)
        for i in range(first, end):
            _put_drawn(target, x, i, words)
        first = end


@cpu_tasks
def round_parts_cpu(target, x, draws, parts, first, stop):
    low, high, step, stream, place, factor = unpack(Draws, draws)
    for task in range(first, stop):
        begin, end = parts[task, 0], parts[task, 1]
        own = low, high, step, stream, place + np.uint64(parts[task, 2]), factor
        while begin < end:
            words, behind = draw(own, begin, end)
            for i in range(begin, behind):
                _put_drawn(target, x, i, words)
            begin = behind


@cpu_loop
def widen_cpu(out, x):
    for i in range(out.size):
        _put(out, x, i)


def widened(x: Any) -> Any:
    """Return a flat array of 16-bit numbers as float32, any other as it is."""
    if x.dtype.itemsize != 2:
        return x
    out = np.empty(x.size, np.float32)
    widen(out, x)
    return out


def widen(out: Any, x: Any) -> None:
    """Copy an array of 16-bit numbers into one of wider ones. Both are contiguous."""
    widen_cpu(out.reshape(-1), half.as_bits(x).reshape(-1))


def store(target: Any, x: Any, draws: Any = None) -> None:
    """Round an array of wider numbers once into one of 16 bits; into a wider one, as that rounds.

    With draws it is stochastic, with the random bits of their first result.
    """
    if target.dtype.itemsize != 2:
        target[...] = x
        return
    if not target.flags.c_contiguous:
        raise ValueError("the target must be contiguous")
    bits, x = half.as_bits(target).reshape(-1), np.ascontiguousarray(x).reshape(-1)
    if draws is None:
        round_cpu(bits, x)
    else:
        round_drawn_cpu.run(bits.size, GRAIN, x.nbytes, bits, x, draws)


def store_parts(target: Any, x: Any, draws: Any, parts: Any) -> None:
    """Round stochastically into parts of a flat array: see ``half_copies.store_parts``."""
    if target.dtype.itemsize != 2:
        target[...] = x
    else:
        grain = max(1, GRAIN * len(parts) // max(1, x.size))
        round_parts_cpu.run(len(parts), grain, x.nbytes, half.as_bits(target), x, draws, parts)


def restored(theta: Any, master: Any) -> Any:
    """Return the master weights, or the parameters where somebody has written to these."""
    rounded = np.empty_like(theta)
    store(rounded, master)
    same = half.as_bits(rounded) == half.as_bits(theta)
    return np.where(same, master, theta.astype(np.float32))
