"""LBFGS's state: copies that go on, steps and loads that fail and change nothing, and the same bits in any layout."""

import copy
import pickle

import numpy as np
import pytest

import refoptim as optim
from refoptim.conformance.problems import PROBLEMS, Closure, quadratic
from refoptim.conformance.tolerances import CLOSE

SEARCHES = [None, "strong_wolfe"]
HARD = PROBLEMS["rosenbrock-10"]


def built(problem=HARD, dtype=np.float64, **options):
    """Return an optimizer, its parameter and a closure that counts its calls."""
    param = optim.Parameter(problem.start.astype(dtype))
    return optim.LBFGS([param], **options), param, Closure(problem, param)


def plain(state):
    """Return a state as bytes, to compare."""
    if isinstance(state, dict):
        return {name: plain(value) for name, value in state.items()}
    if isinstance(state, (list, tuple)):
        return [plain(value) for value in state]
    return (state.tobytes(), state.dtype) if isinstance(state, np.ndarray) else repr(state)


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("steps", [0, 1, 3])
@pytest.mark.parametrize("way", ["state_dict", "deepcopy", "pickle"])
def test_a_copy_goes_on_with_the_same_bits(way, steps, search):
    optimizer, param, closure = built(max_iter=6, history_size=4, line_search_fn=search)
    for _ in range(steps):
        optimizer.step(closure)
    if way == "state_dict":
        other, (twin,) = None, [optim.Parameter(param.data)]
        other = optim.LBFGS([twin], max_iter=3)
        other.load_state_dict(pickle.loads(pickle.dumps(optimizer.state_dict())))
    else:
        other = copy.deepcopy(optimizer) if way == "deepcopy" else pickle.loads(pickle.dumps(optimizer))
        (twin,) = other.param_groups[0]["params"]

    def twin_closure():
        twin.grad = HARD.grad(twin.data)
        return HARD.loss(twin.data)

    for _ in range(3):
        assert optimizer.step(closure) == other.step(twin_closure)
        assert param.data.tobytes() == twin.data.tobytes()
        assert plain(optimizer.state_dict()) == plain(other.state_dict())


def test_a_saved_state_does_not_change():
    optimizer, _, closure = built(max_iter=6)
    optimizer.step(closure)
    saved = optimizer.state_dict()
    before = plain(saved)
    optimizer.step(closure)
    assert plain(saved) == before


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize("call", [1, 2, 5])
@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_a_closure_that_raises_changes_nothing(error, call, steps, search):
    optimizer, param, closure = built(max_iter=6, line_search_fn=search)
    for _ in range(steps):
        optimizer.step(closure)
    point, state, calls = param.data.copy(), plain(optimizer.state_dict()), closure.calls

    def fails():
        if closure.calls - calls == call - 1:
            raise error("no loss")
        return closure()

    with pytest.raises(error, match="no loss"):
        optimizer.step(fails)
    assert param.data.tobytes() == point.tobytes()
    assert plain(optimizer.state_dict()) == state
    optimizer.step(closure)


