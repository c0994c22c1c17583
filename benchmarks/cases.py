"""What is compared: optimizers, shapes and types, the same values for all, and the numbers that all must arrive at."""

from collections.abc import Sequence
from itertools import product
from math import isqrt
from typing import NamedTuple

import numpy as np
from algorithms import ALGORITHMS, MATRIX_ALGORITHMS, Algorithm
from peers import Contender

import refoptim as optim
from refoptim.buffers import Array
from refoptim.conformance.tolerances import PEERS, TORCH_MUON

EVERY = ALGORITHMS | MATRIX_ALGORITHMS
SIZES = (10, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 50_000_000)
# Of many tensors: longer ones cost what one tensor with as many elements costs.
MANY, MANY_SIZES = (10, 100, 1_000), (10, 1_000, 10_000)
# Of many tensors, the size that is compared in every type, and not only in the first.
BOTH_TYPES = 1_000
# In all tensors of a case; and in one tensor, where each element takes as many products as the matrix has rows.
MOST, MOST_OF_MUON = 50_000_000, 1_000_000
STEPS = 2  # that are compared


class Case(NamedTuple):
    """One optimizer on so many tensors with so many elements each."""

    name: str
    dtype: str
    tensors: int
    asked: int

    @property
    def algorithm(self) -> Algorithm:
        """The optimizer."""
        return EVERY[self.name]

    @property
    def shape(self) -> tuple[int, ...]:
        """A tensor's shape: square, for those that step matrices."""
        side = isqrt(self.asked)
        return (side, side) if self.name in MATRIX_ALGORITHMS else (self.asked,)

    @property
    def elements(self) -> int:
        """The elements of a tensor."""
        return int(np.prod(self.shape))

    @property
    def bytes(self) -> int:
        """The size of all parameters together."""
        return self.tensors * self.elements * np.dtype(self.dtype).itemsize

    def __str__(self) -> str:
        shape = " x ".join(f"{side:,}" for side in (self.tensors, *self.shape))
        return f"{self.name}, {self.dtype}, {shape}"


def plan(
    names: Sequence[str], dtypes: Sequence[str], sizes: Sequence[int] | None, tensors: Sequence[int] | None
) -> list[Case]:
    """Return the cases. Where sizes and numbers of tensors are left open, it is not every size with every number."""
    shapes = [(count, size, dtypes) for count, size in product(tensors or (1,), sizes or SIZES)]
    if sizes is None and tensors is None:
        shapes += [
            (count, size, dtypes if size == BOTH_TYPES else dtypes[:1]) for count, size in product(MANY, MANY_SIZES)
        ]
    return [
        Case(name, dtype, count, size)
        for name, (count, size, types) in product(names, shapes)
        for dtype in types
        if count * size <= MOST and not (name == "Muon" and size > MOST_OF_MUON)
    ]


def inputs(case: Case) -> tuple[Array, Array]:
    """Return values and gradients, one row for each tensor. No gradient is near zero, where an epsilon would count."""
    rng = np.random.default_rng(0)
    values, grads = (rng.random((case.tensors, *case.shape), case.dtype) for _ in range(2))
    values += 0.5
    grads -= 0.5
    grads += np.copysign(np.asarray(0.5, case.dtype), grads)
    return values, grads


def picks(case: Case) -> Array:
    """Return the places that are compared."""
    last = case.elements - 1
    return np.unique([0, last // 3, last // 2, last])


class Expected(NamedTuple):
    """Where some elements start, and where they arrive."""

    places: Array
    before: Array
    after: Array


def expected(case: Case, values: Array, grads: Array) -> Expected:
    """Return where the first and the last tensor arrive: by the documented formula, in float64."""
    ends, places = [0, case.tensors - 1], picks(case)
    start, slope = values[ends].astype(np.float64), grads[ends].astype(np.float64)
    if case.name not in MATRIX_ALGORITHMS:
        start, slope = start[:, places], slope[:, places]
    params = [optim.Parameter(row) for row in start]
    optimizer = getattr(optim, case.algorithm.name)(params, **case.algorithm.options, foreach=True)
    for _ in range(STEPS):
        optimizer.step(grads=list(slope))
    before, after = start.reshape(2, -1), np.array([param.data.reshape(-1) for param in params])
    if case.name in MATRIX_ALGORITHMS:
        before, after = before[:, places], after[:, places]
    return Expected(places, before, after)


def check(case: Case, name: str, contender: Contender, wanted: Expected) -> None:
    """Step and raise ``ValueError`` unless the elements move as they should."""
    for _ in range(STEPS):
        contender.step()
    found = np.array([contender.look(tensor, wanted.places) for tensor in (0, case.tensors - 1)], np.float64)
    moved = np.abs(wanted.after - wanted.before).max()
    error = float(np.abs(found - wanted.after).max() / moved)
    limit = TORCH_MUON if case.name == "Muon" and name.startswith("torch") else PEERS[case.dtype]
    if not error <= limit:
        raise ValueError(f"other numbers: off by {error:.2g} of the movement, where {limit:.2g} is accepted")
