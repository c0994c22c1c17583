"""Schedulers followed and closures replayed, for what has torch's interface."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple
from warnings import catch_warnings, simplefilter

import numpy as np
from numpy.typing import NDArray

from refoptim.conformance.runner.adapter import Calls, Unsupported
from refoptim.conformance.vectors.vector import Rows, Schedule, Trace

Array = NDArray[Any]

# The optimizer's momentum, which a scheduler may cycle.
_MOMENTUM = 0.9


class Library(NamedTuple):
    """What each library does in its own way."""

    optimizers: Any  # has the classes
    schedulers: Mapping[str, Any]
    parameter: Callable[[Array], Any]
    gradient: Callable[[Array | Rows, Any], Any]  # of a parameter
    values: Callable[[Any], Array]  # of a parameter or an array of its state
    array: Callable[[Array], Any]  # as the state holds it


@contextmanager
def quiet() -> Iterator[None]:
    """Leave out warnings, such as the one about schedulers that step before the optimizer."""
    with catch_warnings():
        simplefilter("ignore")
        yield


def curves(problem: Schedule, library: Library) -> list[list[float]]:
    """Return each group's learning rates, and after them each group's momentum where the scheduler cycles it."""
    groups = [{"params": [library.parameter(np.zeros(1))], "lr": lr} for lr in problem.lrs]
    optimizer = library.optimizers.SGD(groups, lr=problem.lrs[0], momentum=_MOMENTUM)
    with quiet():
        scheduler = _scheduler(problem.algorithm, problem.options, optimizer, library)
        found = [_now(optimizer)]
        for epoch in range(problem.epochs):
            scheduler.step(*([problem.metrics[epoch]] if problem.metrics else []))
            found.append(_now(optimizer))
    lrs, momenta = zip(*(found[epoch] for epoch in problem.record), strict=True)
    columns = [*zip(*lrs, strict=True), *(zip(*momenta, strict=True) if cycles_momentum(problem) else ())]
    return [list(column) for column in columns]


def cycles_momentum(problem: Schedule) -> bool:
    """Return whether a schedule is one of the momentum too."""
    return problem.algorithm in ("CyclicLR", "OneCycleLR") and problem.options.get("cycle_momentum", True)


def _now(optimizer: Any) -> tuple[list[float], list[float]]:
    groups = optimizer.param_groups
    return [float(group["lr"]) for group in groups], [float(group["momentum"]) for group in groups]


def _scheduler(algorithm: str, options: Mapping[str, Any], optimizer: Any, library: Library) -> Any:
    made = library.schedulers.get(algorithm)
    if made is None:
        raise Unsupported(f"scheduler:{algorithm}")
    given = {name: with_functions(value) for name, value in options.items() if name != "schedulers"}
    if "schedulers" in options:
        parts = options["schedulers"]
        given["schedulers"] = [_scheduler(part["algorithm"], part["options"], optimizer, library) for part in parts]
    return made(**given) if algorithm == "ChainedScheduler" else made(optimizer, **given)


def with_functions(value: Any) -> Any:
    """Return an option with functions where a problem has tables, of which the last value holds on."""
    if isinstance(value, tuple):
        return [with_functions(part) for part in value]
    if isinstance(value, dict):
        table = value["table"]
        return lambda at: table[min(int(at), len(table) - 1)]
    return value


def replayed(problem: Trace, made: Any, library: Library) -> Calls:
    """Return where a minimizer calls a closure that says what the problem says, and its last words again after them."""
    params = {name: library.parameter(array) for name, array in problem.params.items()}
    optimizer = made(list(params.values()), **problem.options)
    points: list[dict[str, Array]] = []
    per_step: list[int] = []

    def closure() -> float:
        call = min(len(points), len(problem.losses) - 1)
        points.append({name: library.values(param).copy() for name, param in params.items()})
        for name, param in params.items():
            param.grad = library.gradient(problem.grads[call][name], param)
        return problem.losses[call]

    for _ in range(problem.steps):
        before = len(points)
        optimizer.step(closure)
        per_step.append(len(points) - before)
    return Calls(points, per_step, {name: library.values(param) for name, param in params.items()})
