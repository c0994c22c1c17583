"""Sums are exact to the last bit, and have the same bits on any number of threads and on other processors."""

import json
import math
import os
import platform
import re
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

import refoptim as optim
from refoptim.kernels import jit, reductions
from refoptim.kernels.pairs import add
from refoptim.kernels.reductions import BLOCK, CHUNK, LANES, dot, largest_magnitude, norm, sum_of_magnitudes
from refoptim.kernels.reductions import sum_of_squares as squares

SIZES = [0, 1, LANES - 1, LANES, LANES + 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5]
TYPES = [np.float32, np.float64]
INF, NAN = math.inf, math.nan


def numbers(size, dtype=np.float64, seed=3, decades=4):
    """Return numbers of both signs and of magnitudes that differ by powers of ten."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(size) * 10.0 ** rng.uniform(-decades, decades, size)).astype(dtype)


def cancelling(size, dtype=np.float64, order=9):
    """Return numbers whose sum is 0, so that what comes out is the rounding errors of the order of addition."""
    half = numbers(size // 2, dtype, decades=17)
    return np.random.default_rng(order).permutation(np.concatenate([half, -half, np.zeros(size % 2, dtype)]))


def exact_dot(x, y):
    return sum((Fraction(float(a)) * Fraction(float(b)) for a, b in zip(x, y, strict=True)), Fraction(0))


def assert_within_an_ulp(found, exact):
    assert isinstance(found, float)
    assert abs(Fraction(found) - exact) <= Fraction(math.ulp(float(exact))), f"{found!r}, not {float(exact)!r}"


def assert_is_root(found, exact):
    """Check that a number is within 1 ulp of the root of an exact one."""
    below, above = (Fraction(math.nextafter(found, to)) for to in (0, INF))
    assert below**2 <= exact <= above**2


def by_the_tree(high, low=0.0):
    """Return the sum of pairs by the tree of the docstring, written down once more."""
    high, low = np.asarray(high, np.float64), np.broadcast_to(np.asarray(low, np.float64), np.shape(high))
    rows = CHUNK // LANES
    while high.size > 1 or rows > 1:
        chunks = max(1, math.ceil(high.size / (rows * LANES)))
        padding = (0, chunks * rows * LANES - high.size)
        pairs = [np.pad(part, padding).reshape(chunks, rows, LANES) for part in (high, low)]
        high, low = np.zeros((2, chunks, LANES))
        for row in range(rows):
            high, low = add(high, low, *(part[:, row] for part in pairs))
        while high.shape[1] > 1:
            half = high.shape[1] // 2
            high, low = add(high[:, :half], low[:, :half], high[:, half:], low[:, half:])
        high, low, rows = high[:, 0], low[:, 0], 1
    return float(high[0] + low[0])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", SIZES)
def test_sums_are_exact(size, dtype):
    x, y = numbers(size, dtype), numbers(size, dtype, seed=4)
    assert_within_an_ulp(squares(x), exact_dot(x, x))
    assert_within_an_ulp(dot(abs(x), abs(y)), exact_dot(abs(x), abs(y)))
    assert_within_an_ulp(sum_of_magnitudes(x), sum(map(Fraction, map(float, abs(x))), Fraction(0)))
    assert largest_magnitude(x) == abs(x).max(initial=0)
    assert_is_root(norm(x), exact_dot(x, x))


@pytest.mark.parametrize("size", [1_000_003, 2 * BLOCK])
def test_small_terms_beside_a_large_one(size):
    # In float64, the first term of each chunk swallows what its lane adds to it.
    x = np.full(size, 2.0**-27, np.float32)
    x[::CHUNK] = 1
    count = len(x[::CHUNK])
    assert squares(x) == float(count + Fraction(size - count, 2**54))
    assert sum_of_magnitudes(x * x) == squares(x)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ([1e16, 1, -1e16], [1, 1, 1]),
        ([1 + 2**-30, 1], [1 + 2**-30, -1 - 2**-29]),
        (np.repeat([1e20, 1.25, -1e20], LANES), np.ones(3 * LANES)),
        (np.tile([1e20, 0.5, -1e20, 1], 2 * CHUNK), np.ones(8 * CHUNK)),
    ],
)
def test_terms_that_cancel_leave_their_digits(x, y):
    x, y = np.array(x, np.float64), np.array(y, np.float64)
    assert dot(x, y) == float(exact_dot(x, y)) != 0


@pytest.mark.parametrize("size", [*SIZES[1:], 2 * BLOCK + 1])
def test_the_tree_is_the_documented_one(size):
    orders = [cancelling(size, order=order) for order in range(5)]
    sums = [dot(x, np.ones(size)) for x in orders]
    assert sums == [by_the_tree(x) for x in orders]
    assert len(set(sums)) > 1 or size < LANES
    assert sum_of_magnitudes(orders[0]) == by_the_tree(abs(orders[0]))


@pytest.mark.parametrize("size", SIZES[1:-1])
def test_the_errors_of_products_go_into_the_tree(size):
    x, y = cancelling(size), numbers(size)
    rounded = x * y
    errors = [float(exact_dot([a], [b]) - Fraction(c)) for a, b, c in zip(x, y, rounded, strict=True)]
    assert dot(x, y) == by_the_tree(rounded, errors)


SPECIAL = [
    # elements, sum of squares, of magnitudes, the largest
    ([], 0.0, 0.0, 0.0),
    ([-0.0], 0.0, 0.0, 0.0),
    ([INF, 1.0], INF, INF, INF),
    ([-INF, 1.0], INF, INF, INF),
    ([1.0, NAN, INF], NAN, NAN, NAN),
    ([INF, 1.0, NAN], NAN, NAN, NAN),
    ([1e200, 1.0], INF, 1e200, 1e200),
    ([1e308, 1e308], INF, INF, 1e308),
    ([1e154, 1.0], 1e308, 1e154, 1e154),
    ([5e-324, -5e-324], 0.0, 1e-323, 5e-324),
]


@pytest.mark.parametrize(("elements", "square", "magnitude", "largest"), SPECIAL)
@pytest.mark.parametrize("size", [0, LANES, CHUNK])
def test_what_is_not_finite_or_leaves_the_range(elements, square, magnitude, largest, size):
    x = np.array([*elements, *np.zeros(size)])
    for found, want in [(squares(x), square), (sum_of_magnitudes(x), magnitude), (largest_magnitude(x), largest)]:
        np.testing.assert_equal(found, want)
        assert math.copysign(1, found) == 1 or math.isnan(found)


def test_infinities_of_both_signs_are_no_number():
    assert math.isnan(dot(np.array([INF, -INF]), np.ones(2)))


@pytest.mark.parametrize(("x", "y"), [(np.ones(3), np.ones(4)), (np.ones(1), np.ones((1, 1)))])
def test_a_dot_product_takes_arrays_of_one_size(x, y):
    with pytest.raises(ValueError, match=re.escape(f"{x.shape} and {y.shape}")):
        dot(x, y)


NORMS = [
    # elements, p, norm
    ([3.0, -4.0], 2, 5.0),
    ([3.0, -4.0], 1, 7.0),
    ([3.0, -4.0, 0.0], 0, 2.0),
    ([3.0, -4.0], INF, 4.0),
    ([3.0, -4.0], -INF, 3.0),
    ([1.0, -4.0], 0.5, 9.0),
    ([3.0, 4.0, 5.0], 3, 6.0),
    ([1.0, 1.0], -1, 0.5),
    ([0.0, 1.0], -1, 0.0),
    ([3e-320, -4e-320], 2, 5e-320),
    ([3e200, -4e200], 1, 7e200),
    ([2e-320, 2e-320], 0.5, 8e-320),
    ([0.0, 0.0], 3, 0.0),
    ([2.0, 0.0], 5e4, 2.0),
    ([2.0], 1e-4, 2.0),
    ([1.0, 1.0], 1e-4, INF),
    ([NAN, 1.0], 2, NAN),
    ([NAN, 1.0], INF, NAN),
    ([NAN, 0.0], -INF, NAN),
    ([NAN, 0.0], 0, 1.0),
    ([NAN, 0.0], -1, NAN),
    ([NAN, INF], 3, NAN),
    ([INF, 1.0], 2, INF),
    ([INF, 1.0], 3, INF),
    ([INF, 1.0], -INF, 1.0),
    ([INF, 0.5], -1, 0.5),
    ([], 2, 0.0),
    ([], 0, 0.0),
    ([], INF, 0.0),
]


@pytest.mark.parametrize(("elements", "p", "want"), NORMS)
def test_norms(elements, p, want):
    np.testing.assert_equal(norm(np.array(elements, np.float64), p), want)
    np.testing.assert_equal(norm([np.array([element]) for element in elements], p), want)


@pytest.mark.parametrize("scale", [2.0**-1070, 2.0**-600, 2.0**-450, 1.0, 2.0**500, 2.0**1010])
def test_the_squares_of_a_norm_may_leave_the_range(scale):
    x = np.random.default_rng(5).uniform(1, 2, 300) * scale
    assert_is_root(norm(x), exact_dot(x, x))


CUTS = [[], [0, 0, 1], [1, 2, 3, LANES, CHUNK, BLOCK - 1], [BLOCK], [7, BLOCK + 7, 2 * BLOCK], list(range(0, CHUNK, 9))]


@pytest.mark.parametrize("cuts", CUTS, ids=range(len(CUTS)))
@pytest.mark.parametrize("p", [2, 1, 0, INF, -INF])
def test_arrays_taken_as_one(p, cuts):
    for x in (numbers(2 * BLOCK + 9, np.float32), numbers(3 * CHUNK) * 1e200):
        assert norm(np.split(x, cuts), p) == norm(x, p)


@pytest.mark.parametrize("cuts", CUTS, ids=range(len(CUTS)))
def test_arrays_taken_as_one_are_added_by_one_tree(cuts):
    x = cancelling(2 * BLOCK + CHUNK + 9)
    parts = reductions._sum(lambda block: reductions._dot(block, np.ones(block.size)), np.split(x, cuts))
    assert parts == dot(x, np.ones(x.size)) != 0


def results():
    """Return what each reduction gives for each size and type, as text that shows every bit."""
    found = {}
    for size in (*SIZES, BLOCK // 8, BLOCK + 1):
        for dtype in TYPES:
            x, ones = cancelling(size, dtype), np.ones(size, dtype)
            values = [dot(x, ones), dot(x, numbers(size, dtype)), sum_of_magnitudes(x), largest_magnitude(x), norm(x)]
            found[f"{size} {dtype.__name__}"] = [value.hex() for value in values]
    return found


@pytest.fixture
def threads():
    before = optim.get_num_threads()
    yield optim.set_num_threads
    optim.set_num_threads(before)


def test_serial_parallel_and_any_number_of_threads(monkeypatch, threads):
    monkeypatch.setattr(jit, "SERIAL_BELOW", sys.maxsize)
    sizes = [(size, dtype) for size in (*SIZES, BLOCK + 1) for dtype in TYPES]
    pairs = [(cancelling(size, dtype), np.ones(size, dtype)) for size, dtype in sizes]

    def all_of_them():
        return [(dot(x, y), sum_of_magnitudes(x), largest_magnitude(x)) for x, y in pairs]

    want = all_of_them()
    monkeypatch.setattr(jit, "SERIAL_BELOW", 0)
    monkeypatch.setattr(reductions, "TURN", 1)
    for count in range(1, 4):
        threads(count)
        assert all_of_them() == want, f"{count} threads"


@pytest.mark.skipif(platform.machine() != "x86_64" or sys.platform != "linux", reason="the processors are x86-64 ones")
@pytest.mark.parametrize("processor", ["x86-64"])
def test_other_processors(tmp_path, processor):
    environment = {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    assert in_another_process("results", environment) == results()


def test_where_an_array_lies_changes_no_bit():
    x = numbers(CHUNK + 8, np.float32)
    for start in range(8):
        shifted = np.empty(CHUNK + 8, np.float32)[start : start + CHUNK]
        shifted[:] = x[:CHUNK]
        assert squares(shifted) == squares(x[:CHUNK].copy())
    shifted.flags.writeable = False
    assert squares(shifted) == squares(x[:CHUNK].copy())


def in_another_process(name, environment):
    """Return what a function of this file gives under other environment variables."""
    command = [sys.executable, "-W", "error", __file__, name]
    run = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


if __name__ == "__main__":
    json.dump({"results": results}[sys.argv[1]](), sys.stdout)
