"""Curves: how one element of an answer goes through the steps, beside what is expected of it."""

import math
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from refoptim.conformance.runner.judge import Compared, compared, place
from refoptim.conformance.vectors.vector import Vector

PARAMETER = ("theta", "lr", "momentum")  # what is not state


class State(NamedTuple):
    """The error of one kind of state of the parameter that a curve is about, step by step."""

    quantity: str
    steps: tuple[int, ...]  # at which the answer has it
    sulp: tuple[float, ...]  # of its worst element
    budget: float


class Curve(NamedTuple):
    """One element, the worst, of a parameter, or one learning rate, of an answer to a vector."""

    id: str
    param: str
    index: tuple[int, ...]  # pyright: ignore[reportIncompatibleMethodOverride]  nobody looks for a number in a curve
    quantity: str  # "theta", "lr" or "momentum"
    steps: tuple[int, ...]  # of a schedule, epochs; of a trace, calls
    expected: tuple[float, ...]
    got: tuple[float, ...]
    sulp: tuple[float, ...]
    budget: float
    first: int | None  # the step at which this element first is over budget
    states: tuple[State, ...] = ()


def curve(vector: Vector, answer: Mapping[str, Any]) -> Curve:
    """Return the curve of an answer's worst element: of all parameters, the one with the most budgets of error.

    Args:
        vector: what was asked; its expected values are numbers, not classes.
        answer: what came back.

    Raises:
        ValueError: the vector has no numbers to compare with, or expects a refusal.
        MalformedAnswer: it is not an answer to this vector's problem.
        WrongCalls: the answer to a trace has another number of calls.

    """
    if vector.result == "invalid" or vector.expect["encoding"] == "class":
        raise ValueError(f"{vector.id} expects no numbers: it has no curve")
    lines = _lines(compared(vector, answer))
    own = {line: found for line, found in lines.items() if line[1] in PARAMETER}
    if not own:
        raise ValueError(f"{vector.id} has nothing to compare: it has no curve")
    param, quantity = max(own, key=lambda line: _worst(own[line]) / vector.budget[line[1]]["A"])
    found = own[param, quantity]
    at = int(np.argmax(np.max([one.errors for one in found], axis=0)))
    sulp, budget = _picked(found, "errors", at), float(vector.budget[quantity]["A"])
    steps = _steps(found)
    return Curve(
        vector.id,
        param,
        place(at, found[0].shape, found[0].errors.size),
        quantity,
        steps,
        _picked(found, "high", at),
        _picked(found, "got", at),
        sulp,
        budget,
        next((step for step, error in zip(steps, sulp, strict=True) if not error <= budget), None),
        tuple(
            State(name, _steps(state), tuple(map(_largest, state)), float(vector.budget[name]["A"]))
            for (owner, name), state in lines.items()
            if owner == param and name not in PARAMETER
        ),
    )


def _lines(all_found: Iterable[Compared]) -> dict[tuple[str, str], list[Compared]]:
    """Return what was compared, by parameter and quantity, step by step; but what is empty."""
    filled = sorted((one for one in all_found if one.errors.size), key=lambda one: (one.param, one.quantity))
    return {line: list(found) for line, found in groupby(filled, key=lambda one: (one.param, one.quantity))}


def _steps(found: list[Compared]) -> tuple[int, ...]:
    return tuple(one.step for one in found)


def _picked(found: list[Compared], what: str, at: int) -> tuple[float, ...]:
    return tuple(float(getattr(one, what)[at]) for one in found)


def _largest(one: Compared) -> float:
    return float(one.errors.max(initial=0.0))


def _worst(found: list[Compared]) -> float:
    worst = max(map(_largest, found))
    return math.inf if math.isnan(worst) else worst
