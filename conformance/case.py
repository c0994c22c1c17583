"""What a case is: an optimizer, options, and which formula with which symbols says what they mean."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple


class Case(NamedTuple):
    """One optimizer under one set of options. What the options leave out has torch's default."""

    optimizer: str
    options: dict[str, Any]

    @property
    def label(self) -> str:
        """The options as a reader would name them."""
        parts = [name if value is True else f"{name}={value}" for name, value in self.options.items()]
        return ", ".join(parts) or "defaults"

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
