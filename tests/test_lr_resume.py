"""A run that was stopped anywhere and resumed from JSON equals the uninterrupted one, to the bit."""

import copy
import json
import pickle
from functools import partial

import numpy as np
import pytest
from schedules import STEPS, Falling, rate_of, resumed, run, sgd, third

from refoptim import lr_scheduler as lrs


class Own(lrs.LRScheduler):
    def __init__(self, optimizer, rate):
        self.rate = rate
        super().__init__(optimizer)

    def get_lr(self):
        return [group["lr"] * self.rate for group in self.optimizer.param_groups]


# A scheduler and its arguments.
SINGLE = {
    "LambdaLR": (lrs.LambdaLR, {"lr_lambda": third}),
    "LambdaLR, an object": (lrs.LambdaLR, {"lr_lambda": [Falling(0.9), third]}),
    "MultiplicativeLR": (lrs.MultiplicativeLR, {"lr_lambda": third}),
    "StepLR": (lrs.StepLR, {"step_size": 3, "gamma": 0.7}),
    "MultiStepLR": (lrs.MultiStepLR, {"milestones": [0, 3, 3, 9], "gamma": 0.7}),
    "ConstantLR": (lrs.ConstantLR, {"factor": 0.3, "total_iters": 7}),
    "LinearLR": (lrs.LinearLR, {"start_factor": 0.3, "end_factor": 0.9, "total_iters": 17}),
    "ExponentialLR": (lrs.ExponentialLR, {"gamma": 0.9}),
    "PolynomialLR": (lrs.PolynomialLR, {"total_iters": 19, "power": 2}),
    "PolynomialLR, power 0.9": (lrs.PolynomialLR, {"total_iters": 19, "power": 0.9}),
    "CosineAnnealingLR": (lrs.CosineAnnealingLR, {"T_max": 7, "eta_min": 1e-3}),
    "CosineAnnealingWarmRestarts": (lrs.CosineAnnealingWarmRestarts, {"T_0": 2, "T_mult": 2, "eta_min": 1e-3}),
    "CyclicLR": (lrs.CyclicLR, {"base_lr": 0.1, "max_lr": 0.3, "step_size_up": 3, "mode": "exp_range", "gamma": 0.9}),
    "CyclicLR, a function": (lrs.CyclicLR, {"base_lr": 0.1, "max_lr": 0.3, "step_size_up": 3, "scale_fn": third}),
    "OneCycleLR": (lrs.OneCycleLR, {"max_lr": [0.5, 0.6], "total_steps": STEPS, "three_phase": True}),
    "a user's own": (Own, {"rate": 0.9}),
}
PARTS = [name for name in SINGLE if "Cycl" not in name]


def single(name):
    """Return a function that builds a scheduler of the table."""
    kind, arguments = SINGLE[name]
    return partial(kind, **arguments)


def nested(draw, depth):
    """Return a function that builds a random composite."""

    def part(optimizer):
        if depth and draw.integers(2):
            return nested(draw, depth - 1)(optimizer)
        return single(PARTS[draw.integers(len(PARTS))])(optimizer)

    def chained(optimizer):
        return lrs.ChainedScheduler([part(optimizer) for _ in range(draw.integers(1, 4))])

    def sequential(optimizer):
        milestones = sorted(draw.integers(0, STEPS, draw.integers(0, 3)).tolist())
        return lrs.SequentialLR(optimizer, [part(optimizer) for _ in range(len(milestones) + 1)], milestones)

    return chained if draw.integers(2) else sequential


def composite(seed, optimizer):
    """Build a composite, the same one each time."""
    return nested(np.random.default_rng(seed), 2)(optimizer)


COMPOSITES = {f"composite {seed}": partial(composite, seed) for seed in range(40)}
BUILDERS = {name: single(name) for name in SINGLE} | COMPOSITES


@pytest.mark.parametrize("name", BUILDERS)
def test_resumed_is_uninterrupted(name):
    build = BUILDERS[name]
    optimizer = sgd()
    scheduler = build(optimizer)
    whole = run(optimizer, scheduler, 0, STEPS)
    optimizer = sgd()
    scheduler = build(optimizer)
    for stop in range(STEPS):
        state, saved = json.dumps(scheduler.state_dict()), optimizer.state_dict()
        again = resumed(build, state, saved, optimizer_first=stop % 2 == 0)
        assert run(*again, stop, STEPS) == whole[stop:]
        run(optimizer, scheduler, stop, stop + 1)


@pytest.mark.parametrize("name", [name for name in SINGLE if name != "a user's own"])
@pytest.mark.parametrize("last_epoch", [0, 4, 11])
def test_last_epoch_goes_on_at_the_closed_form(name, last_epoch):
    """Given n, a scheduler starts at epoch n + 1: as torch's do, which are right there only where they recompute."""
    kind, arguments = SINGLE[name]
    optimizer = sgd()
    whole = kind(optimizer, **arguments)
    expected = whole.at(range(STEPS))
    for _ in range(last_epoch):
        whole.step()
    late = kind(optimizer, **arguments, last_epoch=last_epoch)
    for epoch in range(last_epoch + 1, STEPS):
        assert (late.last_epoch, late.get_last_lr()) == (epoch, [curve[epoch] for curve in expected])
        late.step()


