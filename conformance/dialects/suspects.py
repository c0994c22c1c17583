"""The usual suspects: mistakes that are no dialect, as problems for which the right formula gives the wrong answer."""

from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from refoptim.conformance.vectors.options import documented
from refoptim.conformance.vectors.vector import Group, Rows, Step, Trajectory, is_zero


class Suspect(NamedTuple):
    """A mistake: two on the same axis are not made at once."""

    axis: str
    value: str
    words: str
    change: Callable[[Trajectory], Trajectory | None] | None = None  # None where the problem does not show it
    unless: tuple[str, ...] = ()  # optimizers of which it would be a dialect, or nothing


def _options(problem: Trajectory, change: Callable[[Mapping[str, Any]], dict[str, Any]]) -> Trajectory | None:
    groups = tuple(Group(group.params, {**group.options, **change(group.options)}) for group in problem.groups)
    return problem._replace(groups=groups) if groups != problem.groups else None


def _steps(problem: Trajectory, steps: list[Step]) -> Trajectory | None:
    return problem._replace(steps=tuple(steps))


def _lrs(shift: int | None) -> Callable[[Trajectory], Trajectory | None]:
    def change(problem: Trajectory) -> Trajectory | None:
        lrs = [step.lrs for step in problem.steps]
        last = len(lrs) - 1
        at = [0 if shift is None else min(max(t + shift, 0), last) for t in range(len(lrs))]
        found = [lrs[i] for i in at]
        return None if found == lrs else _steps(problem, [s._replace(lrs=lr) for s, lr in zip(problem.steps, found)])

    return change


def _groups(chosen: int) -> Callable[[Trajectory], Trajectory | None]:
    def change(problem: Trajectory) -> Trajectory | None:
        if len(problem.groups) < 2:
            return None
        groups = tuple(group._replace(options=problem.groups[chosen].options) for group in problem.groups)
        steps = tuple(
            step._replace(lrs=(step.lrs[chosen],) * len(step.lrs) if step.lrs else ()) for step in problem.steps
        )
        return problem._replace(groups=groups, steps=steps)

    return change


def _first_lr(problem: Trajectory) -> Trajectory | None:
    if len(problem.groups) < 2 or not problem.steps[0].lrs:
        return None
    return _steps(problem, [step._replace(lrs=(step.lrs[0],) * len(step.lrs)) for step in problem.steps])


def _previous_gradient(problem: Trajectory) -> Trajectory | None:
    grads = [dict.fromkeys(problem.params), *(step.grads for step in problem.steps)]
    return _steps(problem, [step._replace(grads=grad) for step, grad in zip(problem.steps, grads)])


