"""Rows of docs/deviations.md about what schedulers take, refuse and keep, with both numbers."""

import json
from collections import Counter

import numpy as np
import pytest

import refoptim as optim
from refoptim import lr_scheduler as ours
from refoptim.conformance.tolerances import FEW_DIGITS

torch = pytest.importorskip("torch", reason="torch, whose numbers these are, is not installed")
theirs = torch.optim.lr_scheduler

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def sides(lr=0.05, **options):
    """Return the schedulers of both libraries, each with an optimizer. torch gets a tensor for an array."""
    torchs = torch.tensor(lr) if isinstance(lr, np.ndarray) else lr
    left = optim.SGD([optim.Parameter([1.0])], lr=lr, **options)
    right = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=torchs, **options)
    return (ours, left), (theirs, right)


def curve(scheduler, steps):
    """Return the learning rates now and after each of so many steps."""
    found = list(scheduler.get_last_lr())
    for _ in range(steps):
        scheduler.step()
        found += scheduler.get_last_lr()
    return found


def close(values):
    return pytest.approx(values, **FEW_DIGITS)


def check_refused(name, arguments, computed):
    """Check that refoptim raises ValueError at once, and that torch computes these, or fails so within three steps."""
    (_, left), (_, right) = sides(momentum=0.9)
    with pytest.raises(ValueError, match=r"Expected|phases|increasing|scale_mode|Factor"):
        getattr(ours, name)(left, **arguments)
    if isinstance(computed, list):
        assert curve(getattr(theirs, name)(right, **arguments), len(computed) - 1) == close(computed)
    else:
        with pytest.raises(computed):
            curve(getattr(theirs, name)(right, **arguments), 3)


@pytest.mark.parametrize("name", ["ConstantLR", "LinearLR"])
def test_no_iterations(name):
    """ConstantLR and LinearLR, total_iters 0."""
    check_refused(name, {"total_iters": 0}, [0.05 / 3] * 4)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("PolynomialLR", {"total_iters": 2, "power": -1.0}), ("CosineAnnealingLR", {"T_max": 0})],
)
def test_a_power_or_a_period_that_divides_by_zero(name, arguments):
    """PolynomialLR, negative power, and CosineAnnealingLR, T_max 0."""
    check_refused(name, arguments, ZeroDivisionError)


@pytest.mark.parametrize(("step_size", "computed"), [(1.5, [0.05, 0.05, 0.05, 0.005]), (0, ZeroDivisionError)])
def test_steps_of_another_size(step_size, computed):
    """StepLR, step_size not a positive integer: by the closed form 1.5 would reduce at epochs 2 and 3."""
    check_refused("StepLR", {"step_size": step_size}, computed)


def test_milestones_that_decrease():
    """MultiStepLR, milestones that decrease."""
    check_refused("MultiStepLR", {"milestones": [3, 1]}, [0.05, 0.005, 0.005, 0.0005])


@pytest.mark.parametrize(
    ("arguments", "computed"),
    [
        ({"step_size_up": 0}, ZeroDivisionError),
        ({"step_size_up": 2, "scale_fn": lambda _: 1.0, "scale_mode": "typo"}, [1.0, 1.5, 2.0]),
    ],
)
def test_cycles_without_a_beginning_or_a_scale(arguments, computed):
    """CyclicLR, step_size_up 0 or an unknown scale_mode."""
    check_refused("CyclicLR", {"base_lr": 1.0, "max_lr": 2.0, **arguments}, computed)


def test_a_cycle_on_groups_that_were_scheduled():
    """CyclicLR on groups that have an `initial_lr`."""
    found = []
    for module, optimizer in sides(0.05):
        module.StepLR(optimizer, 3)
        found.append(curve(module.CyclicLR(optimizer, 0.1, 0.5, step_size_up=2, cycle_momentum=False), 2))
    assert found == [close([0.1, 0.3, 0.5]), close([0.05, 0.3, 0.5])]


# Its last learning rate should be 4e-6.
THREE_PHASES = [0.04, 0.1317, 0.3717, 0.6683, 0.9083, 1.0, 0.9083, 0.6683, 0.3717, 0.1317]


@pytest.mark.parametrize(
    ("arguments", "computed"),
    [
        ({"pct_start": 0.1}, ZeroDivisionError),
        ({"pct_start": 0.0}, [0.9755, 0.9045]),
        ({"pct_start": 0.6, "three_phase": True}, THREE_PHASES),
    ],
)
def test_a_cycle_with_an_empty_phase(arguments, computed):
    """OneCycleLR, an empty phase: torch divides by zero, begins below the maximum, or ends far above the minimum."""
    check_refused("OneCycleLR", {"max_lr": 1.0, "total_steps": 10, **arguments}, computed)


def test_a_negative_factor():
    """ReduceLROnPlateau, negative factor: the first reduction goes to min_lr."""
    (_, left), (_, right) = sides()
    with pytest.raises(ValueError, match="Factor"):
        ours.ReduceLROnPlateau(left, factor=-1.0)
    scheduler = theirs.ReduceLROnPlateau(right, factor=-1.0, patience=0, min_lr=0.01)
    for _ in range(2):
        scheduler.step(1.0)
    assert scheduler.get_last_lr() == [0.01]


