"""The base class: groups, names, defaults, repr, zero_grad, closures and gradients as arguments."""

import numpy as np
import pytest

import refoptim as optim
from refoptim import Parameter
from refoptim.conformance.tolerances import CLOSE
from refoptim.optimizer import required


def make(*shapes, seed=0, dtype=np.float64):
    draw = np.random.default_rng(seed)
    return [Parameter(np.asarray(draw.standard_normal(shape), dtype)) for shape in shapes or [(2,), (3,)]]


def ones(params):
    return [np.ones(p.shape, p.dtype) for p in params]


class Plain(optim.Optimizer):
    """An optimizer of one's own that needs a learning rate in every group."""

    def __init__(self, params, lr=required, momentum=0.5):
        super().__init__(params, {"lr": lr, "momentum": momentum})


# Construction


@pytest.mark.parametrize(
    ("params", "kind", "message"),
    [
        (lambda p: p, TypeError, "should be an iterable of Parameters or dicts, but got Parameter"),
        (lambda p: p.data, TypeError, "should be an iterable of Parameters or dicts, but got ndarray"),
        (lambda _: 3, TypeError, "not iterable"),
        (lambda _: [], ValueError, "optimizer got an empty parameter list"),
        (lambda _: iter([]), ValueError, "optimizer got an empty parameter list"),
        (lambda p: [p.data], TypeError, r"can only optimize Parameters.*numpy.ndarray: write Parameter\(array\)"),
        (lambda p: {"params": [p]}, TypeError, "one of the params is builtins.str"),
        (lambda p: [p, {"params": [p]}], TypeError, "one of the params is builtins.dict"),
        (lambda p: [{"params": [p]}, p], TypeError, "param_group must be a dict, but got"),
        (lambda _: [{"lr": 0.1}], KeyError, "params"),
        (lambda p: [{"params": {p}}], TypeError, "ordered collections"),
        (lambda p: [{"params": ("w", p)}], TypeError, "one of the params is builtins.str"),
        (lambda p: [("w", p), *make()], ValueError, "with/without names. Some param names are missing"),
        (lambda p: [{"params": [p]}, {"params": [p]}], ValueError, "appear in more than one parameter group"),
        (lambda p: [{"params": [("w", p)]}, {"params": make()}], ValueError, "cannot add param group without names"),
        (lambda p: [{"params": [p]}, {"params": [("w", *make((2,)))]}], ValueError, "add param group with names"),
    ],
)
def test_bad_params_are_refused_and_nothing_is_moved(params, kind, message):
    p = Parameter([1.0, 2.0])
    p.data.flags.writeable = True
    before = p.data
    with pytest.raises(kind, match=message):
        optim.SGD(params(p))
    assert p.data is before
    assert before.flags.writeable


@pytest.mark.parametrize("collect", [list, tuple, iter, set, lambda ps: dict(enumerate(ps)).values()])
def test_params_may_be_any_collection(collect):
    params = make()
    opt = optim.SGD(collect(params))
    assert set(opt.param_groups[0]["params"]) == set(params)
    assert type(opt.param_groups[0]["params"]) is list


def test_groups_take_what_they_lack_from_the_defaults_and_the_dicts_are_the_callers():
    a, b = make()
    first, second = {"params": a, "lr": 0.5, "mine": "kept"}, {"params": iter([b]), "momentum": 0.9}
    opt = optim.SGD([first, second], lr=0.1, weight_decay=0.2)
    assert opt.param_groups[0] is first
    assert opt.param_groups[1] is second
    assert first["params"] == [a]
    assert second["params"] == [b]
    assert (first["lr"], first["momentum"], first["weight_decay"], first["mine"]) == (0.5, 0, 0.2, "kept")
    assert (second["lr"], second["momentum"]) == (0.1, 0.9)
    assert list(second) == ["params", "momentum", *(name for name in opt.defaults if name != "momentum")]


def test_groups_may_be_empty():
    opt = optim.Adam([{"params": []}])
    (p,) = make((2,))
    opt.add_param_group({"params": [p]})
    opt.step(grads=ones([p]))
    assert opt.state[p]["step"] == 1


def test_groups_step_with_their_own_options():
    a, b = make((2,), (2,))
    before = [a.data.copy(), b.data.copy()]
    opt = optim.SGD([{"params": [a]}, {"params": [b], "lr": 0.5, "maximize": True}], lr=0.25)
    opt.step(grads=ones([a, b]))
    np.testing.assert_allclose(a.data, before[0] - 0.25, **CLOSE["float64"])
    np.testing.assert_allclose(b.data, before[1] + 0.5, **CLOSE["float64"])


