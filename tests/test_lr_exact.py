"""Schedules against their formulas in exact arithmetic: every step is the closed form, rounded once."""

import numpy as np
import pytest

import refoptim as optim
from refoptim import lr_scheduler as lrs
from refoptim.conformance.tolerances import CLOSE, SCHEDULE_ULPS
from refoptim.formulas import schedules as formulas
from refoptim.lr_scheduler.cosines import FRACTION, cosine

flint = pytest.importorskip("flint", reason="python-flint, which computes the exact values, is not installed")
truth = pytest.importorskip("refoptim.conformance.truth")
balls, errors_in_ulps, precision = truth.balls, truth.errors_in_ulps, truth.precision
arb = flint.arb

BASE = 0.1
N = 10_000


def sgd(*rates):
    """Return an optimizer that counts as having stepped."""
    optimizer = fresh(*rates)
    optimizer._opt_called = True
    return optimizer


def fresh(*rates):
    """Return an optimizer whose steps a scheduler has not seen."""
    return optim.SGD([{"params": [optim.Parameter([1.0])], "lr": lr} for lr in rates or [BASE]], momentum=0.9)


def stepped(optimizer, scheduler, count):
    """Return the learning rates of the first group at epoch 0 and after each step."""
    optimizer.step()
    curve = [optimizer.param_groups[0]["lr"]]
    for _ in range(count):
        scheduler.step()
        curve.append(optimizer.param_groups[0]["lr"])
    return np.array(curve)


ONE_CYCLE = {"max_lr": 0.7, "total_steps": N + 1}
RISE, FALL = 0.3 * (N + 1) - 1, 2 * 0.3 * (N + 1) - 2
CYCLE = {"base_lr": BASE, "max_lr": 0.7, "step_size_up": 30, "step_size_down": 41}

