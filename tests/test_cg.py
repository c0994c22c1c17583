"""CG: evaluations beside SciPy's, minima, restarts, limits, state, and the same bits in any layout."""

import copy
import pickle
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest

import refoptim as optim
from refoptim.conformance.problems import PROBLEMS, Closure, quadratic
from refoptim.conformance.tolerances import CLOSE

ROOT = Path(__file__).parents[1]
_spec = spec_from_file_location("evaluations", ROOT / "benchmarks/evaluations.py")
evaluations = module_from_spec(_spec)
_spec.loader.exec_module(evaluations)
METHODS, REACHED, TOLERANCE = evaluations.METHODS, evaluations.REACHED, evaluations.TOLERANCE
HARD = PROBLEMS["rosenbrock-10"]


def built(problem=HARD, dtype=np.float64, **options):
    """Return an optimizer, its parameter and a closure that counts its calls."""
    param = optim.Parameter(problem.start.astype(dtype))
    return optim.CG([param], **options), param, Closure(problem, param)


@pytest.mark.parametrize("method", METHODS)
def test_scipy_needs_about_as_many_evaluations(method):
    """Most of what CG saves is saved in one valley, so all others are counted without it too."""
    ours = {name: evaluations.ours(name, method) for name in REACHED}
    scipys = {name: evaluations.scipys(name) for name in REACHED}
    assert len(REACHED) >= 10
    assert sum(ours.values()) <= sum(scipys.values())
    ordinary = [name for name in REACHED if name != "quadratic-1e4"]
    assert sum(ours[name] for name in ordinary) <= 1.3 * sum(scipys[name] for name in ordinary)
    assert np.exp(np.mean([np.log(ours[name] / scipys[name]) for name in ordinary])) <= 1.2


def test_the_counts_are_printed_as_they_are_documented(capsys):
    evaluations.main()
    printed = capsys.readouterr().out
    page = (ROOT / "docs/minimizers.md").read_text(encoding="utf-8")
    assert printed.splitlines()[:2] == [line for line in page.splitlines() if line.startswith("|")][:2]
    names = [line.split(" | ")[0] for line in printed.splitlines()]
    assert names == [line.split(" | ")[0] for line in page.splitlines() if line.startswith("|")]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", REACHED)
def test_steps_of_a_few_iterations_find_the_minimum_too(name, method):
    optimizer, param, closure = built(PROBLEMS[name], method=method, tolerance_change=0, tolerance_grad=TOLERANCE)
    losses = [PROBLEMS[name].loss(param.data)]
    for _ in range(200):
        optimizer.step(closure)
        losses.append(PROBLEMS[name].loss(param.data))
        if np.abs(PROBLEMS[name].grad(param.data)).max() <= TOLERANCE:
            break
    else:
        pytest.fail(f"the gradient is still {PROBLEMS[name].grad(param.data)}")
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize("method", METHODS)
def test_a_parabola_of_few_eigenvalues_takes_few_iterations(method):
    """Directions are conjugate as far as the searches are exact: three eigenvalues would take three iterations."""
    scale = np.repeat([1.0, 7.0, 20.0], 10)
    param = optim.Parameter(np.linspace(-1, 2, 30))
    optimizer = optim.CG([param], method=method, max_iter=100, max_eval=200, tolerance_change=0)

    def closure():
        param.grad = scale * param.data
        return 0.5 * np.sum(param.grad * param.data)

    optimizer.step(closure)
    np.testing.assert_allclose(param.data, 0, **CLOSE["minimum"])
    assert optimizer.state[param]["n_iter"] < 20


@pytest.mark.parametrize("max_eval", [0, 1, 2, 3, 9])
def test_a_step_never_evaluates_more_often_than_it_may(max_eval):
    optimizer, param, closure = built(max_eval=max_eval, max_iter=50)
    losses = [HARD.loss(param.data)]
    for _ in range(20):
        before = closure.calls
        optimizer.step(closure)
        assert 1 <= closure.calls - before <= max(1, max_eval)
        losses.append(HARD.loss(param.data))
    assert losses == sorted(losses, reverse=True)
    assert (losses[-1] < losses[0]) == (max_eval > 1)
    assert optimizer.state[param]["func_evals"] == closure.calls


@pytest.mark.parametrize("method", METHODS)
def test_a_gradient_that_has_nothing_to_do_with_the_last_one_starts_anew(method):
    """Other data in every step: no direction may climb."""
    rng = np.random.default_rng(8)
    param = optim.Parameter(rng.standard_normal(5))
    optimizer = optim.CG([param], method=method, max_iter=2, tolerance_change=0)
    for _ in range(30):
        problem = quadratic(5, 100.0, int(rng.integers(1000)))
        before = problem.loss(param.data)
        optimizer.step(Closure(problem, param))
        assert problem.loss(param.data) < before
        entry = optimizer.state[param]
        assert entry["prev_flat_grad"] @ entry["d"] < 0


