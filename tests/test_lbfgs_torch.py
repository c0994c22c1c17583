"""LBFGS beside torch in float64: iterates, counts and the ends of steps; states that go on in the other library."""

import inspect

import numpy as np
import pytest

import refoptim as optim
from refoptim.conformance.problems import PROBLEMS
from refoptim.conformance.tolerances import CLOSE

torch = pytest.importorskip("torch", reason="torch, which LBFGS is compared with, is not installed")

SEARCHES = [None, "strong_wolfe"]
STEPS = 10
# Where torch's own iterates part when gradients are taken 16 ulp beside the point, fewer iterations are compared.
ITERATIONS = {
    ("rosenbrock-4", None): 4,
    ("rosenbrock-10", None): 3,
    ("rosenbrock-10", "strong_wolfe"): 4,
    ("wood", "strong_wolfe"): 3,
    ("quadratic-1e8", None): 3,
    ("quadratic-1e8", "strong_wolfe"): 2,
}


class Both:
    """One optimizer of each library on the same problem; each is asked for its numbers after every step."""

    def __init__(self, arrays, loss, grads, **options):
        self.ours = [optim.Parameter(array) for array in arrays]
        self.theirs = [torch.nn.Parameter(torch.tensor(array)) for array in arrays]
        self.left = optim.LBFGS(self.ours, **options)
        self.right = torch.optim.LBFGS(self.theirs, **options)
        self.loss, self.grads = loss, grads

    def our_closure(self):
        values = [param.data for param in self.ours]
        for param, grad in zip(self.ours, self.grads(*values)):
            param.grad = grad
        return self.loss(*values)

    def their_closure(self):
        values = [param.detach().numpy() for param in self.theirs]
        for param, grad in zip(self.theirs, self.grads(*values)):
            param.grad = None if grad is None else torch.tensor(np.asarray(grad))
        return float(self.loss(*values))

    def step(self):
        """Take a step in both, and check that they agree."""
        assert float(self.left.step(self.our_closure)) == pytest.approx(self.right.step(self.their_closure), **APPROX)
        left, right = self.left.state[self.ours[0]], self.right.state[self.theirs[0]]
        assert {name: left[name] for name in ("func_evals", "n_iter")} == {
            name: right[name] for name in ("func_evals", "n_iter")
        }
        for ours, theirs in zip(self.ours, self.theirs):
            np.testing.assert_allclose(ours.data, theirs.detach().numpy(), **CLOSE["torch minimizer"])


APPROX = {"rel": CLOSE["torch minimizer"]["rtol"], "abs": CLOSE["torch minimizer"]["atol"]}


def on(problem, **options):
    return Both([problem.start], problem.loss, lambda x: [problem.grad(x)], **options)


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("name", PROBLEMS)
def test_ten_steps_agree(name, search):
    # max_eval has no part in it: torch's searches take one evaluation more.
    both = on(PROBLEMS[name], max_iter=ITERATIONS.get((name, search), 20), max_eval=1000, line_search_fn=search)
    for _ in range(STEPS):
        both.step()


@pytest.mark.parametrize(("name", "search"), ITERATIONS)
def test_what_is_compared_for_fewer_iterations_amplifies_the_last_bits_in_torch_too(name, search):
    problem, found = PROBLEMS[name], []
    for grad in (problem.grad, lambda x: problem.grad(x + 16 * np.spacing(x))):
        iterates = []
        for max_iter in (4, 20):
            both = on(problem._replace(grad=grad), max_iter=max_iter, max_eval=1000, line_search_fn=search)
            for _ in range(STEPS):
                both.right.step(both.their_closure)
                iterates.append(both.theirs[0].detach().numpy().copy())
        found.append(iterates)
    with pytest.raises(AssertionError, match="Mismatch"):
        np.testing.assert_allclose(*found, **CLOSE["torch minimizer"])


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize(
    "options",
    [
        {"lr": 0.1},
        {"lr": 0.0, "max_iter": 3},
        {"max_iter": 1},
        {"max_iter": 0},
        {"max_iter": -1},
        {"max_iter": 4, "max_eval": 3},
        {"max_iter": 4, "max_eval": 4},
        {"history_size": 1},
        {"history_size": 3},
        {"tolerance_grad": 0.3},
        {"tolerance_grad": 1e3},
        {"tolerance_change": 0.1},
        {"tolerance_change": 1e3},
        {"tolerance_grad": 0.0, "tolerance_change": 0.0},
    ],
    ids=str,
)
def test_options_agree(options, search):
    both = on(PROBLEMS["broyden-10"], **{"max_iter": 6, "max_eval": 100, "line_search_fn": search} | options)
    for _ in range(6):
        if search and both.right.param_groups[0]["lr"] == 0:
            break  # a search that begins at 0 divides by 0 in torch
        both.step()


@pytest.mark.parametrize("search", SEARCHES)
def test_the_defaults_agree(search):
    both = on(PROBLEMS["broyden-30"], line_search_fn=search)
    for _ in range(STEPS):
        both.step()


def test_the_signature_is_torchs():
    ours, theirs = (inspect.signature(module.LBFGS).parameters for module in (optim, torch.optim))
    assert [*ours][: len(theirs)] == [*theirs]
    assert all(ours[name].default == theirs[name].default for name in theirs)
    both = on(PROBLEMS["booth"])
    left, right = both.left.state_dict()["param_groups"], both.right.state_dict()["param_groups"]
    assert left == right
    assert list(left[0]) == list(right[0])


MATRIX = np.random.default_rng(1).standard_normal((6, 4))


