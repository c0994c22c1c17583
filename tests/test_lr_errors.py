"""Bad arguments and steps that fail: each error names what is wrong, and nothing has changed after it."""

import copy

import numpy as np
import pytest

import refoptim as optim
from refoptim import lr_scheduler as lrs

BASE = 0.1
NAN, INF = float("nan"), float("inf")


def sgd(*rates):
    """Return an optimizer that counts as having stepped."""
    optimizer = fresh(*rates)
    optimizer._opt_called = True
    return optimizer


def fresh(*rates):
    """Return an optimizer whose steps a scheduler has not seen."""
    return optim.SGD([{"params": [optim.Parameter([1.0])], "lr": lr} for lr in rates or [BASE]], momentum=0.9)


BAD = [
    ("StepLR", {"step_size": 0}, ValueError, "Expected positive integer step_size, but got 0"),
    ("StepLR", {"step_size": 2.5}, ValueError, "Expected positive integer step_size, but got 2.5"),
    ("StepLR", {"step_size": 2, "gamma": NAN}, ValueError, "gamma must be a finite number, but is nan"),
    ("StepLR", {"step_size": 2, "gamma": "x"}, TypeError, "gamma must be a number, but is 'x'"),
    ("StepLR", {"step_size": 2, "last_epoch": -2}, ValueError, "non-negative integer last_epoch, but got -2"),
    ("StepLR", {"step_size": 2, "last_epoch": 3}, KeyError, r"'initial_lr' is not specified in param_groups\[0\]"),
    ("MultiStepLR", {"milestones": [3, 1]}, ValueError, r"milestones must be increasing, but are \[3, 1\]"),
    ("MultiStepLR", {"milestones": [-1]}, ValueError, r"non-negative integer milestones\[0\], but got -1"),
    ("MultiStepLR", {"milestones": 5}, TypeError, "milestones must be a list of integers, but is 5"),
    ("ExponentialLR", {"gamma": INF}, ValueError, "gamma must be a finite number, but is inf"),
    ("ConstantLR", {"factor": 1.5}, ValueError, "Constant multiplicative factor expected to be between 0 and 1"),
    ("ConstantLR", {"factor": NAN}, ValueError, "factor must be a finite number"),
    ("ConstantLR", {"total_iters": 0}, ValueError, "Expected positive integer total_iters, but got 0"),
    ("LinearLR", {"start_factor": 0}, ValueError, "Starting multiplicative factor expected to be greater than 0"),
    ("LinearLR", {"end_factor": 1.1}, ValueError, "Ending multiplicative factor expected to be between 0 and 1"),
    ("LinearLR", {"total_iters": 0}, ValueError, "Expected positive integer total_iters, but got 0"),
    ("PolynomialLR", {"total_iters": 0}, ValueError, "Expected positive integer total_iters, but got 0"),
    ("PolynomialLR", {"power": -1}, ValueError, "Expected non-negative power, but got -1.0"),
    ("LambdaLR", {"lr_lambda": [abs, abs]}, ValueError, "Expected 1 lr_lambdas, but got 2"),
    ("LambdaLR", {"lr_lambda": 0.5}, TypeError, "lr_lambda should be a function, but got float"),
    ("LambdaLR", {"lr_lambda": lambda _: NAN}, ValueError, "a schedule must be finite, but computes nan"),
    ("MultiplicativeLR", {"lr_lambda": None}, TypeError, "lr_lambda should be a function, but got NoneType"),
    ("CosineAnnealingLR", {"T_max": 0}, ValueError, "Expected positive T_max, but got 0"),
    ("CosineAnnealingLR", {"T_max": 5, "eta_min": INF}, ValueError, "eta_min must be a finite number"),
    ("CosineAnnealingWarmRestarts", {"T_0": 0}, ValueError, "Expected positive integer T_0, but got 0"),
    ("CosineAnnealingWarmRestarts", {"T_0": 2.5}, ValueError, "Expected positive integer T_0, but got 2.5"),
    ("CosineAnnealingWarmRestarts", {"T_0": 2, "T_mult": 0}, ValueError, "Expected positive integer T_mult, but got 0"),
    ("CosineAnnealingWarmRestarts", {"T_0": 2, "eta_min": "0"}, TypeError, "eta_min must be a number, but is '0'"),
    ("CyclicLR", {"base_lr": [1, 2], "max_lr": 2}, ValueError, "base_lr must have the same length as"),
    (
        "CyclicLR",
        {"base_lr": 1, "max_lr": 2, "scale_fn": 3},
        TypeError,
        "scale_fn must be a function or None, but is 3",
    ),
    ("CyclicLR", {"base_lr": 1, "max_lr": 2, "mode": "x"}, ValueError, "mode is invalid and scale_fn is None"),
    ("CyclicLR", {"base_lr": 1, "max_lr": 2, "step_size_up": 0}, ValueError, "Expected positive step_size_up"),
    ("CyclicLR", {"base_lr": 1, "max_lr": 2, "step_size_down": -1}, ValueError, "Expected non-negative step_size_down"),
    (
        "CyclicLR",
        {"base_lr": 1, "max_lr": 2, "scale_fn": abs, "scale_mode": "x"},
        ValueError,
        "scale_mode must be 'cycle' or 'iterations', but is 'x'",
    ),
    ("OneCycleLR", {"max_lr": 1}, ValueError, "You must define either total_steps OR"),
    ("OneCycleLR", {"max_lr": 1, "total_steps": 0}, ValueError, "Expected positive integer total_steps, but got 0"),
    ("OneCycleLR", {"max_lr": 1, "epochs": 2, "steps_per_epoch": 1.5}, ValueError, "positive integer steps_per_epoch"),
    (
        "OneCycleLR",
        {"max_lr": 1, "total_steps": 9, "pct_start": 1.5},
        ValueError,
        "between 0 and 1 pct_start, but got 1.5",
    ),
    (
        "OneCycleLR",
        {"max_lr": 1, "total_steps": 9, "pct_start": "x"},
        TypeError,
        "pct_start must be a number, but is 'x'",
    ),
    ("OneCycleLR", {"max_lr": 1, "total_steps": 10, "pct_start": 0.1}, ValueError, "makes the phases end at 0.0, 9.0"),
    ("OneCycleLR", {"max_lr": 1, "total_steps": 10, "pct_start": 0.0}, ValueError, "each must end later than the one"),
    ("OneCycleLR", {"max_lr": 1, "total_steps": 10, "pct_start": 1.0}, ValueError, "each must end later than the one"),
    (
        "OneCycleLR",
        {"max_lr": 1, "total_steps": 10, "pct_start": 0.6, "three_phase": True},
        ValueError,
        "makes the phases end at 5.0, 10.0, 9.0",
    ),
    ("OneCycleLR", {"max_lr": 1, "total_steps": 9, "anneal_strategy": "x"}, ValueError, "must be one of 'cos' or"),
    ("OneCycleLR", {"max_lr": 1, "total_steps": 9, "div_factor": 0}, ValueError, "Expected positive div_factor"),
    ("ReduceLROnPlateau", {"factor": 1.0}, ValueError, "Factor should be < 1.0, but is 1.0"),
    ("ReduceLROnPlateau", {"factor": -0.5}, ValueError, "Factor should be >= 0, but is -0.5"),
    ("ReduceLROnPlateau", {"mode": "x"}, ValueError, "mode x is unknown!"),
    ("ReduceLROnPlateau", {"threshold_mode": "x"}, ValueError, "threshold mode x is unknown!"),
    ("ReduceLROnPlateau", {"min_lr": [0, 0]}, ValueError, "min_lr must have the same length"),
]


