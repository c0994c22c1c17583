"""Passes over many vectors give the bits of one loop after the other."""

import copy
from fractions import Fraction

import numpy as np
import pytest

import refoptim as optim
from refoptim.kernels import lbfgs
from refoptim.kernels.jit import SERIAL_BELOW
from refoptim.kernels.pairs import CHUNK, LANES, rounded
from refoptim.kernels.products import product, products
from refoptim.kernels.reductions import dot, largest_magnitude, sum_of_chunks
from refoptim.kernels.vectors import add, negative

TYPES = [np.float32, np.float64]
SIZES = [0, 1, CHUNK - 1, CHUNK, 3 * CHUNK + 7, SERIAL_BELOW + 129]
INF, NAN = np.inf, np.nan


def vectors(count, size, dtype, seed=1, decades=6):
    rng = np.random.default_rng(seed)
    return [
        (rng.standard_normal(size) * 10.0 ** rng.uniform(-decades, decades, size)).astype(dtype) for _ in range(count)
    ]


def by_the_tree(x, y):
    """Return the product of two vectors, which in float32 is a chain in each lane of a chunk."""
    if x.size <= CHUNK or x.dtype == np.float64:
        return dot(x, y)
    terms = np.zeros(-(-x.size // CHUNK) * CHUNK)
    terms[: x.size] = x.astype(np.float64) * y
    lanes = np.zeros((terms.size // CHUNK, LANES))
    for row in terms.reshape(-1, CHUNK // LANES, LANES).swapaxes(0, 1):
        lanes = lanes + row
    while (width := lanes.shape[1] // 2) > 0:
        lanes = lanes[:, :width] + lanes[:, width:]
    high = lanes[:, 0].copy()
    return rounded(*sum_of_chunks(high, np.zeros_like(high)))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("rows", "columns"), [(0, 1), (1, 1), (3, 2), (2, 3), (5, 5)])
def test_products_have_the_bits_of_one_after_the_other(rows, columns, size, dtype):
    left, right = vectors(rows, size, dtype), vectors(columns, size, dtype, seed=2)
    found = products(left, right)
    assert found.shape == (rows, columns)
    assert found.tolist() == [[by_the_tree(x, y) for y in right] for x in left]


@pytest.mark.parametrize("size", [CHUNK + 1, 9 * CHUNK])
def test_products_of_float32_are_within_40_roundings(size):
    x, y = vectors(2, size, np.float32)
    terms = [Fraction(a) * Fraction(b) for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    error = abs(Fraction(products([x], [y])[0, 0]) - sum(terms))
    assert error <= 40 * sum(map(abs, terms)) / 2**53


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("special", [(INF, 1), (INF, INF), (INF, -INF), (INF, 0), (NAN, 1), (-0.0, 1)], ids=str)
def test_products_of_what_is_not_finite(special, dtype):
    x, y, z = vectors(3, 2 * CHUNK, dtype)
    x[5], y[5] = special
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(products([x], [y, z]), [[by_the_tree(x, y), by_the_tree(x, z)]])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("huge", [False, True])
def test_products_that_overflow_or_vanish(huge, dtype):
    limits = np.finfo(dtype)
    values = np.full(CHUNK, limits.max if huge else limits.smallest_subnormal, dtype)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(
            products([values], [values, -values]), [[dot(values, values), dot(values, -values)]]
        )


def by_loops(g, ys, steps, rho, scale, alpha):
    """Return the direction by the two loops, one vector after the other, given alpha."""
    d = negative(g)
    for y, factor in zip(reversed(ys), reversed(alpha)):
        add(d, d, y, -factor)
    lbfgs._scale(d, scale)
    for s, y, one_rho, factor in zip(steps, ys, rho, alpha):
        add(d, d, s, factor - dot(y, d) * one_rho)
    return d


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", SIZES[1:])
def test_a_sum_has_the_bits_of_one_loop_after_the_other(size, dtype):
    g, *rest = vectors(15, size, dtype, decades=1)
    ys, steps = rest[:7], rest[7:]
    alpha, beta = np.random.default_rng(3).standard_normal((2, 7))
    expected = negative(g)
    for y, factor in zip(reversed(ys), reversed(alpha)):
        add(expected, expected, y, -factor)
    lbfgs._scale(expected, 0.3)
    for s, factor in zip(steps, beta):
        add(expected, expected, s, factor)
    found = lbfgs._sum(g, ys, steps, alpha, 0.3, beta)
    assert found.vector.tobytes() == expected.tobytes()
    assert found[1:3] == (largest_magnitude(expected), product(expected, g))


def pairs(count, size, seed=4):
    """Return the changes and steps of a parabola, and the reciprocals of their products."""
    rng = np.random.default_rng(seed)
    curvature = np.linspace(1, 3, size)
    steps = [rng.standard_normal(size) for _ in range(count)]
    ys = [curvature * s for s in steps]
    return ys, steps, [1 / dot(y, s) for y, s in zip(ys, steps)]


@pytest.mark.parametrize("path", [[(0, 1), (0, 2), (0, 3), (1, 4)], [(0, 3), (0, 3), (2, 6)], [(0, 4), (0, 2), (5, 6)]])
def test_what_is_remembered_changes_no_bit(path):
    """Pairs come and go, also several at once, back again, and all of them."""
    ys, steps, rho = pairs(6, 50)
    g, history = np.ones(50), lbfgs.History()
    for first, last in path:
        some = ys[first:last], steps[first:last], rho[first:last]
        d, alpha = history.direction(g, *some, 0.5)
        again, same = lbfgs.History().direction(g, *some, 0.5)
        assert d.vector.tobytes() == again.vector.tobytes()
        assert alpha == same


def test_the_direction_is_that_of_two_loops():
    ys, steps, rho = pairs(5, 50)
    g = np.linspace(-1, 1, 50)
    d, alpha = lbfgs.History().direction(g, ys, steps, rho, 0.5)
    assert np.abs(d.vector - by_loops(g, ys, steps, rho, 0.5, alpha)).max() < 50 * np.spacing(d.largest)


def test_vectors_whose_products_are_kept_cannot_be_written_into():
    ys, steps, rho = pairs(2, 5)
    lbfgs.History().direction(np.ones(5), ys, steps, rho, 0.5)
    with pytest.raises(ValueError, match="read-only"):
        ys[0][0] = 1


def test_a_copy_goes_on_with_the_same_bits():
    param = optim.Parameter(np.linspace(-1, 1, 30))
    optimizer = optim.LBFGS([param], max_iter=3, history_size=2)

    def closure(param):
        param.grad = np.linspace(1, 9, 30) * param.data**3
        return float(param.data @ param.grad)

    optimizer.step(lambda: closure(param))
    twin = copy.deepcopy(optimizer)
    (other,) = twin.param_groups[0]["params"]
    for _ in range(2):
        optimizer.step(lambda: closure(param))
        twin.step(lambda: closure(other))
    assert param.data.tobytes() == other.data.tobytes()
