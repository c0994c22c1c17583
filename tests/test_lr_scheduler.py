"""Schedulers in use: curves, groups, arrays, the order of calls, users' own, and what can be changed on the way."""

import copy
import logging
import pickle
import warnings
from contextlib import nullcontext

import numpy as np
import pytest

import refoptim as optim
from refoptim import lr_scheduler as lrs

BASE = 0.1


def sgd(*rates):
    """Return an optimizer that counts as having stepped."""
    optimizer = fresh(*rates)
    optimizer._opt_called = True
    return optimizer


def fresh(*rates):
    """Return an optimizer whose steps a scheduler has not seen."""
    return optim.SGD([{"params": [optim.Parameter([1.0])], "lr": lr} for lr in rates or [BASE]], momentum=0.9)


class Halving(lrs.LRScheduler):
    def get_lr(self):
        return [group["lr"] / (2 if self.last_epoch else 1) for group in self.optimizer.param_groups]


BUILDERS = {
    "MultiplicativeLR": lambda o: lrs.MultiplicativeLR(o, lambda epoch: 0.99 if epoch % 2 else 1.01),
    "StepLR": lambda o: lrs.StepLR(o, 7, 0.97),
    "CosineAnnealingWarmRestarts": lambda o: lrs.CosineAnnealingWarmRestarts(o, 5, 2, 1e-3),
    "CyclicLR": lambda o: lrs.CyclicLR(o, 0.1, 0.7, 3, 4),
    "ChainedScheduler": lambda o: lrs.ChainedScheduler(
        [lrs.ConstantLR(o, 0.5, 3), lrs.ExponentialLR(o, 0.9), lrs.CosineAnnealingLR(o, 7, 1e-3)]
    ),
    "SequentialLR": lambda o: lrs.SequentialLR(
        o, [lrs.LinearLR(o, 0.1, 1.0, 4), lrs.ExponentialLR(o, 0.9), lrs.CosineAnnealingLR(o, 7)], [4, 9]
    ),
    "SequentialLR of composites": lambda o: lrs.SequentialLR(
        o,
        [
            lrs.ChainedScheduler([lrs.LinearLR(o, 0.1, 1.0, 4), lrs.ExponentialLR(o, 0.9)]),
            lrs.SequentialLR(o, [lrs.StepLR(o, 2), lrs.PolynomialLR(o, 5)], [3]),
        ],
        [6],
    ),
    "ChainedScheduler of composites": lambda o: lrs.ChainedScheduler(
        [
            lrs.SequentialLR(o, [lrs.LinearLR(o, 0.1, 1.0, 4), lrs.CyclicLR(o, 0.01, 0.2, 3)], [5]),
            lrs.MultiplicativeLR(o, lambda _: 0.9),
        ]
    ),
    "a user's own": Halving,
}


@pytest.mark.parametrize("name", BUILDERS)
def test_at_is_what_steps_lead_to_and_moves_nothing(name):
    optimizer = fresh(0.1, 0.3)
    scheduler = BUILDERS[name](optimizer)
    optimizer.step()
    first = scheduler.at(range(31))
    for epoch in range(31):
        before = (copy.deepcopy(scheduler.state_dict()), copy.deepcopy(optimizer.param_groups[0]["lr"]))
        at = scheduler.at(epoch)
        assert before == (scheduler.state_dict(), optimizer.param_groups[0]["lr"])
        assert at == scheduler.get_last_lr() == [curve[epoch] for curve in first]
        assert at == [group["lr"] for group in optimizer.param_groups]
        scheduler.step()


@pytest.mark.parametrize("name", ["StepLR", "ChainedScheduler", "SequentialLR", "CyclicLR"])
def test_at_has_the_shape_of_the_steps(name):
    scheduler = BUILDERS[name](sgd(0.1, 0.3))
    table = scheduler.at(np.array([[0, 5], [5, 3]], np.uint8))
    assert [curve.shape for curve in table] == [(2, 2)] * 2
    assert [curve.shape for curve in scheduler.at([])] == [(0,)] * 2
    assert [curve[1, 0] for curve in table] == scheduler.at(5) == [curve[0] for curve in scheduler.at([5])]
    assert all(type(lr) is float for lr in scheduler.at(np.int64(5)))
    for steps, error in [
        (1.5, TypeError),
        ("1", TypeError),
        (None, TypeError),
        (-1, ValueError),
        ([0, -3], ValueError),
    ]:
        with pytest.raises(error, match="steps must be"):
            scheduler.at(steps)


def test_momentum_at():
    optimizer = sgd(0.1, 0.3)
    scheduler = lrs.OneCycleLR(optimizer, [0.5, 0.6], 20, max_momentum=[0.95, 0.9])
    curves = scheduler.momentum_at(range(20))
    for epoch in range(20):
        assert [curve[epoch] for curve in curves] == [group["momentum"] for group in optimizer.param_groups]
        scheduler.step()
    adam = optim.Adam([optim.Parameter([1.0])])
    cyclic = lrs.CyclicLR(adam, 0.1, 0.2, 2)
    adam.step()
    cyclic.step()
    assert adam.param_groups[0]["betas"] == (*cyclic.momentum_at(1), 0.999)
    with pytest.raises(ValueError, match="cycle_momentum is False"):
        lrs.CyclicLR(sgd(), 0.1, 0.2, cycle_momentum=False).momentum_at(0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (1,)])
