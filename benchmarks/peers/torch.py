"""torch's implementations: for-loop, foreach and, where it has one for a CPU, fused."""

from collections.abc import Callable
from functools import partial

import torch
from algorithms import TORCH, Algorithm, has

from refoptim.buffers import Array

from . import Contender


def threads() -> int:
    """Return how many threads a step takes."""
    return torch.get_num_threads()


def contenders(algorithm: Algorithm, values: Array, grads: Array) -> dict[str, Callable[[], Contender]]:
    """Return who takes part, by name."""
    kind = getattr(torch.optim, algorithm.name)
    return {
        name: partial(make, algorithm, values, grads, implementation)
        for name, implementation in TORCH.items()
        if all(has(kind, option) for option, wanted in implementation.items() if wanted)
    }


def make(algorithm: Algorithm, values: Array, grads: Array, implementation: dict[str, bool]) -> Contender:
    """Return an optimizer of these parameters, one for each row."""
    kind = getattr(torch.optim, algorithm.name)
    known = {name: value for name, value in implementation.items() if has(kind, name)}
    params = [torch.nn.Parameter(torch.tensor(row)) for row in values]
    for param, grad in zip(params, grads, strict=True):
        param.grad = torch.tensor(grad)
    optimizer = kind(params, **algorithm.options, **known)

    def look(tensor: int, picks: Array) -> Array:
        return params[tensor].detach().numpy().reshape(-1)[picks]

    return Contender(optimizer.step, look)
