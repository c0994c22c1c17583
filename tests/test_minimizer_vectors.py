"""Vectors that LBFGS and CG write over, and passes that do several things: the bits are those of doing it apart."""

import numpy as np
import pytest

import refoptim as optim
from refoptim.kernels.pairs import CHUNK
from refoptim.minimizer import Minimizer
from refoptim.objective import Objective

OPTIMIZERS = {
    "lbfgs": (optim.LBFGS, {"line_search_fn": "strong_wolfe", "history_size": 3}),
    "lbfgs without a search": (optim.LBFGS, {"lr": 0.1, "history_size": 3}),
    "polak_ribiere": (optim.CG, {}),
    "hager_zhang": (optim.CG, {"method": "hager_zhang"}),
}
# Losses that searches go down on, do not get on with, and come back from: of two points the first is the lower one.
LANDSCAPES = {"smooth": 0.0, "rough": 0.3, "uphill": 10.0, "steep": 3e3}


def fresh(kind):
    """Return the optimizer that writes over nothing."""

    class Fresh(kind):
        def _direction(self, group, memory, grad, free):
            return super()._direction(group, memory, grad, False)

    return Fresh


def trajectory(kind, options, size, dtype, roughness):
    """Return parameters and state after each of some steps."""
    rng = np.random.default_rng(4)
    weights, noise = np.exp(rng.standard_normal(size)).astype(dtype), iter(rng.standard_normal(1_000))
    param = optim.Parameter(rng.standard_normal(size).astype(dtype))
    optimizer, found = kind([param], max_iter=7, tolerance_change=-1.0, **options), []

    def closure():
        param.grad = weights * np.tanh(param.data)
        wide = param.data.astype(np.float64)  # whose cosh may be too large
        return float(np.sum(weights * np.logaddexp(wide, -wide))) + roughness * abs(next(noise))

    for _ in range(4):
        optimizer.step(closure)
        found.append(param.data.tobytes())
        found += [
            [np.asarray(item).tobytes() for item in (value if isinstance(value, list) else [value]) if item is not None]
            for value in optimizer.state_dict()["state"][0].values()
        ]
    return found


@pytest.mark.parametrize("roughness", LANDSCAPES.values(), ids=LANDSCAPES)
@pytest.mark.parametrize(("size", "dtype"), [(5, np.float64), (CHUNK + 99, np.float32), (CHUNK + 99, np.float64)])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_is_written_over_is_free(name, size, dtype, roughness):
    kind, options = OPTIMIZERS[name]
    assert trajectory(kind, options, size, dtype, roughness) == trajectory(fresh(kind), options, size, dtype, roughness)


@pytest.mark.parametrize("roughness", LANDSCAPES.values(), ids=LANDSCAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_one_pass_for_several_things_does_them_all(name, dtype, roughness, monkeypatch):
    kind, options = OPTIMIZERS[name]
    found = trajectory(kind, options, CHUNK + 99, dtype, roughness)

    def leave(self, d, t):
        point = self.point()
        self.move(None, d, t)
        return point

    monkeypatch.setattr(Objective, "leave", leave)
    # Without products of the gradient, they are computed when a direction asks for them.
    monkeypatch.setattr(kind, "_measured", Minimizer._measured)
    assert trajectory(kind, options, CHUNK + 99, dtype, roughness) == found
