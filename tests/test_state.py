"""An optimizer's state as a mapping: read, written, assigned, cleared, and where it starts."""

import numpy as np
import pytest

import refoptim as optim
from refoptim import Parameter


def make(*shapes, seed=0, dtype=np.float64):
    draw = np.random.default_rng(seed)
    return [Parameter(np.asarray(draw.standard_normal(shape), dtype)) for shape in shapes or [(2,), (3,)]]


def ones(params):
    return [np.ones(p.shape, p.dtype) for p in params]


def test_state_can_be_read_and_written():
    a, b = make()
    opt = optim.Adam([a, b])
    opt.step(grads=[np.ones(2), None])
    state = opt.state
    assert list(state) == [a]
    assert (a in state, b in state, "a" in state, Parameter([1.0]) in state) == (True, False, False, False)
    assert len(state) == 1
    assert list(state[a]) == ["step", "exp_avg", "exp_avg_sq"]
    state[a]["exp_avg"][0] = 5
    assert opt.state[a]["exp_avg"][0] == 5
    state[a]["exp_avg"] = state[a]["exp_avg"][::-1]
    assert opt.state[a]["exp_avg"][1] == 5
    state[a]["note"] = "mine"
    assert opt.state_dict()["state"][0]["note"] == "mine"
    del state[a]["note"]
    with pytest.raises(KeyError, match="note"):
        state[a]["note"]
    with pytest.raises(TypeError, match="cannot be deleted alone"):
        del state[a]["exp_avg"]
    with pytest.raises(KeyError, match="is not optimized by this optimizer"):
        state[Parameter([1.0])]
    assert repr(state[b]) == "{}"
    assert "'step': 1" in repr(state)
    del state[a]
    assert len(opt.state) == 0


@pytest.mark.parametrize("assign", ["one", "one copied", "all", "all copied"])
def test_state_may_be_assigned_from_itself(assign):
    params = make()
    opt = optim.Adam(params)
    opt.step(grads=ones(params))
    before = [{name: np.array(value) for name, value in opt.state[p].items()} for p in params]
    if assign == "one":
        opt.state[params[0]] = opt.state[params[0]]
    elif assign == "one copied":
        opt.state[params[0]] = dict(opt.state[params[0]])
    elif assign == "all":
        opt.state = opt.state
    else:
        opt.state = dict(opt.state.items())
    for p, entry in zip(params, before, strict=True):
        for name, value in entry.items():
            np.testing.assert_array_equal(opt.state[p][name], value)


@pytest.mark.parametrize("values", [{"step": -1}, {"step": 0.5}, {"exp_avg": np.ones(9)}, {"exp_avg": np.ones(2, int)}])
@pytest.mark.parametrize("everything", [False, True])
def test_bad_state_changes_nothing(values, everything):
    params = make((2,), (2,))
    opt = optim.Adam(params)
    opt.step(grads=ones(params))
    values = {"step": 5} | values
    if everything:
        with pytest.raises((TypeError, ValueError)):
            opt.state = {params[0]: {}, params[1]: values}
    else:
        with pytest.raises((TypeError, ValueError)):
            opt.state[params[1]] = values
    with pytest.raises(KeyError):
        opt.state = {Parameter([1.0]): {}}
    for p in params:
        assert opt.state[p]["step"] == 1
        np.testing.assert_allclose(opt.state[p]["exp_avg"], 0.1)


def test_cleared_state_starts_anew():
    (p,) = make((2,))
    opt = optim.SGD([p], lr=1.0, momentum=0.9, dampening=0.5)
    opt.step(grads=ones([p]))
    opt.step()
    assert opt.state[p]["momentum_buffer"].tolist() == [1.4, 1.4]
    opt.state = {}
    opt.step()
    assert opt.state[p]["momentum_buffer"].tolist() == [1.0, 1.0]


def test_switching_on_an_option_that_needs_other_state_is_refused():
    (p,) = make((2,))
    opt = optim.Adam([p])
    opt.step(grads=ones([p]))
    before = p.data.copy()
    opt.param_groups[0]["amsgrad"] = True
    with pytest.raises(KeyError, match="max_exp_avg_sq"):
        opt.step()
    np.testing.assert_array_equal(p.data, before)
    assert opt.state[p]["step"] == 1


@pytest.mark.parametrize("dtype", [np.float32, np.complex128])
@pytest.mark.parametrize("differentiable", [False, True])
def test_state_that_does_not_start_with_zeros(dtype, differentiable):
    class Warm(optim.SGD):
        """SGD whose momentum starts with ones, to test what adaptive methods ask of the base."""

        def _initial_values(self, group):
            return {"momentum_buffer": 1.0}

        def _symbols(self, group, host):
            return super()._symbols(group, host) | {"first": False}

    a, b = make((2,), (3,), dtype=dtype)
    opt = Warm([a, b], lr=1.0, momentum=0.5, foreach=True, fused=False, differentiable=differentiable)
    one = 1 + 1j if np.dtype(dtype).kind == "c" else 1
    zeros = [np.zeros(p.shape, dtype) for p in (a, b)]
    opt.step(grads=[zeros[0], None])
    opt.step(grads=zeros)
    np.testing.assert_array_equal(opt.state[a]["momentum_buffer"], np.full(2, 0.25 * one))
    np.testing.assert_array_equal(opt.state[b]["momentum_buffer"], np.full(3, 0.5 * one))
    opt.step(grads=zeros)
    np.testing.assert_array_equal(opt.state[a]["momentum_buffer"], np.full(2, 0.125 * one))
    opt.state = {}
    for expected in (0.5, 0.25):
        opt.step()
        np.testing.assert_array_equal(opt.state[a]["momentum_buffer"], np.full(2, expected * one))
    # The other one keeps its state.
    for forget in (lambda: opt.state.pop(a), opt.state[a].clear):
        before = opt.state[b]["momentum_buffer"].copy()
        forget()
        opt.step()
        np.testing.assert_array_equal(opt.state[a]["momentum_buffer"], np.full(2, 0.5 * one))
        np.testing.assert_array_equal(opt.state[b]["momentum_buffer"], before * 0.5)
