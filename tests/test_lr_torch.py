"""Agreement with torch's schedulers, on random configurations: alone, chained, one after another, saved and resumed."""

import copy
import json
import warnings

import numpy as np
import pytest
from schedules import Falling

import refoptim as optim
from refoptim import lr_scheduler as ours
from refoptim.conformance.tolerances import CLOSE

torch = pytest.importorskip("torch", reason="torch, which these schedulers agree with, is not installed")
theirs = torch.optim.lr_scheduler

CONFIGURATIONS = 1000
BATCHES = 20
STEPS = 40


def pick(draw, *choices):
    return choices[draw.integers(len(choices))]


def factor_of(kind):
    return {
        "inverse": lambda epoch: 1 / (1 + epoch),
        "power": lambda epoch: 0.95**epoch,
        "steps": lambda epoch: 1.0 if epoch % 3 else 0.5,
    }[kind]


def simple(draw):
    """Return the name and the arguments of a scheduler that only multiplies."""
    size, gamma = int(draw.integers(1, 12)), float(draw.uniform(0.5, 1.1))
    return pick(
        draw,
        ("StepLR", {"step_size": size, "gamma": gamma}),
        ("MultiStepLR", {"milestones": sorted(draw.integers(0, 30, 3).tolist()), "gamma": gamma}),
        ("ExponentialLR", {"gamma": gamma}),
        ("ConstantLR", {"factor": float(draw.uniform(0.1, 1)), "total_iters": size}),
        (
            "LinearLR",
            {
                "start_factor": float(draw.uniform(0.1, 1)),
                "end_factor": float(draw.uniform(0, 1)),
                "total_iters": size,
            },
        ),
        ("PolynomialLR", {"total_iters": 3 * size, "power": pick(draw, 1.0, 2.0, 0.5, 0.9, 3.7)}),
    )


def cosine(draw):
    # Just after eta_min torch's recursion divides by what cancellation has left: longer periods lose more digits.
    return "CosineAnnealingLR", {"T_max": int(draw.integers(1, 25)), "eta_min": pick(draw, 0.0, 0.0, 0.01)}


def setting(draw):
    """Return the name and the arguments of a scheduler that sets the learning rate, whatever it was."""
    momentum = {"cycle_momentum": pick(draw, True, False)}
    total = int(draw.integers(STEPS, 2 * STEPS))
    return pick(
        draw,
        ("LambdaLR", {"lr_lambda": factor_of(pick(draw, "inverse", "power", "steps"))}),
        (
            "CosineAnnealingWarmRestarts",
            {"T_0": int(draw.integers(1, 9)), "T_mult": int(draw.integers(1, 4)), "eta_min": pick(draw, 0.0, 1e-3)},
        ),
        (
            "CyclicLR",
            {
                "base_lr": 0.01,
                "max_lr": float(draw.uniform(0.1, 1)),
                "step_size_up": int(draw.integers(1, 9)),
                "step_size_down": pick(draw, None, 3, 10),
                "mode": pick(draw, "triangular", "triangular2", "exp_range"),
                "gamma": 0.97,
                **momentum,
            },
        ),
        (
            "OneCycleLR",
            {
                "max_lr": float(draw.uniform(0.1, 1)),
                "total_steps": total,
                "pct_start": float(draw.uniform(0.1, 0.45)),
                "anneal_strategy": pick(draw, "cos", "linear"),
                "three_phase": pick(draw, True, False),
                **momentum,
            },
        ),
    )


def plan(draw):
    """Return what to build: names and arguments, and how they are put together."""
    how = pick(draw, "alone", "alone", "chained", "sequential")
    if how == "alone":
        return how, [pick(draw, simple, cosine, setting, multiplicative)(draw)], []
    if how == "chained":
        first = pick(draw, simple, setting)(draw)
        return how, [first, *(pick(draw, simple, multiplicative)(draw) for _ in range(draw.integers(1, 3)))], []
    parts = [pick(draw, simple, cosine, setting)(draw) for _ in range(3)]
    # A later OneCycleLR or CyclicLR changes what torch's earlier parts start from, and their momentum.
    parts = [part if part[0] not in ("OneCycleLR", "CyclicLR") else simple(draw) for part in parts]
    return how, parts, sorted(draw.choice(np.arange(1, 30), 2, replace=False).tolist())


