"""What a scheduler's case means: its curves in exact numbers, from the formulas and the documented defaults alone."""

from collections.abc import Callable
from fractions import Fraction
from math import lcm
from typing import Any

import numpy as np
from flint import arb

from refoptim.conformance.schedules.cases import Case
from refoptim.formulas import schedules

# What a user may give for each group.
_BY_GROUP = ("lr_lambda", "base_lr", "max_lr", "swa_lr", "base_momentum", "max_momentum")


def exact_curves(case: Case, lrs: list[float], momentum: float) -> list[Any]:
    """Return the curves of epochs 0, 1, ... as object arrays of balls: each group's learning rate, then its momentum.

    The momentum is there where the scheduler can cycle it.

    Args:
        case: what is scheduled.
        lrs: the groups' initial learning rates.
        momentum: the momentum that all groups have, for as long as it is not cycled.

    """
    epochs = np.arange(case.epochs + 1).astype(object)
    found = [lr_curve(_of_group(case, i), epochs, arb(lr)) for i, lr in enumerate(lrs)]
    if not has_momentum(case):
        return found
    if not cycles_momentum(case):
        return found + [np.full(epochs.shape, arb(momentum)) for _ in lrs]
    return found + [_MOMENTUM[case.scheduler](epochs, **_of_group(case, i).options) for i in range(len(lrs))]


def has_momentum(case: Case) -> bool:
    """Return whether the scheduler can cycle the momentum."""
    return case.scheduler in _MOMENTUM


def cycles_momentum(case: Case) -> bool:
    """Return whether the schedule itself cycles the momentum."""
    return has_momentum(case) and case.options.get("cycle_momentum", True)


def lr_curve(case: Case, epochs: Any, eta_0: Any) -> Any:
    """Return a group's exact learning rates at these epochs, which start from eta_0."""
    return _CURVES[case.scheduler](epochs, eta_0, **case.options)


def _of_group(case: Case, index: int) -> Case:
    """Return the case as it is for one group."""
    options = {
        name: value[index] if name in _BY_GROUP and isinstance(value, list) else value
        for name, value in case.options.items()
    }
    if case.parts:
        options["schedulers"] = [_of_group(part, index) for part in case.parts]
    return case._replace(options=options)


def _exact(function: Callable[[int], float]) -> Callable[..., Any]:
    """Return a user's function, whose floats are taken as they are, for arrays of epochs."""
    return np.frompyfunc(lambda x: arb(function(int(x))), 1, 1)


def _lambda(e: Any, eta_0: Any, lr_lambda: Any) -> Any:
    return schedules.by_factor(e, eta_0, factor=_exact(lr_lambda))


def _multiplicative(e: Any, eta_0: Any, lr_lambda: Any) -> Any:
    factors = [arb(lr_lambda(k)) for k in range(1, max(e, default=0) + 1)]
    return schedules.multiplicative(e, eta_0, factors=factors)


def _step(e: Any, eta_0: Any, step_size: int, gamma: float = 0.1) -> Any:
    return schedules.step(e, eta_0, step_size=step_size, gamma=arb(gamma))


def _multi_step(e: Any, eta_0: Any, milestones: list[int], gamma: float = 0.1) -> Any:
    return schedules.multi_step(e, eta_0, milestones=milestones, gamma=arb(gamma))


def _exponential(e: Any, eta_0: Any, gamma: float) -> Any:
    return schedules.exponential(e, eta_0, gamma=arb(gamma))


def _constant(e: Any, eta_0: Any, factor: float = 1 / 3, total_iters: int = 5) -> Any:
    return schedules.constant(e, eta_0, factor=arb(factor), total_iters=total_iters)


def _linear(e: Any, eta_0: Any, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5) -> Any:
    ends = {"start_factor": arb(start_factor), "end_factor": arb(end_factor)}
    return schedules.linear(e, eta_0, **ends, total_iters=total_iters)


def _polynomial(e: Any, eta_0: Any, total_iters: int = 5, power: float = 1.0) -> Any:
    return schedules.polynomial(e, eta_0, total_iters=arb(total_iters), power=arb(power))


def _cosine(e: Any, eta_0: Any, T_max: int, eta_min: float = 0.0) -> Any:  # noqa: N803
    return schedules.cosine(e, eta_0, t_max=arb(T_max), eta_min=arb(eta_min))


def _restarts(e: Any, eta_0: Any, T_0: int, T_mult: int = 1, eta_min: float = 0.0) -> Any:  # noqa: N803
    return schedules.cosine_restarts(e, eta_0, t_0=T_0, t_mult=T_mult, eta_min=arb(eta_min))


def _cyclic(e: Any, _: Any, base_lr: float, max_lr: float, **options: Any) -> Any:
    return _cycle(e, base_lr, max_lr, **options)


