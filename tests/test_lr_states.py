"""Saved states of schedulers: what is in them, and which are loaded. A load that fails changes nothing."""

import copy
import json
from functools import partial

import pytest
from schedules import STEPS, Falling, rate_of, resumed, run, sgd, third

import refoptim as optim
from refoptim import lr_scheduler as lrs


def test_functions_are_named_as_left_out():
    state = lrs.LambdaLR(sgd(), [Falling(0.9), third]).state_dict()
    assert state["lr_lambdas"] == [{"rate": 0.9}, None]
    assert [line.partition(": ")[0] for line in state["left_out"]] == ["lr_lambdas[0]", "lr_lambdas[1]"]
    assert state["left_out"][1].endswith(".third")
    loaded = lrs.LambdaLR(sgd(), [Falling(0.5), third])
    loaded.load_state_dict(state)
    assert loaded.lr_lambdas[0].rate == 0.9
    assert "left_out" not in lrs.StepLR(sgd(), 3).state_dict()


def test_a_state_is_a_copy():
    scheduler = lrs.MultiStepLR(sgd(), [3, 5])
    state = scheduler.state_dict()
    state["milestones"].append(9)
    state["base_lrs"][0] = 7.0
    assert (scheduler.milestones, scheduler.base_lrs) == ([3, 5], [0.1, 0.3])
    fresh = lrs.MultiStepLR(sgd(), [3, 5])
    fresh.load_state_dict(state)
    state["milestones"].append(10)
    assert fresh.milestones == [3, 5, 9]


def chain(optimizer):
    return lrs.ChainedScheduler([lrs.StepLR(optimizer, 3), lrs.LambdaLR(optimizer, Falling(0.9))])


WRONG = [
    (lambda _: 5, TypeError, "must be a dict, but is of type 'int'"),
    (lambda state: state | {"_schedulers": state["_schedulers"][:1]}, ValueError, "must be a list of 2"),
    (
        lambda state: state | {"_last_lr": [0.1], "exact_lrs": [None]},
        ValueError,
        "for 1 groups, but the optimizer has 2",
    ),
    (lambda state: state | {"_last_lr": [0.1] * 3}, ValueError, "for 3 groups, but the optimizer has 2"),
    (
        lambda state: state | {"_last_lr": 0.1},
        TypeError,
        "_last_lr of ChainedScheduler must be a list of numbers in the",
    ),
    (lambda state: {k: v for k, v in state.items() if k != "_last_lr"}, KeyError, "_last_lr: missing from the loaded"),
    (lambda state: changed(state, 0, step_size=0), ValueError, "Expected positive integer step_size, but got 0"),
    (lambda state: changed(state, 1, lr_lambdas=[None]), ValueError, "must be a list of 2 in the loaded state"),
    (
        lambda state: changed(state, 1, lr_lambdas=[{"rate": 0.5}, 5]),
        TypeError,
        r"lr_lambdas\[1\] of LambdaLR must be",
    ),
    (
        lambda state: changed(state, 1, lr_lambdas=[[], None]),
        TypeError,
        r"a dict of attributes, or None, in the loaded state, but is \[\]",
    ),
    (lambda state: state | {"exact_lrs": [[0.1, "0x1p0"]]}, ValueError, "0x1p0 is not 0.1"),
    (lambda state: state | {"exact_lrs": 5}, TypeError, "exact_lrs must be a list in the loaded state, but is 5"),
]


def test_functions_inside_of_callable_objects_stay():
    scheduler, loaded = (lrs.LambdaLR(sgd(), Falling(rate)) for rate in (0.9, 0.5))
    for each in (scheduler, loaded):
        each.lr_lambdas[0].inner = third
    loaded.load_state_dict(scheduler.state_dict())
    assert vars(loaded.lr_lambdas[0]) == {"rate": 0.9, "inner": third}


def sequence(optimizer):
    return lrs.SequentialLR(optimizer, [lrs.StepLR(optimizer, 3), lrs.ExponentialLR(optimizer, 0.9)], [5])


