"""The formulas with axes: at torch's values the published ones, and elsewhere what others compute, written by hand."""

import math

import numpy as np
import pytest

pytest.importorskip("flint", reason="exact values are made with python-flint")

from refoptim import SGD, Parameter
from refoptim.conformance import truth
from refoptim.conformance.dialects import axes, forms, schedules, trial
from refoptim.conformance.schedules import plateau
from refoptim.conformance.tolerances import CLOSE
from refoptim.conformance.vectors import oracle, problems, recipes
from refoptim.conformance.vectors.numbers import EXACT
from refoptim.conformance.vectors.vector import Group, Schedule, Step, Trajectory
from refoptim.lr_scheduler import CosineAnnealingLR, OneCycleLR

CASES = [
    pytest.param(case, module, id=str(case))
    for optimizer, (module, cases) in recipes.optimizers().items()
    if optimizer in forms.known()
    for case in cases
]


@pytest.mark.parametrize(("case", "module"), CASES)
def test_torchs_values_are_the_published_formula_exactly(case, module):
    make = problems.sparse if case.optimizer == "SparseAdam" else problems.bookkeeping
    problem = make(case, module.meaning(case), "f32")
    with truth.precision():
        published = list(oracle.run(problem, oracle.meanings_of(problem, module.meaning), EXACT))
        ours = list(trial.run(problem, {}, trial.Numbers(EXACT.array, EXACT.symbols)))
        assert len(ours) == len(published) == len(problem.record)
        for one, other in zip(ours, published, strict=True):
            for name, quantities in other.items():
                for quantity, right in quantities.items():
                    balls = zip(one[name][quantity], np.ravel(right), strict=True)
                    assert all(ball.overlaps(wanted) and ball.rad() < KNOWN for ball, wanted in balls), quantity


KNOWN = 1e-60

B1, B2, EPS, MU = 0.875, 0.984375, 2.0**-5, 0.75
GRADS = [np.array([0.5, -0.03125, 4.0, 0.0]), np.array([-1.0, 0.0625, 0.25, 0.5]), np.array([0.25, -0.5, -2.0, 0.125])]
LRS = (1.0, 0.25, 0.5)
START = np.array([1.0, -2.0, 0.0, 0.5])


def keras_adam(lr, g, t, s):
    alpha = lr * math.sqrt(1 - B2**t) / (1 - B1**t)
    s["m"] = s["m"] + (g - s["m"]) * (1 - B1)
    s["v"] = s["v"] + (g * g - s["v"]) * (1 - B2)
    return alpha * s["m"] / (np.sqrt(s["v"]) + EPS)


def optax_amsgrad(lr, g, t, s):
    s["m"] = B1 * s["m"] + (1 - B1) * g
    s["v"] = B2 * s["v"] + (1 - B2) * g * g
    s["w"] = np.maximum(s["w"], s["v"] / (1 - B2**t))
    return lr * s["m"] / (1 - B1**t) / (np.sqrt(s["w"]) + EPS)


def paper_amsgrad(lr, g, t, s):
    s["m"] = B1 * s["m"] + (1 - B1) * g
    s["v"] = B2 * s["v"] + (1 - B2) * g * g
    s["w"] = np.maximum(s["w"], s["v"])
    return lr * s["m"] / (np.sqrt(s["w"]) + EPS)


def mlx_adamax(lr, g, t, s):
    s["m"] = B1 * s["m"] + (1 - B1) * g
    s["v"] = np.maximum(B2 * s["v"], np.abs(g))
    return lr * s["m"] / (s["v"] + EPS)


def keras_nadam(lr, g, t, s):
    u = [B1 * (1 - 0.5 * 0.96**i) for i in range(1, t + 2)]
    s["m"] = B1 * s["m"] + (1 - B1) * g
    s["v"] = B2 * s["v"] + (1 - B2) * g * g
    m_hat = u[t] * s["m"] / (1 - math.prod(u)) + (1 - u[t - 1]) * g / (1 - math.prod(u[:-1]))
    return lr * m_hat / (np.sqrt(s["v"] / (1 - B2**t)) + EPS)


def optax_nadam(lr, g, t, s):
    s["m"] = B1 * s["m"] + (1 - B1) * g
    s["v"] = B2 * s["v"] + (1 - B2) * g * g
    m_hat = B1 * s["m"] / (1 - B1 ** (t + 1)) + (1 - B1) * g / (1 - B1**t)
    return lr * m_hat / (np.sqrt(s["v"] / (1 - B2**t)) + EPS)


