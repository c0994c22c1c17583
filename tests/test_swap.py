"""swap_in_optimizer_params_and_state."""

import copy

import numpy as np
import pytest

import refoptim as optim


def stepped(values, **options):
    params = [optim.Parameter(np.array(value)) for value in values]
    optimizer = optim.Adam(params, lr=0.1, **options)
    optimizer.step(grads=[np.full_like(param.data, 0.5) for param in params])
    return params, optimizer


def test_the_swapped_in_parameters_step_and_the_own_ones_stay():
    params, optimizer = stepped([[1.0, 2.0], [3.0]])
    groups, before = optimizer.param_groups, copy.deepcopy(optimizer.state_dict())
    values = [param.data.copy() for param in params]
    others, reference = stepped([[5.0, 6.0], [7.0]])
    lent = reference.state_dict()
    lent["param_groups"][0]["lr"] = reference.param_groups[0]["lr"] = 0.25
    grads = [np.array([0.5, -1.0]), np.array([2.0])]
    swapped = {name: optim.Parameter(param.data) for name, param in zip("ab", others, strict=True)}
    with optim.swap_in_optimizer_params_and_state(optimizer, swapped, lent):
        assert optimizer.param_groups[0]["lr"] == 0.25
        optimizer.step(grads=grads)
    reference.step(grads=grads)
    for own, other in zip(swapped.values(), others, strict=True):
        assert own.data.tobytes() == other.data.tobytes()
    for number, entry in reference.state_dict()["state"].items():
        assert lent["state"][number]["step"] == entry["step"] == 2
        for name in ("exp_avg", "exp_avg_sq"):
            assert lent["state"][number][name].tobytes() == entry[name].tobytes()
    assert optimizer.param_groups is groups
    for param, value in zip(params, values, strict=True):
        assert param.data.tobytes() == value.tobytes()
    now = optimizer.state_dict()
    assert now["param_groups"] == before["param_groups"]
    for number, entry in before["state"].items():
        assert now["state"][number]["exp_avg"].tobytes() == entry["exp_avg"].tobytes()


def test_an_error_inside_restores_too():
    params, optimizer = stepped([[1.0]])
    with (
        pytest.raises(ZeroDivisionError),
        optim.swap_in_optimizer_params_and_state(optimizer, {"q": optim.Parameter([2.0])}, optimizer.state_dict()),
    ):
        raise ZeroDivisionError
    assert optimizer.param_groups[0]["params"] == params
    assert optimizer.state[params[0]]["step"] == 1


def broken(change):
    _, optimizer = stepped([[1.0], [2.0]])
    state_dict = optimizer.state_dict()
    change(state_dict)
    return state_dict


@pytest.mark.parametrize(
    ("state_dict", "count", "message"),
    [
        ([], 2, "requires an optimizer state_dict"),
        ({"state": {}}, 2, "requires an optimizer state_dict"),
        (broken(lambda s: s["param_groups"].clear()), 2, "groups of the same sizes"),
        (broken(lambda s: s["param_groups"][0]["params"].pop()), 2, "groups of the same sizes"),
        (broken(lambda _: None), 1, "got 1 parameters"),
        (broken(lambda _: None), 3, "got 3 parameters"),
        (broken(lambda s: s["param_groups"][0].pop("lr")), 2, "requires the options"),
        (broken(lambda s: s["state"].update({7: {}})), 2, "7"),
        (broken(lambda s: s["state"][0].update(exp_avg=np.zeros(9))), 2, "exp_avg"),
        (broken(lambda s: s["state"][0].pop("exp_avg")), 2, "exp_avg"),
    ],
)
def test_what_does_not_match_raises_and_changes_nothing(state_dict, count, message):
    params, optimizer = stepped([[1.0], [2.0]])
    before = [param.data.tobytes() for param in params]
    swapped = {str(i): optim.Parameter([4.0]) for i in range(count)}
    with (
        pytest.raises(RuntimeError, match=message),
        optim.swap_in_optimizer_params_and_state(optimizer, swapped, state_dict),
    ):
        raise AssertionError("the context was entered")
    assert [param.data.tobytes() for param in params] == before
    assert optimizer.param_groups[0]["params"] == params


def test_without_state_it_is_refused():
    optimizer = optim.Adam([optim.Parameter([1.0])])
    with (
        pytest.raises(RuntimeError, match="requires initialized optimizer state"),
        optim.swap_in_optimizer_params_and_state(optimizer, {"q": optim.Parameter([2.0])}, optimizer.state_dict()),
    ):
        pass