def _summed(problem: Trajectory) -> Trajectory | None:
    def add(known: Any, new: Any) -> Any:
        if isinstance(known, Rows) or isinstance(new, Rows):
            return new
        return known if new is None else new if known is None else known + new

    def both(known: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
        return {name: add(known[name], grad) for name, grad in new.items()}

    grads = list(accumulate((step.grads for step in problem.steps), both))
    return _steps(problem, [step._replace(grads=grad) for step, grad in zip(problem.steps, grads)])


def _sparse(change: Callable[[Rows, Any], Any]) -> Callable[[Trajectory], Trajectory | None]:
    def changed(problem: Trajectory) -> Trajectory | None:
        if not any(isinstance(grad, Rows) for step in problem.steps for grad in step.grads.values()):
            return None
        return problem.with_gradients(lambda grad, like: change(grad, like) if isinstance(grad, Rows) else grad)

    return changed


def _last_of_row(grad: Rows, like: Any) -> Rows:
    last = {int(row): values for row, values in zip(grad.indices, grad.values, strict=True)}
    return Rows(np.array(list(last), np.int64), np.array(list(last.values()), like.dtype))


def missing_as_zero(problem: Trajectory) -> Trajectory | None:
    """Return the problem with zeros where a parameter has no gradient."""
    if not any(grad is None for step in problem.steps for grad in step.grads.values()):
        return None
    return problem.with_gradients(lambda grad, like: np.zeros_like(like) if grad is None else grad)


def _zero_as_missing(problem: Trajectory) -> Trajectory | None:
    if not any(is_zero(grad) for step in problem.steps for grad in step.grads.values()):
        return None
    return problem.with_gradients(lambda grad, _: None if is_zero(grad) else grad)


def _some(change: Callable[[Mapping[str, Any]], dict[str, Any]]) -> Callable[[Trajectory], Trajectory | None]:
    return lambda problem: _options(problem, change)


_FIXED = (
    Suspect("update", "previous", "applies the previous step's update"),
    Suspect("gradient", "previous", "steps along the previous step's gradient", _previous_gradient),
    Suspect("gradient", "summed", "adds each gradient to those before: they are not cleared", _summed),
    Suspect("lr", "late", "takes the learning rate of the step before", _lrs(-1)),
    Suspect("lr", "early", "takes the learning rate of the next step", _lrs(1)),
    Suspect("lr", "constant", "keeps the first learning rate", _lrs(None)),
    Suspect("groups", "first", "gives every group the first one's options", _groups(0)),
    Suspect("groups", "last", "gives every group the last one's options", _groups(-1)),
    Suspect("groups", "rate", "gives every group the first one's learning rate", _first_lr),
    Suspect("zeros", "missing", "skips a parameter whose gradient is zero everywhere", _zero_as_missing),
    Suspect("zeros", "lazy", "leaves elements alone whose gradient is zero"),
    Suspect("count", "shared", "counts steps for all parameters together"),
    Suspect("count", "from 0", "counts steps from 0", unless=("SGD",)),
    Suspect("count", "from 2", "counts steps from 2", unless=("SGD",)),
    Suspect(
        "weight decay",
        "negative",
        "has weight decay with the wrong sign",
        _some(lambda o: {"weight_decay": -o["weight_decay"]} if o.get("weight_decay") else {}),
    ),
    Suspect(
        "betas", "swapped", "swaps the betas", _some(lambda o: {"betas": o["betas"][::-1]} if "betas" in o else {})
    ),
    Suspect(
        "epsilon",
        "squared",
        "squares epsilon",
        _some(lambda o: {"eps": o["eps"] ** 2} if isinstance(o.get("eps"), float) else {}),
    ),
    Suspect(
        "epsilon",
        "dropped",
        "leaves epsilon out",
        _some(lambda o: {"eps": 0.0} if isinstance(o.get("eps"), float) else {}),
        unless=("Adamax",),
    ),
    Suspect("rows", "dense", "takes rows without a gradient for rows of zeros", _sparse(Rows.dense)),
    Suspect("rows", "last", "keeps the last of a row's gradients in the place of their sum", _sparse(_last_of_row)),
)


def of(problem: Trajectory) -> Iterator[Suspect]:
    """Yield the mistakes that a problem may show."""
    for suspect in (*_FIXED, *_directions(problem), *_ignored(problem)):
        possible = suspect.change is None or suspect.change(problem) is not None
        if possible and problem.algorithm not in suspect.unless:
            yield suspect


def _directions(problem: Trajectory) -> Iterator[Suspect]:
    known = "maximize" in documented(problem.algorithm)
    asked = any(group.options.get("maximize") for group in problem.groups)
    words = "ignores maximize" if asked else "climbs in the place of descending"
    turned = _some(lambda o: {"maximize": not o.get("maximize", False)} if known else {})
    yield Suspect("direction", "other", words, turned)


# Options that suspects or axes of their own are about.
_AXES = {"lr", "maximize", "decoupled_weight_decay"}


def _ignored(problem: Trajectory) -> Iterator[Suspect]:
    """Yield options that may be ignored: those that are not at their defaults."""
    for name, default in documented(problem.algorithm).items():
        if name in _AXES:
            continue
        words = f"ignores {name}" if not default else f"ignores {name}: its default {default} holds"
        yield Suspect(name, "ignored", words, _some(lambda _, name=name, default=default: {name: default}))
