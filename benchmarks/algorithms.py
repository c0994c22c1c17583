"""Which optimizers are timed, and the least that a step of each must move: so many arrays read, all but one written."""

from collections.abc import Callable
from inspect import signature
from typing import Any, NamedTuple

import numpy as np
from movers import move
from numpy.typing import DTypeLike

from refoptim.buffers import aligned_zeros


class Algorithm(NamedTuple):
    """An optimizer of both libraries, and how many arrays a step reads: it writes all but the gradient."""

    name: str
    options: dict[str, Any]
    arrays: int


ALGORITHMS = {
    "Adam": Algorithm("Adam", {}, 4),
    "AdamW": Algorithm("AdamW", {}, 4),
    "SGD": Algorithm("SGD", {}, 2),
    "SGD momentum": Algorithm("SGD", {"momentum": 0.9}, 3),
    "Adadelta": Algorithm("Adadelta", {}, 4),
    "Adagrad": Algorithm("Adagrad", {}, 3),
    "Adamax": Algorithm("Adamax", {}, 4),
    "ASGD": Algorithm("ASGD", {}, 3),
    "NAdam": Algorithm("NAdam", {}, 4),
    "RAdam": Algorithm("RAdam", {}, 4),
    "RMSprop": Algorithm("RMSprop", {}, 3),
    "Rprop": Algorithm("Rprop", {}, 4),
}

# These step whole matrices. They must move at least this much; Muon's products take far longer.
MATRIX_ALGORITHMS = {
    "Adafactor": Algorithm("Adafactor", {}, 2),
    "Muon": Algorithm("Muon", {}, 3),
}

TORCH = {
    "torch for-loop": {"foreach": False, "fused": False},
    "torch foreach": {"foreach": True, "fused": False},
    "torch fused": {"foreach": False, "fused": True},
}


def mover(algorithm: Algorithm, size: int, dtype: DTypeLike = np.float32) -> Callable[[], Any]:
    """Return a call that moves the bytes of a step of this many elements, and computes next to nothing."""
    arrays = [aligned_zeros(size, dtype) for _ in range(algorithm.arrays)]
    for array in arrays:
        array[:] = 1
    return lambda: move(*arrays)


def has(kind: Any, option: str) -> bool:
    """Return whether an optimizer's class of torch has this implementation."""
    return option in signature(kind.__init__).parameters