def snapshot(optimizer):
    return copy.deepcopy([{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups])


@pytest.mark.parametrize(("name", "arguments", "error", "message"), BAD)
def test_bad_arguments_change_nothing(name, arguments, error, message):
    optimizer = fresh()
    before = snapshot(optimizer)
    with pytest.raises(error, match=message):
        getattr(lrs, name)(optimizer, **arguments)
    assert snapshot(optimizer) == before


@pytest.mark.parametrize("name", ["StepLR", "LambdaLR", "CyclicLR", "OneCycleLR", "ReduceLROnPlateau"])
def test_what_is_no_optimizer_is_refused(name):
    arguments = {"StepLR": [3], "LambdaLR": [abs], "CyclicLR": [1, 2], "OneCycleLR": [1, 2]}.get(name, [])
    with pytest.raises(TypeError, match="int is not an Optimizer"):
        getattr(lrs, name)(5, *arguments)


class Stranger:
    """It has an optimizer, as a scheduler does."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    def __repr__(self):
        return "Stranger"


COMPOSITES = [
    (lambda o: lrs.SequentialLR(o, [], []), ValueError, "expects at least one scheduler"),
    (lambda _: lrs.ChainedScheduler([]), ValueError, "expects at least one scheduler"),
    (lambda _: lrs.ChainedScheduler([5]), TypeError, "at index 0 got 5, which is no LRScheduler"),
    (
        lambda o: lrs.SequentialLR(o, [optim.SGD([optim.Parameter([1.0])], 0.1)], []),
        TypeError,
        "which is no LRScheduler",
    ),
    (lambda o: lrs.ChainedScheduler([Stranger(o)]), TypeError, "at index 0 got Stranger, which is no LRScheduler"),
    (lambda o: lrs.ChainedScheduler(lrs.StepLR(o, 2)), TypeError, "ChainedScheduler expects a list of schedulers, but"),
    (lambda o: lrs.SequentialLR(None, [lrs.StepLR(o, 2)], []), TypeError, "NoneType is not an Optimizer"),
    (
        lambda o: lrs.SequentialLR(o, [lrs.StepLR(o, 2)], 5),
        TypeError,
        "milestones must be a list of integers, but is 5",
    ),
    (lambda o: lrs.SequentialLR(o, [lrs.StepLR(o, 2)], [1]), ValueError, "provided to be one more"),
    (lambda o: lrs.SequentialLR(o, [lrs.StepLR(o, 2)] * 3, [5, 3]), ValueError, "milestones must be increasing"),
    (lambda o: lrs.SequentialLR(o, [lrs.StepLR(sgd(), 2)], []), ValueError, "belong to the same optimizer"),
    (lambda o: lrs.ChainedScheduler([lrs.ReduceLROnPlateau(o)]), ValueError, "does not support `ReduceLROnPlateau`"),
]


@pytest.mark.parametrize(("build", "error", "message"), COMPOSITES)
def test_bad_composites(build, error, message):
    with pytest.raises(error, match=message):
        build(fresh())


def until(limit):
    def factor(epoch):
        if epoch >= limit:
            raise RuntimeError("no more")
        return 0.9

    return factor


FAILING = {
    "one cycle": (lambda o: lrs.OneCycleLR(o, 1.0, 5), ValueError, "Tried to step 6 times"),
    "lambda": (lambda o: lrs.LambdaLR(o, until(6)), RuntimeError, "no more"),
    "multiplicative": (lambda o: lrs.MultiplicativeLR(o, until(6)), RuntimeError, "no more"),
    "chained": (
        lambda o: lrs.ChainedScheduler([lrs.ExponentialLR(o, 0.5), lrs.LambdaLR(o, until(6))]),
        RuntimeError,
        "no more",
    ),
    "sequential": (
        lambda o: lrs.SequentialLR(
            o,
            [lrs.StepLR(o, 3), lrs.ChainedScheduler([lrs.ConstantLR(o), Failing(o, False), Failing(o, True)])],
            [6],
        ),
        RuntimeError,
        "not at epoch 0",
    ),
    "nan": (lambda o: lrs.ExponentialLR(o, 0.5), ValueError, "a learning rate of nan is not finite"),
}


class Failing(lrs.LRScheduler):
    def __init__(self, optimizer, fails):
        self.fails = False
        super().__init__(optimizer)
        self.fails = fails

    def get_lr(self):
        if self.fails:
            raise RuntimeError("not at epoch 0")
        return [0.5 * group["lr"] for group in self.optimizer.param_groups]


@pytest.mark.parametrize("name", FAILING)
def test_a_step_that_fails_changes_nothing(name):
    build, error, message = FAILING[name]
    optimizer = fresh()
    scheduler = build(optimizer)
    optimizer.step()
    for _ in range(5):
        scheduler.step()
    if name == "nan":
        optimizer.param_groups[0]["lr"] = NAN
    before = repr((snapshot(optimizer), scheduler.state_dict()))
    with pytest.raises(error, match=message):
        scheduler.step()
    assert repr((snapshot(optimizer), scheduler.state_dict())) == before


def test_one_cycle_stays_where_it_ends_for_one_step():
    optimizer = sgd()
    scheduler = lrs.OneCycleLR(optimizer, 1.0, 5)
    assert scheduler.at(5) == scheduler.at(4) == [1.0 / 25 / 1e4]
    with pytest.raises(ValueError, match="Tried to step 6 times"):
        scheduler.at([2, 6])


@pytest.mark.parametrize(
    ("lr", "error"), [(np.array(1), TypeError), (np.broadcast_to(0.5, ()), ValueError)], ids=["integer", "read-only"]
)
def test_arrays_that_cannot_hold_a_learning_rate(lr, error):
    with pytest.raises(error, match="a learning rate in an array"):
        lrs.ExponentialLR(fresh(lr), 0.5)


def cosine_at_eta_min(optimizer):
    # From there it adds, and a group without a first learning rate has nothing to be added.
    scheduler = lrs.CosineAnnealingLR(optimizer, 1)
    scheduler.step()
    return scheduler


def test_groups_that_came_later():
    def added(build):
        optimizer = sgd()
        scheduler = build(optimizer)
        optimizer.add_param_group({"params": [optim.Parameter([2.0])], "lr": 0.4})
        return optimizer, scheduler

    optimizer, scheduler = added(lambda o: lrs.ExponentialLR(o, 0.5))
    scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.2]
    for build in (
        lambda o: lrs.LambdaLR(o, abs),
        lambda o: lrs.MultiplicativeLR(o, abs),
        lambda o: lrs.CyclicLR(o, 0.1, 0.2),
        cosine_at_eta_min,
    ):
        optimizer, scheduler = added(build)
        before = repr(snapshot(optimizer))
        with pytest.raises(ValueError, match="build the scheduler after add_param_group"):
            scheduler.step()
        assert repr(snapshot(optimizer)) == before


@pytest.mark.parametrize("number", [int, float, np.int64, np.float32, np.float64, np.array])
def test_whole_numbers_of_all_types(number):
    built = [
        (lrs.CosineAnnealingWarmRestarts, [number(3), number(2)]),
        (lrs.OneCycleLR, [1.0, number(20)]),
        (lrs.MultiStepLR, [[number(3), number(9)]]),
        (lrs.StepLR, [number(3)]),
    ]
    for kind, arguments in built:
        plain = [[int(each) for each in item] if isinstance(item, list) else float(item) for item in arguments]
        assert kind(sgd(), *arguments).at(range(9))[0].tolist() == kind(sgd(), *plain).at(range(9))[0].tolist()
    assert lrs.OneCycleLR(sgd(), 1.0, 20, pct_start=np.float32(0.25)).at(4) == lrs.OneCycleLR(
        sgd(), 1.0, 20, pct_start=0.25
    ).at(4)


@pytest.mark.parametrize(("epoch", "error"), [("x", TypeError), (-1, ValueError), (1.5, ValueError)])
def test_a_plateau_at_an_epoch_that_is_none(epoch, error):
    scheduler = lrs.ReduceLROnPlateau(sgd())
    before = scheduler.state_dict()
    with pytest.warns(UserWarning, match="epoch parameter"), pytest.raises(error, match=f"epoch.*{epoch!r}"):
        scheduler.step(1.0, epoch)
    assert scheduler.state_dict() == before


def test_the_scale_of_a_mode_that_another_could_not_compute():
    for mode, expected in (("triangular", 1.0), ("triangular2", 0.5)):
        assert lrs.CyclicLR(sgd(), 0.1, 0.2, mode=mode, gamma=1e200).scale_fn(2) == expected
    assert lrs.CyclicLR(sgd(), 0.1, 0.2, mode="exp_range", gamma=0.5).scale_fn(5000) == 0.0
