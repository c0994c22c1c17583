"""SWALR: its curve, its steps beside torch's, resuming, and what it refuses."""

import json

import numpy as np
import pytest

import refoptim as optim
from refoptim.conformance.tolerances import CLOSE, LIMITS
from refoptim.swa_utils import SWALR

STRATEGIES = ["cos", "linear"]
CASES = [(epochs, strategy) for epochs in (0, 1, 2, 7, 10) for strategy in STRATEGIES]


def optimizer_of(*lrs):
    return optim.SGD([{"params": [optim.Parameter([1.0])], "lr": lr} for lr in lrs])


def lrs_of(optimizer):
    return [group["lr"] for group in optimizer.param_groups]


def stepped(scheduler, count):
    """Return the learning rates now and after each of so many steps."""
    found = [lrs_of(scheduler.optimizer)]
    scheduler.optimizer.step()
    for _ in range(count):
        scheduler.step()
        found.append(lrs_of(scheduler.optimizer))
    return found


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_groups_that_begin_alike_go_their_own_ways(strategy):
    swa_lrs = [0.05, 0.0, 0.05, 0.7]
    together = stepped(SWALR(optimizer_of(*[0.3] * 4), swa_lrs, 5, strategy), 8)
    alone = [stepped(SWALR(optimizer_of(0.3), swa_lr, 5, strategy), 8) for swa_lr in swa_lrs]
    assert together == [[lr for (lr,) in row] for row in zip(*alone, strict=True)]


@pytest.mark.parametrize(("epochs", "strategy"), [*CASES, (1_000, "cos"), (1_000, "linear")])
def test_the_curve_is_exact_and_what_steps_give(epochs, strategy):
    flint = pytest.importorskip("flint", reason="python-flint, extra conformance, is not installed")
    from refoptim.conformance import truth

    scheduler = SWALR(optimizer_of(0.3, 0.01), [0.05, 0.7], epochs, strategy)
    count = epochs + 5
    found = stepped(scheduler, count)
    fresh = SWALR(optimizer_of(0.3, 0.01), [0.05, 0.7], epochs, strategy)
    np.testing.assert_array_equal(np.transpose(fresh.at(range(count + 1))), found)
    assert fresh.at(3) == found[3]
    assert fresh.last_epoch == 0
    with truth.precision():
        for lr, swa_lr, column in zip((0.3, 0.01), (0.05, 0.7), np.transpose(found), strict=True):
            shares = [flint.arb(min(t, epochs)) / epochs if epochs else flint.arb(1) for t in range(count + 1)]
            if strategy == "cos":
                shares = [(1 - share.cos_pi()) / 2 for share in shares]
            exact = [flint.arb(swa_lr) * share + flint.arb(lr) * (1 - share) for share in shares]
            errors = truth.errors_in_ulps(column, np.array(exact).view(truth.Balls), np.zeros(count + 1))
            assert errors.max() <= LIMITS["float64"].step


@pytest.mark.parametrize("seed", range(40))
def test_steps_are_torchs_whoever_changes_the_learning_rate_between_them(seed):
    torch = pytest.importorskip("torch", reason="torch, which this is compared with, is not installed")
    rng = np.random.default_rng(seed)
    lrs, swa_lrs = rng.uniform(0, 1, (2, 2)).tolist()
    epochs, strategy, interfere = int(rng.integers(0, 15)), str(rng.choice(STRATEGIES)), rng.random() < 0.7
    ours = optimizer_of(*lrs)
    theirs = torch.optim.SGD([{"params": [torch.nn.Parameter(torch.ones(1))], "lr": lr} for lr in lrs])
    schedulers = SWALR(ours, swa_lrs, epochs, strategy), torch.optim.swa_utils.SWALR(theirs, swa_lrs, epochs, strategy)
    ours.step()
    theirs.step()
    for _ in range(25):
        np.testing.assert_allclose(lrs_of(ours), lrs_of(theirs), **CLOSE["float64"])
        assert schedulers[0].get_last_lr() == lrs_of(ours)
        if interfere and rng.random() < 0.3:
            ours.param_groups[0]["lr"] = theirs.param_groups[0]["lr"] = rng.uniform()
        for scheduler in schedulers:
            scheduler.step()