@pytest.mark.parametrize("method", METHODS)
def test_a_gradient_that_stays_as_it_is_has_no_beta(method):
    param = optim.Parameter(np.zeros(3))
    optimizer = optim.CG([param], method=method, max_iter=4, max_eval=40, tolerance_change=0)

    def closure():
        param.grad = np.array([1.0, 2.0, 2.0])
        return float(param.grad @ param.data)

    optimizer.step(closure)
    assert np.isfinite(param.data).all()
    np.testing.assert_allclose(param.data / param.data[0], param.grad)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("steps", [0, 1, 3])
@pytest.mark.parametrize("way", ["state_dict", "deepcopy", "pickle"])
def test_a_copy_goes_on_with_the_same_bits(way, steps, method):
    optimizer, param, closure = built(max_iter=4, method=method)
    for _ in range(steps):
        optimizer.step(closure)
    if way == "state_dict":
        twin = optim.Parameter(param.data)
        other = optim.CG([twin])
        other.load_state_dict(pickle.loads(pickle.dumps(optimizer.state_dict())))
    else:
        other = copy.deepcopy(optimizer) if way == "deepcopy" else pickle.loads(pickle.dumps(optimizer))
        (twin,) = other.param_groups[0]["params"]
    for _ in range(3):
        assert optimizer.step(closure) == other.step(Closure(HARD, twin))
        assert param.data.tobytes() == twin.data.tobytes()
        assert optimizer.state[param]["d"].tobytes() == other.state[twin]["d"].tobytes()


def test_a_closure_that_raises_changes_nothing():
    optimizer, param, closure = built(max_iter=4)
    optimizer.step(closure)
    point, d, calls = param.data.copy(), optimizer.state[param]["d"].copy(), closure.calls

    def fails():
        if closure.calls == calls + 2:
            raise ZeroDivisionError
        return closure()

    with pytest.raises(ZeroDivisionError):
        optimizer.step(fails)
    np.testing.assert_array_equal(param.data, point)
    np.testing.assert_array_equal(optimizer.state[param]["d"], d)
    assert optimizer.state[param]["func_evals"] == calls


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("places", [[1], [3, 3, 7]], ids=str)
def test_cuts_into_parameters_change_no_bit(places, dtype):
    bits = []
    for cuts in ([], places):
        params = [optim.Parameter(array) for array in np.split(HARD.start.astype(dtype), cuts)]

        def closure(params=params, cuts=cuts):
            x = np.concatenate([param.data for param in params]).astype(float)
            for param, grad in zip(params, np.split(HARD.grad(x).astype(dtype), cuts)):
                param.grad = grad
            return HARD.loss(x)

        optimizer = optim.CG(params, max_iter=9)
        optimizer.step(closure)
        bits.append(b"".join(param.data.tobytes() for param in params) + optimizer.state[params[0]]["d"].tobytes())
    assert bits[0] == bits[1]


def test_complex_parameters_are_pairs():
    target = np.array([1 + 2j, -3j, 0.5])
    param = optim.Parameter(np.zeros(3, complex))
    pairs = optim.Parameter(np.zeros(6))
    optimizers = [optim.CG([param]), optim.CG([pairs])]

    def closure():
        param.grad = (param.data - target) * [1, 5, 20]
        return float(np.sum(np.abs(param.data - target) ** 2 * [1, 5, 20]) / 2)

    def of_pairs():
        distance = pairs.data.view(complex) - target
        pairs.grad = (distance * [1, 5, 20]).view(float)
        return float(np.sum(np.abs(distance) ** 2 * [1, 5, 20]) / 2)

    for optimizer, function in zip(optimizers, (closure, of_pairs)):
        optimizer.step(function)
    assert param.data.tobytes() == pairs.data.tobytes()
    np.testing.assert_allclose(param.data, target, **CLOSE["minimum"])


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"lr": -1}, ValueError, "Invalid learning rate: -1"),
        ({"method": "fletcher_reeves"}, ValueError, "use one of polak_ribiere, hager_zhang"),
        ({"line_search_fn": None}, RuntimeError, "CG needs line_search_fn='strong_wolfe'"),
        ({"line_search_fn": "armijo"}, RuntimeError, "only 'strong_wolfe' is supported"),
        ({"max_iter": 1.5}, TypeError, "integer"),
    ],
    ids=str,
)
def test_wrong_options_are_refused(options, error, match):
    with pytest.raises(error, match=match):
        optim.CG([optim.Parameter([1.0])], **options)
    optimizer, param, closure = built()
    optimizer.param_groups[0].update(options)
    with pytest.raises(error, match=match):
        optimizer.step(closure)
    np.testing.assert_array_equal(param.data, HARD.start)


def test_a_state_that_does_not_fit_is_refused():
    optimizer, _, closure = built()
    optimizer.step(closure)
    saved = optimizer.state_dict()
    saved["state"][0]["d"] = np.ones(3)
    with pytest.raises(ValueError, match="'d' has shape"):
        optimizer.load_state_dict(saved)


def test_the_learning_rate_is_how_far_searches_look_first():
    moved = []
    for lr in (1.0, 0.5):
        optimizer, param, closure = built(PROBLEMS["quartic-8"], lr=lr, max_iter=1, max_eval=2)
        optimizer.step(closure)
        moved.append(param.data - PROBLEMS["quartic-8"].start)
    np.testing.assert_allclose(moved[0], 2 * moved[1], **CLOSE["float64"])
