"""Hooks: when they run, in which order, what they may replace, and how they go away."""

import copy

import numpy as np
import pytest

import refoptim as optim
from refoptim import Parameter, hooks

GLOBAL = [hooks.register_optimizer_step_pre_hook, hooks.register_optimizer_step_post_hook]
OWN = [
    "register_step_pre_hook",
    "register_step_post_hook",
    "register_state_dict_pre_hook",
    "register_state_dict_post_hook",
    "register_load_state_dict_pre_hook",
    "register_load_state_dict_post_hook",
]


@pytest.fixture
def opt():
    p = Parameter([1.0, 2.0])
    p.grad = np.ones(2)
    return optim.SGD([p], lr=0.5)


@pytest.fixture
def calls():
    return []


def note(calls, word):
    """Return a hook that only writes down that it ran."""
    return lambda *_: calls.append(word)


def run(opt, method):
    """Do what makes the hooks of this method run."""
    if "load" in method:
        opt.load_state_dict(opt.state_dict())
    elif "state_dict" in method:
        opt.state_dict()
    else:
        opt.step()


def test_step_hooks_run_in_torchs_order(opt, calls):
    handles = [
        hooks.register_optimizer_step_post_hook(note(calls, "global post")),
        hooks.register_optimizer_step_pre_hook(note(calls, "global pre 1")),
        hooks.register_optimizer_step_pre_hook(note(calls, "global pre 2")),
    ]
    opt.register_step_post_hook(note(calls, "post 1"))
    opt.register_step_post_hook(note(calls, "post 2"))
    opt.register_step_pre_hook(note(calls, "pre"))
    opt.step(lambda: calls.append("step"))
    for handle in handles:
        handle.remove()
    assert calls == ["global pre 1", "global pre 2", "pre", "step", "post 1", "post 2", "global post"]
    calls.clear()
    opt.step()
    assert calls == ["pre", "post 1", "post 2"]


@pytest.mark.parametrize("register", GLOBAL)
def test_global_hooks_run_for_every_optimizer(register, calls, opt):
    class Own(optim.Optimizer):
        def step(self, closure=None):
            return 5

    other = Own([Parameter([1.0])], {})
    with register(lambda optimizer, *_: calls.append(optimizer)):
        opt.step()
        assert other.step() == 5
    opt.step()
    assert calls == [opt, other]


def test_step_hooks_get_the_optimizer_and_all_arguments(opt, calls):
    def hook(optimizer, args, kwargs):
        calls.append((optimizer, args, kwargs))

    opt.register_step_pre_hook(hook)
    opt.register_step_post_hook(hook)

    def closure():
        return 1

    grads = [np.ones(2)]
    assert opt.step(closure, grads=grads) == 1
    assert calls == [(opt, (opt, closure), {"grads": grads})] * 2


def test_a_step_pre_hook_may_replace_the_arguments(opt):
    p = opt.param_groups[0]["params"][0]
    opt.register_step_pre_hook(lambda *_: None)
    opt.register_step_pre_hook(lambda optimizer, *_: ((optimizer,), {"grads": [np.full(2, 2.0)]}))
    opt.step()
    assert p.data.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("bad", [3, (1,), (1, 2, 3), [(), {}]])
def test_a_step_pre_hook_that_returns_something_else_is_an_error(opt, bad):
    p = opt.param_groups[0]["params"][0]
    handle = opt.register_step_pre_hook(lambda *_: bad)
    with pytest.raises(RuntimeError, match=r"must return None or a tuple of \(new_args, new_kwargs\), but got"):
        opt.step()
    assert p.data.tolist() == [1.0, 2.0]
    handle.remove()
    opt.step()
    assert p.data.tolist() == [0.5, 1.5]


def test_after_a_step_that_raised_hooks_run_again(opt, calls):
    opt.register_step_pre_hook(note(calls, "pre"))
    opt.register_step_post_hook(note(calls, "post"))
    with pytest.raises(ZeroDivisionError):
        opt.step(lambda: 1 / 0)
    opt.step()
    assert calls == ["pre", "pre", "post"]


@pytest.mark.parametrize("method", OWN)
def test_own_hooks_run_each_time_until_removed(opt, calls, method):
    first = getattr(opt, method)(note(calls, 1))
    second = getattr(opt, method)(note(calls, 2))
    assert first.id != second.id
    run(opt, method)
    assert calls == [1, 2]
    first.remove()
    first.remove()
    run(opt, method)
    assert calls == [1, 2, 2]
    with second:
        run(opt, method)
    run(opt, method)
    assert calls == [1, 2, 2, 2]


@pytest.mark.parametrize("method", [name for name in OWN if "state_dict" in name])
def test_prepended_hooks_run_first(opt, calls, method):
    getattr(opt, method)(note(calls, 1))
    getattr(opt, method)(note(calls, 0), prepend=True)
    run(opt, method)
    assert calls == [0, 1]


@pytest.mark.parametrize("method", OWN)
def test_what_cannot_be_called_is_no_hook(opt, method):
    with pytest.raises(TypeError, match="a hook must be callable, but got 3"):
        getattr(opt, method)(3)


def test_state_dict_hooks_see_and_may_replace_the_state_dict(opt):
    seen = []
    opt.register_state_dict_pre_hook(lambda optimizer: optimizer.param_groups[0].update(lr=0.25))
    opt.register_state_dict_post_hook(lambda optimizer, saved: seen.append((optimizer, saved)))
    opt.register_state_dict_post_hook(lambda _, saved: saved | {"epoch": 3})
    opt.register_state_dict_post_hook(lambda _, saved: seen.append(saved))
    saved = opt.state_dict()
    assert saved["epoch"] == 3
    assert saved["param_groups"][0]["lr"] == 0.25
    assert seen[0][0] is opt
    assert seen[1] is saved


def test_load_state_dict_hooks_may_replace_the_state_dict_but_not_the_callers(opt):
    given = opt.state_dict()
    groups = given["param_groups"]

    def halve(optimizer, state_dict):
        assert optimizer is opt
        assert state_dict is not given
        state_dict["param_groups"] = [groups[0] | {"lr": 0.125}]

    def double(_, state_dict):
        return state_dict | {"param_groups": [state_dict["param_groups"][0] | {"maximize": True}]}

    lr_seen = []
    opt.register_load_state_dict_pre_hook(halve)
    opt.register_load_state_dict_pre_hook(double)
    opt.register_load_state_dict_post_hook(lambda optimizer: lr_seen.append(optimizer.param_groups[0]["lr"]))
    opt.load_state_dict(given)
    assert lr_seen == [0.125]
    assert opt.param_groups[0]["maximize"] is True
    assert given["param_groups"] is groups
    assert groups[0]["lr"] == 0.5


def test_a_hook_may_remove_itself(opt, calls):
    def once(*_):
        calls.append(1)
        handle.remove()

    handle = opt.register_step_pre_hook(once)
    opt.step()
    opt.step()
    assert calls == [1]


def test_copies_have_no_hooks(opt, calls):
    for method in OWN:
        getattr(opt, method)(note(calls, method))
    copied = copy.deepcopy(opt)
    for method in OWN:
        run(copied, method)
    assert calls == []
    copied.register_step_pre_hook(note(calls, "copy"))
    copied.step()
    assert calls == ["copy"]