def test_names_are_kept_apart_from_parameters():
    a, b = make()
    opt = optim.SGD([("a", a), ("b", b)])
    assert opt.param_groups[0]["param_names"] == ["a", "b"]
    assert opt.param_groups[0]["params"] == [a, b]
    (c,) = make((1,))
    opt.add_param_group({"params": [("a", c)]})
    assert opt.param_groups[1]["param_names"] == ["a"]
    with pytest.raises(ValueError, match="cannot add param group without names to the optimizer"):
        opt.add_param_group({"params": make((1,))})


def test_a_duplicate_in_a_group_warns_and_is_stepped_once():
    a, b = make()
    before = a.data.copy()
    with pytest.warns(UserWarning, match="duplicate parameters") as caught:
        opt = optim.SGD([a, a, b], lr=1.0)
    assert caught[0].filename == __file__
    a.grad = np.ones(2)
    opt.step()
    np.testing.assert_array_equal(a.data, before - 1)


# add_param_group


def test_add_param_group_joins_from_the_next_step_on():
    a, b = make((2,), (2,))
    opt = optim.Adam([a], lr=0.1)
    opt.step(grads=ones([a]))
    group = {"params": b, "lr": 1.0}
    opt.add_param_group(group)
    assert opt.param_groups[1] is group
    assert group["params"] == [b]
    assert group["betas"] == (0.9, 0.999)
    before = b.data.copy()
    opt.step(grads=ones([a, b]))
    assert [opt.state[p]["step"] for p in (a, b)] == [2, 1]
    np.testing.assert_allclose(b.data, before - 1, **CLOSE["float32"])


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"params": None}, TypeError, "not iterable"),
        ({"params": "old"}, ValueError, "more than one parameter group"),
        ({"params": [1.0]}, TypeError, "builtins.float"),
        ({"lr": -1.0}, ValueError, "Invalid learning rate: -1.0"),
        ({"betas": (0.9, 1.0)}, ValueError, "Invalid beta parameter at index 1: 1.0"),
        ({"fused": True, "foreach": True}, RuntimeError, "cannot be `True` together"),
    ],
)
def test_add_param_group_changes_nothing_on_error(change, kind, message):
    a, b = make()
    opt = optim.Adam([a])
    opt.step(grads=ones([a]))
    before, home = opt.state_dict(), b.data
    group = {"params": [b], "lr": 0.5} | change
    if group["params"] == "old":
        group["params"] = [b, a]
    given = dict(group)
    with pytest.raises(kind, match=message):
        opt.add_param_group(group)
    assert group == given
    assert opt.state_dict().keys() == before.keys()
    assert len(opt.param_groups) == 1
    assert b.data is home
    opt.step(grads=ones([a]))
    assert opt.state[a]["step"] == 2


def test_required_options_must_be_in_every_group():
    a, b = make()
    message = "parameter group didn't specify a value of required optimization parameter lr"
    with pytest.raises(ValueError, match=message):
        Plain([a])
    opt = Plain([{"params": [a], "lr": 0.1}])
    with pytest.raises(ValueError, match=message):
        opt.add_param_group({"params": [b]})
    assert repr(opt.defaults["lr"]) == "<required parameter>"


# repr


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("SGD", {"lr": 0.5, "momentum": 0.9, "nesterov": True}),
        ("SGD", {}),
        ("Adam", {"amsgrad": True, "betas": [0.5, 0.25], "fused": False}),
        ("AdamW", {"lr": 1, "maximize": True}),
    ],
)
@pytest.mark.parametrize("named", [False, True])
def test_repr_is_torchs(name, options, named):
    torch = pytest.importorskip("torch")

    def build(library, tensors):
        a, b = [("a", tensors[0]), ("b", tensors[1])] if named else tensors
        return repr(getattr(library, name)([{"params": [a]}, {"params": [b], "lr": 0.25, "extra": 1}], **options))

    assert build(optim, make()) == build(torch.optim, [torch.zeros(2), torch.zeros(3)])


def test_repr_is_sorted_options_by_group():
    a, b = make()
    assert repr(Plain([{"params": [a]}, {"params": [b], "lr": 2}], lr=1)) == (
        "Plain (\nParameter Group 0\n    lr: 1\n    momentum: 0.5\n\nParameter Group 1\n    lr: 2\n    momentum: 0.5\n)"
    )


# zero_grad, closures, gradients as arguments


