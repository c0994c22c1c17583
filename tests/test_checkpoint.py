"""Saving and loading: torch's layout both ways, copies, and nothing changed by a state_dict that does not fit."""

import copy
import pickle

import numpy as np
import pytest
from saving import CASES, assert_same, built, step, values

import refoptim as optim
from refoptim import Parameter


def snapshot(params, opt):
    return copy.deepcopy([[p.data for p in params], [p.grad for p in params], opt.state_dict()])


def test_layout():
    _, opt = built("Adam", {"lr": 0.5}, named=True)
    step(opt, 1, absent=[1, 3])
    saved = opt.state_dict()
    assert list(saved) == ["state", "param_groups"]
    assert list(saved["state"]) == [0, 2]
    assert list(saved["state"][2]) == ["step", "exp_avg", "exp_avg_sq"]
    first, second = saved["param_groups"]
    assert list(first)[-1] == list(second)[-1] == "params"
    assert (first["params"], second["params"]) == ([0], [1, 2, 3])
    assert (first["param_names"], second["param_names"]) == (["p0"], ["p1", "p2", "p3"])
    assert (first["lr"], second["lr"], second["betas"]) == (0.25, 0.5, (0.9, 0.999))


def test_duplicates_are_numbered_as_in_torch():
    torch = pytest.importorskip("torch")

    def numbers(library, a, b, c):
        with pytest.warns(UserWarning, match="duplicate parameters"):
            opt = library.SGD([{"params": [a, a, b]}, {"params": [c]}])
        return [group["params"] for group in opt.state_dict()["param_groups"]]

    ours = numbers(optim, *(Parameter([1.0]) for _ in range(3)))
    assert ours == numbers(torch.optim, *(torch.zeros(1) for _ in range(3))) == [[1, 1, 2], [3]]


@pytest.mark.parametrize(("name", "options"), CASES)
def test_everything_is_a_copy_both_ways(name, options):
    params, opt = built(name, {**options, "lr": np.array(0.1)})
    step(opt, 1)
    saved = opt.state_dict()
    kept = copy.deepcopy(saved)
    step(opt, 2)
    opt.param_groups[1]["lr"] *= 2
    assert_same(saved, kept)
    opt.load_state_dict(saved)
    step(opt, 3)
    opt.param_groups[1]["lr"] *= 2
    assert_same(saved, kept)
    before = snapshot(params, opt)
    for entry in saved["state"].values():
        for value in entry.values():
            if isinstance(value, np.ndarray):
                value[...] = 77
    saved["param_groups"][1]["lr"][...] = 77
    assert_same(snapshot(params, opt), before)


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("how", ["load", "pickle", "deepcopy"])
@pytest.mark.parametrize("dtype", [np.float32, np.complex128])
def test_the_trajectory_goes_on_bit_for_bit(name, options, how, dtype):
    params, opt = built(name, options, dtype)
    for seed in range(3):
        step(opt, seed, dtype, absent=[seed])
    if how == "load":
        others, other = built(name, {}, dtype)
        for p, q in zip(params, others, strict=True):
            q.data = p.data
        other.load_state_dict(pickle.loads(pickle.dumps(opt.state_dict())))
    elif how == "pickle":
        others, other = pickle.loads(pickle.dumps((params, opt)))
    else:
        others, other = copy.deepcopy((params, opt))
    for seed in range(3, 6):
        for each in (opt, other):
            step(each, seed, dtype, absent=[seed - 2])
    assert_same(snapshot(params, opt), snapshot(others, other))


def test_loading_keeps_groups_that_the_state_dict_does_not_know_all_of():
    params, opt = built("Adam", {"amsgrad": True}, named=True)
    saved = opt.state_dict()
    for group in saved["param_groups"]:
        del group["amsgrad"], group["param_names"]
        group["scheduler's"] = 3
    groups = opt.param_groups
    opt.load_state_dict(saved)
    assert opt.param_groups is not groups
    assert opt.param_groups[1]["amsgrad"] is True
    assert opt.param_groups[1]["scheduler's"] == 3
    assert opt.param_groups[1]["params"] == params[1:]
    assert opt.param_groups[1]["param_names"] == ["p1", "p2", "p3"]


def test_loading_forgets_what_was_there():
    _, opt = built("Adam", {})
    fresh = opt.state_dict()
    step(opt, 1)
    opt.load_state_dict(fresh)
    assert len(opt.state) == 0
    step(opt, 2, absent=[0])
    assert_same(list(opt.state_dict()["state"]), [1, 2, 3])
    assert opt.state_dict()["state"][1]["step"] == 1


def test_adamw_stays_decoupled_whatever_is_loaded():
    _, opt = built("AdamW", {})
    saved = opt.state_dict()
    saved["param_groups"][0]["decoupled_weight_decay"] = False
    del saved["param_groups"][1]["decoupled_weight_decay"]
    opt.load_state_dict(saved)
    assert [group["decoupled_weight_decay"] for group in opt.param_groups] == [True, True]


