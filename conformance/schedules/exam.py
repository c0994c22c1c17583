"""The schedulers' exams: whole curves against the exact ones, by every way that leads to them."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple
from warnings import catch_warnings, simplefilter

import numpy as np
from flint import arb
from numpy.typing import NDArray

import refoptim
from refoptim.conformance.schedules import plateau
from refoptim.conformance.schedules.cases import CASES, PLATEAU_CASES, Case
from refoptim.conformance.schedules.truth import cycles_momentum, exact_curves, has_momentum
from refoptim.conformance.tolerances import BALL, SCHEDULE_LIMITS
from refoptim.conformance.truth import WideBallError, precision

Array = NDArray[np.float64]

# The initial learning rates of the two groups that every case is run with.
LRS = [0.1, 0.003]
MOMENTUM = 0.9
# Where a run is stopped and resumed: around the ends of phases, and later here and there.
STOPS = (0, 1, 2, 5, 9, 10, 11, 29, 30, 49, 50, 89, 150, 299, 1999, 5000)
# For how many epochs a schedule is followed that goes on from ``last_epoch``.
FOLLOWED = 25


class Library(NamedTuple):
    """Something that has schedulers."""

    parameter: Any
    sgd: Any
    schedulers: Mapping[str, Any]

    def optimizer(self) -> Any:
        """Return an optimizer of two groups."""
        groups = [{"params": [self.parameter()], "lr": lr} for lr in LRS]
        return self.sgd(groups, lr=LRS[0], momentum=MOMENTUM)

    def scheduler(self, case: Case, optimizer: Any, **more: Any) -> Any:
        """Return the scheduler of a case."""
        options = dict(case.options) | more
        if case.parts:
            options["schedulers"] = [self.scheduler(part, optimizer) for part in case.parts]
        given = () if case.scheduler == "ChainedScheduler" else (optimizer,)
        return self.schedulers[case.scheduler](*given, **options)


def ours() -> Library:
    """Return refoptim."""
    schedulers = {**vars(refoptim.lr_scheduler), "SWALR": refoptim.swa_utils.SWALR}
    return Library(lambda: refoptim.Parameter(np.zeros(1)), refoptim.SGD, schedulers)


def torch_library() -> Library | None:
    """Return torch, or None where it is not installed."""
    if find_spec("torch") is None:
        return None
    torch: Any = import_module("torch")
    schedulers = {**vars(torch.optim.lr_scheduler), "SWALR": import_module("torch.optim.swa_utils").SWALR}
    return Library(lambda: torch.nn.Parameter(torch.zeros(1)), torch.optim.SGD, schedulers)


class Errors(NamedTuple):
    """Distances from the exact curve, in ulps."""

    worst: float
    mean: float


class Measured(NamedTuple):
    """How far each way to the learning rates leads from the exact ones. None: there is no such way."""

    closed: Errors | None  # at(steps), momentum_at(steps)
    stepped: Errors  # from the first epoch to the last
    resumed: Errors  # the same, saved as JSON and loaded into new objects many times on the way
    continued: Errors | None  # from last_epoch=n, at many n


class Row(NamedTuple):
    """One line of the report."""

    case: Case
    measured: Measured
    torch: Errors | None  # stepped; None where there is no torch, or it raises
    failures: list[str]


class Exam:
    """The exact curves of a case, to which any library can be put."""

    def __init__(self, case: Case, epochs: int | None = None) -> None:
        self.case = case._replace(epochs=min(case.epochs, epochs or case.epochs))
        self._arguments: list[tuple[float, ...]] = [()] * self.case.epochs
        self._plateau = case.scheduler == "ReduceLROnPlateau"
        if self._plateau:
            seen = plateau.metrics(case.options.get("mode", "min"), self.case.epochs)
            self._arguments = [(metric,) for metric in seen]

    @cached_property
    def _truth(self) -> tuple[Array, Array, Array]:
        """The exact curves: rounded, what is lost by that, and the size of an ulp."""
        with precision():
            exact = self.modelled(plateau.learning_rates) if self._plateau else exact_curves(self.case, LRS, MOMENTUM)
            rounded = np.array([[float(arb(ball).mid()) for ball in curve] for curve in exact])
            ulps = np.spacing(np.maximum(abs(rounded), abs(np.roll(rounded, 1, axis=1))))
            ulps[:, 0] = np.spacing(abs(rounded[:, 0]))
            lost = np.zeros(rounded.shape)
            for index, ulp in np.ndenumerate(ulps):
                ball = arb(exact[index[0]][index[1]])
                if not ball.is_finite() or not float(ball.rad()) <= ulp * BALL:
                    raise WideBallError(f"{self.case}, epoch {index[1]}: the exact value is only known to be {ball}")
                lost[index] = float((ball - rounded[index]).mid())
        return rounded, lost, ulps

    def modelled(self, model: Any) -> list[list[float]]:
        """Return the groups' learning rates as a model has them, given the metrics."""
        seen = [metric for (metric,) in self._arguments]
        options = [
            {name: value[i] if isinstance(value, list) else value for name, value in self.case.options.items()}
            for i in range(len(LRS))
        ]
        return [model(seen, lr, **own) for lr, own in zip(LRS, options, strict=True)]

    def measure(self, library: Library) -> Measured:
        """Put a library to the exam, on all ways."""
        return Measured(
            closed=None if self._plateau else self.errors(self.closed(library)),
            stepped=self.errors(self.stepped(library)),
            resumed=self.errors(self.stepped(library, STOPS)),
            continued=self.errors(*self.continued(library)) if _continues(self.case) else None,
        )

    def errors(self, curves: Array, epochs: Any = ...) -> Errors:
        """Return the errors of curves, which are those of all epochs or of these."""
        rounded, lost, ulps = (array[: len(curves), epochs] for array in self._truth)
        # Near the exact value the first difference is exact.
        with np.errstate(over="ignore", invalid="ignore"):
            distances = abs((curves - rounded) - lost) / ulps
            return Errors(float(np.max(distances)), float(np.mean(distances)))

    def closed(self, library: Library) -> Array:
        """Return the curves as ``at`` gives them."""
        with _quiet():
            scheduler = library.scheduler(self.case, library.optimizer())
            steps = range(self.case.epochs + 1)
            found = scheduler.at(steps) + (scheduler.momentum_at(steps) if cycles_momentum(self.case) else [])
        return np.array(found)

    def stepped(self, library: Library, stops: tuple[int, ...] = ()) -> Array:
        """Return the curves that stepping gives, in one run, or saved and loaded at the stops."""
        with _quiet():
            optimizer = library.optimizer()
            scheduler = library.scheduler(self.case, optimizer)
            found = [self._now(optimizer)]
            for epoch, arguments in enumerate(self._arguments):
                if epoch in stops:
                    optimizer, scheduler = self._reloaded(library, optimizer, scheduler)
                scheduler.step(*arguments)
                found.append(self._now(optimizer))
        return np.array(found).T

    def continued(self, library: Library) -> tuple[Array, list[int]]:
        """Return what ``last_epoch=n`` leads to for some n, and the epochs that these learning rates are of."""
        found: list[list[float]] = []
        epochs: list[int] = []
        with _quiet():
            optimizer = library.optimizer()
            scheduler = library.scheduler(self.case, optimizer)
            for n in range(min(self.case.epochs, max(STOPS) + 1)):
                if n in STOPS:
                    epochs += range(n + 1, min(n + FOLLOWED, self.case.epochs) + 1)
                    found += self._follow(library, optimizer.state_dict(), n)
                scheduler.step()
        return np.array(found).T, epochs

    def _follow(self, library: Library, saved: Any, n: int) -> Iterator[list[float]]:
        optimizer = library.optimizer()
        optimizer.load_state_dict(saved)
        scheduler = library.scheduler(self.case, optimizer, last_epoch=n)
        yield self._now(optimizer)
        for _ in range(n + 2, min(n + FOLLOWED, self.case.epochs) + 1):
            scheduler.step()
            yield self._now(optimizer)

    def _now(self, optimizer: Any) -> list[float]:
        groups = optimizer.param_groups
        momentums = [group["momentum"] for group in groups] if has_momentum(self.case) else []
        return [group["lr"] for group in groups] + momentums

    def _reloaded(self, library: Library, optimizer: Any, scheduler: Any) -> tuple[Any, Any]:
        saved = json.loads(json.dumps(scheduler.state_dict()))
        loaded = library.optimizer()
        restored = library.scheduler(self.case, loaded)
        loaded.load_state_dict(optimizer.state_dict())
        restored.load_state_dict(saved)
        return loaded, restored