def test_a_function_has_no_attributes_to_load():
    scheduler = lrs.LambdaLR(sgd(), [Falling(0.9), third])
    state = scheduler.state_dict() | {"lr_lambdas": [{"rate": 0.5}, {"rate": 0.5}]}
    with pytest.raises(TypeError, match=r"lr_lambdas\[1\] of LambdaLR must be None in .*, but is {'rate': 0.5}"):
        scheduler.load_state_dict(state)
    assert scheduler.lr_lambdas[0].rate == 0.9


def test_a_sequence_has_one_milestone_less_than_schedulers():
    scheduler = sequence(sgd())
    with pytest.raises(ValueError, match="number of milestones to be equal to 0"):
        scheduler.load_state_dict(scheduler.state_dict() | {"_milestones": []})
    assert scheduler._milestones == [5]


@pytest.mark.parametrize(
    "kind", [partial(lrs.ExponentialLR, gamma=0.9), partial(lrs.StepLR, step_size=3), lrs.LinearLR]
)
def test_a_state_between_add_param_group_and_a_step_goes_on(kind):
    def added():
        optimizer = sgd()
        scheduler = kind(optimizer)
        run(optimizer, scheduler, 0, 4)
        optimizer.add_param_group({"params": [optim.Parameter([2.0])], "lr": 0.4, "initial_lr": 0.4})
        return optimizer, scheduler

    optimizer, scheduler = added()
    state, saved = json.dumps(scheduler.state_dict()), optimizer.state_dict()
    other_optimizer, other = added()
    run(other_optimizer, other, 4, 9)
    other_optimizer.load_state_dict(saved)
    other.load_state_dict(json.loads(state))
    assert run(other_optimizer, other, 4, STEPS) == run(optimizer, scheduler, 4, STEPS)


class Packed(lrs.ExponentialLR):
    """Its state has a layout of its own."""

    def state_dict(self):
        return {"packed": super().state_dict()}

    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict.pop("packed"))


def packed_chain(optimizer):
    parts = [Packed(optimizer, 0.9), lrs.LambdaLR(optimizer, Falling(0.8)), Packed(optimizer, 0.7)]
    return lrs.SequentialLR(optimizer, [lrs.ChainedScheduler(parts), Packed(optimizer, 0.5)], [9])


def test_parts_save_and_load_in_their_own_layout():
    optimizer = sgd()
    scheduler = packed_chain(optimizer)
    run(optimizer, scheduler, 0, 7)
    state, saved = scheduler.state_dict(), optimizer.state_dict()
    again = resumed(packed_chain, json.dumps(state), saved, optimizer_first=True)
    assert state == scheduler.state_dict()
    assert run(*again, 7, STEPS) == run(optimizer, scheduler, 7, STEPS)


def test_a_part_that_cannot_load_changes_nothing():
    scheduler = packed_chain(sgd())
    state, before = scheduler.state_dict(), copy.deepcopy(scheduler.state_dict())
    state["last_epoch"] = state["_schedulers"][0]["_schedulers"][0]["packed"]["last_epoch"] = 7
    state["_schedulers"][0]["_schedulers"][1]["lr_lambdas"] = [{"rate": 0.5}] * 2
    del state["_schedulers"][1]["packed"]
    with pytest.raises(KeyError, match="packed"):
        scheduler.load_state_dict(state)
    assert scheduler.state_dict() == before


def changed(state, place, **values):
    state["_schedulers"][place].update(values)
    return state


@pytest.mark.parametrize(("change", "error", "message"), WRONG)
def test_wrong_states_change_nothing(change, error, message):
    optimizer = sgd()
    scheduler = chain(optimizer)
    scheduler.step()
    state = change(chain(sgd()).state_dict())
    before = copy.deepcopy(scheduler.state_dict()), rate_of(optimizer)
    with pytest.raises(error, match=message):
        scheduler.load_state_dict(state)
    assert (scheduler.state_dict(), rate_of(optimizer)) == before
