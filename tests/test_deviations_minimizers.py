"""Rows of docs/deviations.md: where LBFGS differs from torch's. Each test is named for its row."""

import numpy as np
import pytest

import refoptim as optim
from refoptim.conformance.problems import PROBLEMS

torch = pytest.importorskip("torch", reason="torch, whose numbers these are, is not installed")


class Run:
    """LBFGS of one library on a loss and its gradient, both functions of a NumPy array."""

    def __init__(self, library, start, loss, grad, **options):
        self.start, self.loss, self.grad, self.calls = np.asarray(start), loss, grad, 0
        self.is_ours = library is optim
        self.param = optim.Parameter(self.start) if self.is_ours else torch.nn.Parameter(torch.tensor(self.start))
        self.optimizer = library.LBFGS([self.param], **options)

    @property
    def point(self):
        return (self.param.data if self.is_ours else self.param.detach().numpy()).copy()

    def closure(self):
        self.calls += 1
        with np.errstate(all="ignore"):
            loss, grad = self.loss(self.point), self.grad(self.point)
        self.param.grad = grad if self.is_ours else torch.tensor(grad)
        return loss if self.is_ours else float(loss)

    def step(self):
        self.optimizer.step(self.closure)


def both(start, loss, grad, **options):
    return [Run(library, start, loss, grad, **options) for library in (optim, torch.optim)]


@pytest.mark.parametrize(("max_eval", "theirs"), [(1, 2), (3, 3), (25, 26)])
def test_a_search_does_not_evaluate_once_more(max_eval, theirs):
    """`max_eval` of LBFGS with a search: 26 evaluations of 25, and 2 of 1."""
    runs = both(*PROBLEMS["rosenbrock-4"], max_eval=max_eval, line_search_fn="strong_wolfe")
    for run in runs:
        run.step()
    assert [run.calls for run in runs] == [max_eval, theirs]
    assert (runs[0].point != runs[0].start).any() == (max_eval > 1)
    assert [run.optimizer.param_groups[0]["max_eval"] for run in both(*PROBLEMS["booth"], max_iter=1)] == [2, 1]


def test_a_history_has_room_for_a_pair():
    """`history_size=0` of LBFGS: an error now, or in the step."""
    with pytest.raises(ValueError, match="Invalid history_size: 0"):
        optim.LBFGS([optim.Parameter([1.0])], history_size=0)
    run = Run(torch.optim, *PROBLEMS["booth"], history_size=0)
    with pytest.raises(IndexError):
        run.step()


def test_parameters_without_elements_are_at_their_minimum():
    """LBFGS of parameters without elements."""
    ours, theirs = both(np.zeros(0), lambda _: 1.5, lambda x: x)
    ours.step()
    assert ours.optimizer.state[ours.param]["func_evals"] == 1
    with pytest.raises(RuntimeError, match="max"):
        theirs.step()


def test_another_search_is_refused_at_once():
    """`line_search_fn` of LBFGS, another name: an error now, or in the step."""
    with pytest.raises(RuntimeError, match="only 'strong_wolfe' is supported"):
        optim.LBFGS([optim.Parameter([1.0])], line_search_fn="armijo")
    run = Run(torch.optim, *PROBLEMS["booth"], line_search_fn="armijo")
    with pytest.raises(RuntimeError, match="only 'strong_wolfe' is supported"):
        run.step()


def test_a_closure_that_raises_leaves_no_trace():
    """LBFGS, a closure that raises: torch stays at the point that was tried."""
    kept = []
    for run in both(*PROBLEMS["booth"], line_search_fn="strong_wolfe"):

        def fails(run=run):
            if run.calls == 1:
                raise ZeroDivisionError
            return run.closure()

        with pytest.raises(ZeroDivisionError):
            run.optimizer.step(fails)
        kept.append((np.array_equal(run.point, run.start), len(run.optimizer.state[run.param])))
    assert kept == [(True, 0), (False, 2)]


def test_a_search_comes_back_from_where_there_is_no_number():
    """LBFGS, a search that meets no number: x / 7 - log(x), where a long step leaves the positive numbers."""
    runs = both(
        [1e-3],
        lambda x: float(x[0] / 7 - np.log(x[0])),
        lambda x: 1 / 7 - 1 / x,
        lr=100.0,
        line_search_fn="strong_wolfe",
    )
    for run in runs:
        for _ in range(3):
            run.step()
    assert abs(runs[0].point[0] - 7) < 1e-3
    assert not runs[1].point[0] > 0


def test_a_second_group_is_refused_at_once():
    """A second group for LBFGS: an error when it is added, or in the step."""
    ours, theirs = both(*PROBLEMS["booth"])
    with pytest.raises(ValueError, match="parameter groups"):
        ours.optimizer.add_param_group({"params": [optim.Parameter([1.0])]})
    ours.step()
    theirs.optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))]})
    with pytest.raises(AssertionError):
        theirs.step()


def test_complex_parameters_are_pairs():
    """LBFGS, complex parameters: |z - 1 - 2i|**2."""
    target = np.array([1 + 2j])
    for run in both(np.array([0j]), lambda z: float(np.abs(z - target)[0] ** 2), lambda z: 2 * (z - target)):
        run.step()
        assert abs(run.point[0] - target[0]) < 1e-7


def test_a_history_is_of_pairs():
    """LBFGS, memory: two vectors for each of history_size, and two more."""
    for run in both(*PROBLEMS["broyden-30"], max_iter=12, history_size=5):
        run.step()
        entry = run.optimizer.state[run.param]
        vectors = [*entry["old_dirs"], *entry["old_stps"], entry["d"], entry["prev_flat_grad"]]
        assert sum(len(vector) for vector in vectors) == 12 * 30


def test_the_default_of_max_eval_is_whole():
    """LBFGS, the default of `max_eval`: 6 * 1.25 is 7."""
    for run in both(*PROBLEMS["booth"], max_iter=6):
        assert run.optimizer.param_groups[0]["max_eval"] == 7
