"""Infinity, NaN and zero: an optimizer has them where the documented formula has them, and nowhere else."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refoptim.conformance.case import Case, Meaning
from refoptim.conformance.scenario import one_step, reals
from refoptim.conformance.subjects import Subject

Array = NDArray[Any]

SPECIALS = (np.inf, -np.inf, np.nan)
SIZE = 48


class Specials:
    """One step of numbers that are not finite, in one array at a time, and of zeros in every combination of arrays.

    It shows whether an option that is off touches the numbers, since 0 times infinity is NaN, and what keeps roots and
    quotients away from what they have no value for.
    """

    def __init__(self, case: Case, meaning: Meaning, dtype: Any) -> None:
        count = 2 + len(meaning.state)
        self._case = case
        self._scenario = one_step(case, meaning, dtype, 2, "realistic", SIZE + 2**count)
        (start,), ((grad,),) = self._scenario.starts, self._scenario.grads
        arrays = [reals(array) for array in (start.theta, grad, *start.state.values()) if array is not None]
        for index, array in enumerate(arrays):
            # No state is ever minus infinity.
            array[index : SIZE : SIZE // 3] = SPECIALS if index < 2 else np.abs(SPECIALS)
            array[SIZE:][np.arange(2**count) >> index & 1 == 1] = 0.0
        symbols = meaning.symbols(2) | {"gamma": self._scenario.lrs[0][0]} | start.host
        with np.errstate(all="ignore"):
            self._expected = meaning.formula(*(array.astype(np.float64) for array in arrays), **symbols)

    def differences(self, subject: Subject) -> int:
        """Return how many numbers are infinite, NaN or zero where the formula's are not, or the reverse."""
        run = subject(self._case.optimizer, self._scenario)
        (grads,), (lrs,) = self._scenario.grads, self._scenario.lrs
        run.step(grads, lrs)
        found = (run.theta(0), *(run.state(0).get(name) for name in self._scenario.starts[0].state))
        return sum(
            right.size if got is None else int(np.sum(_kinds(reals(got)) != _kinds(right)))
            for got, right in zip(found, self._expected, strict=True)
        )


def _kinds(values: Array) -> Array:
    """Return what each number is: a special one as it is, and every other as 1."""
    return np.where(np.isnan(values), 2, np.where(np.isfinite(values), values != 0, values))