@pytest.mark.parametrize(("live", "stored"), [(np.float32, np.float64), (np.float64, np.float32)])
def test_arrays_are_converted_to_the_parameters_dtype(live, stored):
    _, source = built("Adam", {}, stored)
    step(source, 1, stored)
    params, opt = built("Adam", {}, live)
    opt.load_state_dict(source.state_dict())
    for number, p in enumerate(params):
        expected = source.state_dict()["state"][number]["exp_avg_sq"].astype(live)
        np.testing.assert_array_equal(opt.state[p]["exp_avg_sq"], expected, strict=True)


def test_complex_parameters_take_real_state_and_not_the_other_way():
    real, opt = Parameter([1.0, 2.0]), optim.SGD([Parameter([1j, 2.0])], momentum=0.5)
    saved = opt.state_dict()
    saved["state"][0] = {"momentum_buffer": np.array([1.0, 2.0], np.float32)}
    opt.load_state_dict(saved)
    (buffer,) = (entry["momentum_buffer"] for entry in opt.state.values())
    np.testing.assert_array_equal(buffer, np.array([1, 2 + 0j]), strict=True)
    with pytest.raises(TypeError, match="has dtype complex128, but must be of float64"):
        optim.SGD([real], momentum=0.5).load_state_dict(opt.state_dict())


@pytest.mark.parametrize(
    ("given", "step"),
    [
        (3, 3),
        (3.0, 3),
        (np.float32(3), 3),
        (np.array(3.0, np.float32), 3),
        (np.array([3]), 3),
        (np.array(3, np.uint8), 3),
        (2**24 + 1, 2**24 + 1),
        (np.int64(2**53 + 1), 2**53 + 1),
    ],
)
def test_step_counts_of_every_kind(given, step):
    p = Parameter([1.0])
    opt = optim.Adam([p])
    opt.load_state_dict(
        {
            "state": {0: {"step": given, "exp_avg": np.zeros(1), "exp_avg_sq": np.ones(1)}},
            "param_groups": opt.state_dict()["param_groups"],
        }
    )
    assert type(opt.state[p]["step"]) is int
    assert opt.state[p]["step"] == step
    opt.step(grads=[np.ones(1)])
    assert opt.state[p]["step"] == step + 1
    assert opt.state_dict()["state"][0]["step"] == step + 1


def test_steps_above_two_to_the_24_are_counted():
    """Torch's float32 counts stop there."""
    params = [Parameter([1.0]), Parameter([2.0])]
    opt = optim.Adam(params)
    opt.step(grads=[np.ones(1)] * 2)
    for p in params:
        opt.state[p]["step"] = 2**24
    for _ in range(3):
        opt.step()
    assert [opt.state[p]["step"] for p in params] == [2**24 + 3] * 2


# What does not fit


def change_state(**changes):
    def change(saved):
        saved["state"][2] |= changes

    return change


def change_group(**changes):
    def change(saved):
        saved["param_groups"][1] |= changes

    return change


def drop_state(name):
    return lambda saved: saved["state"][2].pop(name)


BAD = {
    "a group less": (lambda s: s["param_groups"].pop(), ValueError, "different number of parameter groups: 1 instead"),
    "a group more": (lambda s: s["param_groups"].append({"params": []}), ValueError, "different number"),
    "no groups": (lambda s: s.pop("param_groups"), KeyError, "param_groups"),
    "no state": (lambda s: s.pop("state"), KeyError, "state"),
    "groups are numbers": (lambda s: s.update(param_groups=[1, 2]), TypeError, "'int'"),
    "a group without params": (lambda s: s["param_groups"][0].pop("params"), KeyError, "params"),
    "a parameter less": (change_group(params=[1, 2]), ValueError, "group 1 has 2 parameters instead of 3"),
    "a parameter more": (change_group(params=[1, 2, 3, 4]), ValueError, "group 1 has 4 parameters instead of 3"),
    "an unknown parameter": (lambda s: s["state"].update({9: {}}), ValueError, "state for parameter 9"),
    "state is a number": (lambda s: s["state"].update({2: 5}), TypeError, "must be a dict, but is of type 'int'"),
    "another shape": (change_state(exp_avg=np.ones(4)), ValueError, r"exp_avg of parameter 2' has shape \(4,\)"),
    "a shape that would broadcast": (change_state(exp_avg=np.ones((1, 2))), ValueError, r"has shape \(1, 2\)"),
    "a number for an array": (change_state(exp_avg=1.0), ValueError, r"has shape \(\)"),
    "integers": (change_state(exp_avg_sq=np.ones((2, 2), int)), TypeError, "has dtype int64"),
    "complex for real": (change_state(exp_avg=np.ones((2, 2), complex)), TypeError, "has dtype complex128"),
    "text": (change_state(exp_avg="abc"), TypeError, "has dtype <U3"),
    "masked": (change_state(exp_avg=np.ma.array(np.ones((2, 2)), mask=True)), TypeError, "masked"),
    "a negative step": (change_state(step=-1), ValueError, "'step' must be a whole number of at least 0, but is -1"),
    "a fractional step": (change_state(step=np.array(0.5)), ValueError, "a whole number of at least 0, but is 0.5"),
    "step NaN": (change_state(step=np.nan), ValueError, "but is nan"),
    "step infinite": (change_state(step=np.inf), ValueError, "but is inf"),
    "several steps": (change_state(step=np.ones(2)), ValueError, r"must be one number, but has shape \(2,\)"),
    "a complex step": (change_state(step=1j), TypeError, "must be a number, but is 1j"),
    "step as text": (change_state(step="3"), TypeError, "must be a number, but is '3'"),
    "no step": (drop_state("step"), KeyError, "step: missing from the loaded state of parameter 2"),
    "no exp_avg_sq": (drop_state("exp_avg_sq"), KeyError, "exp_avg_sq: missing"),
    "exp_avg is None": (change_state(exp_avg=None), KeyError, "exp_avg: missing"),
    "amsgrad without its state": (change_group(amsgrad=True), KeyError, "max_exp_avg_sq: missing"),
    "a bad option": (change_group(lr=-1.0), ValueError, "Invalid learning rate: -1.0"),
    "options that exclude each other": (
        change_group(fused=True, foreach=True),
        RuntimeError,
        "together|differentiable",
    ),
}


