"""Schedules as vectors: the learning rates of chosen epochs, exact, for every case of every scheduler."""

import inspect
from collections.abc import Callable, Iterator
from math import inf, nan
from typing import Any, NamedTuple

import numpy as np
from flint import arb
from numpy.typing import NDArray

import refoptim
from refoptim.conformance import truth
from refoptim.conformance.dialects import separators
from refoptim.conformance.schedules import plateau
from refoptim.conformance.schedules.cases import CASES, PLATEAU_CASES, Case
from refoptim.conformance.schedules.truth import cycles_momentum, exact_curves
from refoptim.conformance.vectors import flags
from refoptim.conformance.vectors.encoding import encoded_options, scalar, to_hex
from refoptim.conformance.vectors.entry import split, wide
from refoptim.conformance.vectors.options import short
from refoptim.conformance.vectors.problems import Random
from refoptim.conformance.vectors.vector import Schedule, content_hash

Array = NDArray[Any]

LRS = (0.1, 0.003)
MOMENTUM = 0.9
# Epochs whose learning rates are looked at, as far as a schedule goes: all at first, then around ends of phases.
SEEN = (*range(36), *range(48, 52), 60, 70, 71, 88, 89, 90, 91, 99, 100, 150, 199, 200, 298, 299, 300, 500, 999, 1000)
SEEN += (1999, 2000, 2999, 3000, 4999, 5000, 7500, 9999, 10_000)
# What is a function is sent as a table, which must not be too long.
TABLE = 60
# A learning rate that is computed from its epoch, and one that is multiplied up: ulps, for each epoch.
CLOSED, PER_EPOCH = 4.0, 4.0

# What torch computes otherwise, or refuses: nothing is published that torch, which has it too, does not agree with.
DISSENT = {
    "constantlr.schedule.factor=0-total-iters=3": "torch divides by the factor",
    "onecyclelr.schedule.max-lr=1-total-steps=50-cycle-momentum=false-pct-start=0.1": "torch goes on after the end",
    "sequentiallr.schedule.linearlr-onecyclelr": "torch lets the later one change where the first one starts",
    "sequentiallr.schedule.sequentiallr-chainedscheduler": "torch cannot nest them",
}

_HOW = {"optimizer", "last_epoch", "verbose", "schedulers"}


def names() -> list[str]:
    """Return the schedulers that there are vectors of."""
    return list(dict.fromkeys(case.scheduler for case in (*CASES, *PLATEAU_CASES)))


def entries(scheduler: str) -> Iterator[dict[str, Any]]:
    """Yield the entries of a scheduler."""
    own = [case for case in (*CASES, *PLATEAU_CASES) if case.scheduler == scheduler]
    taken: dict[str, int] = {}
    for case in own:
        name = _name(case)
        taken[name] = taken.get(name, 0) + 1
        again = f"-{taken[name]}" if taken[name] > 1 else ""
        identifier = f"{scheduler.lower()}.schedule.{name}{again}"
        if identifier not in DISSENT:
            yield _entry(_usual(case), identifier, str(case))
    yield from separating(scheduler)


class Asked(NamedTuple):
    """What a vector asks for."""

    case: Case
    lrs: tuple[float, ...]
    record: tuple[int, ...]
    metrics: tuple[float, ...] | None


def _usual(case: Case) -> Asked:
    has_table = any(map(_is_function, _all_options(case)))
    case = case._replace(epochs=min(case.epochs, TABLE) if has_table else case.epochs)
    record = tuple(epoch for epoch in sorted({*SEEN, case.epochs}) if epoch <= case.epochs)
    return Asked(case, LRS, record, _metrics(case) if case.scheduler == "ReduceLROnPlateau" else None)


def separating(scheduler: str) -> Iterator[dict[str, Any]]:
    """Yield the entries that tell dialects of a scheduler apart."""
    for found in separators.problems():
        problem = found.problem
        if isinstance(problem, Schedule) and problem.algorithm == scheduler:
            case = Case(scheduler, problem.options, problem.epochs)
            comment = f"tells apart: {found.axis.title}"
            yield _entry(Asked(case, problem.lrs, problem.record, problem.metrics), found.id, comment, "separator")