def _cyclic_momentum(e: Any, base_momentum: float = 0.8, max_momentum: float = 0.9, **options: Any) -> Any:
    return _cycle(e, max_momentum, base_momentum, **options)


def _cycle(
    e: Any,
    low: float,
    high: float,
    step_size_up: float = 2000,
    step_size_down: float | None = None,
    mode: str = "triangular",
    gamma: float = 1.0,
    scale_fn: Callable[[int], float] | None = None,
    scale_mode: str = "cycle",
    **_: Any,
) -> Any:
    if scale_fn is not None:
        scale = _exact(scale_fn)
        by = {"cycle": lambda c, _: scale(c), "iterations": lambda _, e: scale(e)}[scale_mode]
    else:
        by = {
            "triangular": lambda *_: 1,
            "triangular2": lambda c, _: arb(2) ** (1 - c),
            "exp_range": lambda _, e: arb(gamma) ** e,
        }[mode]
    # In parts of an epoch, of which there is a whole number up and down: balls have no remainder.
    up, down = (Fraction(size) for size in (step_size_up, step_size_up if step_size_down is None else step_size_down))
    unit = lcm(up.denominator, down.denominator)
    sides = {"up": int(up * unit), "down": int(down * unit)}
    return schedules.cyclic(e * unit, arb(low), eta_max=arb(high), scale=lambda c, e: by(c, e // unit), **sides)


def _one_cycle(
    e: Any, _: Any, max_lr: float, div_factor: float = 25.0, final_div_factor: float = 1e4, **options: Any
) -> Any:
    first = arb(max_lr) / arb(div_factor)
    return _phases(e, first, arb(max_lr), first / arb(final_div_factor), **options)


def _one_cycle_momentum(e: Any, base_momentum: float = 0.85, max_momentum: float = 0.95, **options: Any) -> Any:
    return _phases(e, arb(max_momentum), arb(base_momentum), arb(max_momentum), **options)


def _phases(
    e: Any,
    first: Any,
    highest: Any,
    last: Any,
    total_steps: int | None = None,
    epochs: int = 0,
    steps_per_epoch: int = 0,
    pct_start: float = 0.3,
    anneal_strategy: str = "cos",
    three_phase: bool = False,
    **_: Any,
) -> Any:
    steps = total_steps or epochs * steps_per_epoch
    # Phases end where float64 says: 0.3 of 300 steps are 90 then, though the float 0.3 is less than 0.3.
    ends = [0, arb(pct_start * steps - 1), steps - 1]
    if three_phase:
        ends.insert(2, arb(2 * pct_start * steps - 2))
    etas = [first, highest, first, last] if three_phase else [first, highest, last]
    return schedules.one_cycle(e, etas, ends=ends, anneal=anneal_strategy)


def _swa(e: Any, eta_0: Any, swa_lr: float, anneal_epochs: int = 10, anneal_strategy: str = "cos") -> Any:
    start = eta_0 if anneal_epochs else arb(swa_lr)
    return schedules.one_cycle(e, [start, arb(swa_lr)], ends=[0, arb(anneal_epochs or 1)], anneal=anneal_strategy)


def _sequential(e: Any, eta_0: Any, schedulers: list[Case], milestones: list[int]) -> Any:
    places = np.searchsorted(milestones, e.astype(int), side="right")
    starts = np.array([0, *milestones])
    result = np.empty(e.shape, object)
    for place, part in enumerate(schedulers):
        own = places == place
        result[own] = lr_curve(part, e[own] - starts[place], eta_0)
    return result


def _chained(e: Any, eta_0: Any, schedulers: list[Case]) -> Any:
    """Return the product of the factors: the cases chain schedulers that multiply."""
    result = eta_0
    for part in schedulers:
        result = result * lr_curve(part, e, arb(1))
    return result


_CURVES: dict[str, Callable[..., Any]] = {
    "LambdaLR": _lambda,
    "MultiplicativeLR": _multiplicative,
    "StepLR": _step,
    "MultiStepLR": _multi_step,
    "ExponentialLR": _exponential,
    "ConstantLR": _constant,
    "LinearLR": _linear,
    "PolynomialLR": _polynomial,
    "CosineAnnealingLR": _cosine,
    "CosineAnnealingWarmRestarts": _restarts,
    "CyclicLR": _cyclic,
    "OneCycleLR": _one_cycle,
    "SWALR": _swa,
    "SequentialLR": _sequential,
    "ChainedScheduler": _chained,
}

_MOMENTUM: dict[str, Callable[..., Any]] = {"CyclicLR": _cyclic_momentum, "OneCycleLR": _one_cycle_momentum}
