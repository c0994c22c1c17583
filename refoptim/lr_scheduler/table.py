"""Factors of some epochs in a row, or what these set, computed ahead."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

COUNT = 256

Both = tuple[Sequence[float], Sequence[float]]


class Table:
    """A schedule's factors for some epochs in a row, as integers with one denominator.

    Computed one by one they would take most of the time of a step.
    """

    def __init__(self) -> None:
        self._key: tuple[float, ...] = ()
        self._first = 0
        self._factors: list[int] = []
        self._denominator = 1

    def change(self, epoch: int, key: tuple[float, ...], fill: Callable[..., tuple[list[int], int]]) -> tuple[int, int]:
        """Return the factor of an epoch over that of the one before.

        ``fill(*key, first, count)`` returns the integers from the epoch first on, and their denominator.
        """
        place, factors = epoch - self._first, self._factors
        if key != self._key or not 0 < place < len(factors):
            factors, self._denominator = fill(*key, epoch - 1, COUNT)
            self._factors, self._key, self._first, place = factors, key, epoch - 1, 1
        return factors[place], factors[place - 1]

    def factor(self, epoch: int, key: tuple[float, ...], fill: Callable[..., tuple[list[int], int]]) -> tuple[int, int]:
        """Return the factor of an epoch. Arguments as of ``change``."""
        place, factors = epoch - self._first, self._factors
        if key != self._key or not 0 < place < len(factors):
            return self.change(epoch, key, fill)[0], self._denominator
        return factors[place], self._denominator

    def __deepcopy__(self, memo: object) -> "Table":
        return Table()


class Ahead:
    """What some epochs in a row give each group: the learning rates and the momentums."""

    def __init__(self) -> None:
        self._inputs: list[Any] = []
        self._first = 0
        self._rows: list[Both] = []

    def row(self, epoch: int, inputs: list[Any], fill: Callable[[int, int], list[Both]]) -> Both:
        """Return what an epoch gives. ``fill(first, count)`` returns it for as many as are easy, at least the first."""
        place = epoch - self._first
        # They are the same objects as a rule, which compare in no time.
        if not 0 <= place < len(self._rows) or inputs != self._inputs:
            self._rows = fill(epoch, COUNT)
            self._inputs, self._first, place = deepcopy(inputs), epoch, 0
        return self._rows[place]

    def __deepcopy__(self, memo: object) -> "Ahead":
        return Ahead()