def _entry(asked: Asked, identifier: str, comment: str, tier: str = "schedule") -> dict[str, Any]:
    case, record = asked.case, list(asked.record)
    columns = _plateau(asked) if asked.metrics else _curves(asked)
    problem = {
        "algorithm": case.scheduler,
        "options": _options(case),
        "lr": [scalar(lr) for lr in asked.lrs],
        "epochs": case.epochs,
        "record": record,
    }
    if asked.metrics:
        problem["metrics"] = to_hex(np.array(asked.metrics))
    limits = {"A": CLOSED, "B": CLOSED + PER_EPOCH * case.epochs}
    cycled = cycles_momentum(case)
    entry = {
        "id": identifier,
        "comment": comment,
        "tier": tier,
        "flags": _flags(case, cycled=cycled, metrics=bool(asked.metrics), dialect=tier == "separator"),
        "requires": sorted({f"scheduler:{name}" for name in _all_schedulers(case)}),
        "result": "valid",
        "problem": problem,
        "expect": {
            "encoding": "f64x2",
            "scale": "element",
            "lr": [wide((high[record], low[record]), "f64") for high, low in columns],
        },
        "budget": {"lr": limits} | ({"momentum": limits} if cycled else {}),
        "margin": None,
        "witness": {},
    }
    return entry | {"sha256": content_hash(entry)}


def _curves(asked: Asked) -> list[tuple[Array, Array]]:
    case = asked.case
    with truth.precision():
        curves = exact_curves(case, list(asked.lrs), MOMENTUM)
        shown = curves if cycles_momentum(case) else curves[: len(asked.lrs)]
        return [split(np.array([arb(ball) for ball in curve], object).view(truth.Balls)) for curve in shown]


def _plateau(asked: Asked) -> list[tuple[Array, Array]]:
    found = []
    for i, lr in enumerate(asked.lrs):
        options = {name: value[i] if isinstance(value, list) else value for name, value in asked.case.options.items()}
        curve = np.array(plateau.learning_rates(list(asked.metrics or ()), lr, **options))
        found.append((curve, np.zeros_like(curve)))
    return found


def _metrics(case: Case) -> tuple[float, ...]:
    """Return a metric for each epoch: on a coarse grid, so that some are equal, and now and then no number."""
    steps = Random("metrics", case.options.get("mode", "min")).integers(-3, 5, case.epochs) / 10
    gain = np.minimum(np.cumsum(np.maximum(steps, 0)) / 4, 6) + steps
    values = np.round(gain if case.options.get("mode") == "max" else 8 - gain, 1)
    values[0], values[case.epochs // 2] = (-inf, -inf) if case.options.get("mode") == "max" else (inf, inf)
    values[17::40] = nan
    return tuple(values.tolist())


def _options(case: Case) -> dict[str, Any]:
    """Return all options of a case for JSON, functions as tables and schedulers as their names and options."""
    where: Any = refoptim.swa_utils if case.scheduler == "SWALR" else refoptim.lr_scheduler
    signature = inspect.signature(getattr(where, case.scheduler))
    usual = {name: p.default for name, p in signature.parameters.items() if name not in _HOW}
    given = {name: value for name, value in case.options.items() if name != "schedulers"}
    encoded = encoded_options({name: _plain(value, case.epochs) for name, value in (usual | given).items()})
    if case.parts:
        encoded["schedulers"] = [
            {"algorithm": part.scheduler, "options": _options(part._replace(epochs=case.epochs))} for part in case.parts
        ]
    return encoded


def _plain(value: Any, epochs: int) -> Any:
    if isinstance(value, list):
        return [_plain(part, epochs) for part in value]
    return {"table": [float(value(k)) for k in range(epochs + 2)]} if _is_function(value) else value


def _is_function(value: Any) -> bool:
    return isinstance(value, Callable) and not isinstance(value, type)


def _all_options(case: Case) -> Iterator[Any]:
    for value in case.options.values():
        yield from value if isinstance(value, list) else [value]
    for part in case.parts:
        yield from _all_options(part)


def _all_schedulers(case: Case) -> Iterator[str]:
    yield case.scheduler
    for part in case.parts:
        yield from _all_schedulers(part)


def _flags(case: Case, *, cycled: bool, metrics: bool, dialect: bool) -> list[str]:
    there = {
        "Schedule": True,
        "Dialect": dialect,
        "CyclesMomentum": cycled,
        "Metrics": metrics,
        "Composite": bool(case.parts),
    }
    return [name for name in sorted(flags.FLAGS) if there.get(name)]


def _name(case: Case) -> str:
    if case.parts:
        return "-".join(part.scheduler.lower() for part in case.parts)
    given = [f"{name}={short(value)}" for name, value in case.options.items()]
    return "-".join(given).replace("_", "-").lower() or "plain"
