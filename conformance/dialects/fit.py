"""How well a trial explains an answer: by the judge's measure."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from refoptim.conformance.dialects.trial import Values
from refoptim.conformance.runner.judge import scaled_errors
from refoptim.conformance.vectors.encoding import DTYPES, from_hex, real_of
from refoptim.conformance.vectors.vector import Trajectory, Vector

Array = NDArray[Any]

# By recorded step, parameter and quantity: the numbers that an answer has.
Seen = list[dict[str, dict[str, Array]]]


class Choice(NamedTuple):
    """A value on an axis that is not torch's, or a mistake, which has words that say it."""

    axis: str
    value: str
    words: str = ""


class Fit(NamedTuple):
    """Choices that explain an answer's parameters."""

    choices: tuple[Choice, ...]
    sulp: float  # the parameters' largest error
    state: bool  # whether they explain its state too


class Measure:
    """The distance of answers from trials, in scaled ulps, and the vector's budget for it."""

    def __init__(self, vector: Vector, problem: Trajectory) -> None:
        self._whole = vector.expect["scale"] == "tensor"
        self._budget = vector.budget
        self._initial = {
            p["name"]: np.abs(from_hex(p["init"], real_of(problem.dtype)).astype(np.float64))
            for p in vector.problem["params"]
        }
        # Trials are rounded to float64, as answers in it are.
        self._slack = 2.0 if DTYPES[real_of(problem.dtype)] is np.float64 else 1.0

    def limit(self, quantity: str) -> float:
        """Return how far a right answer may be from a trial."""
        return self._budget[quantity]["B"] * self._slack

    def fit(self, choices: tuple[Choice, ...], values: Iterable[dict[str, Values]], seen: Seen) -> Fit | None:
        """Return how well a trial explains an answer; None if it does not, as soon as that is clear."""
        worst, state = 0.0, True
        for quantity, errors in self.errors(values, seen):
            largest = float(errors.max(initial=0.0))
            if quantity == "theta":
                worst = max(worst, largest)
                if not worst <= self.limit("theta"):
                    return None
            else:
                state = state and largest <= self.limit(quantity)
        return Fit(choices, worst, state)

    def errors(self, values: Iterable[dict[str, Values]], seen: Seen) -> Iterable[tuple[str, Array]]:
        """Yield each quantity that an answer has and its errors, in order of time, parameters before state."""
        largest = {(name, "theta"): array for name, array in self._initial.items()}
        for now, got in zip(values, seen, strict=True):
            for name, quantities in got.items():
                for quantity in sorted(quantities, key=lambda one: one != "theta"):
                    if quantity not in now[name]:
                        continue
                    high = np.asarray(now[name][quantity], np.float64)
                    key = name, quantity
                    largest[key] = np.fmax(largest.get(key, 0.0), np.where(np.isfinite(high), np.abs(high), 0.0))
                    yield quantity, self._errors(quantities[quantity], high, largest[key])

    def _errors(self, got: Array, high: Array, scale: Array) -> Array:
        if got.shape != high.shape:
            return np.array([np.inf])
        scale = np.full_like(scale, scale.max(initial=0.0)) if self._whole else scale
        errors = scaled_errors(got, high, np.zeros_like(high), scale)
        # What overflows, or is no number, may be so.
        alike = ~np.isfinite(got) & ((got == high.astype(got.dtype)) | (np.isnan(got) & np.isnan(high)))
        return np.where(alike, 0.0, np.where(np.isnan(errors), np.inf, errors))