BROKEN = {
    "d of another shape": (lambda entry: entry.update(d=np.ones(3)), ValueError, "'d' has shape"),
    "a pair of another shape": (lambda entry: entry["old_dirs"].__setitem__(0, np.ones(3)), ValueError, "'old_dirs'"),
    "integers": (lambda entry: entry.update(prev_flat_grad=np.ones(10, int)), TypeError, "prev_flat_grad"),
    "lists of different lengths": (lambda entry: entry["ro"].pop(), ValueError, "one length"),
    "d missing": (lambda entry: entry.pop("d"), KeyError, "d: missing"),
    "d is None": (lambda entry: entry.update(d=None), KeyError, "d: missing"),
    "t is an array": (lambda entry: entry.update(t=np.ones(2)), ValueError, "t must be one number"),
    "n_iter is text": (lambda entry: entry.update(n_iter="1"), TypeError, "n_iter must be a number"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_state_that_does_not_fit_is_refused_whole(name):
    spoil, error, match = BROKEN[name]
    optimizer, param, closure = built(max_iter=4, max_eval=100)
    optimizer.step(closure)
    saved, before, point = optimizer.state_dict(), plain(optimizer.state_dict()), param.data.copy()
    spoil(saved["state"][0])
    saved["param_groups"][0]["lr"] = 0.125
    with pytest.raises(error, match=match):
        optimizer.load_state_dict(saved)
    assert plain(optimizer.state_dict()) == before
    spoil(optimizer.state[param])
    with pytest.raises(error, match=match):
        optimizer.step(closure)
    np.testing.assert_array_equal(param.data, point)


def test_hooks_see_what_is_loaded_before_it_is_checked():
    optimizer, _, closure = built(max_iter=4)
    optimizer.step(closure)
    saved = optimizer.state_dict()
    saved["state"][0]["d"] = None

    def repaired(_, state_dict):
        entry = state_dict["state"][0] | {"d": np.ones(10)}
        return state_dict | {"state": {0: entry}}

    with optimizer.register_load_state_dict_pre_hook(repaired):
        optimizer.load_state_dict(saved)
    optimizer.step(closure)


def test_a_smaller_history_forgets_the_oldest():
    optimizer, param, closure = built(max_iter=6)
    optimizer.step(closure)
    kept = optimizer.state[param]["old_stps"]
    assert len(kept) > 3
    optimizer.param_groups[0] |= {"history_size": 3, "max_iter": 1}
    optimizer.step(closure)
    assert [len(optimizer.state[param][name]) for name in ("old_dirs", "old_stps", "ro", "al")] == [3] * 4
    np.testing.assert_array_equal(optimizer.state[param]["old_stps"][0], kept[-2])


def cut(places, dtype=np.float64, size=10, others=()):
    """Return an optimizer of the same elements in several parameters, and its closure."""
    problem = quadratic(size, 50.0, 4)
    params = [optim.Parameter(array) for array in np.split(problem.start.astype(dtype), places)]
    for kind in others:
        # Another optimizer moves every second parameter to a buffer of its own.
        kind(params[::2])
    optimizer = optim.LBFGS(params, max_iter=8, line_search_fn="strong_wolfe")
    for kind in others:
        kind(params[1::2])

    def closure():
        x = np.concatenate([param.data.ravel() for param in params]).astype(float)
        for param, grad in zip(params, np.split(problem.grad(x).astype(dtype), places)):
            param.grad = grad
        return problem.loss(x)

    return optimizer, params, closure


@pytest.mark.parametrize("others", [(), (optim.SGD,)], ids=["together", "apart"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("places", [[1], [3, 3, 7], list(range(1, 10))], ids=str)
def test_cuts_into_parameters_change_no_bit(places, dtype, others):
    bits = []
    for cuts in ([], places):
        optimizer, params, closure = cut(cuts, dtype, others=others if cuts else ())
        for _ in range(3):
            optimizer.step(closure)
        state = optimizer.state_dict()["state"][0]
        bits.append((b"".join(param.data.tobytes() for param in params), plain(state)))
    assert bits[0] == bits[1]


def test_threads_change_no_bit():
    problem = quadratic(3, 10.0, 5)
    scale = np.linspace(1, 5, 300_000)
    start = np.random.default_rng(6).standard_normal(300_000)
    bits, threads = [], optim.get_num_threads()
    try:
        for count in (1, 2):
            optim.set_num_threads(count)
            param = optim.Parameter(start)

            def closure(param=param):
                param.grad = scale * param.data
                return float(problem.loss(param.data[:3]))

            optimizer = optim.LBFGS([param], max_iter=6, history_size=3)
            optimizer.step(closure)
            bits.append(plain(optimizer.state_dict()))
    finally:
        optim.set_num_threads(threads)
    assert all(found == bits[0] for found in bits)


def test_a_parameter_that_another_optimizer_moves_during_the_step_is_followed():
    first, second = optim.Parameter([1.0, 2.0]), optim.Parameter([3.0])
    optimizer = optim.LBFGS([first, second], max_iter=30)
    moved = []

    def closure():
        if not moved:
            moved.append(optim.SGD([second, optim.Parameter([0.0])]))
        first.grad, second.grad = 2 * first.data, 4 * second.data
        return float(np.sum(first.data**2) + 2 * np.sum(second.data**2))

    optimizer.step(closure)
    np.testing.assert_allclose(np.concatenate([first.data, second.data]), 0, **CLOSE["minimum"])