def tensorflow_nadam(lr, g, t, s):
    alpha = lr * math.sqrt(1 - B2**t) / (1 - B1**t)
    s["m"] = s["m"] + (g - s["m"]) * (1 - B1)
    s["v"] = s["v"] + (g * g - s["v"]) * (1 - B2)
    return alpha * (g * (1 - B1) + B1 * s["m"]) / (EPS + np.sqrt(s["v"]))


def paper_radam(lr, g, t, s):
    s["m"] = B1 * s["m"] + (1 - B1) * g
    s["v"] = B2 * s["v"] + (1 - B2) * g * g
    limit = 2 / (1 - B2) - 1
    rho = limit - 2 * t * B2**t / (1 - B2**t)
    if rho <= 4:
        return lr * s["m"] / (1 - B1**t)
    r = math.sqrt((rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho))
    return lr * r * s["m"] / (1 - B1**t) / (np.sqrt(s["v"] / (1 - B2**t)) + EPS)


def timm_rmsprop(lr, g, t, s):
    if t == 1:
        s["v"] = np.ones(4)
    s["v"] = s["v"] + (1 - B1) * (g * g - s["v"])
    s["b"] = MU * s["b"] + lr * g / np.sqrt(s["v"] + EPS)
    return s["b"]


def keras_centered(lr, g, t, s):
    s["v"] = B1 * s["v"] + (1 - B1) * g * g
    s["m"] = B1 * s["m"] + (1 - B1) * g
    s["b"] = MU * s["b"] + lr * g / np.sqrt(s["v"] - s["m"] ** 2 + EPS)
    return s["b"]


def keras_nesterov(lr, g, t, s):
    s["b"] = MU * s["b"] - lr * g
    return -(MU * s["b"] - lr * g)


def mlx_damped(lr, g, t, s):
    s["b"] = MU * s["b"] + (1 - 0.5) * g
    return lr * s["b"]


def keras_adagrad(lr, g, t, s):
    if t == 1:
        s["v"] = np.full(4, 0.125)
    s["v"] = s["v"] + g * g
    return lr * g / np.sqrt(s["v"] + EPS)


ADAM = {"betas": (B1, B2), "eps": EPS}
RMSPROP = {"alpha": B1, "eps": EPS, "momentum": MU}


@pytest.mark.parametrize(
    ("algorithm", "options", "choices", "update"),
    [
        ("Adam", ADAM, {"eps": "hat"}, keras_adam),
        ("Adam", ADAM | {"amsgrad": True}, {"amsgrad": "corrected"}, optax_amsgrad),
        ("Adam", ADAM | {"amsgrad": True}, {"amsgrad": "uncorrected"}, paper_amsgrad),
        ("Adamax", ADAM, {"eps": "outside", "bias": "none"}, mlx_adamax),
        ("NAdam", ADAM, {"mu": "psi=1"}, keras_nadam),
        ("NAdam", ADAM, {"mu": "constant"}, optax_nadam),
        ("NAdam", ADAM, {"mu": "shared", "eps": "hat"}, tensorflow_nadam),
        ("RAdam", ADAM, {"eps": "outside", "threshold": "4"}, paper_radam),
        ("RMSprop", RMSPROP, {"eps": "inside", "v0": "1", "velocity": "inside"}, timm_rmsprop),
        ("RMSprop", RMSPROP | {"centered": True}, {"eps": "inside", "velocity": "inside"}, keras_centered),
        ("SGD", {"momentum": MU, "nesterov": True}, {"velocity": "inside"}, keras_nesterov),
        ("SGD", {"momentum": MU, "dampening": 0.5}, {"start": "damped"}, mlx_damped),
        ("Adagrad", {"initial_accumulator_value": 0.125, "eps": EPS}, {"eps": "inside"}, keras_adagrad),
    ],
)
def test_dialects_are_what_others_compute(algorithm, options, choices, update):
    group = Group(("w",), {"lr": 1.0} | options)
    grads = GRADS * 2
    lrs = LRS * 2
    steps = tuple(Step((lr,), {"w": g}) for lr, g in zip(lrs, grads, strict=True))
    problem = Trajectory(algorithm, "f64", {"w": START}, (group,), steps, frozenset({6}))
    (ours,) = trial.run(trial.completed(problem), choices)
    theta, state = START, dict.fromkeys("mvwb", np.zeros(4))
    for t, (lr, g) in enumerate(zip(lrs, grads, strict=True), 1):
        theta = theta - update(lr, g, t, state)
    np.testing.assert_allclose(ours["w"]["theta"], theta, **CLOSE["float64"])
    assert not np.allclose(last(problem, {}), theta, **CLOSE["torch float32"])


