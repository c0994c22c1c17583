"""L-BFGS and CG: where they go, how often they evaluate and what they keep, the same to the bit on both devices."""

import numpy as np
import pytest
from numba.core import config

import refoptim as optim
from refoptim import devices

# A sum takes the simulator a seventh of a second: 256 threads that meet nine times.
ITERATIONS = 3 if config.ENABLE_CUDASIM else 15
CASES = {
    "lbfgs": (optim.LBFGS, {"lr": 0.5}),
    "lbfgs-wolfe": (optim.LBFGS, {"history_size": 2, "line_search_fn": "strong_wolfe"}),
    "cg": (optim.CG, {}),
    "cg-hager-zhang": (optim.CG, {"method": "hager_zhang"}),
}
PRECISIONS = {"float32": (np.float32, None), "float64": (np.float64, None), "wide": (np.float32, "float64")}


def valley(theta, scale):
    """Return the value and the gradient of a curved valley, computed on the host for both devices."""
    theta = theta.astype(np.float64)
    away = theta[1:] - theta[:-1] ** 2
    grad = 2 * scale * (theta - 0.5)
    grad[1:] += 2 * away
    grad[:-1] -= 4 * theta[:-1] * away
    return float((away**2).sum() + (scale * (theta - 0.5) ** 2).sum()), grad


class Problem:
    """An optimizer of two parameters on a device, and its closure."""

    def __init__(self, name, precision, device, size):
        kind, options = CASES[name]
        dtype, arithmetic = PRECISIONS[precision]
        rng = np.random.default_rng(2)
        self.scale = 2.0 ** rng.uniform(-3, 3, size)
        start = rng.standard_normal(size).astype(dtype)
        self.params = [optim.Parameter(part, device=device) for part in np.split(start, [size // 3])]
        self.optimizer = kind(self.params, **options, max_iter=ITERATIONS, arithmetic=arithmetic)
        self.losses = []

    def closure(self):
        theta = np.concatenate([devices.to_host(param.data) for param in self.params])
        loss, grad = valley(theta, self.scale)
        grads = np.split(grad.astype(theta.dtype), [self.params[0].size])
        for param, part in zip(self.params, grads, strict=True):
            param.grad = optim.Parameter(part, device=param.device).data
        self.losses.append(loss)
        return loss


@pytest.mark.parametrize(
    ("name", "precision"),
    [(name, kind) for name in CASES for kind in PRECISIONS if kind == "float32" or not config.ENABLE_CUDASIM],
)
def test_no_bit_differs(name, precision, sized, differences):
    cpu, gpu = (Problem(name, precision, device, sized(100_003, 61)) for device in ("cpu", "cuda"))
    for problem in (cpu, gpu):
        for _ in range(sized(3, 1)):
            problem.optimizer.step(problem.closure)
    assert gpu.params[0].device == "cuda:0"
    assert len(cpu.losses) >= ITERATIONS
    assert cpu.losses == gpu.losses
    assert cpu.losses[-1] < cpu.losses[0]
    assert differences(cpu.optimizer, gpu.optimizer) == {}
