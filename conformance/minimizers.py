"""The exam of LBFGS and CG: one iteration from a given history, and ten from none, against the formulas on balls."""

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from textwrap import dedent
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from flint import arb

import refoptim
from refoptim.conformance import cases, truth
from refoptim.conformance.case import StaleMutantError
from refoptim.conformance.situation import ITERATIONS, Exact, FunctionMutant, Situation
from refoptim.conformance.tolerances import BALL, MINIMIZER_LIMITS
from refoptim.kernels.jit import CpuKernel, CpuLoop

OPTIMIZERS = {"lbfgs": "LBFGS", "cg": "CG"}
DTYPES = ("float32", "float64")
# The loss where a search looks first: low enough to be taken.
_LOW = -1e30


class Found(NamedTuple):
    """What an implementation makes of a situation."""

    theta: Any
    state: dict[str, Any]


Subject = Callable[[Situation, int], Found]


class Errors(NamedTuple):
    """What was measured, in ulps of the largest element of each vector, the worst of all situations."""

    direction: float  # of one iteration, from a given history
    pair: float  # the step and the change of the gradient that are kept
    t: float  # the step size
    theta: float  # the parameters after one iteration
    run: float  # the parameters after ten


class Row(NamedTuple):
    """One line of the report."""

    optimizer: str
    dtype: str
    situations: int
    measured: Errors
    torch: Errors | None
    failures: list[str]


class Mutant(NamedTuple):
    """A wrong minimizer."""

    stem: str
    name: str
    change: FunctionMutant

    def __str__(self) -> str:
        return f"{OPTIMIZERS[self.stem]}: {self.name}"


def ours(situation: Situation, iterations: int = 1) -> Found:
    """Put refoptim into a situation and let it go on."""
    param = refoptim.Parameter(situation.theta)
    optimizer = getattr(refoptim, situation.optimizer)([param], **_options(situation, iterations))
    optimizer.state[param].update(situation.state)
    losses = iter([situation.loss])

    def closure() -> float:
        param.grad = situation.grad(param.data)
        return next(losses, _LOW)

    optimizer.step(closure)
    return Found(param.data, dict(optimizer.state[param]))


def torchs(situation: Situation, iterations: int = 1) -> Found:
    """Put torch into a situation and let it go on."""
    torch: Any = import_module("torch")
    param = torch.nn.Parameter(torch.tensor(situation.theta))
    optimizer = getattr(torch.optim, situation.optimizer)([param], **_options(situation, iterations))
    optimizer.state[param].update(
        _mapped(lambda x: torch.tensor(x) if isinstance(x, np.ndarray) else x, situation.state)
    )

    def closure() -> float:
        param.grad = torch.tensor(situation.grad(param.detach().numpy()))
        return situation.loss

    optimizer.step(closure)
    state = _mapped(lambda x: x.numpy() if torch.is_tensor(x) else x, optimizer.state[param])
    return Found(param.detach().numpy(), state)


def _options(situation: Situation, iterations: int) -> dict[str, Any]:
    """Return options by which nothing ends before the iterations are over, and a search takes its first point."""
    return {"max_iter": iterations, "max_eval": 1 + iterations, "tolerance_grad": 0, "tolerance_change": 0} | (
        situation.options
    )


def _mapped(change: Callable[[Any], Any], state: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: list(map(change, value)) if isinstance(value, list) else change(value) for name, value in state.items()
    }


class Exam:
    """The exact outcomes of the situations of one algorithm and dtype, to which any number of subjects can be put."""

    def __init__(self, stem: str, dtype: str) -> None:
        module: Any = cases.stems()[stem]
        self.situations: list[Situation] = module.situations(dtype)
        with truth.precision():
            self._exact: list[Exact] = [module.exact(situation) for situation in self.situations]
            self._runs = [(situation, module.exact_run(situation)) for situation in module.runs(dtype)]

    def measure(self, subject: Subject = ours) -> Errors:
        """Put a subject to the exam."""
        pairs = zip(self.situations, self._exact, strict=True)
        with np.errstate(all="ignore"):
            found = [_errors(subject(situation, 1), exact) for situation, exact in pairs]
            runs = [_ulps(subject(situation, ITERATIONS).theta, exact) for situation, exact in self._runs]
        direction, pair, t, theta = (max(column) for column in zip(*found, strict=True))
        return Errors(direction, pair, t, theta, max(runs, default=0.0))


@cache
def exams() -> dict[str, list[Exam]]:
    """Return the exams of every algorithm."""
    return {stem: [Exam(stem, dtype) for dtype in DTYPES] for stem in OPTIMIZERS}


def plan(pattern: str = "") -> list[tuple[str, str]]:
    """Return the stems and dtypes whose description contains the pattern."""
    every = [(stem, dtype) for stem in OPTIMIZERS for dtype in DTYPES]
    return [(stem, dtype) for stem, dtype in every if pattern.lower() in f"{OPTIMIZERS[stem]}() {dtype}".lower()]


def rows(pattern: str = "", first: int = 0, stop: int | None = None) -> Iterator[Row]:
    """Measure what is planned, or a part of it, and torch beside it where it is installed."""
    for stem, dtype in plan(pattern)[first:stop]:
        optimizer, exam = OPTIMIZERS[stem], exams()[stem][DTYPES.index(dtype)]
        measured = exam.measure()
        witness = exam.measure(torchs) if optimizer == "LBFGS" and find_spec("torch") else None
        yield Row(optimizer, dtype, len(exam.situations), measured, witness, failures(measured))


