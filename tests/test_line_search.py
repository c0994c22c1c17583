"""The line search: what it accepts, where it looks next, when it stops, and torch's decisions beside it."""

import math
import sys
from itertools import product

import numpy as np
import pytest

from refoptim.conformance.tolerances import CLOSE
from refoptim.line_search import Trial, strong_wolfe


def searched(f, slope, t=1.0, max_eval=25, size=1.0, **options):
    """Return what a search finds on a line, and where it looked."""
    tried = []

    def evaluate(t):
        tried.append(t)
        return Trial(t, float(f(t)), float(slope(t)), None)

    start = Trial(0.0, float(f(0.0)), float(slope(0.0)), None)
    return strong_wolfe(evaluate, start, t, size, max_eval=max_eval, **options), tried


def parabola(lowest):
    return (lambda t: (t - lowest) ** 2), (lambda t: 2 * (t - lowest))


def power(t):
    """Return e**t, inf if that is too large."""
    with np.errstate(over="ignore"):
        return np.exp(t)


# Lines that go down from 0, by what a search meets on them.
LINES = {
    "bowl": parabola(1.3),
    "narrow": parabola(1e-3),
    "far": parabola(400.0),
    "waves": (lambda t: math.cos(3 * t) - 0.2 * t, lambda t: -3 * math.sin(3 * t) - 0.2),
    "cubic": (lambda t: t**3 - 3 * t, lambda t: 3 * t * t - 3),
    "cliff": (lambda t: power(4 * t) - 9 * t, lambda t: 4 * power(4 * t) - 9),
    "flat far out": (lambda t: -t / (t * t + 2), lambda t: (t * t - 2) / (t * t + 2) ** 2),
    "kink": (lambda t: abs(t - 0.7) + 0.1 * t * t, lambda t: math.copysign(1, t - 0.7) + 0.2 * t),
    "no number beyond": (lambda t: (t - 0.3) ** 2 if t < 1 else math.nan, lambda t: 2 * (t - 0.3)),
    "no slope beyond": (lambda t: (t - 0.3) ** 2, lambda t: 2 * (t - 0.3) if t < 1 else math.nan),
    "minus infinity beyond": (lambda t: (t - 0.3) ** 2 if t < 1 else -math.inf, lambda t: 2 * (t - 0.3)),
}


# A kink is nowhere flat. Far out, a point that is too high but lower than 0 is taken for the lower end, as in torch.
ENDS_WELL = [pair for pair in product(LINES, [1e-3, 1.0, 50.0, 1e4]) if pair[0] != "kink"]
ENDS_WELL.remove(("flat far out", 1e4))


@pytest.mark.parametrize("c2", [0.9, 0.1])
@pytest.mark.parametrize(("name", "t"), ENDS_WELL)
def test_what_is_found_is_low_and_flat_enough(name, t, c2):
    f, slope = LINES[name]
    found, tried = searched(f, slope, t, max_eval=60, c2=c2)
    assert found.loss <= f(0) + 1e-4 * found.t * slope(0)
    assert abs(found.slope) <= -c2 * slope(0)
    assert found.t in tried
    assert (found.loss, found.slope) == (f(found.t), slope(found.t))


