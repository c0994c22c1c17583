"""Rows of docs/deviations.md about the curves of single schedulers, with both numbers."""

from fractions import Fraction

import numpy as np
import pytest

import refoptim as optim
from refoptim import lr_scheduler as ours
from refoptim.conformance.tolerances import FEW_DIGITS

torch = pytest.importorskip("torch", reason="torch, whose numbers these are, is not installed")
theirs = torch.optim.lr_scheduler

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def sides(lr=0.05, **options):
    """Return the schedulers of both libraries, each with an optimizer."""
    left = optim.SGD([optim.Parameter([1.0])], lr=lr, **options)
    right = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=lr, **options)
    return (ours, left), (theirs, right)


def curve(scheduler, steps):
    """Return the learning rates now and after each of so many steps."""
    found = list(scheduler.get_last_lr())
    for _ in range(steps):
        scheduler.step()
        found += scheduler.get_last_lr()
    return found


def both(name, steps, lr=0.05, **arguments):
    """Return the learning rates of both libraries."""
    return [curve(getattr(m, name)(optimizer, **arguments), steps) for m, optimizer in sides(lr, momentum=0.9)]


def close(values):
    return pytest.approx(values, **FEW_DIGITS)


@pytest.mark.parametrize(
    ("name", "arguments", "ulps"),
    [
        ("ExponentialLR", {"gamma": 0.999}, 50),
        ("LinearLR", {"start_factor": 0.001, "total_iters": 10_000}, 300),
        ("PolynomialLR", {"total_iters": 10_001}, 1_000),
        ("CosineAnnealingLR", {"T_max": 50}, 1_000),
    ],
)
def test_recursions_do_not_drift(name, arguments, ulps):
    """Recursions (Exponential, Linear, Polynomial, Cosine): ours are the closed forms, rounded once."""
    mine, other = both(name, 10_000, **arguments)
    (exact,) = getattr(ours, name)(sides()[0][1], **arguments).at(range(10_001))
    assert mine == exact.tolist()
    nonzero = exact > 0
    assert np.max(np.abs(np.array(other) - exact)[nonzero] / np.spacing(exact[nonzero])) > ulps


def test_recursions_in_float32_do_not_drift():
    """Recursions (Exponential, Linear, Polynomial, Cosine): in an array torch rounds every product to its type."""
    (_, left), _ = sides(np.array(0.5, np.float32))
    _, (_, right) = sides(torch.tensor(0.5))
    mine, other = (curve(m.ExponentialLR(o, 0.999), 1_000)[-1] for m, o in ((ours, left), (theirs, right)))
    exact = 0.5 * 0.999**1_000
    assert float(left.param_groups[0]["lr"]) == np.float32(mine) == np.float32(exact)
    assert abs(float(other) - exact) > 50 * np.spacing(np.float32(exact))


def test_recursions_in_chains_do_not_drift():
    """Recursions (Exponential, Linear, Polynomial, Cosine): a chain's learning rate is a product, rounded once."""
    last = []
    for module, optimizer in sides(0.5):
        parts = [module.ExponentialLR(optimizer, 0.999), module.LinearLR(optimizer, 0.5, 1.0, 4_000)]
        last.append(curve(module.ChainedScheduler(parts), 2_000)[-1])
    exact = float(Fraction(0.5) * Fraction(0.999) ** 2_000 * Fraction(3, 4))
    assert last[0] == exact
    assert abs(last[1] - exact) > 5 * np.spacing(exact)


RESUMED = {
    "MultiplicativeLR": {"lr_lambda": lambda _: 0.9},
    "ExponentialLR": {"gamma": 0.9},
    "LinearLR": {"total_iters": 20},
    "PolynomialLR": {"total_iters": 20, "power": 2.0},
    "CosineAnnealingLR": {"T_max": 20},
    "CosineAnnealingWarmRestarts": {"T_0": 2, "T_mult": 2},
}


@pytest.mark.parametrize("name", RESUMED)
def test_last_epoch_goes_on_where_the_schedule_was(name):
    """`last_epoch=n`: torch keeps the learning rate of the epoch before, or takes another point of the curve."""
    curves = []
    for (module, optimizer), (_, other) in zip(sides(), sides(), strict=True):
        kind = getattr(module, name)
        before = curve(kind(optimizer, **RESUMED[name]), 9)
        resumed = kind(optimizer, **RESUMED[name], last_epoch=9)
        curves.append((before + curve(resumed, 5), curve(kind(other, **RESUMED[name]), 15)))
    (mine, whole), (other, torchs) = curves
    assert mine == whole
    assert whole == close(torchs)
    assert other != close(torchs)


def test_a_jump_to_an_epoch_is_where_steps_lead():
    """Warm restarts, `step(epoch)`: torch takes a logarithm, and rounds it."""
    mine, other = (m.CosineAnnealingWarmRestarts(o, 1, 3) for m, o in sides())
    assert mine.at(121) == [0.05]
    mine.step(121)
    other.step(121)
    assert (mine.get_last_lr(), other.get_last_lr()) == ([0.05], [0.0])


