"""``fused`` and ``foreach`` choose the implementation, for every optimizer."""

import inspect

import numpy as np
import pytest

import refoptim as optim
from refoptim.conformance.subjects import as_sparse
from refoptim.conformance.tolerances import CLOSE

KINDS = {
    name: item
    for name, item in vars(optim).items()
    if isinstance(item, type) and issubclass(item, optim.Optimizer) and item is not optim.Optimizer
}
OPTIONS = {name: set(inspect.signature(kind).parameters) for name, kind in KINDS.items()}
# Those that search along a line have one way to compute.
NAMES = sorted(name for name in KINDS if "foreach" in OPTIONS[name])
# Their formulas are of one parameter, whatever is asked for.
ONE_BY_ONE = ("Adafactor", "Muon", "SparseAdam")


def run(name, monkeypatch, **options):
    """Return the parameter after some steps, and how often the formula was evaluated for them."""
    from refoptim import implementations

    evaluate, calls = implementations.evaluate, []
    monkeypatch.setattr(implementations, "evaluate", lambda *arguments: (calls.append(1), evaluate(*arguments)))
    rng = np.random.default_rng(0)
    shape = (3, 2) if name == "Muon" else (5,)
    params = [optim.Parameter(rng.standard_normal(shape)) for _ in range(3)]
    optimizer = KINDS[name](params, **options)
    for _ in range(4):
        grads = [rng.standard_normal(shape) for _ in params]
        optimizer.step(grads=map(as_sparse, grads) if name == "SparseAdam" else grads)
    return np.concatenate([param.data for param in params]), len(calls)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("options", "evaluations"),
    [
        ({}, 0),
        ({"fused": True}, 0),
        ({"fused": True, "foreach": False}, 0),
        ({"foreach": True}, 4),
        ({"foreach": True, "fused": False}, 4),
        ({"foreach": False}, 12),
        ({"fused": False}, 12),
        ({"foreach": False, "fused": False}, 12),
    ],
)
def test_the_choice(name, options, evaluations, monkeypatch):
    expected, _ = run(name, monkeypatch)
    found, calls = run(name, monkeypatch, **options)
    assert calls == (12 if evaluations and name in ONE_BY_ONE else evaluations)
    if evaluations:
        np.testing.assert_allclose(found, expected, **CLOSE["torch float64"])
    else:
        assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("name", "other"),
    [(name, other) for name in NAMES for other in ("foreach", "differentiable") if other in OPTIONS[name]],
)
def test_two_choices_at_once_are_refused(name, other):
    with pytest.raises(RuntimeError, match="fused"):
        KINDS[name]([optim.Parameter([[1.0]])], fused=True, **{other: True})


def test_there_are_optimizers():
    assert len(NAMES) >= 14
    assert sorted(KINDS.keys() - set(NAMES)) == ["CG", "LBFGS"]
