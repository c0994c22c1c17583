"""The optimizers inside scikit-learn's MLPClassifier. They are not public, and NumPy computes them with one thread."""

from collections.abc import Callable
from functools import partial
from typing import Any

from algorithms import Algorithm
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer

from refoptim.buffers import Array

from . import Contender


def threads() -> int:
    """Return how many threads a step takes."""
    return 1


def contenders(algorithm: Algorithm, values: Array, grads: Array) -> dict[str, Callable[[], Contender]]:
    """Return who takes part, by name."""
    if algorithm.name not in ("Adam", "SGD"):
        return {}
    return {"scikit-learn": partial(make, algorithm, values, grads)}


def make(algorithm: Algorithm, values: Array, grads: Array) -> Contender:
    """Return an optimizer of these parameters, one for each row."""
    params, gradients = list(values.copy()), list(grads.copy())
    optimizer: Any = AdamOptimizer(params, 1e-3)
    if algorithm.name == "SGD":
        optimizer = SGDOptimizer(params, 1e-3, momentum=algorithm.options.get("momentum", 0.0), nesterov=False)
    return Contender(
        lambda: optimizer.update_params(params, gradients), lambda tensor, picks: params[tensor].reshape(-1)[picks]
    )
