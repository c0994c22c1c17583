"""What a vector is: a problem, which is sent to whoever is judged, and what is expected of the answer, which is not."""

import json
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from refoptim.conformance.vectors.encoding import DTYPES, decoded_options, from_hex, number

Array = NDArray[Any]

# Of the files, and of what they hold.
FORMAT = 1
SUITE = "2026.11"


class Vector(NamedTuple):
    """One vector as its file has it."""

    id: str  # readable, and never used again for anything else
    type: str  # "trajectory", "schedule" or "trace"
    tier: str  # "probe", "dyadic", "defaults", "special", "long", "boundary", "sparse" or "schedule"
    flags: tuple[str, ...]  # what may be wrong where this fails; its file says what each means
    requires: tuple[str, ...]  # "dtype:f32", "option:amsgrad", "feature:none_grad", "scheduler:StepLR" ...
    result: str  # "valid", or "invalid" where the problem must be rejected
    problem: dict[str, Any]  # what is sent
    expect: dict[str, Any]  # what is not
    budget: dict[str, Any]  # in scaled ulps, by quantity
    sha256: str
    comment: str = ""
    margin: float | None = None  # of the closest decision, relative
    witness: Mapping[str, float] = {}  # how far each flagged feature moves the result, in budgets
    supersedes: str | None = None

    @property
    def algorithm(self) -> str:
        """The optimizer or scheduler, by torch's name."""
        return self.problem["algorithm"]

    @property
    def dtype(self) -> str:
        """The parameters' dtype; learning rates are float64."""
        return self.problem.get("dtype", "f64")


def content_hash(entry: Mapping[str, Any]) -> str:
    """Return the hash of what a vector says: all of its entry but the comment, the hash itself and the decimals."""
    said = {name: value for name, value in entry.items() if name not in ("comment", "sha256")}
    return sha256(json.dumps(_bits_only(said), sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _bits_only(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _bits_only(part) for name, part in value.items() if not (name == "dec" and "f64" in value)}
    return [_bits_only(part) for part in value] if isinstance(value, list) else value


class Group(NamedTuple):
    """The parameters of a group, by name, and its options."""

    params: tuple[str, ...]
    options: dict[str, Any]


class Rows(NamedTuple):
    """A sparse gradient: rows of a parameter and their values; a row may be named twice, then both count."""

    indices: Array
    values: Array

    def dense(self, like: Array) -> Array:
        """Return the gradient as an array, duplicate rows summed, with zeros in the rows that it does not name."""
        found = np.zeros_like(like)
        np.add.at(found, self.indices, self.values)
        return found

    def named(self, like: Array) -> Array:
        """Return which elements are in rows that it names."""
        found = np.zeros(like.shape, bool)
        found[self.indices] = True
        return found


Gradient = Array | Rows | None


def is_zero(grad: Gradient) -> bool:
    """Return whether there is a gradient, and it is zero everywhere."""
    return grad is not None and not np.any(grad.values if isinstance(grad, Rows) else grad)


class Step(NamedTuple):
    """What happens at a step: each group's learning rate and each parameter's gradient, None if it has none."""

    lrs: tuple[float, ...]
    grads: dict[str, Gradient]


class Trajectory(NamedTuple):
    """A problem for an optimizer: parameters in groups, gradients and learning rates."""

    algorithm: str
    dtype: str
    params: dict[str, Array]
    groups: tuple[Group, ...]
    steps: tuple[Step, ...]
    record: frozenset[int]  # the steps, from 1, after which the answer says what there is

    def with_gradients(self, change: Callable[[Gradient, Array], Gradient]) -> "Trajectory":
        """Return the same problem with what this makes of each gradient, given its parameter too."""
        steps = tuple(
            step._replace(grads={name: change(grad, self.params[name]) for name, grad in step.grads.items()})
            for step in self.steps
        )
        return self._replace(steps=steps)


class Schedule(NamedTuple):
    """A problem for a scheduler: learning rates for epochs 0 to ``epochs``."""

    algorithm: str
    options: dict[str, Any]
    lrs: tuple[float, ...]  # each group's initial learning rate
    epochs: int
    record: tuple[int, ...]  # the epochs whose learning rates the answer has
    metrics: tuple[float, ...] | None  # of epochs 1, 2, ..., for what watches one


class Trace(NamedTuple):
    """A problem for a minimizer: what the closure says when it is called, call after call."""

    algorithm: str
    dtype: str
    params: dict[str, Array]
    options: dict[str, Any]
    steps: int  # how many times ``step`` is called
    losses: tuple[float, ...]
    grads: tuple[dict[str, Array], ...]


def decoded(kind: str, problem: Mapping[str, Any]) -> Trajectory | Schedule | Trace:
    """Return a problem as it is sent, with its numbers as numbers.

    Raises:
        ValueError, KeyError, TypeError: it is not what its schema says.

    """
    return {"trajectory": _trajectory, "schedule": _schedule, "trace": _trace}[kind](problem)


def _params(problem: Mapping[str, Any]) -> dict[str, Array]:
    return {p["name"]: from_hex(p["init"], problem["dtype"], tuple(p["shape"])) for p in problem["params"]}


def _trajectory(problem: Mapping[str, Any]) -> Trajectory:
    params = _params(problem)
    steps = tuple(
        Step(
            tuple(from_hex(lr, "f64")[0].item() for lr in step["lr"]),
            {name: _grad(grad, params[name], problem["dtype"]) for name, grad in step["grads"].items()},
        )
        for step in problem["steps"]
    )
    groups = tuple(Group(tuple(g["params"]), decoded_options(g["options"])) for g in problem["groups"])
    return Trajectory(problem["algorithm"], problem["dtype"], params, groups, steps, frozenset(problem["record"]))


def _grad(encoded: Any, like: Array, dtype: str) -> Array | Rows | None:
    if encoded is None:
        return None
    if isinstance(encoded, str):
        return from_hex(encoded, dtype, like.shape)
    indices = np.array(encoded["indices"], np.int64)
    return Rows(indices, from_hex(encoded["values"], dtype, (indices.size, *like.shape[1:])))


def _schedule(problem: Mapping[str, Any]) -> Schedule:
    metrics = problem.get("metrics")
    return Schedule(
        problem["algorithm"],
        decoded_options(problem["options"]),
        tuple(map(number, problem["lr"])),
        problem["epochs"],
        tuple(problem["record"]),
        None if metrics is None else tuple(from_hex(metrics, "f64").tolist()),
    )


def _trace(problem: Mapping[str, Any]) -> Trace:
    params = _params(problem)
    grads = tuple(
        {name: from_hex(text, problem["dtype"], params[name].shape) for name, text in call["grads"].items()}
        for call in problem["calls"]
    )
    losses = tuple(from_hex(call["loss"], "f64")[0].item() for call in problem["calls"])
    options = decoded_options(problem["options"])
    return Trace(problem["algorithm"], problem["dtype"], params, options, problem["steps"], losses, grads)


def kind_of(dtype: str) -> Any:
    """Return NumPy's type for what a vector calls a dtype."""
    return DTYPES[dtype]
