"""The exam of parameters of 16 bits: steps whose exact results are ties, or nearly, and the right numbers to the bit.

An error of half an ulp is the format's, and says nothing about ties, about a number that was rounded twice on its way,
or about chances. Steps of SGD with a learning rate of an eighth, from a number by some of its ulps, show all of it.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import refoptim
from refoptim.conformance import suite
from refoptim.conformance.cases import adam
from refoptim.conformance.formats import finfo, halves, nearest, ulps
from refoptim.conformance.plumbing import OTHER_FORMAT
from refoptim.conformance.scenario import generator
from refoptim.conformance.subjects import RefoptimRun
from refoptim.conformance.tolerances import ROUNDING_LIMITS
from refoptim.conformance.wrong_roundings import LOOPS, Loops, wrong_sgd

Array = NDArray[Any]

IMPLEMENTATIONS: dict[str, dict[str, Any]] = {"fused": {}, "for-loop": {"foreach": False, "fused": False}}
LR = 0.125
SIZE = 2048
# Steps with master weights, each of a sixteenth of an ulp or of some of them.
STEPS = 24
# Copies of one step that is rounded stochastically.
COPIES = 4096

Subject = Callable[..., Any]  # an optimizer's class: refoptim.SGD, or a wrong one


class Errors(NamedTuple):
    """What was measured, by the columns of ``RoundingLimits``."""

    nearest: int
    once: int
    master: int
    written: int
    strays: int
    bias: float


class Row(NamedTuple):
    """One line of the report."""

    dtype: str
    implementation: str
    measured: Errors
    torch: None  # which rounds after every operation
    failures: list[str]


class Mutant(NamedTuple):
    """A wrong optimizer of parameters of 16 bits: wrong loops for SGD, or a wrong state for Adam."""

    name: str
    dtype: str
    loops: type[Loops] | None = None
    state: type[RefoptimRun] | None = None

    def __str__(self) -> str:
        return f"{'SGD' if self.loops else 'Adam'} {self.dtype}: {self.name}"


class Exam:
    """Steps of SGD in one format of 16 bits whose right results are known."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)
        rng = generator("roundings", self.dtype.name)
        # Numbers of every size, by their bits; the smallest ones; and the largest, from which infinity is not far.
        largest = int(np.array(finfo(self.dtype).max, self.dtype).view(np.uint16))
        bits = rng.integers(0, largest + 1, SIZE) | rng.integers(0, 2, SIZE) << 15
        bits[:64], bits[64:96] = range(64), largest
        self._theta = bits.astype(np.uint16).view(self.dtype)
        self._grad = self._some_ulps(self._theta, rng.integers(-12, 13, SIZE))
        start = np.array([1.0, -1.5, float(finfo(self.dtype).smallest_normal), -5 * ulps(0.0, self.dtype)])
        self._few = np.repeat(start.astype(self.dtype), 17)
        self._few_eighths = np.tile(np.arange(-8, 9), start.size)
        self._adam = suite.Exam(adam.CASES[0], adam, self.dtype, steps=(1, 10), size=48)

    def _some_ulps(self, theta: Array, count: Any) -> Array:
        return (ulps(theta.astype(np.float64), self.dtype) * count).astype(self.dtype)

    def measure(self, subject: Subject = refoptim.SGD, **options: Any) -> Errors:
        """Put an optimizer to the exam."""
        with np.errstate(all="ignore"):
            return Errors(
                nearest=self._wrong(subject, LR, **options),
                once=self._wrong_next_to_ties(subject, **options),
                master=self._wrong_masters(subject, **options),
                written=self._wrong_written(subject, **options),
                **self._chances(subject, **options),
            )

    def rejects(self, mutant: Mutant) -> list[str]:
        """Return why a mutant fails; nothing if it passes."""
        if mutant.loops is not None:
            return failures(self.measure(wrong_sgd(mutant.loops)))
        run: Any = mutant.state
        measured = self._adam.measure(lambda _, scenario: run(refoptim.Adam, scenario, {}), long=False)
        return suite.failures(measured, self._adam.limits["fused"], None)

    def _wrong(self, subject: Subject, lr: float, **options: Any) -> int:
        """Return how many of the numbers are wrong after one step."""
        param = self._stepped(subject, self._theta, self._grad, lr=lr, **options)
        return _different(param.data, self._exact(self._theta, self._grad, lr), self.dtype)

    def _wrong_next_to_ties(self, subject: Subject, **options: Any) -> int:
        """Return how many are where float32 sees ties, and float64 that they are none."""
        sides = (LR * (1 - 2.0**-30), LR * (1 + 2.0**-30))
        return sum(self._wrong(subject, lr, arithmetic="float64", **options) for lr in sides)

    def _wrong_masters(self, subject: Subject, **options: Any) -> int:
        lr = LR / 2
        param = self._stepped(subject, self._theta, self._grad, STEPS, lr=lr, master_weights=True, **options)
        return _different(param.data, self._exact(self._theta, self._grad, STEPS * lr), self.dtype)

    def _wrong_written(self, subject: Subject, **options: Any) -> int:
        param = refoptim.Parameter(np.ones_like(self._theta))
        optimizer = subject([param], lr=LR, master_weights=True, **options)
        for theta, grad in ((param.data, 0 * self._grad), (self._theta, self._grad)):
            param.data[...], param.grad = theta, grad
            optimizer.step()
        return _different(param.data, self._exact(self._theta, self._grad, LR), self.dtype)

    def _chances(self, subject: Subject, **options: Any) -> dict[str, Any]:
        theta = np.repeat(self._few, COPIES)
        grad = self._some_ulps(theta, np.repeat(self._few_eighths, COPIES))
        options |= {"rounding": "stochastic", "seed": 1}
        found = self._stepped(subject, theta, grad, lr=LR, **options).data.astype(np.float64)
        found, exact = found.reshape(-1, COPIES), self._exact(self._few, grad[::COPIES], LR)
        ulp = ulps(exact, self.dtype)
        part = exact / ulp - np.floor(exact / ulp)
        up = found / ulp[:, None] - np.floor(exact / ulp)[:, None]
        strays = int(np.sum((up != 0) & ((up != 1) | (part == 0)[:, None])))
        deviation = np.sqrt(part * (1 - part) / COPIES)
        bias = np.abs(up.mean(axis=1) - part)[part > 0] / deviation[part > 0]
        return {"strays": strays, "bias": float(bias.max())}

    def _stepped(self, subject: Subject, theta: Array, grad: Array, steps: int = 1, **options: Any) -> Any:
        param = refoptim.Parameter(theta)
        optimizer = subject([param], **options)
        param.grad = grad
        for _ in range(steps):
            optimizer.step()
        return param

    def _exact(self, theta: Array, grad: Array, lr: float) -> Array:
        # 11 digits at most, 7 more of the fraction, and 30 of the learning rate: float64 has them all.
        return theta.astype(np.float64) - lr * grad.astype(np.float64)