def failures(measured: Errors) -> list[str]:
    """Return what is beyond its limit, in words; nothing if all is well."""
    columns = zip(Errors._fields, measured, MINIMIZER_LIMITS, strict=True)
    return [f"{name}: {value:.4g} ulp, limit {limit:g}" for name, value, limit in columns if not value <= limit]


def text(found: list[Row]) -> str:
    """Return the report for a terminal."""
    lines = ["One iteration from a given history, and ten from none: ulps of the largest element; torch's in brackets."]
    for row in found:
        columns = zip(Errors._fields, row.measured, row.torch or [None] * len(Errors._fields), strict=True)
        cells = [
            f"{name} {value:.2f}" + (f" ({other:.3g})" if other is not None else "") for name, value, other in columns
        ]
        lines.append(f"{row.optimizer} {row.dtype}: {', '.join(cells)}  {'FAILED' if row.failures else 'ok'}")
        lines += [f"  FAILED {failure}" for failure in row.failures]
    return "\n".join(lines)


def as_json(found: list[Row]) -> list[dict[str, Any]]:
    """Return the report as plain data."""
    return [
        row._asdict() | {"measured": row.measured._asdict(), "torch": row.torch and row.torch._asdict()}
        for row in found
    ]


def mutants() -> list[Mutant]:
    """Return the mutants of every algorithm."""
    stems: Any = cases.stems()
    return [Mutant(stem, change.name, change) for stem in OPTIMIZERS for change in stems[stem].MUTANTS]


def examine(mutant: Mutant, among: dict[str, list[Exam]]) -> str | None:
    """Return why a mutant is rejected, or None if it survives every exam of its stem. To raise is a reason."""
    with applied(mutant.change):
        for exam, dtype in zip(among[mutant.stem], DTYPES, strict=True):
            try:
                found = failures(exam.measure())
            except Exception as error:  # noqa: BLE001  a wrong optimizer may raise anything
                found = [f"{type(error).__name__}: {error}"]
            if found:
                return f"{OPTIMIZERS[mutant.stem]} {dtype}: {found[0]}"
    return None


@contextmanager
def applied(change: FunctionMutant) -> Iterator[None]:
    """Replace a function by the mutant, wherever it is known."""
    module, owner, name = _owner(change.function)
    right = getattr(owner, name)
    source = dedent(inspect.getsource(right))
    changed = source.replace(change.right, change.wrong)
    if changed == source:
        raise StaleMutantError(f"{change.name!r}: {change.right!r} is not in {change.function}")
    names = dict(vars(module))
    exec(changed, names)  # noqa: S102  the function's own source, with one thing wrong
    wrong = names[name]
    loop = vars(module).get(f"{name}_cpu")
    if isinstance(loop, CpuKernel):
        right, wrong = loop, _plain_loop(wrong, names["Scalars"])
    elif isinstance(loop, CpuLoop):
        right, wrong = loop, SimpleNamespace(serial=wrong)
    owners = [owner, *(m for name, m in list(sys.modules.items()) if name.startswith("refoptim."))]
    places = [(place, key) for place in owners for key, value in list(vars(place).items()) if value is right]
    for place, key in places:
        setattr(place, key, wrong)
    try:
        yield
    finally:
        for place, key in places:
            setattr(place, key, right)


def _owner(path: str) -> tuple[ModuleType, Any, str]:
    """Return the module of a function of this package, and the module or class that has it under this name."""
    *parents, name = path.split(".")
    if parents[-1][:1].isupper():
        module = import_module(".".join(["refoptim", *parents[:-1]]))
        return module, getattr(module, parents[-1]), name
    module = import_module(".".join(["refoptim", *parents]))
    return module, module, name


def _plain_loop(rule: Callable[..., Any], kind: Callable[..., Any]) -> Callable[..., None]:
    def loop(*arguments: Any) -> None:
        *arrays, scalars = arguments
        h = kind(*scalars)
        for i in range(arrays[0].size):
            results = rule(*(array[i] for array in arrays), h)
            for array, result in zip(arrays, results if isinstance(results, tuple) else (results,), strict=False):
                array[i] = result

    return loop


def _errors(found: Found, exact: Exact) -> tuple[float, float, float, float]:
    state = found.state
    pair = 0.0
    if exact.pairs is not None:
        kept = list(zip(state["old_stps"], state["old_dirs"], strict=True))
        pair = np.inf if len(kept) != len(exact.pairs) else 0.0
        for got, right in zip(kept, exact.pairs, strict=False):
            pair = max(pair, *map(_ulps, got, right))
    direction = _ulps(state["d"], exact.d)
    if exact.t is None:
        return direction, pair, 0.0, 0.0
    # In the vectors' precision, in which the slope is known.
    t = _ulps(np.array([state["t"]], found.theta.dtype), np.array([arb(exact.t)], object))
    return direction, pair, t, _ulps(found.theta, exact.theta)


def _ulps(got: Any, exact: Any) -> float:
    """Return how far a vector is from the exact one at most, in ulps of the largest element."""
    if got.shape != exact.shape or not np.isfinite(got).all():
        return np.inf
    kind = got.dtype.type
    ulp = float(np.spacing(kind(max(abs(float(ball.mid())) for ball in exact))))
    if not all(float(ball.rad()) < ulp * BALL for ball in exact):
        raise truth.WideBallError(f"an exact value is not known to {BALL} ulp")
    with truth.precision():
        return max(float((arb(float(value)) - ball).abs_upper()) / ulp for value, ball in zip(got, exact, strict=True))
