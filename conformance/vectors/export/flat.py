"""Trajectories as records of names, numbers and lists, which are constants in C as in Rust.

Numbers are the bits of float64, whatever the dtype: a float32 is one of them. A complex number is two.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from refoptim.conformance.vectors.encoding import wide_from_hex
from refoptim.conformance.vectors.vector import Rows, Vector, decoded
from refoptim.conformance.vectors.vector import Trajectory as Problem

Array = NDArray[Any]


class Bits(int):
    """The bits of a float64."""


class Param(NamedTuple):
    """A parameter and its initial values."""

    name: str
    shape: list[int]
    init: list[Bits]


class Option(NamedTuple):
    """An option: a word, or numbers; True is 1, False is 0, and None is no number."""

    name: str
    text: str | None
    numbers: list[Bits]


class Group(NamedTuple):
    """Which parameters a group has, counted from 0, and its options; none at all where the defaults are asked for."""

    params: list[int]
    options: list[Option]


class Grad(NamedTuple):
    """A gradient: no values where there is none; rows where it is sparse."""

    rows: list[int]
    values: list[Bits]


class Step(NamedTuple):
    """A step: each group's learning rate, none where the defaults are asked for, and each parameter's gradient."""

    lrs: list[Bits]
    grads: list[Grad]


class Expected(NamedTuple):
    """What a quantity is after a step: numbers, as the sum of two; or letters for what kind of number it is."""

    step: int
    param: int
    quantity: str
    budget_a: float
    budget_b: float
    classes: str | None
    high: list[Bits]
    low: list[Bits]


class Trajectory(NamedTuple):
    """A vector."""

    id: str
    algorithm: str
    dtype: str
    invalid: bool  # the right answer is to reject it
    tensor: bool  # errors are counted beside the largest number of the tensor
    params: list[Param]
    groups: list[Group]
    steps: list[Step]
    expected: list[Expected]


def trajectories(vectors: Sequence[Vector]) -> list[Trajectory]:
    """Return the trajectories among some vectors.

    Raises:
        ValueError: there are none.

    """
    found = [_trajectory(vector) for vector in vectors if vector.type == "trajectory"]
    if not found:
        raise ValueError(
            f"none of the {len(vectors)} vectors is a trajectory: schedules and traces are for npz and json"
        )
    return found


def _trajectory(vector: Vector) -> Trajectory:
    problem = decoded("trajectory", vector.problem)
    assert isinstance(problem, Problem)
    names = list(problem.params)
    params = [Param(name, list(array.shape), _bits(array)) for name, array in problem.params.items()]
    groups = [Group([names.index(name) for name in group.params], _options(group.options)) for group in problem.groups]
    steps = [Step(_bits(np.array(step.lrs)), [_grad(step.grads[name]) for name in names]) for step in problem.steps]
    expected = [
        _expected(vector, step, names.index(name), quantity, value)
        for step, after in zip(sorted(problem.record), vector.expect["after"])
        for name, quantities in after.items()
        # State first: a wrong one is seen there before it is seen in the parameter.
        for quantity, value in sorted(quantities.items(), key=lambda item: item[0] == "theta")
    ]
    invalid, tensor = vector.result == "invalid", vector.expect["scale"] == "tensor"
    return Trajectory(vector.id, vector.algorithm, vector.dtype, invalid, tensor, params, groups, steps, expected)


def _expected(vector: Vector, step: int, param: int, quantity: str, value: Any) -> Expected:
    if vector.expect["encoding"] == "class":
        return Expected(step, param, quantity, 0.0, 0.0, value, [], [])
    high, low = wide_from_hex(value, vector.expect["encoding"])
    budget = vector.budget[quantity]
    return Expected(step, param, quantity, budget["A"], budget["B"], None, _bits(high), _bits(low))


def _grad(grad: Any) -> Grad:
    if isinstance(grad, Rows):
        return Grad(grad.indices.tolist(), _bits(grad.values))
    return Grad([], [] if grad is None else _bits(grad))


def _options(options: dict[str, Any]) -> list[Option]:
    return [
        Option(name, value, []) if isinstance(value, str) else Option(name, None, _bits(_numbers(value)))
        for name, value in options.items()
    ]


def _numbers(value: Any) -> Array:
    values = value if isinstance(value, tuple) else (value,)
    # None stands for no number, in a pair for one that is not there.
    return np.array([] if value is None else [np.nan if part is None else float(part) for part in values])


def _bits(array: Array) -> list[Bits]:
    flat: Array = np.ascontiguousarray(array).reshape(-1)
    if flat.dtype.kind == "c":
        flat = np.stack([np.real(flat), np.imag(flat)], axis=-1).reshape(-1)
    return [Bits(bits) for bits in flat.astype(np.float64).view(np.uint64).tolist()]
