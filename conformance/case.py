"""What a case is: an optimizer, options, and which formula with which symbols says what they mean."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np


class Case(NamedTuple):
    """One optimizer under one set of options. What the options leave out has torch's default."""

    optimizer: str
    options: dict[str, Any]
    shape: tuple[int, ...] | None = None  # of the parameter; None is a vector

    @property
    def label(self) -> str:
        """The options as a reader would name them."""
        parts = [name if value is True else f"{name}={value}" for name, value in self.options.items()]
        return " ".join([", ".join(parts) or "defaults", *(["x".join(map(str, self.shape))] if self.shape else [])])

    def __repr__(self) -> str:
        # The scenarios' seeds are made from it.
        shape = f", shape={self.shape}" if self.shape else ""
        return f"Case(optimizer={self.optimizer!r}, options={self.options!r}{shape})"

    def __str__(self) -> str:
        return f"{self.optimizer}({self.label})"


class Meaning(NamedTuple):
    """What a case computes, stated without the classes that are judged by it."""

    formula: Callable[..., tuple[Any, ...]]
    state: tuple[str, ...]
    symbols: Callable[[int], dict[str, Any]]  # of the step, counted from 1
    # Given the learning rate of the first step: what state arrays start with where it is not zero, and the numbers that
    # go along with the state, which are symbols too.
    initial: Callable[[float], dict[str, float]] = lambda _: {}
    host: Callable[[float], dict[str, float]] = lambda _: {}
    advance: Callable[..., dict[str, Any]] | None = None  # those numbers after a step, from all of its symbols
    other: Mapping[str, Any] = MappingProxyType({"weight_decay": 0.25})  # options that set a second group apart
    typed: Callable[[Any], dict[str, Any]] = lambda _: {}  # symbols that depend on the parameter's dtype
    shapes: tuple[tuple[int, ...], ...] = ((2, 3), (), (4,), (2,))  # of the parameters, where there are four
    # What state arrays have another shape than a parameter of this one; those it does not have are empty.
    state_shapes: Callable[[tuple[int, ...]], Mapping[str, tuple[int, ...]]] = lambda _: {}
    decoupled: bool = False  # whether weight decay leaves the gradient alone without a symbol that says so
    whole: bool = False  # whether an error counts beside the largest element, because each is made of all
    steps: int = 1000  # of the long run

    def zeros(self, theta: Any) -> dict[str, Any]:
        """Return the state arrays of a parameter, before any has begun."""
        shapes = self.state_shapes(theta.shape)
        return {name: np.zeros(shapes.get(name, theta.shape), theta.dtype) for name in self.state}


class StaleMutantError(Exception):
    """A mutant no longer applies to the code that it was written for."""


class RuleMutant(NamedTuple):
    """A wrong rule: in the source of a rule, one expression replaced by another."""

    name: str
    rule: str
    right: str
    wrong: str


class ScalarMutant(NamedTuple):
    """Wrong host scalars: a function of the right ones, the options they were made from, and the step from 1."""

    name: str
    optimizer: str
    change: Callable[[Any, Any, int], Any]