def last(problem, choices):
    (now,) = trial.run(trial.completed(problem), choices)
    return now["w"]["theta"]


@pytest.mark.parametrize(
    ("decay", "theta"),
    [
        ("l2", 2 - 0.5 * (3 + 0.25 * 2)),
        ("decoupled", 2 - 0.5 * 0.25 * 2 - 0.5 * 3),
        ("unscaled", 2 - 0.25 * 2 - 0.5 * 3),
        ("after", (2 - 0.5 * 3) * (1 - 0.5 * 0.25)),
    ],
)
def test_weight_decay(decay, theta):
    group = Group(("w",), {"lr": 0.5, "weight_decay": 0.25})
    step = Step((0.5,), {"w": np.array([3.0])})
    problem = Trajectory("SGD", "f64", {"w": np.array([2.0])}, (group,), (step,), frozenset({1}))
    assert last(problem, {"decay": decay}) == theta


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
@pytest.mark.parametrize("cooldown", [0, 3])
def test_torchs_plateau_is_the_documented_one(mode, threshold_mode, cooldown):
    options = {"mode": mode, "factor": 0.5, "patience": 2, "threshold": 0.01, "threshold_mode": threshold_mode}
    options |= {"cooldown": cooldown, "min_lr": 0.01}
    seen = plateau.metrics(mode, 60)
    problem = Schedule("ReduceLROnPlateau", options, (1.0,), 60, tuple(range(61)), tuple(seen))
    assert schedules.curves(problem, {}) == [plateau.learning_rates(seen, 1.0, **options)]


def keras_plateau(metrics, patience, cooldown, delta):
    """Return what Keras's callback makes of a metric."""
    lr, best, wait, rest, curve = 1.0, math.inf, 0, 0, [1.0]
    for metric in metrics:
        if rest > 0:
            rest, wait = rest - 1, 0
        if metric < best - delta:
            best, wait = metric, 0
        elif rest <= 0:
            wait += 1
            if wait >= patience:
                lr, rest, wait = lr * 0.5, cooldown, 0
        curve.append(lr)
    return curve


@pytest.mark.parametrize("patience", [0, 1, 3])
@pytest.mark.parametrize("cooldown", [0, 1, 4])
def test_keras_plateau(patience, cooldown):
    metrics = tuple(plateau.metrics("min", 80)[1:])
    options = {"factor": 0.5, "patience": patience, "threshold": 0.05, "cooldown": cooldown, "eps": 0.0}
    problem = Schedule("ReduceLROnPlateau", options, (1.0,), len(metrics), (), metrics)
    choices = dict(axes.dialect("keras.ReduceLROnPlateau").axes)
    assert schedules.curves(problem, choices) == [keras_plateau(metrics, patience, cooldown, 0.05)]


@pytest.mark.parametrize(
    ("scheduler", "options"),
    [
        (CosineAnnealingLR, {"T_max": 7, "eta_min": 0.01}),
        (OneCycleLR, {"max_lr": 0.5, "total_steps": 20, "cycle_momentum": False}),
        (OneCycleLR, {"max_lr": 0.5, "total_steps": 20, "three_phase": True, "cycle_momentum": False}),
        (OneCycleLR, {"max_lr": 0.5, "epochs": 5, "steps_per_epoch": 4, "anneal_strategy": "linear", "pct_start": 0.4}),
    ],
)
def test_torchs_curves_are_the_schedulers(scheduler, options):
    optimizer = SGD([Parameter(np.zeros(1))], lr=0.1, momentum=0.9)
    stepped = scheduler(optimizer, **options)
    rates = [stepped.get_last_lr()[0]]
    for _ in range(19):
        optimizer.step()
        stepped.step()
        rates.append(stepped.get_last_lr()[0])
    problem = Schedule(scheduler.__name__, options, (0.1,), 19, tuple(range(20)), None)
    np.testing.assert_allclose(schedules.curves(problem, {})[0], rates, **CLOSE["float64"])
