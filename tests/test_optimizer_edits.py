"""Optimizers of one's own, and groups edited by hand."""

import numpy as np
import pytest

import refoptim as optim
from refoptim import Parameter
from refoptim.conformance.tolerances import CLOSE


def make(*shapes, seed=0, dtype=np.float64):
    draw = np.random.default_rng(seed)
    return [Parameter(np.asarray(draw.standard_normal(shape), dtype)) for shape in shapes or [(2,), (3,)]]


def ones(params):
    return [np.ones(p.shape, p.dtype) for p in params]


class Plain(optim.Optimizer):
    """Gradient descent with momentum as someone would write it for torch."""

    def __init__(self, params, lr=0.1, momentum=0.5):
        super().__init__(params, {"lr": lr, "momentum": momentum})

    def step(self, closure=None):
        loss = None if closure is None else closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if len(state) == 0:
                    state["step"] = 0
                    state["velocity"] = np.zeros_like(p.data)
                state["step"] += 1
                state["velocity"] = group["momentum"] * state["velocity"] + p.grad
                p.data -= group["lr"] * state["velocity"]
        return loss


# Optimizers of one's own


def test_an_optimizer_of_ones_own_works_as_in_torch():
    a, b = make()
    before = a.data.copy()
    opt = Plain([a, b], lr=0.5)
    a.grad = np.ones(2)
    assert opt.step(lambda: 3) == 3
    opt.step()
    np.testing.assert_allclose(a.data, before - 0.5 - 0.75, **CLOSE["float64"])
    assert dict(opt.state[a], velocity=None) == {"step": 2, "velocity": None}
    assert a in opt.state
    assert b not in opt.state
    assert list(opt.state) == [a]
    assert opt.state_dict()["state"].keys() == {0}


def test_the_base_class_alone_cannot_step():
    opt = optim.Optimizer(make(), {"lr": 0.1})
    with pytest.raises(NotImplementedError, match="Optimizer must override step"):
        opt.step()


def test_hooks_run_once_around_a_step_that_calls_the_inherited_one():
    class Scaled(optim.SGD):
        def step(self, closure=None):
            for p in self.param_groups[0]["params"]:
                p.grad *= 2
            return super().step(closure)

    (p,) = make((2,))
    before, calls = p.data.copy(), []
    opt = Scaled([p], lr=1.0)
    opt.register_step_post_hook(lambda *_: calls.append("post"))
    opt.register_step_pre_hook(lambda *_: calls.append("pre"))
    p.grad = np.ones(2)
    assert opt.step(lambda: 4) == 4
    assert calls == ["pre", "post"]
    np.testing.assert_allclose(p.data, before - 2, **CLOSE["float64"])


# Editing param_groups


def test_lr_takes_effect_at_once():
    (p,) = make((2,))
    before = p.data.copy()
    opt = optim.SGD([p], lr=1.0)
    opt.step(grads=ones([p]))
    opt.param_groups[0]["lr"] = 0.25
    opt.step()
    np.testing.assert_allclose(p.data, before - 1.25, **CLOSE["float64"])


@pytest.mark.parametrize("implementation", [{}, {"foreach": True}, {"foreach": False, "fused": False}])
@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
@pytest.mark.parametrize("optimizer", [optim.SGD, optim.Adam, optim.AdamW])
def test_lr_may_be_an_array_of_one_element_that_is_edited_in_place(optimizer, shape, implementation):
    params, twins = make((), (2,), (0,)), make((), (2,), (0,))
    lr = np.full(shape, 0.5)
    opt = optimizer(params, lr=lr, **implementation)
    plain = optimizer(twins, lr=0.5, **implementation)
    for _ in range(2):
        opt.step(grads=ones(params))
        plain.step(grads=ones(twins))
        lr[...] = 0.125
        plain.param_groups[0]["lr"] = 0.125
    assert opt.param_groups[0]["lr"] is lr
    for p, twin in zip(params, twins, strict=True):
        assert p.shape == twin.shape
        np.testing.assert_array_equal(p.data, twin.data)


@pytest.mark.parametrize("implementation", [{}, {"foreach": True}, {"fused": False}, {"differentiable": True}])
@pytest.mark.parametrize("optimizer", [optim.SGD, optim.Adam])
def test_lr_of_every_kind_of_number_gives_the_same_bits(optimizer, implementation):
    results = []
    for lr in (0.1, np.float64(0.1), np.array(0.1), np.array([0.1])):
        (p,) = make((50,), dtype=np.float32)
        opt = optimizer([p], lr=lr, weight_decay=0.1, **implementation)
        for _ in range(3):
            opt.step(grads=[p.data * 3])
        results.append(p.data.tolist())
    assert results == results[:1] * 4


@pytest.mark.parametrize("betas", [[0.5, 0.25], (np.array(0.5), np.array([0.25]))])
def test_betas_may_be_edited_in_place(betas):
    (p,) = make((2,))
    opt = optim.Adam([{"params": [p], "betas": betas}])
    opt.step(grads=ones([p]))
    if isinstance(betas, list):
        betas[0] = 0.0
    else:
        betas[0][...] = 0.0
    opt.step(grads=[np.full(2, 3.0)])
    assert opt.state[p]["exp_avg"].tolist() == [3.0, 3.0]


def test_lr_may_be_a_tensor_that_is_edited_in_place():
    torch = pytest.importorskip("torch")
    (p,) = make((2,))
    before, lr = p.data.copy(), torch.tensor([1.0])
    opt = optim.SGD([p], lr=lr)
    opt.step(grads=ones([p]))
    lr.fill_(0.25)
    opt.step()
    np.testing.assert_allclose(p.data, before - 1.25, **CLOSE["float64"])


