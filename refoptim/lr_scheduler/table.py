"""Factors of some epochs in a row, computed ahead."""

from collections.abc import Callable

COUNT = 256


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