def test_learning_rates_in_arrays_are_written_in_place(dtype, shape):
    array = np.full(shape, 0.5, dtype)
    optimizer = optim.SGD([{"params": [optim.Parameter([1.0])]}, {"params": [optim.Parameter([2.0])]}], lr=array)
    optimizer._opt_called = True
    scheduler = lrs.ExponentialLR(optimizer, 0.9)
    for _ in range(1000):
        scheduler.step()
    assert all(group["lr"] is array for group in optimizer.param_groups)
    # Also float32 has not drifted: the digits that it cannot hold are remembered.
    assert array.item() == dtype(scheduler.at(1000)[0])
    assert type(optimizer.param_groups[0]["initial_lr"]) is float


ORDER = "before `optimizer.step\\(\\)`"


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda _: None, ORDER),
        (lambda o: o.step(), None),
        (lambda o: setattr(o, "step", lambda: None), "has been overridden"),
    ],
)
@pytest.mark.parametrize("name", ["StepLR", "ChainedScheduler", "SequentialLR", "a user's own"])
def test_the_order_of_calls(prepare, message, name):
    optimizer = fresh()
    scheduler = BUILDERS[name](optimizer)
    prepare(optimizer)
    copies = copy.deepcopy(scheduler)
    for each in (scheduler, *([copies] if message != "has been overridden" else [])):
        with pytest.warns(UserWarning, match=message) if message else nullcontext():
            each.step()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            each.step()


def test_an_optimizer_step_after_a_copy_is_seen():
    optimizer = fresh()
    scheduler = pickle.loads(pickle.dumps(lrs.StepLR(optimizer, 2)))
    scheduler.optimizer.step()
    scheduler.step()
    assert not optimizer._opt_called


def test_step_epoch_is_deprecated_and_jumps():
    optimizer = sgd()
    scheduler = lrs.StepLR(optimizer, 2, 0.5)
    optimizer.param_groups[0]["lr"] = 7.0
    with pytest.warns(UserWarning, match="The epoch parameter in `scheduler.step"):
        scheduler.step(5)
    assert (scheduler.last_epoch, scheduler.get_last_lr()) == (5, [BASE / 4])
    with pytest.warns(UserWarning, match="epoch"), pytest.raises(ValueError, match="non-negative integer epoch"):
        scheduler.step(-1)
    with pytest.raises(TypeError):
        BUILDERS["SequentialLR"](sgd()).step(3)
    with pytest.raises(ValueError, match="Expected non-negative epoch, but got -1"):
        lrs.CosineAnnealingWarmRestarts(sgd(), 2).step(-1)


def test_get_lr_outside_of_step_warns_and_returns_the_last():
    scheduler = lrs.ExponentialLR(sgd(), 0.5)
    with pytest.warns(UserWarning, match="please use `get_last_lr"):
        assert scheduler.get_lr() == [BASE]
    with pytest.raises(NotImplementedError, match="use get_last_lr"):
        BUILDERS["ChainedScheduler"](sgd()).get_lr()


def test_overridden_get_lr_is_what_runs():
    class Doubled(lrs.CosineAnnealingLR):
        def get_lr(self):
            return [2 * lr if self.last_epoch == 3 else lr for lr in super().get_lr()]

    optimizer = sgd()
    scheduler, plain = Doubled(optimizer, 9), lrs.CosineAnnealingLR(sgd(), 9)
    for _ in range(3):
        scheduler.step()
    assert scheduler.get_last_lr() == scheduler.at(3) == [pytest.approx(2 * lr) for lr in plain.at(3)]


@pytest.mark.parametrize("build", [lrs.CosineAnnealingLR, lrs.CosineAnnealingWarmRestarts])
def test_the_smallest_learning_rate_is_no_infinite_one(build):
    # In units of 5e-324 the other bound is an integer beyond the largest float.
    least, high = (build(sgd(lr), 9, eta_min=0.25).at(range(9))[0] for lr in (5e-324, 0.0))
    assert least.tolist()[1:] == high.tolist()[1:]


def test_overridden_step_is_what_composites_take():
    taken = []

    class Counting(lrs.ExponentialLR):
        def step(self, epoch=None):
            taken.append(self.last_epoch)
            super().step(epoch)

    optimizer = sgd()
    chain = lrs.ChainedScheduler([Counting(optimizer, 0.5)])
    chain.step()
    chain.step()
    assert (taken, chain.get_last_lr()) == ([0, 1], [BASE / 4])


class Doubled:
    """A mixin, which comes before our class."""

    def get_lr(self):
        return [2 * lr for lr in super().get_lr()]


