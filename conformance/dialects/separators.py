"""Separators: for each axis a problem that tells all of its values apart."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from refoptim.conformance.dialects import axes
from refoptim.conformance.vectors.encoding import DTYPES
from refoptim.conformance.vectors.options import documented
from refoptim.conformance.vectors.vector import Group, Rows, Schedule, Step, Trajectory


class Separator(NamedTuple):
    """A problem whose answers differ by more than ten thousand ulps from value to value of an axis."""

    id: str
    axis: axes.Axis
    algorithm: str
    problem: Trajectory | Schedule


EPS = 2.0**-7
BETAS = (0.875, 0.984375)
# From far below eps to far above it, and of any sign; what is here is exact in bfloat16.
SIZES = np.array([2.0**-12, 2.0**-9, 2.0**-7, 2.0**-6, 2.0**-4, 2.0**-2, 1.0, 4.0])
SIGNS = np.array([1.0, -1.0, 1.0, -1.0, -1.0, 1.0, -1.0, 1.0])
# Up and down, so that no step is like the one before and the largest is not the last.
SWING = (1.0, 4.0, 0.25, 0.5, -2.0, 0.125)
LRS = (1.0, 0.5, 2.0, 0.25, 1.0, 0.5)


def problems(dtype: str = "f32") -> list[Separator]:
    """Return the problem of every axis that is judged: a trajectory in this dtype, or a schedule.

    Args:
        dtype: of the parameters, ``"f32"`` or ``"f64"``.

    """
    found = []
    for axis in axes.every():
        if axis.judged:
            algorithm = axis.vector.partition(".")[0]
            algorithm = next(name for name in axis.optimizers if name.lower() == algorithm)
            make = _SCHEDULES.get(axis.id)
            problem = make() if make else _trajectory(axis, algorithm, dtype)
            found.append(Separator(axis.vector.replace(".f32.", f".{dtype}."), axis, algorithm, problem))
    return found


# What an axis needs beside the options that all have.
_NEEDS: dict[str, dict[str, Any]] = {
    "adam.amsgrad": {"amsgrad": True},
    "any.decay": {"weight_decay": 0.125},
    "rmsprop.velocity": {"momentum": 0.75},
    "sgd.velocity": {"momentum": 0.75},
    "sgd.start": {"momentum": 0.75, "dampening": 0.5},
    "sgd.buffer": {"momentum": 0.75},
    "sgd.ahead": {"momentum": 0.75, "nesterov": True},
    "nadam.mu": {"momentum_decay": 0.25},
    "any.none": {"weight_decay": 0.125},
    "adafactor.eps1": {"eps": (0.5, 2.0**-10), "lr": 0.25},
    "adafactor.rate": {"eps": (2.0**-20, 2.0**-10), "lr": 0.25},
    "adafactor.factored": {"eps": (2.0**-20, 2.0**-10), "lr": 0.25},
    "muon.buffer": {"eps": 64.0, "weight_decay": 0.0},
    "muon.scale": {"weight_decay": 0.0},
}
_COMMON: dict[str, Any] = {"lr": 1.0, "eps": EPS, "betas": BETAS, "alpha": 0.875, "rho": 0.875, "momentum": 0.0}


def _trajectory(axis: axes.Axis, algorithm: str, dtype: str) -> Trajectory:
    kind, matrix = DTYPES[dtype], algorithm in _MATRICES
    shape = (4, 2) if matrix else (8,)
    options = documented(algorithm)
    if not matrix:
        options |= {name: value for name, value in _COMMON.items() if name in options}
    options |= _NEEDS.get(axis.id, {})
    # Options that are left out say no learning rate either, and defaults of epsilon are small.
    left_out = axis.id == "any.defaults"
    sizes = SIZES * 2.0**-24 if left_out else SIZES
    moved = matrix or axis.id in ("any.decay", "any.none")
    init = (SIGNS * 0.75 if moved else np.zeros(8)).reshape(shape).astype(kind)
    steps = []
    for t, (swing, lr) in enumerate(zip(SWING, LRS, strict=True)):
        grad = swing * SIGNS * (np.roll(sizes, t) if matrix else sizes)
        absent = axis.id == "any.none" and t in (1, 3)
        lrs = () if left_out else (lr * options["lr"],)
        values = grad.reshape(shape).astype(kind)
        every = Rows(np.arange(len(values)), values) if algorithm == "SparseAdam" else values
        steps.append(Step(lrs, {"w": None if absent else every}))
    group = Group(("w",), {} if left_out else options)
    return Trajectory(algorithm, dtype, {"w": init}, (group,), tuple(steps), frozenset(range(1, len(steps) + 1)))


_MATRICES = {"Adafactor", "Muon"}


def _plateau(options: dict[str, Any], metrics: tuple[float, ...]) -> Schedule:
    chosen = {"mode": "min", "factor": 0.5, "patience": 2, "threshold": 2.0**-4, "threshold_mode": "rel"} | options
    epochs = len(metrics)
    return Schedule("ReduceLROnPlateau", chosen, (1.0, 0.25), epochs, tuple(range(epochs + 1)), metrics)


def _patience() -> Schedule:
    return _plateau({}, (4.0, 4.0, 4.0, 4.0, 4.0, 1.0, 1.0, 1.0, 1.0))


def _threshold() -> Schedule:
    # At first each is better than the best by less than a sixteenth of it, and by more than a sixteenth.
    return _plateau({}, (8.0, 7.875, 7.75, 7.625, 7.5, 7.5, 7.5, 7.5, 7.5))


def _cooldown() -> Schedule:
    return _plateau({"cooldown": 3}, (4.0,) * 16)


def _cosine(eta_min: float) -> Schedule:
    return Schedule("CosineAnnealingLR", {"T_max": 8, "eta_min": eta_min}, (0.5, 0.25), 14, tuple(range(15)), None)


def _end() -> Schedule:
    return _cosine(0.0)


def _floor() -> Schedule:
    return _cosine(0.125)


def _ends() -> Schedule:
    options = {"max_lr": 1.0, "total_steps": 20, "pct_start": 0.25, "cycle_momentum": False}
    return Schedule("OneCycleLR", options, (0.5,), 19, tuple(range(20)), None)


_SCHEDULES: dict[str, Callable[[], Schedule]] = {
    "plateau.patience": _patience,
    "plateau.threshold": _threshold,
    "plateau.cooldown": _cooldown,
    "cosine.end": _end,
    "cosine.floor": _floor,
    "one_cycle.ends": _ends,
}