@pytest.mark.parametrize(("change", "kind", "message"), BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("differentiable", [False, True])
def test_a_state_dict_that_does_not_fit_changes_nothing(change, kind, message, differentiable):
    params, opt = built("Adam", {"differentiable": differentiable})
    step(opt, 1)
    saved = opt.state_dict()
    change(saved)
    step(opt, 2, absent=[0])
    groups, before = opt.param_groups, snapshot(params, opt)
    kept = [p.data for p in params]
    called = []
    opt.register_load_state_dict_post_hook(called.append)
    with pytest.raises(kind, match=message):
        opt.load_state_dict(saved)
    assert_same(snapshot(params, opt), before)
    assert opt.param_groups is groups
    assert all(p.data is data for p, data in zip(params, kept, strict=True))
    assert called == []
    twins, twin = built("Adam", {"differentiable": differentiable})
    step(twin, 1)
    step(twin, 2, absent=[0])
    for each in (opt, twin):
        step(each, 3)
    assert_same(snapshot(params, opt), snapshot(twins, twin))


# Copies of optimizers


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_keep_their_sharing(duplicate):
    params, opt = built("Adam", {"lr": np.array(0.5)})
    opt.step = lambda: None
    copied, other = duplicate((params, opt))
    live = [p for group in other.param_groups for p in group["params"]]
    assert all(p is q for p, q in zip(copied, live, strict=True))
    assert "step" not in vars(other)
    data = [p.data for p in copied]
    grads = values(1)
    for p, grad in zip(copied, grads, strict=True):
        p.grad = grad
    before = [p.data.copy() for p in params]
    other.step()
    assert all(p.data is array for p, array in zip(copied, data, strict=True))
    assert not any(np.array_equal(array, old) for array, old in zip(data, before, strict=True) if array.size)
    for p, value in zip(params, before, strict=True):
        np.testing.assert_array_equal(p.data, value)
    assert len(opt.state) == 0
    assert other.param_groups[1]["lr"] is other.defaults["lr"]
    assert other.defaults["lr"] is not opt.defaults["lr"]
    other.zero_grad()
    other.step()
    assert [other.state[p]["step"] for p in copied] == [1] * 4


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_of_an_optimizer_with_required_options(duplicate):
    opt = duplicate(optim.Optimizer([{"params": [Parameter([1.0])], "lr": 1}], {"lr": optim.optimizer.required}))
    assert opt.defaults["lr"] is optim.optimizer.required
    with pytest.raises(ValueError, match="required optimization parameter lr"):
        opt.add_param_group({"params": [Parameter([2.0])]})


def test_copies_are_aligned():
    for seed in range(5):
        _, opt = built("Adam", {})
        step(opt, seed)
        other = pickle.loads(pickle.dumps(opt))
        for layout in other._layouts:
            for slots in layout.slots:
                buffer = slots.params[0].buffer
                # The values of a short parameter alone stay where they are.
                theta = [buffer.theta] if len(slots.params) > 1 else []
                for array in (*theta, buffer.grad, *slots.state.arrays.values()):
                    assert array.ctypes.data % 64 == 0


def test_extra_state_of_ones_own_is_saved_copied_and_loaded():
    params, opt = built("Adam", {})
    step(opt, 1)
    mine = np.ones(2)
    opt.state[params[2]]["mine"] = {"nested": [mine]}
    saved = opt.state_dict()
    mine[:] = 5
    assert saved["state"][2]["mine"]["nested"][0].tolist() == [1, 1]
    opt.load_state_dict(saved)
    saved["state"][2]["mine"]["nested"][0][:] = 6
    assert opt.state[params[2]]["mine"]["nested"][0].tolist() == [1, 1]
    assert copy.deepcopy((params, opt))[1].state_dict()["state"][2]["mine"]["nested"][0].tolist() == [1, 1]
