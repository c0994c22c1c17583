"""``fused`` and ``foreach`` choose the implementation, for every optimizer."""

import numpy as np
import pytest

import refoptim as optim
from refoptim.conformance.tolerances import CLOSE

NAMES = sorted(
    name
    for name, item in vars(optim).items()
    if isinstance(item, type) and issubclass(item, optim.Optimizer) and item is not optim.Optimizer
)


def run(name, monkeypatch, **options):
    """Return the parameter after some steps, and how often the formula was evaluated for them."""
    from refoptim import implementations

    evaluate, calls = implementations._evaluate, []
    monkeypatch.setattr(implementations, "_evaluate", lambda *arguments: (calls.append(1), evaluate(*arguments)))
    rng = np.random.default_rng(0)
    params = [optim.Parameter(rng.standard_normal(5)) for _ in range(3)]
    optimizer = getattr(optim, name)(params, **options)
    for _ in range(4):
        optimizer.step(grads=[rng.standard_normal(5) for _ in params])
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
    assert calls == evaluations
    if evaluations:
        np.testing.assert_allclose(found, expected, **CLOSE["torch float64"])
    else:
        assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("other", ["foreach", "differentiable"])
def test_two_choices_at_once_are_refused(name, other):
    with pytest.raises(RuntimeError, match="fused"):
        getattr(optim, name)([optim.Parameter([1.0])], fused=True, **{other: True})


def test_there_are_optimizers():
    assert len(NAMES) >= 11