def _continues(case: Case) -> bool:
    """Return whether a schedule can go on from last_epoch=n."""
    return case.scheduler not in ("ReduceLROnPlateau", "ChainedScheduler")


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out the warnings about optimizers that do not step, and torch's about its own composites."""
    with catch_warnings():
        simplefilter("ignore")
        yield


def failures(measured: Measured, case: Case) -> list[str]:
    """Return what is beyond its limit, in words; nothing if all is well."""
    limits = SCHEDULE_LIMITS["plateau" if case.scheduler == "ReduceLROnPlateau" else "curve"]
    return [
        f"{way}, {kind}: {getattr(errors, kind):.4g} ulp, limit {getattr(limits, kind):g}"
        for way, errors in measured._asdict().items()
        if errors is not None
        for kind in Errors._fields
        if not getattr(errors, kind) <= getattr(limits, kind)
    ]


def plan(pattern: str = "") -> list[Case]:
    """Return the cases whose description contains the pattern."""
    return [case for case in [*CASES, *PLATEAU_CASES] if pattern.lower() in str(case).lower()]


def rows(pattern: str = "", first: int = 0, stop: int | None = None) -> Iterator[Row]:
    """Measure what is planned, or a part of it, and torch's schedulers beside it."""
    subject, witness = ours(), torch_library()
    for case in plan(pattern)[first:stop]:
        exam = Exam(case)
        measured = exam.measure(subject)
        yield Row(case, measured, None if witness is None else _witnessed(exam, witness), failures(measured, case))


def _witnessed(exam: Exam, witness: Library) -> Errors | None:
    try:
        return exam.errors(exam.stepped(witness))
    except (ArithmeticError, NotImplementedError):  # torch divides by zero, and does not nest composites
        return None
