"""Witnesses: how far the result moves when a flagged feature is taken away. What moves nothing tests nothing."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from refoptim.conformance.case import Case
from refoptim.conformance.vectors import flags, problems
from refoptim.conformance.vectors.options import documented
from refoptim.conformance.vectors.vector import Group, Trajectory, is_zero

# A feature must move the parameters by more than this many budgets.
LEAST = 64.0


def without(problem: Trajectory, asked: list[str]) -> Iterator[tuple[str, Trajectory]]:
    """Yield the problem without each of its features, by flag.

    Args:
        problem: what has features.
        asked: the options that it asks for, as ``option:amsgrad``.

    """
    for option in asked:
        name = option.removeprefix("option:")
        yield flags.of_option(name), _with_options(problem, {name: documented(problem.algorithm)[name]})
    if len(problem.groups) > 1:
        first = problem.groups[0].options
        alike = tuple(group._replace(options=first) for group in problem.groups)
        steps = tuple(step._replace(lrs=(step.lrs[0],) * len(step.lrs)) for step in problem.steps)
        yield "ParamGroups", problem._replace(groups=alike, steps=steps)
    lrs = [step.lrs for step in problem.steps]
    if len(set(lrs)) > 1:
        yield "LrPerStep", problem._replace(steps=tuple(step._replace(lrs=lrs[0]) for step in problem.steps))
    grads = [(name, grad) for step in problem.steps for name, grad in step.grads.items()]
    if any(grad is None for _, grad in grads):
        yield "NoneGrad", problem.with_gradients(lambda grad, like: np.zeros_like(like) if grad is None else grad)
    if any(is_zero(grad) for _, grad in grads):
        yield "ZeroGrad", problem.with_gradients(lambda grad, _: None if is_zero(grad) else grad)
    # To the others a row without a gradient is one whose gradient is zero.
    if problem.algorithm == "SparseAdam":
        yield "Sparse", problems.dense(problem)


def changed_defaults(case: Case, problem: Trajectory) -> Iterator[tuple[str, Trajectory]]:
    """Yield a problem that leaves options out with each default changed, by the option's name."""
    for name, value in documented(case.optimizer).items():
        if name in IDLE.get(case.optimizer, ()):
            continue
        for part, other in _other_values(name, value):
            yield f"default:{part}", _with_options(problem, {name: other})


# Defaults that change nothing while the others are as they are: what they belong to is off, or far away.
IDLE = {
    "SGD": {"dampening", "nesterov"},
    "ASGD": {"t0"},
    "Adam": {"decoupled_weight_decay"},
    "NAdam": {"decoupled_weight_decay"},
    "RAdam": {"decoupled_weight_decay"},
    "Muon": {"adjust_lr_fn"},
}


def _other_values(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, tuple):
        for i, part in enumerate(value):
            for _, other in _other_values(name, part):
                yield f"{name}[{i}]", (*value[:i], other, *value[i + 1 :])
    elif isinstance(value, bool):
        yield name, not value
    elif isinstance(value, int):
        yield name, value + 1
    elif isinstance(value, float):
        near_one = 0.75 < value < 1
        yield name, 0.125 if value == 0 else 1 - (1 - value) * 4 if near_one else value * 1.5


def _with_options(problem: Trajectory, changed: dict[str, Any]) -> Trajectory:
    groups = tuple(Group(group.params, group.options | changed) for group in problem.groups)
    return problem._replace(groups=groups)