def test_step_epoch_of_multiplicative_is_the_product():
    """MultiplicativeLR, `step(epoch)`."""
    mine, other = (m.MultiplicativeLR(o, lambda _: 0.5) for m, o in sides(1.0))
    mine.step(4)
    other.step(4)
    assert (mine.get_last_lr(), other.get_last_lr()) == ([0.0625], [0.5])


def test_after_a_factor_of_0_comes_the_initial_learning_rate():
    """ConstantLR, factor 0: torch divides by it to undo it."""
    mine, other = (m.ConstantLR(o, 0.0, 2) for m, o in sides())
    assert curve(mine, 3) == [0.0, 0.0, 0.05, 0.05]
    other.step()
    with pytest.raises(ZeroDivisionError):
        other.step()


@pytest.mark.parametrize(("strategy", "torchs"), [("cos", 0.0495), ("linear", -0.1429)])
def test_one_cycle_does_not_go_on_behind_its_end(strategy, torchs):
    """OneCycleLR, epoch `total_steps`: the step that a loop of total_steps steps takes last."""
    found = []
    for module, optimizer in sides(momentum=0.9):
        scheduler = module.OneCycleLR(optimizer, 1.0, 10, anneal_strategy=strategy)
        found.append(curve(scheduler, 10))
        with pytest.raises(ValueError, match="Tried to step 11 times"):
            scheduler.step()
    mine, other = found
    assert mine[10] == mine[9] == 1.0 / 25 / 1e4
    assert other[10] == close(torchs)


def test_one_cycle_starts_where_it_should():
    """OneCycleLR, first value."""
    mine, other = both("OneCycleLR", 0, max_lr=0.1, total_steps=10)
    assert mine == [0.004]
    assert other == [0.0040000000000000036]


EXAMPLES = {
    "LinearLR": (lambda m, o: m.LinearLR(o, start_factor=0.05, total_iters=40), 0.003687, 0.0025),
    "PolynomialLR": (lambda m, o: m.PolynomialLR(o, total_iters=50, power=0.9), 0.0490, 0.05),
    "ChainedScheduler": (
        lambda m, o: m.ChainedScheduler([m.ConstantLR(o, 0.1, 20), m.ExponentialLR(o, 0.9)]),
        0.05,
        0.005,
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_of_the_documentation_are_not_what_is_computed(name):
    """LinearLR, PolynomialLR and ChainedScheduler, examples."""
    build, documented, computed = EXAMPLES[name]
    for module, optimizer in sides():
        scheduler = build(module, optimizer)
        assert scheduler.get_last_lr() == close([computed])
        assert scheduler.get_last_lr() != close([documented])


def test_a_metric_that_stays_the_same_reduces():
    """ReduceLROnPlateau, a metric that stays the same."""
    for module, optimizer in sides(1.0):
        scheduler = module.ReduceLROnPlateau(optimizer, patience=0)
        for _ in range(3):
            scheduler.step(1.0)
        assert scheduler.get_last_lr() == close([0.01])


def test_a_relative_threshold_of_a_negative_metric_accepts_worse_ones():
    """ReduceLROnPlateau, a relative threshold of a negative metric."""
    for module, optimizer in sides():
        scheduler = module.ReduceLROnPlateau(optimizer)
        scheduler.step(-10.0)
        scheduler.step(-9.9995)
        assert scheduler.best == -9.9995


def test_after_eta_min_the_cosine_rises():
    """CosineAnnealingLR after `T_max`: the documented recursion is 0/0 there."""
    mine, other = both("CosineAnnealingLR", 12, T_max=5)
    assert mine == close(other)
    assert mine[5] == 0.0
    assert mine[10] == 0.05 != other[10]


def test_warm_restarts_do_not_reach_eta_min_by_whole_steps():
    """Warm restarts, whole steps."""
    mine, other = both("CosineAnnealingWarmRestarts", 9, T_0=3)
    assert mine == close(other)
    assert min(mine) == close(0.0125)


def test_iterations_are_counted_from_the_start():
    """CyclicLR, `scale_mode="iterations"`."""
    for module, optimizer in sides():
        seen = []

        def scale(x, seen=seen):
            seen.append(x)
            return 1.0

        scheduler = module.CyclicLR(
            optimizer, 0.1, 0.2, 2, scale_fn=scale, scale_mode="iterations", cycle_momentum=False
        )
        curve(scheduler, 6)
        assert seen == list(range(7))


def test_a_scheduler_that_sets_forgets_those_before_it():
    """Chains, a scheduler that sets the learning rate."""
    for module, optimizer in sides(1.0):
        parts = [module.ExponentialLR(optimizer, 0.5), module.LambdaLR(optimizer, lambda _: 1.0)]
        assert curve(module.ChainedScheduler(parts), 2) == [1.0, 1.0, 1.0]