class Counted:
    steps = 0

    def step(self, epoch=None):
        self.steps += 1
        super().step(epoch)


class ClosedForm:
    def _get_closed_form_lr(self):
        return [self.last_epoch / 8]


@pytest.mark.parametrize("wrapped", [False, True], ids=["alone", "in a chain"])
def test_what_mixins_override_is_what_runs(wrapped):
    def built(*bases):
        scheduler = type("Mixed", bases, {})(sgd(), 2, 0.5)
        return scheduler, lrs.ChainedScheduler([scheduler]) if wrapped else scheduler

    own, scheduler = built(Doubled, lrs.StepLR)
    curve = [own.get_last_lr()[0]]
    for _ in range(3):
        scheduler.step()
        curve += own.get_last_lr()
    assert curve == [2 * BASE, 4 * BASE, 4 * BASE, 8 * BASE]
    counted = type("Counting", (Counted, lrs.StepLR), {})
    own, scheduler = built(counted)
    scheduler.step()
    assert (own.get_last_lr(), own.steps) == ([BASE], 1)
    # It overrides another method than its base does. The constructor takes a step, as torch's do.
    own, scheduler = built(type("Both", (counted,), {"get_lr": lambda self: [0.25 + 0.5 * self.last_epoch]}))
    scheduler.step()
    assert (own.get_last_lr(), own.steps) == ([0.75], 2)


def test_a_closed_form_of_a_users_is_where_a_jump_leads():
    scheduler = type("Mixed", (ClosedForm, lrs.StepLR), {})(sgd(), 2)
    with pytest.warns(UserWarning, match="epoch parameter"):
        scheduler.step(4)
    assert scheduler.get_last_lr() == [0.5]


def test_plateau_logs_and_has_no_curve(caplog):
    scheduler = lrs.ReduceLROnPlateau(sgd(), patience=0, verbose=True)
    with caplog.at_level(logging.INFO, "refoptim.lr_scheduler"):
        for _ in range(2):
            scheduler.step(np.array([1.0]))
    assert caplog.messages == ["Epoch     2: reducing learning rate of group 0 to 1.0000e-02."]
    with pytest.raises(TypeError, match="has no curve"):
        scheduler.at(3)
    with pytest.raises(TypeError, match="metrics must be a number"):
        scheduler.step("low")
    with pytest.warns(UserWarning, match="epoch"):
        scheduler.step(0.5, epoch=9)
    assert scheduler.last_epoch == 9


def test_attributes_can_be_changed_on_the_way():
    optimizer = sgd()
    scheduler = lrs.CosineAnnealingLR(optimizer, 10)
    scheduler.step()
    scheduler.T_max = 20
    scheduler.base_lrs = [0.5]
    assert scheduler.at([0, 20]) == [pytest.approx([0.5, 0.0])]
    exponential = lrs.ExponentialLR(sgd(), 0.5)
    exponential.gamma = 0.25
    exponential.step()
    assert exponential.get_last_lr() == [BASE / 4]


@pytest.mark.parametrize("gamma", [0.0, -0.5, 1e-30, 1e-200, 1e200, 3.0])
def test_any_gamma(gamma):
    optimizer = sgd()
    scheduler = lrs.ExponentialLR(optimizer, gamma)
    expected = np.array([BASE])
    for epoch in range(1, 6):
        scheduler.step()
        with np.errstate(over="ignore"):
            expected = expected * gamma
        assert scheduler.get_last_lr() == scheduler.at(epoch) == pytest.approx(expected.tolist())


@pytest.mark.parametrize("power", [0.0, 1e-300, 0.1, 33.0, 1e4, 1e100, 1e308])
def test_any_power(power):
    scheduler = lrs.PolynomialLR(sgd(), 3, power)
    expected = [BASE * (left / 3) ** power for left in (3, 2, 1, 0)]
    assert scheduler.at(range(4)) == [pytest.approx(expected)]
    for epoch in range(1, 4):
        scheduler.step()
        assert scheduler.get_last_lr() == scheduler.at(epoch)


@pytest.mark.parametrize("name", [name for name in BUILDERS if name != "a user's own"])
def test_groups_do_not_know_of_each_other(name):
    """Those that have the same learning rate are computed once, for as long as nobody changes one of them."""
    alone = [sgd() for _ in range(4)]
    together = sgd(*[BASE] * 4)
    schedulers = [BUILDERS[name](optimizer) for optimizer in (together, *alone)]
    for epoch in range(14):
        for place, optimizer in enumerate(alone):
            if epoch in (3, 3 + place):
                optimizer.param_groups[0]["lr"] = together.param_groups[place]["lr"] = 0.2 / epoch
        for scheduler in schedulers:
            scheduler.step()
        assert schedulers[0].get_last_lr() == [scheduler.get_last_lr()[0] for scheduler in schedulers[1:]]
        assert [group["lr"] for group in together.param_groups] == schedulers[0].get_last_lr()