def _different(got: Array, exact: Array, dtype: Any) -> int:
    return int(np.sum(got.astype(np.float64) != nearest(exact, dtype)))


@cache
def exams() -> dict[str, Exam]:
    """Return the exams of every format that there is."""
    return {dtype.name: Exam(dtype) for dtype in halves()}


def plan(pattern: str = "") -> list[tuple[str, str]]:
    """Return the formats and implementations whose description contains the pattern."""
    every = [(dtype.name, implementation) for dtype in halves() for implementation in IMPLEMENTATIONS]
    return [entry for entry in every if pattern.lower() in f"rounding to {entry[0]} {entry[1]}"]


def rows(pattern: str = "", first: int = 0, stop: int | None = None) -> Iterator[Row]:
    """Measure what is planned, or a part of it."""
    for dtype, implementation in plan(pattern)[first:stop]:
        measured = exams()[dtype].measure(**IMPLEMENTATIONS[implementation])
        yield Row(dtype, implementation, measured, None, failures(measured))


def failures(measured: Errors) -> list[str]:
    """Return what is beyond its limit, in words; nothing if all is well."""
    columns = zip(Errors._fields, measured, ROUNDING_LIMITS, strict=True)
    return [f"{name}: {value:.4g}, limit {limit:g}" for name, value, limit in columns if not value <= limit]


def text(found: list[Row]) -> str:
    """Return the report for a terminal."""
    lines = ["Rounding to 16 bits: how many numbers are wrong, and the bias of stochastic rounding in standard errors."]
    for row in found:
        cells = [f"{name} {value:.3g}" for name, value in row.measured._asdict().items()]
        lines.append(f"{row.dtype} {row.implementation}: {', '.join(cells)}  {'FAILED' if row.failures else 'ok'}")
        lines += [f"  FAILED {failure}" for failure in row.failures]
    return "\n".join(lines)


def as_json(found: list[Row]) -> list[dict[str, Any]]:
    """Return the report as plain data."""
    return [row._asdict() | {"measured": row.measured._asdict()} for row in found]


def mutants() -> list[Mutant]:
    """Return the wrong roundings to every format, and for each the state in the other one."""
    found: list[Mutant] = []
    for dtype in (dtype.name for dtype in halves()):
        found += [Mutant(_name_of(loops), dtype, loops=loops) for loops in LOOPS]
        found.append(Mutant(_name_of(OTHER_FORMAT[dtype]), dtype, state=OTHER_FORMAT[dtype]))
    return found


def _name_of(wrong: type) -> str:
    return str(wrong.__doc__).rstrip(".")


def examine(mutant: Mutant, among: dict[str, Exam]) -> str | None:
    """Return why a mutant is rejected, or None if it survives."""
    found = among[mutant.dtype].rejects(mutant)
    return found[0] if found else None
