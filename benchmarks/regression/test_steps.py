"""A few steps, timed by pytest-benchmark: is anything slower than in the run that was saved?

``make bench-save`` before a change and ``make bench-regression`` after it, on the same quiet machine. ``make test``
does not come here.
"""

import numpy as np
import pytest

import refoptim as optim

pytest.importorskip("pytest_benchmark", reason="pytest-benchmark, extra bench, is not installed")

TYPES = ["float32", "float64"]
# Optimizers, tensors and elements of each: what Python takes, what threads take, what memory takes.
STEPS = [
    *((name, 1, 1_000) for name in ("Adam", "AdamW", "SGD", "Rprop", "Adafactor", "Muon")),
    ("Adam", 100, 1_000),
    ("Adam", 1, 100_000),
    ("Adafactor", 1, 1_000_000),
    *((name, 1, 10_000_000) for name in ("Adam", "SGD", "NAdam", "RMSprop")),
]


def optimizer_of(name, tensors, elements, dtype, **options):
    """Return an optimizer whose parameters have gradients; the first step, which compiles, is behind it."""
    side = int(elements**0.5)
    shape = (side, side) if name in ("Adafactor", "Muon") else (elements,)
    params = [optim.Parameter(np.ones(shape, dtype)) for _ in range(tensors)]
    grads = np.random.default_rng(0).standard_normal((tensors, *shape))
    for param, grad in zip(params, grads, strict=True):
        param.grad = grad.astype(dtype)
    optimizer = getattr(optim, name)(params, **options)
    optimizer.step()
    return optimizer


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("name", "tensors", "elements"), STEPS)
def test_step(benchmark, name, tensors, elements, dtype):
    benchmark(optimizer_of(name, tensors, elements, dtype).step)


@pytest.mark.parametrize("elements", [1_000, 10_000_000])
def test_float64_arithmetic(benchmark, elements):
    benchmark(optimizer_of("Adam", 1, elements, "float32", arithmetic="float64").step)


def test_state_dict_of_many_tensors(benchmark):
    benchmark(optimizer_of("Adam", 100, 1_000, "float32").state_dict)


@pytest.mark.parametrize("name", ["CosineAnnealingLR", "OneCycleLR"])
def test_scheduler(benchmark, name):
    optimizer = optimizer_of("SGD", 1, 1, "float32")
    make = {
        "CosineAnnealingLR": lambda: optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=1_000),
        "OneCycleLR": lambda: optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=10**9),
    }
    scheduler = make[name]()
    optimizer.step()
    benchmark(scheduler.step)