def groups_with(lr, **options):
    """Return Adam of each library, with two groups and one learning rate in an array."""
    left = optim.Adam([{"params": [optim.Parameter([1.0])]} for _ in range(2)], lr=np.array(lr))
    tensors = [torch.nn.Parameter(torch.ones(1)) for _ in range(2)]
    array = torch.tensor(lr, dtype=torch.float64)
    return left, torch.optim.Adam([{"params": [tensor]} for tensor in tensors], lr=array, foreach=False)


def lrs_of(optimizer):
    return [float(group["lr"]) for group in optimizer.param_groups]


def test_a_shared_array_is_reduced_once():
    """A learning rate in an array that groups share: torch's ReduceLROnPlateau reduces it once per group."""
    left, right = groups_with(1.0)
    for module, optimizer in ((ours, left), (theirs, right)):
        scheduler = module.ReduceLROnPlateau(optimizer, patience=0)
        for _ in range(2):
            scheduler.step(1.0)
    assert lrs_of(left) == close([0.1, 0.1])
    assert lrs_of(right) == close([0.01, 0.01])


def test_a_shared_array_does_not_join_groups():
    """A learning rate in an array that groups share: with torch's CyclicLR the last group wins."""
    left, right = groups_with(1.0)
    for module, optimizer, expected in ((ours, left, [0.1, 0.3]), (theirs, right, [0.3, 0.3])):
        module.CyclicLR(optimizer, [0.1, 0.3], 0.5, cycle_momentum=False)
        assert lrs_of(optimizer) == close(expected)


def test_an_integer_array_is_refused():
    """A learning rate in an integer array."""
    (_, left), (_, right) = sides(np.array(1))
    with pytest.raises(TypeError, match="must be of a floating-point dtype, but is of int64"):
        ours.ExponentialLR(left, 0.5)
    theirs.ExponentialLR(right, 0.5).step()
    assert right.param_groups[0]["lr"].item() == 0


def test_learning_rates_of_an_array_are_numbers():
    """`base_lrs`, `initial_lr` and `get_last_lr()` of an array."""
    for (module, optimizer), kind in zip(sides(np.array(0.5)), (float, torch.Tensor), strict=True):
        scheduler = module.ExponentialLR(optimizer, 0.5)
        values = [*scheduler.base_lrs, optimizer.param_groups[0]["initial_lr"], *scheduler.get_last_lr()]
        assert [type(value) for value in values] == [kind] * 3


def test_get_lr_of_an_object_is_not_asked():
    """`get_lr` assigned to a scheduler."""
    found = []
    for module, optimizer in sides(1.0):
        scheduler = module.ExponentialLR(optimizer, 0.5)
        scheduler.get_lr = lambda: [0.25]
        scheduler.step()
        found += scheduler.get_last_lr()
    assert found == [0.5, 0.25]


def test_get_lr_outside_of_a_step():
    """`get_lr()` outside of a step: both warn."""
    found = []
    for module, optimizer in sides(1.0):
        scheduler = module.ExponentialLR(optimizer, 0.5)
        scheduler.step()
        with pytest.warns(UserWarning, match="use `get_last_lr"):
            found += scheduler.get_lr()
    assert found == [0.5, 0.25]


def test_a_saved_schedule_is_a_copy_that_json_can_hold():
    """`state_dict` of a scheduler: torch's milestones become strings, which no epoch is equal to."""
    found = []
    for module, optimizer in sides(1.0):
        scheduler = module.MultiStepLR(optimizer, [2])
        state = scheduler.state_dict()
        assert (state["base_lrs"] is scheduler.base_lrs) == (module is theirs)
        scheduler.load_state_dict(json.loads(json.dumps(state)))
        found.append(curve(scheduler, 2))
    assert found == [[1.0, 1.0, 0.1], [1.0, 1.0, 1.0]]


def test_a_saved_schedule_names_what_it_lacks():
    """`state_dict` of a scheduler: a function is not in it, and ours says so."""
    mine, other = (m.LambdaLR(o, lambda _: 1.0).state_dict() for m, o in sides())
    assert mine["lr_lambdas"] == other["lr_lambdas"] == [None]
    assert "lambda" in mine["left_out"][0]
    assert "left_out" not in other


def test_a_state_goes_on_in_the_other_library():
    """The state of a scheduler, loaded by the other library."""
    (_, left), (_, right) = sides(1.0)
    mine, other = ours.MultiStepLR(left, [1, 2, 2]), theirs.MultiStepLR(right, [1, 2, 2])
    state = mine.state_dict()
    other.load_state_dict(state | {"milestones": Counter(state["milestones"])})
    assert curve(other, 2) == close([1.0, 0.1, 0.001])
    (_, left), (_, right) = sides(1.0)
    mine, other = ours.MultiStepLR(left, [1, 2, 2]), theirs.MultiStepLR(right, [1, 2, 2])
    mine.load_state_dict(other.state_dict())
    assert curve(mine, 2) == close([1.0, 0.1, 0.001])
    other.load_state_dict(state)
    # The second number of the list, as if it were how often 1 comes.
    assert curve(other, 1) == close([1.0, 0.01])
    with pytest.raises(ValueError, match="build the scheduler with the arguments that torch's was built with"):
        ours.OneCycleLR(left, 0.5, 20, cycle_momentum=False).load_state_dict(
            theirs.OneCycleLR(right, 0.6, 20, cycle_momentum=False).state_dict()
        )