def complex_problem():
    rng = np.random.default_rng(2)
    target = MATRIX @ (rng.standard_normal(4) + 1j * rng.standard_normal(4)) + rng.standard_normal(6)
    start = rng.standard_normal(4) + 1j * rng.standard_normal(4)
    return (
        [start],
        lambda z: np.sum(np.abs(MATRIX @ z - target) ** 2 + np.abs(MATRIX @ z) ** 4),
        lambda z: [2 * MATRIX.T @ (MATRIX @ z - target) + 4 * MATRIX.T @ (np.abs(MATRIX @ z) ** 2 * (MATRIX @ z))],
    )


def several(dtypes=(np.float64, np.float64, np.float64), none=(), sparse=False):
    """Return a problem of three parameters: a scalar, a matrix and a vector."""
    rng = np.random.default_rng(3)
    arrays = [np.asarray(rng.standard_normal(shape), dtype) for shape, dtype in zip([(), (2, 3), (4,)], dtypes)]

    def loss(a, b, c):
        return float((a - 1) ** 2 * 10 + np.sum((b * a - 2) ** 2) + np.sum((c - a) ** 4))

    def grads(a, b, c):
        found = [
            20 * (a - 1) + 2 * np.sum((b * a - 2) * b) - 4 * np.sum((c - a) ** 3),
            2 * (b * a - 2) * a,
            4 * (c - a) ** 3,
        ]
        return [
            None if place in none else np.asarray(grad, dtype) for place, (grad, dtype) in enumerate(zip(found, dtypes))
        ]

    return arrays, loss, grads


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize(
    "problem",
    [
        complex_problem(),
        several(),
        several(none=(1,)),
        several(none=(0, 1, 2)),
        several((np.float64, np.float32, np.float64)),
        several((np.float32, np.float64, np.float32), none=(0,)),
    ],
    ids=["complex", "several", "one without gradient", "none has a gradient", "mixed", "mixed, one without gradient"],
)
def test_all_parameters_are_one_vector(problem, search):
    mixed = len({array.dtype for array in problem[0]}) > 1
    both = Both(
        *problem, lr=0.1 if search is None else 1, max_iter=2 if mixed else 8, max_eval=99, line_search_fn=search
    )
    for _ in range(2 if mixed else 5):
        both.step()


@pytest.mark.parametrize("search", SEARCHES)
def test_float32_agrees_roughly(search):
    start = PROBLEMS["broyden-10"].start.astype(np.float32)
    problem = PROBLEMS["broyden-10"]._replace(start=start)
    both = Both(
        [start], problem.loss, lambda x: [problem.grad(x.astype(float)).astype(np.float32)], line_search_fn=search
    )
    for _ in range(5):
        both.left.step(both.our_closure)
        both.right.step(both.their_closure)
        np.testing.assert_allclose(
            both.ours[0].data, both.theirs[0].detach().numpy(), **CLOSE["torch minimizer float32"]
        )


def to_arrays(saved):
    """Return a state_dict of torch's with its tensors turned to arrays."""
    if isinstance(saved, dict):
        return {name: to_arrays(value) for name, value in saved.items()}
    if isinstance(saved, list):
        return [to_arrays(value) for value in saved]
    return saved.numpy() if torch.is_tensor(saved) else saved


def to_tensors(saved):
    """Return a state_dict of ours with its arrays turned to tensors."""
    if isinstance(saved, dict):
        return {name: to_tensors(value) for name, value in saved.items()}
    if isinstance(saved, list):
        return [to_tensors(value) for value in saved]
    return torch.tensor(saved) if isinstance(saved, np.ndarray) else saved


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("steps", [0, 1, 2])
@pytest.mark.parametrize("way", ["to ours", "to torch"])
def test_states_go_on_in_the_other_library(way, steps, search):
    options = {"max_iter": 4, "max_eval": 100, "line_search_fn": search}
    first, second = on(PROBLEMS["trigonometric-5"], **options), on(PROBLEMS["trigonometric-5"], **options)
    for _ in range(steps):
        first.step()
    if way == "to ours":
        second.left.load_state_dict(to_arrays(first.right.state_dict()))
        second.right.load_state_dict(first.right.state_dict())
    else:
        second.left.load_state_dict(first.left.state_dict())
        second.right.load_state_dict(to_tensors(first.left.state_dict()))
    second.ours[0].data = first.ours[0].data
    with torch.no_grad():
        second.theirs[0].copy_(torch.tensor(first.ours[0].data))
    for _ in range(3):
        second.step()


@pytest.mark.parametrize("search", SEARCHES)
def test_states_have_torchs_layout(search):
    both = on(PROBLEMS["broyden-10"], max_iter=4, history_size=3, line_search_fn=search)
    both.step()
    left, right = both.left.state_dict()["state"][0], to_arrays(both.right.state_dict())["state"][0]
    assert set(left) == set(right)
    for name, value in right.items():
        if isinstance(value, list):
            assert len(left[name]) == len(value)
        else:
            assert np.shape(left[name]) == np.shape(value)


@pytest.mark.parametrize(
    "options", [{"lr": -1}, {"lr": float("nan")}, {"lr": [0.1, 0.2]}, {"groups": 2}, {"lr": "1"}], ids=str
)
def test_what_torch_refuses_is_refused_alike(options):
    errors = []
    for module, make, array in (
        (optim, lambda: optim.Parameter(np.ones(2)), np.array),
        (torch.optim, lambda: torch.nn.Parameter(torch.ones(2)), torch.tensor),
    ):
        given = {name: array(value) if isinstance(value, list) else value for name, value in options.items()}
        params = [{"params": [make()]} for _ in range(given.pop("groups", 1))]
        with pytest.raises((ValueError, TypeError)) as error:
            module.LBFGS(params, **given)
        errors.append((error.type, str(error.value)))
    assert errors[0] == errors[1]