def multiplicative(draw):
    return "MultiplicativeLR", {"lr_lambda": factor_of(pick(draw, "power", "steps"))}


def build(module, optimizer, planned):
    how, parts, milestones = planned
    schedulers = [getattr(module, name)(optimizer, **arguments) for name, arguments in parts]
    if how == "chained":
        return module.ChainedScheduler(schedulers)
    return module.SequentialLR(optimizer, schedulers, milestones) if how == "sequential" else schedulers[0]


def optimizers(lrs):
    left = optim.SGD([{"params": [optim.Parameter([1.0])], "lr": lr} for lr in lrs], lr=0.1, momentum=0.5)
    right = torch.optim.SGD([{"params": [torch.nn.Parameter(torch.ones(1))], "lr": lr} for lr in lrs], momentum=0.5)
    return left, right


def values(optimizer):
    return [(group["lr"], group["momentum"]) for group in optimizer.param_groups]


@pytest.mark.filterwarnings("ignore:.*scheduler.step:UserWarning")
@pytest.mark.parametrize("batch", range(BATCHES))
def test_sequences_are_torchs(batch):
    for seed in range(batch * CONFIGURATIONS // BATCHES, (batch + 1) * CONFIGURATIONS // BATCHES):
        draw = np.random.default_rng(seed)
        planned = plan(draw)
        lrs = draw.uniform(0.05, 1, draw.integers(1, 3)).tolist()
        left, right = optimizers(lrs)
        mine, other = build(ours, left, planned), build(theirs, right, planned)
        resume = int(draw.integers(STEPS)) if draw.integers(2) else None
        found, expected = [values(left)], [values(right)]
        for step in range(STEPS):
            if step == resume:
                state, saved = json.dumps(mine.state_dict()), left.state_dict()
                left, _ = optimizers(lrs)
                mine = build(ours, left, planned)
                left.load_state_dict(saved)
                mine.load_state_dict(json.loads(state))
            mine.step()
            other.step()
            found.append(values(left))
            expected.append(values(right))
            assert mine.get_last_lr() == [lr for lr, _ in found[-1]]
        np.testing.assert_allclose(found, expected, **CLOSE["torch schedule"], err_msg=f"seed {seed}: {planned}")


@pytest.mark.parametrize("seed", range(20))
def test_a_learning_rate_that_others_change_goes_on_from_there_as_torchs(seed):
    draw = np.random.default_rng(seed)
    planned = "alone", [pick(draw, simple, cosine, multiplicative)(draw)], []
    left, right = optimizers([0.3])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        mine, other = build(ours, left, planned), build(theirs, right, planned)
        for step in range(STEPS):
            if step % 7 == 3:
                for optimizer in (left, right):
                    optimizer.param_groups[0]["lr"] *= 0.7
            mine.step()
            other.step()
            np.testing.assert_allclose(values(left), values(right), **CLOSE["torch schedule"], err_msg=str(planned))


@pytest.mark.parametrize("options", [{}, {"mode": "max", "threshold_mode": "abs"}, {"cooldown": 2, "min_lr": 0.01}])
@pytest.mark.parametrize("seed", range(5))
def test_plateau_is_torchs_to_the_bit(options, seed):
    draw = np.random.default_rng(seed)
    left, right = optimizers([0.3, 0.5])
    mine, other = (
        module.ReduceLROnPlateau(optimizer, factor=0.5, patience=1, **options)
        for module, optimizer in ((ours, left), (theirs, right))
    )
    for metric in draw.standard_normal(40).tolist():
        mine.step(metric)
        other.step(metric)
        assert values(left) == values(right)
        assert (mine.best, mine.num_bad_epochs, mine.cooldown_counter) == (
            other.best,
            other.num_bad_epochs,
            other.cooldown_counter,
        )


@pytest.mark.parametrize("seed", range(30))
def test_a_jump_is_torchs(seed):
    draw = np.random.default_rng(seed)
    planned = "alone", [pick(draw, simple, cosine, setting)(draw)], []
    epochs = draw.integers(0, STEPS, 5).tolist()
    left, right = optimizers([0.3])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        mine, other = build(ours, left, planned), build(theirs, right, planned)
        for epoch in epochs:
            mine.step(epoch)
            other.step(epoch)
            np.testing.assert_allclose(values(left), values(right), **CLOSE["torch schedule"], err_msg=str(planned))


def test_fractions_of_an_epoch_are_torchs():
    left, right = optimizers([0.3])
    mine = ours.CosineAnnealingWarmRestarts(left, T_0=3, T_mult=2, eta_min=0.01)
    other = theirs.CosineAnnealingWarmRestarts(right, T_0=3, T_mult=2, eta_min=0.01)
    for epoch in [0.25, 2.5, 3.0, 4.75, None, None, 20.5, None, 9, None]:
        mine.step(epoch)
        other.step(epoch)
        np.testing.assert_allclose(values(left), values(right), **CLOSE["torch schedule"])
        assert (mine.T_cur, mine.T_i, mine.last_epoch) == (other.T_cur, other.T_i, other.last_epoch)
    assert mine.at([0.25, 20.5])[0].shape == (2,)


def sequence(module, optimizer, parts):
    schedulers = [getattr(module, name)(optimizer, **arguments) for name, arguments in parts]
    return module.SequentialLR(optimizer, schedulers, [7 * place for place in range(1, len(parts))])


def chain(module, optimizer, parts):
    return module.ChainedScheduler([getattr(module, name)(optimizer, **arguments) for name, arguments in parts])


WARMUP = "LinearLR", {"start_factor": 0.1, "total_iters": 5}
DECAY = "ExponentialLR", {"gamma": 0.9}
CYCLE = {"base_lr": 0.1, "max_lr": 0.5}
PLATEAU = {"factor": 0.5, "patience": 1, "cooldown": 1}
ONE_CYCLE = {"max_lr": [0.5, 0.8], "total_steps": STEPS}
# A scheduler's name and its arguments, or a function that builds it.
SAVED = {
    "LambdaLR": ("LambdaLR", {"lr_lambda": factor_of("inverse")}),
    "LambdaLR, an object": ("LambdaLR", {"lr_lambda": [Falling(0.7), Falling(0.8)]}),
    "MultiplicativeLR": ("MultiplicativeLR", {"lr_lambda": factor_of("steps")}),
    "StepLR": ("StepLR", {"step_size": 3, "gamma": 0.7}),
    "MultiStepLR": ("MultiStepLR", {"milestones": [3, 12, 12, 15], "gamma": 0.7}),
    "ConstantLR": ("ConstantLR", {"factor": 0.3, "total_iters": 13}),
    "LinearLR": ("LinearLR", {"start_factor": 0.3, "end_factor": 0.9, "total_iters": 17}),
    "ExponentialLR": DECAY,
    "PolynomialLR": ("PolynomialLR", {"total_iters": 19, "power": 2.0}),
    "CosineAnnealingLR": ("CosineAnnealingLR", {"T_max": 7, "eta_min": 1e-3}),
    "CosineAnnealingWarmRestarts": ("CosineAnnealingWarmRestarts", {"T_0": 2, "T_mult": 2, "eta_min": 1e-3}),
    "CyclicLR": ("CyclicLR", {**CYCLE, "step_size_up": 3, "step_size_down": 7}),
    "CyclicLR, fractions": ("CyclicLR", {**CYCLE, "step_size_up": 2.7, "mode": "exp_range", "gamma": 0.9}),
    "CyclicLR, an object": ("CyclicLR", {**CYCLE, "step_size_up": 3, "scale_fn": Falling(0.9)}),
    "OneCycleLR": ("OneCycleLR", ONE_CYCLE),
    "OneCycleLR, no momentum": ("OneCycleLR", {**ONE_CYCLE, "three_phase": True, "cycle_momentum": False}),
    "ReduceLROnPlateau": ("ReduceLROnPlateau", PLATEAU),
    "ReduceLROnPlateau, max": ("ReduceLROnPlateau", {**PLATEAU, "mode": "max", "min_lr": [0.1, 0.2]}),
    "SWALR": lambda module, optimizer: SWALRS[module].SWALR(optimizer, 0.02, anneal_epochs=15),
    "SequentialLR": lambda module, optimizer: sequence(module, optimizer, [WARMUP, DECAY]),
    "SequentialLR of three": lambda module, optimizer: sequence(
        module, optimizer, [WARMUP, ("CosineAnnealingWarmRestarts", {"T_0": 4}), DECAY]
    ),
    "ChainedScheduler": lambda module, optimizer: chain(module, optimizer, [WARMUP, DECAY]),
    "ChainedScheduler of a cycle": lambda module, optimizer: chain(
        module, optimizer, [("OneCycleLR", ONE_CYCLE), DECAY]
    ),
}
SWALRS = {ours: optim.swa_utils, theirs: torch.optim.swa_utils}


def saved_scheduler(name, module, optimizer):
    build = SAVED[name]
    return build(module, optimizer) if callable(build) else getattr(module, build[0])(optimizer, **build[1])


@pytest.mark.parametrize("stop", [0, 1, 6, 10, 14])
@pytest.mark.parametrize("name", SAVED)
@pytest.mark.filterwarnings("ignore:.*scheduler.step:UserWarning")
def test_a_state_of_torchs_goes_on_here(name, stop):
    check_goes_on(name, stop, (theirs, ours))


@pytest.mark.parametrize("stop", [0, 1, 6, 10, 14])
@pytest.mark.parametrize("name", sorted(SAVED.keys() - {"MultiStepLR"}))
@pytest.mark.filterwarnings("ignore:.*scheduler.step:UserWarning")
def test_a_state_of_ours_goes_on_there(name, stop):
    """But for MultiStepLR's milestones, which are a list here and a Counter there."""
    check_goes_on(name, stop, (ours, theirs))


def check_goes_on(name, stop, modules):
    """Save with one of the modules and go on with the other, beside the first."""
    sides = dict(zip((ours, theirs), optimizers([0.3, 0.4])))
    first, second = (saved_scheduler(name, module, sides[module]) for module in modules)

    def step(scheduler, metric):
        scheduler.step(*([metric] if "Plateau" in name else []))

    metrics = [3.0, 2.0, 2.0, 2.5, 2.4, 2.3, 2.2, 2.1, 2.0, 2.0] * 2
    for metric in metrics[:stop]:
        step(first, metric)
    copied(*(sides[module] for module in modules))
    state = copy.deepcopy(first.state_dict())
    second.load_state_dict(state)
    for metric in metrics[stop:]:
        step(first, metric)
        step(second, metric)
        np.testing.assert_allclose(*map(values, sides.values()), **CLOSE["torch schedule"], err_msg=name)


def copied(source, target):
    """Give an optimizer the options of another one's groups, as if it had loaded them."""
    for group, other in zip(target.param_groups, source.param_groups, strict=True):
        group.update({name: value for name, value in other.items() if name in group and name != "params"})


def test_a_state_of_torchs_from_other_arguments_is_refused():
    left, right = optimizers([0.3])
    mine, other = ours.OneCycleLR(left, 0.5, 20), theirs.OneCycleLR(right, 0.6, 20)
    before = copy.deepcopy(mine.state_dict())
    with pytest.raises(ValueError, match=r"lacks what goes with its base_lrs=\[0.024\], and here it is \[0.02\]"):
        mine.load_state_dict(other.state_dict())
    assert mine.state_dict() == before


@pytest.mark.filterwarnings("ignore:.*scheduler.step:UserWarning")
def test_a_state_of_torchs_with_tensors_goes_on_here():
    left = optim.SGD([optim.Parameter([1.0])], lr=np.array(0.3))
    right = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=torch.tensor(0.3, dtype=torch.float64))
    mine, other = (module.StepLR(optimizer, 2, 0.7) for module, optimizer in ((ours, left), (theirs, right)))
    for _ in range(5):
        other.step()
    left.param_groups[0]["lr"][...] = right.param_groups[0]["lr"].numpy()
    mine.load_state_dict(other.state_dict())
    assert [type(value) for value in (*mine.base_lrs, *mine.get_last_lr())] == [float, float]
    json.dumps(mine.state_dict())
    for _ in range(5):
        mine.step()
        other.step()
        np.testing.assert_allclose(
            left.param_groups[0]["lr"], right.param_groups[0]["lr"].numpy(), **CLOSE["torch schedule"]
        )
