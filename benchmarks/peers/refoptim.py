"""refoptim itself, with its default arithmetic and, in float32, with float64 arithmetic."""

from collections.abc import Callable
from functools import partial

import numpy as np
from algorithms import Algorithm

import refoptim as optim
from refoptim.buffers import Array

from . import Contender


def threads() -> int:
    """Return how many threads a step takes."""
    return optim.get_num_threads()


def contenders(algorithm: Algorithm, values: Array, grads: Array) -> dict[str, Callable[[], Contender]]:
    """Return who takes part, by name."""
    makers = {"refoptim": partial(make, algorithm, values, grads)}
    if values.dtype == np.float32:
        makers["refoptim float64"] = partial(make, algorithm, values, grads, arithmetic="float64")
    return makers


def make(algorithm: Algorithm, values: Array, grads: Array, **options: object) -> Contender:
    """Return an optimizer of these parameters, one for each row."""
    params = [optim.Parameter(row) for row in values]
    for param, grad in zip(params, grads, strict=True):
        param.grad = grad
    optimizer = getattr(optim, algorithm.name)(params, **algorithm.options, **options)
    return Contender(optimizer.step, lambda tensor, picks: params[tensor].data.reshape(-1)[picks])
