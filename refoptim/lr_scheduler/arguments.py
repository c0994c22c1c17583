"""Checks of what a user hands to a scheduler. They run before anything is changed."""

from collections.abc import Iterable
from math import isfinite
from typing import Any

from ..optimizer import Optimizer
from ..scalars import number


def real(name: str, value: Any) -> float:
    """Return a finite number as a float."""
    result = number(name, value)
    if not isfinite(result):
        raise ValueError(f"{name} must be a finite number, but is {value!r}")
    return result


def positive(name: str, value: Any) -> float:
    """Return a number above 0 as a float."""
    result = real(name, value)
    if result <= 0:
        raise ValueError(f"Expected positive {name}, but got {value!r}")
    return result


def whole(name: str, value: Any, least: int = 1) -> int:
    """Return a whole number as an int. A float will do, if it is one: 0.1 * 50 is."""
    result = number(name, value)
    if not (isfinite(result) and result == int(result) and result >= least):
        raise ValueError(f"Expected {_KINDS[least]} integer {name}, but got {value!r}")
    return int(result)


_KINDS = {1: "positive", 0: "non-negative"}


def increasing(name: str, values: Any) -> list[int]:
    """Return whole numbers, at least 0, that do not decrease."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(f"{name} must be a list of integers, but is {values!r}")
    values = list(values)
    result = [whole(f"{name}[{place}]", value, least=0) for place, value in enumerate(values)]
    if result != sorted(result):
        raise ValueError(f"{name} must be increasing, but are {values}")
    return result


def for_each_group(name: str, optimizer: Optimizer, values: Any) -> list[float]:
    """Return one number for each group, from one for all or a list."""
    groups = len(optimizer.param_groups)
    if not isinstance(values, list | tuple):
        return [real(name, values)] * groups
    if len(values) != groups:
        raise ValueError(
            f"{name} must have the same length as optimizer.param_groups. "
            f"{name} has {len(values)} values, param_groups has {groups}."
        )
    return [real(name, value) for value in values]


def check_optimizer(optimizer: Any) -> None:
    """Raise unless it is an optimizer."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"{type(optimizer).__name__} is not an Optimizer")