# A scheduler, and its formula as a function of exact epochs and an exact initial learning rate.
EXACT = {
    "LambdaLR": (
        lambda o: lrs.LambdaLR(o, lambda e: 0.5 ** (e % 7)),
        lambda e, eta: formulas.by_factor(e, eta, factor=lambda e: arb(0.5) ** (e % 7)),
    ),
    "MultiplicativeLR": (
        lambda o: lrs.MultiplicativeLR(o, lambda e: 0.99 if e % 2 else 1.01),
        lambda e, eta: formulas.multiplicative(e, eta, factors=[arb(0.99), arb(1.01)] * (N // 2)),
    ),
    "StepLR": (lambda o: lrs.StepLR(o, 7, 0.97), lambda e, eta: formulas.step(e, eta, step_size=7, gamma=arb(0.97))),
    "MultiStepLR": (
        lambda o: lrs.MultiStepLR(o, [0, 5, 5, 70]),
        lambda e, eta: formulas.multi_step(e, eta, milestones=[0, 5, 5, 70], gamma=arb(0.1)),
    ),
    "ExponentialLR": (
        lambda o: lrs.ExponentialLR(o, 0.96),
        lambda e, eta: formulas.exponential(e, eta, gamma=arb(0.96)),
    ),
    "ConstantLR": (
        lambda o: lrs.ConstantLR(o, 0.3, 10),
        lambda e, eta: formulas.constant(e, eta, factor=arb(0.3), total_iters=10),
    ),
    "LinearLR": (
        lambda o: lrs.LinearLR(o, 0.01, 0.9, 9000),
        lambda e, eta: formulas.linear(e, eta, start_factor=arb(0.01), end_factor=arb(0.9), total_iters=9000),
    ),
    "PolynomialLR": (
        lambda o: lrs.PolynomialLR(o, 9999, 3.0),
        lambda e, eta: formulas.polynomial(e, eta, total_iters=arb(9999), power=3),
    ),
    "PolynomialLR, power 0.9": (
        lambda o: lrs.PolynomialLR(o, 9999, 0.9),
        lambda e, eta: formulas.polynomial(e, eta, total_iters=arb(9999), power=arb(0.9)),
    ),
    "PolynomialLR, power 37.7": (
        lambda o: lrs.PolynomialLR(o, 9999, 37.7),
        lambda e, eta: formulas.polynomial(e, eta, total_iters=arb(9999), power=arb(37.7)),
    ),
    "CosineAnnealingLR": (
        lambda o: lrs.CosineAnnealingLR(o, 50),
        lambda e, eta: formulas.cosine(e, eta, t_max=arb(50), eta_min=0),
    ),
    "CosineAnnealingLR, once": (
        lambda o: lrs.CosineAnnealingLR(o, N),
        lambda e, eta: formulas.cosine(e, eta, t_max=arb(N), eta_min=0),
    ),
    "CosineAnnealingLR, eta_min": (
        lambda o: lrs.CosineAnnealingLR(o, 51.3, 1e-3),
        lambda e, eta: formulas.cosine(e, eta, t_max=arb(51.3), eta_min=arb(1e-3)),
    ),
    "CosineAnnealingWarmRestarts": (
        lambda o: lrs.CosineAnnealingWarmRestarts(o, 5, 2, 1e-3),
        lambda e, eta: formulas.cosine_restarts(e, eta, t_0=5, t_mult=2, eta_min=arb(1e-3)),
    ),
    "CosineAnnealingWarmRestarts, even": (
        lambda o: lrs.CosineAnnealingWarmRestarts(o, 9),
        lambda e, eta: formulas.cosine_restarts(e, eta, t_0=9, t_mult=1, eta_min=0),
    ),
    "CyclicLR": (
        lambda o: lrs.CyclicLR(o, **CYCLE),
        lambda e, eta: formulas.cyclic(e, eta, eta_max=arb(0.7), up=30, down=41, scale=lambda *_: 1),
    ),
    "CyclicLR, triangular2": (
        lambda o: lrs.CyclicLR(o, **CYCLE, mode="triangular2"),
        lambda e, eta: formulas.cyclic(e, eta, eta_max=arb(0.7), up=30, down=41, scale=lambda c, _: arb(2) ** (1 - c)),
    ),
    "CyclicLR, exp_range": (
        lambda o: lrs.CyclicLR(o, **CYCLE, mode="exp_range", gamma=0.999),
        lambda e, eta: formulas.cyclic(e, eta, eta_max=arb(0.7), up=30, down=41, scale=lambda _, e: arb(0.999) ** e),
    ),
    "OneCycleLR": (
        lambda o: lrs.OneCycleLR(o, **ONE_CYCLE),
        lambda e, _: formulas.one_cycle(
            e, [arb(0.7 / 25), arb(0.7), arb(0.7 / 25 / 1e4)], ends=[0, arb(RISE), arb(N)], anneal="cos"
        ),
    ),
    "OneCycleLR, three linear phases": (
        lambda o: lrs.OneCycleLR(o, **ONE_CYCLE, three_phase=True, anneal_strategy="linear"),
        lambda e, _: formulas.one_cycle(
            e,
            [arb(0.7 / 25), arb(0.7), arb(0.7 / 25), arb(0.7 / 25 / 1e4)],
            ends=[0, arb(RISE), arb(FALL), arb(N)],
            anneal="linear",
        ),
    ),
}


@pytest.mark.parametrize("name", EXACT)
def test_a_step_is_the_formula_rounded_once_after_10000_steps_too(name):
    build, formula = EXACT[name]
    optimizer = fresh()
    scheduler = build(optimizer)
    curve = stepped(optimizer, scheduler, N)
    (at,) = scheduler.at(range(N + 1))
    np.testing.assert_array_equal(curve, at)
    # Every 7th epoch, and all of the first and the last ones: balls take their time.
    some = np.unique(np.r_[0:300, 300:N:7, N - 100 : N + 1])
    with precision():
        exact = formula(some.astype(object), arb(BASE))
        normal = np.abs(at[some]) > np.finfo(float).tiny
        exact = np.asarray(exact, object)[normal].view(type(balls(np.zeros(1))))
        errors = errors_in_ulps(at[some][normal], exact, np.zeros(normal.sum()))
    assert errors.max() <= SCHEDULE_ULPS["fractional power" if "PolynomialLR, " in name else "all others"]


@pytest.mark.parametrize(
    ("wrong", "formula"),
    [
        ("one late", lambda e, eta: formulas.cosine(e + 1, eta, t_max=arb(50), eta_min=0)),
        ("a period too long", lambda e, eta: formulas.cosine(e, eta, t_max=arb(51), eta_min=0)),
        ("to another end", lambda e, eta: formulas.cosine(e, eta, t_max=arb(50), eta_min=arb(1e-17))),
    ],
)
def test_wrong_formulas_are_told_from_the_right_one(wrong, formula):
    (at,) = lrs.CosineAnnealingLR(sgd(), 50).at(np.arange(48))
    with precision():
        exact = np.asarray(formula(np.arange(48).astype(object), arb(BASE)), object).view(type(balls(np.zeros(1))))
        assert errors_in_ulps(at, exact, np.zeros(48)).max() > SCHEDULE_ULPS["all others"]


def test_formulas_take_arrays_and_numbers():
    scheduler = lrs.CosineAnnealingWarmRestarts(sgd(), 5, 2, 1e-3)
    epochs = np.arange(40)
    close = formulas.cosine_restarts(epochs, BASE, t_0=5, t_mult=2, eta_min=1e-3)
    np.testing.assert_allclose(close, scheduler.at(epochs)[0], **CLOSE["float64"])
    assert float(formulas.cosine_restarts(17, BASE, t_0=5, t_mult=2, eta_min=1e-3)) == pytest.approx(close[17])


@pytest.mark.parametrize(
    ("p", "q"), [(0, 1), (1, 3), (1, 2), (7, 9), (-5, 7), (10**6 - 1, 10**6), (123, 7), (1, 10**9)]
)
def test_cosines(p, q):
    with precision():
        error = abs(arb(cosine(p, q)) / arb(2) ** FRACTION - (arb(p) / q).cos_pi()) * arb(2) ** FRACTION
        assert error.upper() < 2


@pytest.mark.parametrize("period", [4, 7, 8, 1000, 2049])
def test_a_cosine_that_comes_back_to_0_is_0_there(period):
    """Where eta_min is above the initial learning rate, rounding must not leave a negative one, which is refused."""
    optimizer = fresh(0.0)
    (group,) = optimizer.param_groups
    scheduler = lrs.CosineAnnealingLR(optimizer, period, eta_min=0.1)
    found = stepped(optimizer, scheduler, 4 * period)
    assert (np.array(found) >= 0).all()
    np.testing.assert_array_equal(found, scheduler.at(range(4 * period + 1))[0])
    assert group["lr"] == 0
    optimizer.load_state_dict(optimizer.state_dict())


def test_chains_do_not_drift():
    """Several schedulers on one optimizer: each reads what the others wrote, with all its digits."""
    optimizer = fresh()
    parts = [
        lrs.ExponentialLR(optimizer, 0.9999),
        lrs.CosineAnnealingLR(optimizer, 50),
        lrs.StepLR(optimizer, 3, 1.0001),
    ]
    chain = lrs.ChainedScheduler(parts)
    curve = stepped(optimizer, chain, N - 20)
    with precision():
        e = N - 20
        exact = arb(BASE) * arb(0.9999) ** e * (1 + (arb(e) / 50).cos_pi()) / 2 * arb(1.0001) ** (e // 3)
        error = errors_in_ulps(curve[-1:], np.array([exact], object).view(type(balls(np.zeros(1)))), np.zeros(1))
    # After eta_min the cosine adds: as in torch, what others did before is not in what it adds.
    assert error.max() > SCHEDULE_ULPS["all others"]
    optimizer = fresh()
    chain = lrs.ChainedScheduler([lrs.ExponentialLR(optimizer, 0.9999), lrs.StepLR(optimizer, 3, 1.0001)])
    curve = stepped(optimizer, chain, N)
    with precision():
        exact = arb(BASE) * arb(0.9999) ** N * arb(1.0001) ** (N // 3)
        error = errors_in_ulps(curve[-1:], np.array([exact], object).view(type(balls(np.zeros(1)))), np.zeros(1))
    assert error.max() <= SCHEDULE_ULPS["all others"]