@pytest.mark.parametrize(("epochs", "strategy"), CASES)
@pytest.mark.parametrize("stop", [0, 1, 4, 12])
def test_resuming_is_exact(epochs, strategy, stop):
    straight = SWALR(optimizer_of(0.3, 0.01), [0.05, 0.7], epochs, strategy)
    want = stepped(straight, 15)[stop:]
    first = SWALR(optimizer_of(0.3, 0.01), [0.05, 0.7], epochs, strategy)
    stepped(first, stop)
    saved = json.loads(json.dumps(first.state_dict()))
    optimizer = optimizer_of(0.5, 0.5)
    second = SWALR(optimizer, [0.9, 0.9], 3, "linear")
    optimizer.load_state_dict(first.optimizer.state_dict())
    second.load_state_dict(saved)
    assert stepped(second, 15 - stop) == want


@pytest.mark.parametrize(("epochs", "strategy"), CASES)
def test_last_epoch_gives_the_closed_form(epochs, strategy):
    want = stepped(SWALR(optimizer_of(0.3), 0.05, epochs, strategy), 12)
    optimizer = optimizer_of(0.9)
    optimizer.param_groups[0]["initial_lr"] = 0.3
    scheduler = SWALR(optimizer, 0.05, epochs, strategy, last_epoch=3)
    assert scheduler.last_epoch == 4
    assert stepped(scheduler, 8) == want[4:]


def test_it_goes_on_from_where_another_scheduler_has_come():
    optimizer = optimizer_of(1.0)
    other = optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    scheduler = SWALR(optimizer, swa_lr=0.05, anneal_epochs=2, anneal_strategy="linear")
    optimizer.step()
    other.step()
    other.step()
    np.testing.assert_allclose(stepped(scheduler, 3), [[0.25], [0.15], [0.05], [0.05]], **CLOSE["float64"])


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((0.1, 10, "poly"), {}, ValueError, "must be one of 'cos' or 'linear', instead got 'poly'"),
        ((0.1, -1), {}, ValueError, "non-negative integer anneal_epochs"),
        ((0.1, 2.5), {}, ValueError, "non-negative integer anneal_epochs"),
        (([0.1],), {}, ValueError, "swa_lr must have the same length as optimizer.param_groups"),
        ((np.nan,), {}, ValueError, "swa_lr must be a finite number"),
        (("fast",), {}, TypeError, "swa_lr must be a number"),
        ((0.1,), {"last_epoch": 2}, KeyError, "initial_lr"),
        ((0.1,), {"last_epoch": -2}, ValueError, "last_epoch"),
    ],
)
def test_what_is_refused_changes_nothing(arguments, options, error, message):
    optimizer = optimizer_of(0.3, 0.01)
    before = [dict(group) for group in optimizer.param_groups]
    with pytest.raises(error, match=message):
        SWALR(optimizer, *arguments, **options)
    assert [dict(group) for group in optimizer.param_groups] == before


def test_something_else_than_an_optimizer_is_refused():
    with pytest.raises(TypeError, match="list is not an Optimizer"):
        SWALR([], 0.1)


def test_a_group_added_later_is_refused():
    scheduler = SWALR(optimizer_of(0.3), 0.1)
    scheduler.optimizer.add_param_group({"params": [optim.Parameter([1.0])]})
    scheduler.optimizer.step()
    before = lrs_of(scheduler.optimizer)
    with pytest.raises(KeyError, match="build SWALR after add_param_group"):
        scheduler.step()
    assert lrs_of(scheduler.optimizer) == before
    assert scheduler.last_epoch == 0


@pytest.mark.parametrize("change", [{"_anneal_strategy": "poly"}, {"anneal_epochs": -1}])
def test_a_state_out_of_range_changes_nothing(change):
    scheduler = SWALR(optimizer_of(0.3), 0.1)
    before = scheduler.state_dict()
    with pytest.raises(ValueError, match="anneal"):
        scheduler.load_state_dict(before | change)
    assert scheduler.state_dict() == before


def test_torchs_state_loads():
    torch = pytest.importorskip("torch", reason="torch, whose state this is, is not installed")
    theirs = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.3)
    scheduler = torch.optim.swa_utils.SWALR(theirs, 0.05, 5)
    theirs.step()
    for _ in range(3):
        scheduler.step()
    ours = optimizer_of(0.3)
    ours.load_state_dict(theirs.state_dict())
    resumed = SWALR(ours, 0.9, 2, "linear")
    ours.param_groups[0]["swa_lr"] = 0.05
    resumed.load_state_dict(scheduler.state_dict())
    for ours_now in stepped(resumed, 4):
        np.testing.assert_allclose(ours_now, [theirs.param_groups[0]["lr"]], **CLOSE["float64"])
        scheduler.step()