def edited(edit):
    """Step three parameters, edit the groups, step again; return which moved, with all step counts."""
    params = make((2,), (3,), (4,))
    extra = Parameter(np.ones(5))
    opt = optim.Adam([{"params": params[:2]}, {"params": params[2:]}], lr=1.0)
    opt.step(grads=ones(params))
    edit(opt, params, extra)
    everything = [*params, extra]
    before = [p.data.copy() for p in everything]
    for p in everything:
        p.grad = np.ones(p.shape)
    opt.step()
    moved = [not np.array_equal(p.data, value) for p, value in zip(everything, before, strict=True)]
    live = {p for group in opt.param_groups for p in group["params"]}
    return moved, [opt.state[p]["step"] if p in live else None for p in everything]


def replace(opt, params, extra):
    opt.param_groups[0]["params"] = [params[0], extra]


def replace_in_place(opt, params, extra):
    opt.param_groups[0]["params"][1] = extra


def append(opt, params, extra):
    opt.param_groups[1]["params"].append(extra)


def shorten(opt, params, extra):
    del opt.param_groups[0]["params"][0]


def pop(opt, params, extra):
    opt.param_groups.pop(0)


def swap(opt, params, extra):
    opt.param_groups.reverse()


def regroup(opt, params, extra):
    opt.param_groups = [opt.param_groups[0] | {"params": (params[2], params[0], extra)}]


def pop_and_return(opt, params, extra):
    group = opt.param_groups.pop(0)
    opt.step(grads=[None])
    opt.add_param_group(group)


def clear_and_add(opt, params, extra):
    opt.param_groups.clear()
    opt.add_param_group({"params": [params[1], extra]})
    opt.add_param_group({"params": [params[0]]})


@pytest.mark.parametrize(
    ("edit", "moved", "steps"),
    [
        (replace, [1, 0, 1, 1], [2, None, 2, 1]),
        (replace_in_place, [1, 0, 1, 1], [2, None, 2, 1]),
        (append, [1, 1, 1, 1], [2, 2, 2, 1]),
        (shorten, [0, 1, 1, 0], [None, 2, 2, None]),
        (pop, [0, 0, 1, 0], [None, None, 2, None]),
        (swap, [1, 1, 1, 0], [2, 2, 2, None]),
        (regroup, [1, 0, 1, 1], [2, None, 2, 1]),
        (pop_and_return, [1, 1, 1, 0], [2, 2, 2, None]),
        (clear_and_add, [1, 1, 0, 1], [2, 2, None, 1]),
    ],
)
def test_param_groups_may_be_edited_by_hand(edit, moved, steps):
    assert edited(edit) == (list(map(bool, moved)), steps)


def test_a_list_of_parameters_stays_the_users():
    (a, b, c) = make((2,), (3,), (1,))
    opt = optim.Adam([a])
    mine = opt.param_groups[0]["params"]
    for p in (b, c):
        mine.append(p)
        assert dict(opt.state[p]) == {}
        opt.step(grads=ones(mine))
        assert opt.param_groups[0]["params"] is mine
    assert [opt.state[p]["step"] for p in (a, b, c)] == [2, 2, 1]


def test_names_and_tuples_in_an_edited_group_are_sorted_out_once():
    a, b = make()
    opt = optim.SGD([a])
    opt.param_groups[0]["params"] = (("a", a), ("b", b))
    opt.step()
    assert opt.param_groups[0]["params"] == [a, b]
    assert opt.param_groups[0]["param_names"] == ["a", "b"]


@pytest.mark.parametrize("forget", ["state", "load"])
def test_state_of_removed_parameters_is_forgotten_with_the_rest(forget):
    a, b = make()
    opt = optim.Adam([{"params": [a]}, {"params": [b]}])
    opt.step(grads=ones([a, b]))
    group = opt.param_groups.pop(0)
    opt.step()
    if forget == "state":
        opt.state = {}
    else:
        opt.load_state_dict(opt.state_dict())
    opt.add_param_group(group)
    assert a not in opt.state


@pytest.mark.parametrize(
    ("params", "kind", "message"),
    [
        (lambda a, b: [a, b], ValueError, "more than one parameter group"),
        (lambda a, _: [a.data], TypeError, "numpy.ndarray"),
        (lambda *_: None, TypeError, "not iterable"),
    ],
)
def test_a_bad_edit_is_refused_by_the_next_step(params, kind, message):
    a, b = make()
    opt = optim.Adam([{"params": [a]}, {"params": [b]}])
    opt.step(grads=ones([a, b]))
    before = [a.data.copy(), b.data.copy()]
    opt.param_groups[0]["params"] = params(a, b)
    with pytest.raises(kind, match=message):
        opt.step()
    np.testing.assert_array_equal(a.data, before[0])
    np.testing.assert_array_equal(b.data, before[1])
    opt.param_groups[0]["params"] = [a]
    opt.step()
    assert [opt.state[p]["step"] for p in (a, b)] == [2, 2]


@pytest.mark.parametrize("lr", [0.5, np.array(0.5)])
def test_groups_may_become_differentiable_and_back(lr):
    a, b = make((2,), (2,))
    opt, plain = optim.Adam([a], lr=lr), optim.Adam([b], lr=0.5)
    b.data = a.data
    for differentiable in (False, True, True, False):
        opt.param_groups[0]["differentiable"] = differentiable
        opt.step(grads=ones([a]))
        plain.step(grads=ones([b]))
        np.testing.assert_allclose(a.data, b.data, **CLOSE["float64"])
        assert (a.buffer is None) == differentiable
    assert opt.state[a]["step"] == 4
