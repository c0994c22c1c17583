"""LBFGS's limits: iterations, evaluations, tolerances, losses, shapes, types and options."""

import math

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


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("max_eval", [0, 1, 2, 3, 7, 20])
def test_a_step_never_evaluates_more_often_than_it_may(max_eval, search):
    optimizer, param, closure = built(max_iter=50, max_eval=max_eval, line_search_fn=search)
    for step in range(1, 9):
        before = closure.calls
        optimizer.step(closure)
        assert 1 <= closure.calls - before <= max(1, max_eval)
        assert optimizer.state[param]["func_evals"] == closure.calls
        assert optimizer.state[param]["n_iter"] >= step


@pytest.mark.parametrize("max_eval", [1, 2, 3, 7])
def test_a_search_without_evaluations_left_takes_the_lowest_it_has(max_eval):
    optimizer, param, closure = built(max_eval=max_eval, max_iter=50, line_search_fn="strong_wolfe")
    losses = [HARD.loss(param.data)]
    for _ in range(20):
        optimizer.step(closure)
        losses.append(HARD.loss(param.data))
    assert losses == sorted(losses, reverse=True)
    # With one evaluation there is none for a search: nothing may move unseen.
    assert (losses[-1] < losses[0]) == (max_eval > 1)


def test_one_iteration_moves_by_default():
    optimizer, param, closure = built(max_iter=1, line_search_fn="strong_wolfe")
    optimizer.step(closure)
    assert closure.calls == 2
    assert HARD.loss(param.data) < HARD.loss(HARD.start)


@pytest.mark.parametrize("max_iter", [0, -3])
def test_without_iterations_nothing_moves(max_iter):
    optimizer, param, closure = built(max_iter=max_iter)
    assert optimizer.step(closure) == HARD.loss(HARD.start)
    np.testing.assert_array_equal(param.data, HARD.start)
    assert dict(optimizer.state[param]) == {"func_evals": 1, "n_iter": 0}


@pytest.mark.parametrize(
    ("options", "iterations"),
    [
        ({"tolerance_grad": 1e3}, 0),
        ({"tolerance_change": 1e9}, 1),
        ({"max_iter": 7}, 7),
        ({"max_iter": 30, "max_eval": 4}, 4 - 1),
        ({"tolerance_grad": 1e-3, "max_iter": 500, "max_eval": 900}, None),
    ],
    ids=str,
)
def test_where_a_step_ends(options, iterations):
    optimizer, param, closure = built(PROBLEMS["broyden-10"], **options)
    optimizer.step(closure)
    if iterations is not None:
        assert optimizer.state[param]["n_iter"] == iterations
    else:
        assert np.abs(param.grad).max() <= options["tolerance_grad"]
        assert optimizer.state[param]["n_iter"] < options["max_iter"]


@pytest.mark.parametrize("loss", [None, "1", np.ones(2), 1j, [1.0]], ids=repr)
def test_a_loss_is_a_number(loss):
    optimizer, param, closure = built()
    closure()

    with pytest.raises((TypeError, ValueError), match="closure's loss"):
        optimizer.step(lambda: loss)
    np.testing.assert_array_equal(param.data, HARD.start)
    assert len(optimizer.state) == 0


@pytest.mark.parametrize("loss", [3, np.float32(3), np.array(3.0), np.array([[3.0]])], ids=repr)
def test_the_first_loss_is_returned_as_it_is(loss):
    optimizer, _, closure = built()
    closure()
    assert optimizer.step(lambda: loss) is loss


@pytest.mark.parametrize(
    ("arguments", "named"), [((), {}), ((None,), {}), ((lambda: 1,), {"grads": [1]}), ((), {"grads": [1]})]
)
def test_a_closure_is_needed(arguments, named):
    optimizer, _, _ = built()
    with pytest.raises(TypeError, match=r"step\(closure\)"):
        optimizer.step(*arguments, **named)


def test_nan_goes_on_without_a_search_and_stays_out_with_one():
    for search in SEARCHES:
        optimizer, param, closure = built(max_iter=5, line_search_fn=search)

        def nowhere(param=param, closure=closure):
            closure()
            param.grad = np.full(10, math.nan)
            return math.nan

        optimizer.step(nowhere)
        assert (closure.calls, np.isnan(param.data).all()) == ((5, True) if search is None else (1, False))


def test_a_search_comes_back_from_where_the_loss_is_no_number():
    param = optim.Parameter([1e-3])
    optimizer = optim.LBFGS([param], lr=100.0, tolerance_change=0, line_search_fn="strong_wolfe")

    def closure():
        with np.errstate(all="ignore"):
            param.grad = 1 / 7 - 1 / param.data
            return param.data[0] / 7 - np.log(param.data[0])

    for _ in range(5):
        optimizer.step(closure)
    np.testing.assert_allclose(param.data, 7, **CLOSE["minimum"])