@pytest.mark.parametrize("differentiable", [False, True])
def test_zero_grad_both_ways(differentiable):
    a, b = make()
    opt = optim.SGD([a, b], differentiable=differentiable)
    a.grad = np.full(2, np.inf)
    kept = a.grad
    opt.zero_grad(set_to_none=False)
    assert a.grad is kept
    assert kept.tolist() == [0, 0]
    assert b.grad is None
    opt.zero_grad()
    assert a.grad is None
    opt.zero_grad(set_to_none=False)
    assert a.grad is None


def test_closure_runs_first_and_its_value_is_returned():
    (p,) = make((2,))
    opt = optim.SGD([p], lr=1.0)
    before = p.data.copy()

    def closure():
        opt.zero_grad()
        p.grad = 2 * p.data
        return "loss"

    assert opt.step(closure) == "loss"
    assert opt.step(closure=closure) == "loss"
    np.testing.assert_allclose(p.data, before, **CLOSE["float64"])
    assert opt.step() is None


def test_a_closure_that_raises_leaves_everything():
    (p,) = make((2,))
    opt = optim.Adam([p])
    p.grad = np.ones(2)
    before = p.data.copy()
    with pytest.raises(ZeroDivisionError):
        opt.step(lambda: 1 / 0)
    np.testing.assert_array_equal(p.data, before)
    assert len(opt.state) == 0


def test_grads_are_assigned_in_parameter_order():
    a, b, c = make((2,), (3,), (1,))
    opt = optim.SGD([{"params": [c]}, {"params": [a, b]}], lr=1.0)
    before = [p.data.copy() for p in (a, b, c)]
    a.grad = np.ones(2)
    assert opt.step(grads=(g for g in [np.full(1, 3.0), None, np.full(3, 2.0)])) is None
    assert a.grad is None
    for p, value, moved in zip((a, b, c), before, (0, 2, 3), strict=True):
        np.testing.assert_allclose(p.data, value - moved, **CLOSE["float64"])
    assert opt.step(lambda: 5, grads=[None, None, None]) == 5


@pytest.mark.parametrize(
    ("grads", "kind", "message"),
    [
        ([np.ones(2)], ValueError, "got 1 gradients for 2 parameters"),
        ([np.ones(2), np.ones(3), None], ValueError, "got 3 gradients for 2 parameters"),
        ([np.ones(2), np.ones(2)], ValueError, r"has shape \(2,\), but the parameter has shape \(3,\)"),
        ([np.ones(2), np.ones(3, np.float32)], TypeError, "has dtype float32"),
        ([np.ones(2), [1.0, 1.0, 1.0]], TypeError, "'list'"),
        (3, TypeError, "not iterable"),
    ],
)
@pytest.mark.parametrize("differentiable", [False, True])
def test_bad_grads_change_nothing(grads, kind, message, differentiable):
    a, b = make()
    opt = optim.Adam([a, b], differentiable=differentiable)
    a.grad = np.full(2, 7.0)
    before = [a.data.copy(), b.data.copy()]
    with pytest.raises(kind, match=message):
        opt.step(grads=grads)
    assert a.grad.tolist() == [7.0, 7.0]
    assert b.grad is None
    np.testing.assert_array_equal(a.data, before[0])
    np.testing.assert_array_equal(b.data, before[1])
    assert len(opt.state) == 0


@pytest.mark.parametrize("differentiable", [False, True])
def test_a_step_that_fails_in_a_later_group_changes_nothing(differentiable):
    a, b = make()
    opt = optim.Adam([{"params": [a]}, {"params": [b], "differentiable": differentiable}])
    opt.step(grads=ones([a, b]))
    before = [a.data.copy(), b.data.copy()]
    opt.param_groups[1]["lr"] = np.array([0.1, 0.2, 0.3, 0.4])
    with pytest.raises((TypeError, ValueError)):
        opt.step()
    np.testing.assert_array_equal(a.data, before[0])
    np.testing.assert_array_equal(b.data, before[1])
    assert [opt.state[p]["step"] for p in (a, b)] == [1, 1]


def test_gradients_handed_over_may_be_each_others():
    p, q = optim.Parameter([1.0, 2.0]), optim.Parameter([3.0, 4.0])
    optimizer = optim.SGD([p, q], lr=1.0)
    p.grad, q.grad = np.array([0.25, 0.5]), np.array([-1.0, -2.0])
    optimizer.step(grads=[q.grad, p.grad])
    assert p.data.tolist() == [2.0, 4.0]
    assert q.data.tolist() == [2.75, 3.5]
