"""The suite: every case, dtype and implementation through every scenario, measured and held against the limits."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import isfinite
from typing import Any, NamedTuple

import numpy as np

from refoptim.conformance import cases
from refoptim.conformance.case import Case
from refoptim.conformance.formats import halves, is_half
from refoptim.conformance.judge import Truth, scaled
from refoptim.conformance.scenario import bookkeeping, one_step, trajectory
from refoptim.conformance.subjects import Subject, refoptim_subject, torch_subject
from refoptim.conformance.tolerances import HALVES, LIMITS, MEAN_NOISE, Limits

STEPS = (1, 2, 10, 100)
SIZE = 256

# ``map``, or what does the same in several processes.
Each = Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]


class StateErrors(NamedTuple):
    """What was measured of one state array: errors in ulps."""

    step: float  # one realistic step, the worst
    probe: float  # one step that shows the update in full, the worst
    median: float = 0.0  # 1,000 steps


class Measured(NamedTuple):
    """What was measured of one subject: errors in ulps, worst unless another word is there."""

    step: float  # parameters, one realistic step
    step_mean: float
    probe: float  # parameters, one step that shows the update in full
    states: dict[str, StateErrors]
    short: float = 0.0  # parameters and state, the bookkeeping scenario
    median: float = 0.0  # parameters, 1,000 steps
    scaled: float = 0.0  # parameters, 1,000 steps, in ulps of the largest

    def worst_state(self, kind: str) -> float:
        """Return an error of the state array that has the largest: ``step``, ``probe`` or ``median``."""
        return max((getattr(errors, kind) for errors in self.states.values()), default=0.0)


class Row(NamedTuple):
    """One line of the report."""

    optimizer: str
    options: str
    dtype: str
    implementation: str
    measured: Measured
    torch: Measured | None
    failures: list[str]


class Exam:
    """The exact outcomes for one case and dtype, to which any number of subjects can be put."""

    def __init__(
        self, case: Case, module: Any, dtype: Any, *, steps: tuple[int, ...] = STEPS, size: int = SIZE
    ) -> None:
        meaning = module.meaning(case)
        self.case = case
        self.dtype = np.dtype(dtype)
        self.limits = limits_of(module, case, dtype)
        scenarios = {
            kind: [one_step(case, meaning, dtype, t, kind, size) for t in steps] for kind in ("realistic", "probe")
        }
        self._realistic = [Truth(case, [meaning], scenario) for scenario in scenarios["realistic"]]
        self._probe = [Truth(case, [meaning], scenario) for scenario in scenarios["probe"]]
        short = bookkeeping(case, meaning, dtype)
        self._short = Truth(case, [module.meaning(case._replace(options=group)) for group in short.groups], short)
        self._long: Truth | None = None
        self._meaning = meaning

    def measure(self, subject: Subject, *, long: bool = True) -> Measured:
        """Put a subject to the exam; the long run can be left out."""
        realistic = [truth.judge(subject)[0] for truth in self._realistic]
        probe = [truth.judge(subject)[0] for truth in self._probe]
        measured = Measured(
            step=max(distance.worst_theta for distance in realistic),
            step_mean=float(np.mean([distance.mean_theta for distance in realistic])),
            probe=max(distance.worst_theta for distance in probe),
            states={
                name: StateErrors(*(max(float(d.state[name].max()) for d in kind) for kind in (realistic, probe)))
                for name in realistic[0].state
            },
            short=max(distance.worst for distance in self._short.judge(subject)),
        )
        if not long:
            return measured
        if self._long is None:
            self._long = Truth(self.case, [self._meaning], trajectory(self.case, self.dtype, self._meaning.steps))
        distance = self._long.judge(subject)[0]
        for name, errors in distance.state.items():
            measured.states[name] = measured.states[name]._replace(median=float(np.median(errors)))
        return measured._replace(
            median=float(np.median(distance.theta)),
            scaled=float(scaled(self._long.exact[0], distance, self.dtype).max()),
        )


def limits_of(module: Any, case: Case, dtype: Any) -> dict[str, Limits]:
    """Return the implementations that are judged and their limits."""
    if is_half(dtype):
        # The rounding is one for all: one optimizer sits every way to it.
        return HALVES if case.optimizer == "Adam" else {"fused": HALVES["fused"]}
    limits: dict[str, Limits] = getattr(module, "LIMITS", LIMITS)
    wide = np.dtype(dtype).name in ("float64", "complex128")  # which compute in float64 without being told to
    return {name: limit for name, limit in limits.items() if not (wide and name == "float64")}


def failures(measured: Measured, limits: Limits, torch: Measured | None) -> list[str]:
    """Return what is beyond its limit, in words; nothing if all is well."""
    found = [
        f"{name}: {value:.4g} ulp, limit {limit:g}"
        for name, value, limit in (
            ("one step", measured.step, limits.step),
            ("probe", measured.probe, limits.probe),
            ("probe, state", measured.worst_state("probe"), limits.probe),
            ("bookkeeping", measured.short, limits.short),
            ("1,000 steps, median", measured.median, limits.median),
            ("1,000 steps, scaled", measured.scaled, limits.scaled),
            ("1,000 steps, state", measured.worst_state("median"), limits.state),
        )
        if not value <= limit
    ]
    if torch is not None and not isfinite(torch.step_mean):
        torch = None  # which divides by 0 in float16, and is nothing to compare with
    mean = limits.mean if torch is None else torch.step_mean + MEAN_NOISE
    if not measured.step_mean <= mean:
        found.append(
            f"one step, mean: {measured.step_mean:.4g} ulp, {'limit' if torch is None else 'torch'} {mean:.4g}"
        )
    if limits.step < 1.0 and not measured.worst_state("step") <= limits.step:
        found.append(f"one step, state: {measured.worst_state('step'):.4g} ulp, limit {limits.step:g}")
    return found


def plan(pattern: str = "") -> list[tuple[Any, Case, Any]]:
    """Return the exams whose description contains the pattern.

    Complex dtypes sit the first and the last case of each optimizer, those of 16 bits the first.
    """
    found = []
    for module in cases.stems().values():
        for optimizer in dict.fromkeys(case.optimizer for case in module.CASES):
            alike = [case for case in module.CASES if case.optimizer == optimizer]
            for case in alike:
                dtypes: list[Any] = [np.float32, np.float64]
                if case in (alike[0], alike[-1]) and not getattr(module, "REAL_ONLY", False):
                    dtypes += [np.complex64, np.complex128]
                if case is alike[0]:
                    dtypes += halves()
                found += [(module, case, dtype) for dtype in dtypes]
    return [entry for entry in found if pattern.lower() in f"{entry[1]} {np.dtype(entry[2]).name}".lower()]


def rows_of(exam: tuple[str, int]) -> list[Row]:
    """Return the rows of one exam of the plan: by a number, since not all of it can be sent to another process."""
    pattern, number = exam
    return list(rows(*plan(pattern)[number]))


def rows(module: Any, case: Case, dtype: Any) -> Iterator[Row]:
    """Measure one case and dtype in every implementation, and torch beside them."""
    exam = Exam(case, module, dtype)
    # torch computes no other library's dialect.
    witness = None if "dialect" in case.options else torch_subject()
    torch = None if witness is None else exam.measure(witness)
    for name, limits in exam.limits.items():
        measured = exam.measure(refoptim_subject(name))
        found = failures(measured, limits, torch)
        yield Row(case.optimizer, case.label, exam.dtype.name, name, measured, torch, found)