@pytest.mark.parametrize(
    "shapes", [[(0,)], [(0, 3), (0,)], [(2,), (0,), (3,)], [(), (1, 1)]], ids=["empty", "two", "some", "0-d"]
)
def test_parameters_of_any_shape(shapes):
    params = [optim.Parameter(np.ones(shape)) for shape in shapes]
    optimizer = optim.LBFGS(params)

    def closure():
        for param in params:
            param.grad = 2 * param.data
        return sum(float(np.sum(param.data**2)) for param in params)

    assert optimizer.step(closure) == sum(param.size for param in params)
    for param in params:
        np.testing.assert_allclose(param.data, 0, **CLOSE["minimum"])


def test_a_group_without_parameters_is_evaluated():
    optimizer = optim.LBFGS([{"params": []}])
    assert optimizer.step(lambda: 2.5) == 2.5
    assert len(optimizer.state) == 0


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"lr": -1}, ValueError, "Invalid learning rate: -1"),
        ({"lr": np.ones(2)}, ValueError, "Tensor lr must be 1-element"),
        ({"history_size": 0}, ValueError, "Invalid history_size: 0; it must be at least 1"),
        ({"history_size": 2.5}, TypeError, "integer"),
        ({"max_iter": 2.5}, TypeError, "integer"),
        ({"max_eval": "3"}, TypeError, "integer"),
        (
            {"line_search_fn": "armijo"},
            RuntimeError,
            "only 'strong_wolfe' is supported, but line_search_fn is 'armijo'",
        ),
        ({"arithmetic": "float16"}, ValueError, "Invalid arithmetic"),
    ],
    ids=str,
)
def test_wrong_options_are_refused_before_anything_moves(options, error, match):
    param = optim.Parameter([1.0])
    data = param.data
    with pytest.raises(error, match=match):
        optim.LBFGS([param], **options)
    assert param.data is data
    assert data.flags.writeable
    group = {name: value for name, value in options.items() if name != "arithmetic"}
    if group:
        with pytest.raises(error, match=match):
            optim.LBFGS([{"params": [param], **group}])
        optimizer, edited, closure = built()
        optimizer.param_groups[0].update(group)
        with pytest.raises(error, match=match):
            optimizer.step(closure)
        np.testing.assert_array_equal(edited.data, HARD.start)


def test_there_is_one_group():
    first, second = optim.Parameter([1.0]), optim.Parameter([1.0])
    with pytest.raises(ValueError, match="LBFGS doesn't support per-parameter options"):
        optim.LBFGS([{"params": [first]}, {"params": [second]}])
    optimizer = optim.LBFGS([first])
    with pytest.raises(ValueError, match="parameter groups"):
        optimizer.add_param_group({"params": [second]})
    assert len(optimizer.param_groups) == 1
    with pytest.raises(ValueError, match="differentiable"):
        optim.LBFGS([{"params": [second], "differentiable": True}])


def test_step_hooks_run_around_the_whole_step():
    optimizer, _, closure = built(max_iter=3)
    seen = []
    optimizer.register_step_pre_hook(lambda *_: seen.append(closure.calls))
    optimizer.register_step_post_hook(lambda *_: seen.append(closure.calls))
    optimizer.step(closure)
    assert seen == [0, 3]


def test_sparse_gradients_are_dense_ones():
    found = []
    for sparse in (False, True):
        param = optim.Parameter(np.arange(6.0).reshape(3, 2))

        def closure(param=param, sparse=sparse):
            grad = 2 * param.data
            grad[1] = 0
            param.grad = optim.SparseGrad([0, 2], grad[[0, 2]], (3, 2)) if sparse else grad
            return float(np.sum(param.data[[0, 2]] ** 2))

        optim.LBFGS([param]).step(closure)
        found.append(param.data.tobytes())
    assert found[0] == found[1]


def test_float32_may_be_computed_in_float64():
    problem = quadratic(10, 1e3, 7)
    found = {}
    for name, dtype, arithmetic in (("float32", "f4", None), ("wide", "f4", "float64"), ("float64", "f8", None)):
        optimizer, param, closure = built(problem, np.dtype(dtype), max_iter=12, arithmetic=arithmetic)
        optimizer.step(closure)
        found[name] = param.data
        kind = np.float32 if name == "float32" else np.float64
        assert optimizer.state[param]["d"].dtype == optimizer.state[param]["old_dirs"][0].dtype == kind
    assert found["wide"].dtype == np.float32


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_minimum_is_found(name):
    problem = PROBLEMS[name]
    optimizer, param, closure = built(
        problem, max_iter=3000, max_eval=6000, tolerance_change=0, tolerance_grad=1e-5, line_search_fn="strong_wolfe"
    )
    optimizer.step(closure)
    # Where the loss is known to 1e-16, the gradient of a steep valley is known to much less.
    assert np.abs(problem.grad(param.data)).max() <= 1e-5 * (100 if name in ("quadratic-1e6", "quadratic-1e8") else 1)
