"""Passes that move a long vector and measure it have the bits of one loop after the other, and of short vectors."""

import numpy as np
import pytest

from refoptim.kernels import cg, lbfgs
from refoptim.kernels.jit import SERIAL_BELOW
from refoptim.kernels.measures import copy, copy_measured, is_long
from refoptim.kernels.pairs import CHUNK
from refoptim.kernels.products import product, products
from refoptim.kernels.reductions import largest_magnitude
from refoptim.kernels.vectors import add, leave

TYPES = [np.float32, np.float64]
SIZES = [1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 7, SERIAL_BELOW // 4 + 129]
METHODS = {3: ["gg", "bb", "gy"], 7: ["gg", "bb", "gy", "dg", "yy", "dy", "dd"]}

pytestmark = [pytest.mark.parametrize("dtype", TYPES), pytest.mark.parametrize("size", SIZES)]


def vectors(count, size, dtype):
    return list(np.random.default_rng(count).standard_normal((count, size)).astype(dtype))


def test_a_copy_is_measured(size, dtype):
    x, y = vectors(2, size, dtype)
    x[size // 2] = -9
    z = np.full_like(x, np.nan)
    assert copy_measured(z, x, y)[1:3] == (9, product(x, y))
    np.testing.assert_array_equal(z, x)
    assert copy_measured(z, y)[1:3] == (largest_magnitude(y), 0)
    np.testing.assert_array_equal(z, y)


@pytest.mark.parametrize("other", [np.float32, np.float64, np.float16])
def test_a_copy_from_any_type(size, dtype, other):
    (x,) = vectors(1, size, other)
    z = np.zeros(size, dtype)
    copy(z, x)
    np.testing.assert_array_equal(z, x.astype(dtype))
    assert copy_measured(z, x, z).product == product(z, z)


def test_what_is_not_a_number_is_the_largest(size, dtype):
    (x,) = vectors(1, size, dtype)
    x[-1] = np.nan
    assert np.isnan(copy_measured(np.empty_like(x), x).largest)


def test_a_history_is_extended(size, dtype):
    g, before, d, *rest = vectors(9, size, dtype)
    ys, steps = rest[:3], rest[3:]
    history = lbfgs.History()
    curvature, square = history.extend(g, before, d, 0.3, ys, steps)
    y, s = g - before, dtype(0.3) * d
    np.testing.assert_array_equal(ys[-1], y)
    np.testing.assert_array_equal(steps[-1], s)
    assert [curvature, square] == products([s, y], [y])[:, 0].tolist()
    rho = [1 / product(*pair) for pair in zip(ys, steps)]
    found, factors = history.direction(g, ys, steps, rho, 0.5)
    # What was computed ahead is what is computed anew, also from copies of the lists.
    again, same = lbfgs.History().direction(g, list(ys), list(steps), rho, 0.5)
    assert (found.vector.tobytes(), found[1:], factors) == (again.vector.tobytes(), again[1:], same)
    assert found[1:3] == (largest_magnitude(found.vector), product(found.vector, g))


def test_a_pair_lies_where_the_last_gradient_and_direction_did(size, dtype):
    g, before, d, *rest = vectors(7, size, dtype)
    ys, steps = rest[:2], rest[2:]
    new = [*ys, np.empty_like(g)], [*steps, np.empty_like(g)]
    expected = lbfgs.History().extend(g, before, d, 0.3, *new)
    assert lbfgs.History().extend(g, before, d, 0.3, [*ys, before], [*steps, d]) == expected
    assert (before.tobytes(), d.tobytes()) == (new[0][-1].tobytes(), new[1][-1].tobytes())


def test_a_pair_that_is_left_out_leaves_the_others_known(size, dtype):
    g, before, d, *rest = vectors(9, size, dtype)
    ys, steps, new = rest[:2], rest[2:4], rest[4:]
    history, rho = lbfgs.History(), [1 / product(*pair) for pair in zip(ys, steps)]
    history.direction(g, ys, steps, rho, 0.5)
    history.extend(g, before, d, 0.3, [ys[1], new[0]], [steps[1], new[1]])
    found, _ = history.direction(before, ys, steps, rho, 0.5)
    again, _ = lbfgs.History().direction(before, ys, steps, rho, 0.5)
    assert found.vector.tobytes() == again.vector.tobytes()


@pytest.mark.parametrize("count", METHODS)
def test_products_of_conjugate_gradients(size, dtype, count):
    g, b, d = vectors(3, size, dtype)
    named = {"g": g, "b": b, "d": d, "y": g - b}
    expected = [product(*map(named.get, pair)) for pair in METHODS[count]]
    found = cg.products(g, b, d, count)
    assert [getattr(found, pair) for pair in METHODS[count]] == expected
    if is_long(g):
        z = np.full_like(g, np.nan)
        # A gradient that is there already is one of the vectors itself.
        for source, target in ((g, z), (z, z)):
            measured = cg.gradient(target, source, b, d, count)
            assert (measured.vector is target, target.tobytes()) == (True, g.tobytes())
            assert measured[1:3] == (largest_magnitude(g), product(d, g))
            assert [getattr(measured.products, pair) for pair in METHODS[count]] == expected


@pytest.mark.parametrize("count", METHODS)
@pytest.mark.parametrize("place", [0, -1])
def test_no_number_in_a_gradient_is_the_largest(size, dtype, place, count):
    if size <= CHUNK:
        pytest.skip("short gradients are measured as all vectors are")
    x, b, d = vectors(3, size, dtype)
    x[place] = -np.inf
    assert cg.gradient(np.empty_like(x), x, b, d, count).largest == np.inf
    x[size // 2] = np.nan
    assert np.isnan(cg.gradient(np.empty_like(x), x, b, d, count).largest)


@pytest.mark.parametrize("other", TYPES)
def test_leaving_a_point_is_a_copy_and_a_move(size, dtype, other):
    (theta, d), x = vectors(2, size, dtype), np.full(size, np.nan, dtype)
    before, d = theta.copy(), d.astype(other)
    expected = np.empty_like(theta)
    add(expected, before, d, 0.3)
    leave(x, theta, d, 0.3)
    assert (x.tobytes(), theta.tobytes()) == (before.tobytes(), expected.tobytes())


def test_a_conjugate_direction(size, dtype):
    g, d = vectors(2, size, dtype)
    expected = d.copy()
    cg.cg_direction_cpu(expected, g, np.array((0.7,), dtype))
    for new in (np.empty_like(d), d):
        found = cg.direction(new, g, d, 0.7)
        assert found.vector is new
        assert new.tobytes() == expected.tobytes()
        assert found[1:3] == (largest_magnitude(expected), product(expected, g))