@pytest.mark.parametrize("last_epoch", [0, 3, 5, 8])
def test_last_epoch_of_sequential(last_epoch):
    def build(optimizer, last_epoch=-1):
        parts = [lrs.LinearLR(optimizer, 0.1, 1.0, 4), lrs.CosineAnnealingLR(optimizer, 7)]
        return lrs.SequentialLR(optimizer, parts, [5], last_epoch)

    whole = build(sgd()).at(range(STEPS))
    scheduler = build(sgd(), last_epoch)
    for epoch in range(last_epoch + 1, STEPS):
        assert (scheduler.last_epoch, scheduler.get_last_lr()) == (epoch, [curve[epoch] for curve in whole])
        scheduler.step()


def linear(optimizer):
    return lrs.LinearLR(optimizer, 0.1, 1.0, 4)


def falling(optimizer):
    return lrs.ExponentialLR(optimizer, 0.9)


def one_cycle(max_lr, **options):
    return partial(lrs.OneCycleLR, max_lr=max_lr, total_steps=20, **options)


# Parts that change what the groups of the others have. Each begins five epochs after the one before.
SEQUENCES = {
    "a later cycle": [linear, one_cycle(0.5)],
    "a cycle in the middle": [linear, one_cycle(0.5), falling],
    "the first is a cycle": [one_cycle(0.5), falling],
    "two cycles": [linear, one_cycle(0.5), one_cycle([0.2, 0.7], base_momentum=0.5, max_momentum=[0.9, 0.8])],
    "both kinds of cycle": [partial(lrs.CyclicLR, base_lr=0.05, max_lr=0.3), falling, one_cycle(0.5, three_phase=True)],
    "a chain with a cycle": [linear, lambda o: lrs.ChainedScheduler([falling(o), one_cycle(0.5)(o)])],
}


def sequence(name, optimizer, last_epoch=-1):
    parts = SEQUENCES[name]
    milestones = [5 * place for place in range(1, len(parts))]
    return lrs.SequentialLR(optimizer, [part(optimizer) for part in parts], milestones, last_epoch)


@pytest.mark.parametrize("name", SEQUENCES)
def test_a_sequence_rebuilt_on_loaded_groups_goes_on(name):
    optimizer = sgd()
    scheduler = sequence(name, optimizer)
    states = [optimizer.state_dict()]
    curve = [rate_of(optimizer)]
    for _ in range(18):
        scheduler.step()
        states.append(optimizer.state_dict())
        curve.append(rate_of(optimizer))
    for last_epoch in range(18):
        again = sgd()
        again.load_state_dict(states[last_epoch])
        resumed = sequence(name, again, last_epoch)
        late = [rate_of(again)]
        for _ in range(last_epoch + 2, 19):
            resumed.step()
            late.append(rate_of(again))
        assert late == curve[last_epoch + 1 :], last_epoch


def test_each_cycle_of_a_sequence_has_its_own_bounds():
    optimizer = sgd()
    first, second = one_cycle(0.5)(optimizer), one_cycle(0.1, base_momentum=0.5, max_momentum=0.6)(optimizer)
    scheduler = lrs.SequentialLR(optimizer, [first, second], [20])
    seen = []
    for _ in range(40):
        seen.append(rate_of(optimizer)[0])
        scheduler.step()
    alone = [one_cycle(0.5)(sgd()), one_cycle(0.1, base_momentum=0.5, max_momentum=0.6)(sgd())]
    assert seen == [pair for one in alone for pair in zip(one.at(range(20))[0], one.momentum_at(range(20))[0])]


@pytest.mark.parametrize("name", [*SINGLE, "composite 1", "composite 2", "composite 3"])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["copy", "pickle"])
def test_copies_go_on_alike(name, copied):
    optimizer = sgd()
    scheduler = BUILDERS[name](optimizer)
    run(optimizer, scheduler, 0, 7)
    if copied is not copy.deepcopy and ("own" in name or "object" in name):
        # Classes of a test module cannot be found by pickle when pytest imports it.
        return
    other = copied(scheduler)
    assert run(other.optimizer, other, 7, STEPS) == run(optimizer, scheduler, 7, STEPS)


def test_plateau_resumes():
    def build():
        optimizer = sgd()
        return optimizer, lrs.ReduceLROnPlateau(optimizer, "max", 0.5, 1, cooldown=1, min_lr=[0.01, 0.02])

    metrics = np.random.default_rng(0).standard_normal(STEPS).tolist()
    optimizer, scheduler = build()
    for stop in range(STEPS):
        other_optimizer, other = build()
        other.load_state_dict(json.loads(json.dumps(scheduler.state_dict())))
        other_optimizer.load_state_dict(optimizer.state_dict())
        scheduler.step(metrics[stop])
        other.step(metrics[stop])
        assert (other.state_dict(), rate_of(other_optimizer)) == (scheduler.state_dict(), rate_of(optimizer))
