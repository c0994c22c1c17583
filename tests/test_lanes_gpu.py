"""Lanes: what compiled code takes from rows of elements is what the plain functions take, and the CUDA simulator runs.

No GPU takes part: the code is compiled for the CPU.
"""

import numpy as np
import pytest
from numba import njit

from refoptim.kernels.half import as_bits
from refoptim.kernels.lanes_gpu import ROWS, aligned, begun, lanes_of_a_thread, take_few, take_rows
from refoptim.kernels.strips import ACCESS

STRIDE, SIZE = 24, 100


def product_taken(high, low, x, y, h):
    return high + x * y, low + h * x


def extremes_taken(largest, smallest, x, h):
    return max(largest, x), min(smallest, x * h)


def halved(high, low, x, half):
    return half * high + x, low  # depends on the order


COMPILED = {take: njit(error_model="numpy")(take) for take in (product_taken, extremes_taken)}


@njit
def begun_compiled(arrays, first, second):
    return begun(arrays, first, second)


@njit
def take_rows_compiled(take, pairs, arrays, i, stride, h):
    return take_rows(take, pairs, arrays, i, stride, h)


@njit
def take_few_compiled(take, pairs, arrays, i, stop, h):
    return take_few(take, pairs, arrays, i, stop, h)


def array(kind, seed):
    """Return numbers that begin where 16 bytes do, whatever NumPy does."""
    values = np.random.default_rng(seed).standard_normal(SIZE)
    if kind == "bfloat16":  # as kernels see them, the upper halves of float32
        values = (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    else:
        values = as_bits(values.astype(kind))
    kind = values.dtype
    memory = np.zeros(values.nbytes + ACCESS, np.uint8)
    placed = memory[-memory.ctypes.data % ACCESS :][: values.nbytes].view(kind)
    placed[...] = values
    return placed


@pytest.mark.parametrize(
    ("take", "kinds"),
    [
        (product_taken, ("float32", "float32")),
        (product_taken, ("float64", "float64")),
        (product_taken, ("float32", "float64")),  # of the wider one two loads
        (product_taken, ("float64", "float32")),
        (extremes_taken, ("float32",)),
        (extremes_taken, ("float64",)),
        (product_taken, ("float16", "float16")),
        (extremes_taken, ("bfloat16",)),
    ],
)
def test_compiled_code_takes_what_the_plain_functions_take(take, kinds):
    arrays = tuple(array(kind, seed) for seed, kind in enumerate(kinds))
    own, h = lanes_of_a_thread([x.itemsize for x in arrays]), 0.75
    start = begun(arrays, 0.25, -0.5)
    assert begun_compiled(arrays, 0.25, -0.5) == start == (0.25, -0.5) * own
    rows = take_rows(take, start, arrays, 8, STRIDE, h)
    assert take_rows_compiled(COMPILED[take], start, arrays, 8, STRIDE, h) == rows != start
    for count in range(own + 2):
        few = take_few(take, rows, arrays, 5, 5 + count, h)
        assert take_few_compiled(COMPILED[take], rows, arrays, 5, 5 + count, h) == few
        if take is product_taken:
            assert [a != b for a, b in zip(few, rows)] == [j < 2 * count for j in range(2 * own)]


def test_rows_are_taken_in_order():
    x, own = array("float32", 7), lanes_of_a_thread([4])
    expected = list(begun((x,), 0.0, 0.0))
    for row in range(ROWS):
        for j in range(own):
            expected[2 * j] = 0.5 * expected[2 * j] + float(x[8 + row * STRIDE + j])
    assert take_rows(halved, begun((x,), 0.0, 0.0), (x,), 8, STRIDE, 0.5) == tuple(expected)


@pytest.mark.parametrize(("offset", "whole"), [(0, True), (1, False), (2, False), (4, True)])
def test_wide_loads_begin_where_all_arrays_are_aligned(offset, whole, monkeypatch):
    monkeypatch.setattr("refoptim.kernels.lanes_gpu.address", lambda x: x.ctypes.data)
    x = array("float32", 1)
    assert aligned(x[offset:]) == aligned(x, x[offset:]) == whole