@pytest.mark.parametrize("max_eval", range(1, 12))
@pytest.mark.parametrize("t", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("name", LINES)
def test_a_search_never_asks_too_often_and_never_climbs(name, t, max_eval):
    f, slope = LINES[name]
    found, tried = searched(f, slope, t, max_eval=max_eval, c2=0.1)
    assert 1 <= len(tried) <= max_eval
    assert found.loss <= f(0)
    assert found.t in (0.0, *tried)


@pytest.mark.parametrize(
    ("name", "t", "tried"),
    [
        ("bowl", 1.0, [1.0]),  # low and flat enough at once
        ("bowl", 3.0, [3.0, 1.3]),  # too high: between 0 and there
        ("bowl", 2.59, [2.59, 1.3]),  # low enough but too steep upwards
        ("bowl", 0.05, [0.05, 0.5]),  # too steep downwards: the minimum is beyond ten times as far
        ("cubic", 10.0, [10.0, 1.0]),
        ("no number beyond", 1.0, [1.0, 0.5]),  # the middle
        ("no slope beyond", 2.0, [2.0, 1.0, 0.5]),
        ("minus infinity beyond", 4.0, [4.0, 2.0, 1.0, 0.5]),
    ],
)
def test_where_a_search_looks(name, t, tried):
    found, got = searched(*LINES[name], t, c2=0.9 if name != "bowl" or t < 0.1 else 0.5)
    np.testing.assert_allclose(got, tried, **CLOSE["line search"])
    assert found.t == got[-1]


def test_a_straight_line_is_followed_ten_times_as_far_each_time():
    found, tried = searched(lambda t: -t, lambda _: -1.0, max_eval=5)
    assert tried == [1.0, 10.0, 100.0, 1000.0, 10000.0]
    assert found.t == 1e4


def test_points_near_an_end_are_moved_inwards():
    """The kink draws the cubic's minimum to an end; twice there is once too often."""
    f, slope = LINES["kink"]
    _, tried = searched(f, slope, t=4.0, max_eval=30, c2=0.1)
    gaps = np.diff(sorted([0.0, *tried]))
    assert len(tried) > 5
    assert min(gaps[gaps > 0]) < 1e-8 * max(gaps)


@pytest.mark.parametrize(("size", "count"), [(1.0, 31), (1e-3, 21), (1e-12, 1)])
def test_a_bracket_that_moves_nothing_is_left(size, count):
    _, tried = searched(*LINES["kink"], t=4.0, max_eval=100, size=size, c2=0.1)
    assert len(tried) <= count
    assert count == 1 or len(tried) > count // 3


def test_a_first_point_at_0_ends():
    found, tried = searched(*LINES["bowl"], t=0.0, max_eval=9)
    assert tried == [0.0] * 3
    assert found.t == 0.0


def test_the_bounds_can_be_chosen():
    found, _ = searched(*LINES["bowl"], t=0.1, c1=0.4, c2=0.45)
    assert abs(found.slope) <= 0.45 * 2.6


def random_line(seed):
    """Return a polynomial or a sum of waves that goes down from 0."""
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, 4))
    if seed % 2:
        a *= 10.0 ** rng.uniform(-2, 2)
        sign = -np.sign(a @ b) or 1.0
        return (lambda t: float(sign * (a @ np.sin(b * t)) + 0.01 * t * t)), (
            lambda t: float(sign * (a * b) @ np.cos(b * t) + 0.02 * t)
        )
    a[0], a[3] = -abs(a[0]), abs(a[3])
    powers = np.arange(1, 5)
    return (lambda t: float(a @ t**powers)), (lambda t: float((a * powers) @ t ** (powers - 1)))


@pytest.mark.parametrize("max_ls", [3, 8, 25])
@pytest.mark.parametrize("c2", [0.9, 0.1])
def test_torch_decides_alike(c2, max_ls):
    """Not to the last bit: torch's square roots are not all rounded correctly where MKL computes them."""
    torch = pytest.importorskip("torch", reason="torch, whose decisions these are, is not installed")
    search, compared = sys.modules["torch.optim.lbfgs"]._strong_wolfe, 0
    for seed in range(200):
        f, slope = random_line(seed)
        t = float(10.0 ** np.random.default_rng(seed).uniform(-3, 2))
        tried = []

        def evaluate(_, t, d, f=f, slope=slope, tried=tried):
            tried.append(float(t))
            return f(float(t)), torch.tensor([slope(float(t))], dtype=torch.float64)

        start, d = torch.tensor([slope(0.0)], dtype=torch.float64), torch.ones(1, dtype=torch.float64)
        loss, _, at, count = search(evaluate, None, t, d, f(0.0), start, start[0], c2=c2, max_ls=max_ls)
        if count > max_ls:
            continue  # torch asks once more than it may
        found, ours = searched(f, slope, t, max_eval=max_ls, c2=c2)
        np.testing.assert_allclose(ours, tried, **CLOSE["torch line search"])
        np.testing.assert_allclose((found.t, found.loss), (float(at), loss), **CLOSE["torch line search"])
        compared += 1
    assert compared > 60
