"""The search for a dialect: where an answer is wrong, what would have made it right."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import combinations
from typing import Any

import numpy as np

from refoptim.conformance.dialects import axes, forms, schedules, suspects, trial, weak, words
from refoptim.conformance.dialects.fit import Choice, Fit, Measure, Seen
from refoptim.conformance.runner.judge import MalformedAnswer, WrongCalls, compared
from refoptim.conformance.tolerances import CLOSE
from refoptim.conformance.vectors.vector import Trajectory, Vector, decoded

# Of a long run, only the beginning is searched; what is found is tried on the whole.
SEARCHED = 20
NOTHING_FINITE = "no number is finite: whatever divides by zero, such as a bias correction of step 0, may explain that"
# How many changes are tried at once, where there are as many numbers for each to be told from chance.
DEEPEST, ENOUGH = 3, 4


def verdict(vector: Vector, answer: Mapping[str, Any]) -> str:
    """Return which dialect, or which mistake, gives an answer that is not what a vector expects; nothing if it is.

    Args:
        vector: what was asked.
        answer: what came back.

    """
    if vector.result != "valid" or vector.expect["encoding"] == "class" or vector.type == "trace":
        return ""
    with np.errstate(all="ignore"), suppress(MalformedAnswer, WrongCalls):
        if vector.type == "schedule":
            return schedules.verdict(vector, answer)
        seen = _seen(vector, answer)
        if seen and vector.algorithm in forms.known():
            return _Search(vector, seen).verdict()
    return ""


def _seen(vector: Vector, answer: Mapping[str, Any]) -> Seen:
    found: dict[int, dict[str, dict[str, Any]]] = {}
    for one in compared(vector, answer):
        found.setdefault(one.step, {}).setdefault(one.param, {})[one.quantity] = one.got
    return [found[step] for step in sorted(found)]


class _Search:
    """The search for what explains one answer."""

    def __init__(self, vector: Vector, seen: Seen) -> None:
        problem = decoded("trajectory", vector.problem)
        assert isinstance(problem, Trajectory)
        self._algorithm = problem.algorithm
        self._whole = problem
        self._all_seen = seen
        self._asked = _beginning(problem)
        self._measure = Measure(vector, problem)
        self._seen = seen[: len(self._asked.record)]
        torch = trial.completed(problem)
        self._left_out = torch.groups != problem.groups
        self._suspects: dict[tuple[str, ...], suspects.Suspect] = {
            (one.axis, one.value): one for one in suspects.of(torch)
        }
        decay = axes.decay(self._algorithm, problem.groups[0].options)
        self._torch = {"decay": decay} | axes.base(self._algorithm)
        self._base = list(self._trial(()))

    def verdict(self) -> str:
        """Return what explains the answer, in words."""
        if not any(np.isfinite(now[name]["theta"]).any() for now in self._seen for name in now):
            return NOTHING_FINITE
        right = self._fit(())
        if right is not None and right.state:
            return ""
        half = [right] if right is not None else []
        singles = [choice for choice in self._choices() if self._shows(choice)]
        count = sum(now[name]["theta"].size for now in self._seen for name in now)
        for depth in range(1, min(DEEPEST, max(count // ENOUGH, 1)) + 1):
            fits = [fit for choices in self._sets(singles, depth) if (fit := self._fit(choices)) is not None]
            if whole := [fit for fit in fits if fit.state]:
                return words.of_fits(self._algorithm, whole, singles, self._torch)
            half = half or fits
        if half:
            return words.of_halves(self._algorithm, half, singles, self._torch)
        return weak.verdict(trial.completed(self._whole), self._all_seen, self._measure)

    def _choices(self) -> Iterator[Choice]:
        for axis in axes.of(self._algorithm):
            for value in axis.values:
                if not axis.judged or value.name == self._torch[axis.name]:
                    continue
                if self._left_out or axis.name != "defaults":
                    yield Choice(axis.name, value.name, "" if value.libraries else value.words)
        for suspect in self._suspects.values():
            yield Choice(suspect.axis, suspect.value, suspect.words)

    def _sets(self, singles: list[Choice], depth: int) -> Iterator[tuple[Choice, ...]]:
        """Yield sets of changes on different axes, of three or more at most one a mistake."""
        for choices in combinations(singles, depth):
            mistakes = sum(bool(choice.words) for choice in choices)
            if len({choice.axis for choice in choices}) == depth and (depth < 3 or mistakes < 2):
                yield choices
        if depth == 1:  # what a library does at once counts as one change
            for dialect in axes.named(self._algorithm):
                choices = tuple(c for c in singles if not c.words and dialect.axes.get(c.axis) == c.value)
                if len(choices) > 1:
                    yield choices

    def _shows(self, choice: Choice) -> bool:
        """Return whether a change changes what there is to see."""
        with suppress(ArithmeticError):  # such as steps counted from 0
            return not all(_equal(one, other) for one, other in zip(self._trial((choice,)), self._base, strict=True))
        return False

    def _trial(self, choices: tuple[Choice, ...], *, whole: bool = False) -> Iterator[dict[str, trial.Values]]:
        chosen = {choice.axis: choice.value for choice in choices}
        problem = self._whole if whole else self._asked
        problem = trial.completed(problem, chosen.get("defaults", "torch"))
        for choice in choices:
            suspect = self._suspects.get(choice[:2])
            if suspect is not None and suspect.change is not None:
                problem = suspect.change(problem) or problem
                del chosen[choice.axis]
        return trial.run(problem, chosen)

    def _fit(self, choices: tuple[Choice, ...]) -> Fit | None:
        with suppress(ArithmeticError):
            found = self._measure.fit(choices, self._trial(choices), self._seen)
            if found is not None and len(self._all_seen) > len(self._seen):
                found = self._measure.fit(choices, self._trial(choices, whole=True), self._all_seen)
            return found
        return None


def _beginning(problem: Trajectory) -> Trajectory:
    """Return the steps of a problem that are searched: of a long run the first."""
    count = max(SEARCHED, min(problem.record))
    return problem._replace(steps=problem.steps[:count], record=frozenset(t for t in problem.record if t <= count))


def _equal(one: dict[str, trial.Values], other: dict[str, trial.Values]) -> bool:
    """Return whether two moments look alike, to float64's roundings."""
    if any(one[name].keys() != other[name].keys() for name in one):
        return False
    return all(
        value.shape == other[name][quantity].shape
        and np.allclose(value, other[name][quantity], equal_nan=True, **CLOSE["float64"])
        for name, quantities in one.items()
        for quantity, value in quantities.items()
    )
