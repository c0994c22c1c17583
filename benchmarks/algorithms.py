"""Which optimizers are timed, and the least that a step of each must move: so many arrays read, all but one written."""

from collections.abc import Callable
from inspect import signature
from typing import Any, NamedTuple

import numpy as np
from numba import njit, prange
from numpy.typing import DTypeLike

from refoptim.buffers import Array, aligned_zeros

# Below this, waking the other threads takes longer than the work: one thread moves it.
SERIAL_BELOW = 65_536


@njit(parallel=True, nogil=True, error_model="numpy")
def move_2_1(a: Array, b: Array, scale: np.float32) -> None:
    """Read two arrays and write one, as a step of SGD does."""
    for i in prange(a.size):
        a[i] = (a[i] + b[i]) * scale


@njit(parallel=True, nogil=True, error_model="numpy")
def move_3_2(a: Array, b: Array, c: Array, scale: np.float32) -> None:
    """Read three arrays and write two, as a step of SGD with momentum does."""
    for i in prange(a.size):
        mean = (a[i] + b[i] + c[i]) * scale
        a[i], c[i] = mean, mean


@njit(parallel=True, nogil=True, error_model="numpy")
def move_4_3(a: Array, b: Array, c: Array, d: Array, scale: np.float32) -> None:
    """Read four arrays and write three, as a step of Adam does."""
    for i in prange(a.size):
        mean = (a[i] + b[i] + c[i] + d[i]) * scale
        a[i], c[i], d[i] = mean, mean, mean


class Algorithm(NamedTuple):
    """An optimizer of both libraries, and the kernel that reads and writes as many arrays: all but the gradient."""

    name: str
    options: dict[str, Any]
    mover: Any
    arrays: int


ALGORITHMS = {
    "Adam": Algorithm("Adam", {}, move_4_3, 4),
    "AdamW": Algorithm("AdamW", {}, move_4_3, 4),
    "SGD": Algorithm("SGD", {}, move_2_1, 2),
    "SGD momentum": Algorithm("SGD", {"momentum": 0.9}, move_3_2, 3),
    "Adadelta": Algorithm("Adadelta", {}, move_4_3, 4),
    "Adagrad": Algorithm("Adagrad", {}, move_3_2, 3),
    "Adamax": Algorithm("Adamax", {}, move_4_3, 4),
    "ASGD": Algorithm("ASGD", {}, move_3_2, 3),
    "NAdam": Algorithm("NAdam", {}, move_4_3, 4),
    "RAdam": Algorithm("RAdam", {}, move_4_3, 4),
    "RMSprop": Algorithm("RMSprop", {}, move_3_2, 3),
    "Rprop": Algorithm("Rprop", {}, move_4_3, 4),
}

# These step whole matrices. They must move at least this much; Muon's products take far longer.
MATRIX_ALGORITHMS = {
    "Adafactor": Algorithm("Adafactor", {}, move_2_1, 2),
    "Muon": Algorithm("Muon", {}, move_3_2, 3),
}

TORCH = {
    "torch for-loop": {"foreach": False, "fused": False},
    "torch foreach": {"foreach": True, "fused": False},
    "torch fused": {"foreach": False, "fused": True},
}

SERIAL = {kind: njit(nogil=True, error_model="numpy")(kind.py_func) for kind in (move_2_1, move_3_2, move_4_3)}


def mover(algorithm: Algorithm, size: int, dtype: DTypeLike = np.float32) -> Callable[[], Any]:
    """Return a call that moves the bytes of a step of this many elements, and computes next to nothing."""
    arrays = [aligned_zeros(size, dtype) for _ in range(algorithm.arrays)]
    for array in arrays:
        array[:] = 1
    scale = np.dtype(dtype).type(1 / algorithm.arrays)
    move = SERIAL[algorithm.mover] if size < SERIAL_BELOW else algorithm.mover
    return lambda: move(*arrays, scale)


def has(kind: Any, option: str) -> bool:
    """Return whether an optimizer's class of torch has this implementation."""
    return option in signature(kind.__init__).parameters
