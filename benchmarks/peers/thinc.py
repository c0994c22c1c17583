"""thinc's optimizer. Its Adam computes in float32 only, in C and BLAS, with one thread."""

from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import thinc.optimizers
from algorithms import Algorithm

from refoptim.buffers import Array

from . import Contender

# Neither clipping nor averages: nobody else computes them here.
_PLAIN: dict[str, Any] = {"grad_clip": 0.0, "use_averages": False}
OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "Adam": partial(thinc.optimizers.Adam, 1e-3, **_PLAIN),
    "AdamW": partial(thinc.optimizers.Adam, 1e-3, L2=1e-2, **_PLAIN),
    "SGD": partial(thinc.optimizers.SGD, 1e-3, **_PLAIN),
}


def threads() -> int:
    """Return how many threads a step takes."""
    return 1


def contenders(algorithm: Algorithm, values: Array, grads: Array) -> dict[str, Callable[[], Contender]]:
    """Return who takes part, by name."""
    if algorithm.name not in OPTIMIZERS or algorithm.options or values.dtype != np.float32:
        return {}
    return {"thinc": partial(make, algorithm, values, grads)}


def make(algorithm: Algorithm, values: Array, grads: Array) -> Contender:
    """Return an optimizer of these parameters, one for each row."""
    optimizer = OPTIMIZERS[algorithm.name]()
    keys = [(i, "W") for i in range(len(values))]
    params, gradients, calls = values.copy(), grads.copy(), count()

    def step() -> None:
        # A step leaves zeros in the gradient. Some hundred steps with zeros would end in subnormal numbers, which take
        # long; a copy in each step would be timed. The first two steps are compared with the others'.
        if next(calls) % 100 < 2:
            np.copyto(gradients, grads)
        for key, param, gradient in zip(keys, params, gradients, strict=True):
            optimizer(key, param, gradient)

    return Contender(step, lambda tensor, picks: params[tensor][picks])
