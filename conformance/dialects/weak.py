"""Weak numbers: the right formula, computed with fewer digits."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refoptim.conformance.dialects import trial
from refoptim.conformance.dialects.fit import Measure, Seen
from refoptim.conformance.vectors.vector import Trajectory
from refoptim.formulas.bfloat16 import bfloat16

Array = NDArray[Any]

UNKNOWN = "matches no known dialect"
# A step that is right to this share of it is torch's formula, as far as anyone can tell.
NEAR = 2.0**-6
# A value just beside a rounding's middle may be rounded the other way: some elements need not fit.
MOST, FEW = 0.75, 0.5


def _float16(x: Array) -> Array:
    return x.astype(np.float16).astype(x.dtype)


_ROUNDED = {"bfloat16": bfloat16, "float16": _float16}


def verdict(problem: Trajectory, seen: Seen, measure: Measure) -> str:
    """Return what is known of an answer that no dialect and no mistake explains."""
    exact = list(trial.run(problem, {}))
    if _share(exact, seen, measure) <= FEW:
        for name, rounded in _ROUNDED.items():
            for storing in (trial.Storing(stored=rounded), trial.Storing(used=rounded)):
                if _share(list(trial.run(problem, {}, storing=storing)), seen, measure) >= MOST:
                    return f"keeps its state in {name}: that explains most numbers, and torch's formula is right"
    way = _of_the_way(problem, exact, seen)
    if way <= NEAR:
        return (
            f"{UNKNOWN}, but steps are torch's to {way:.1g} of their length: weak numbers, such as a fast "
            "reciprocal root or powers in low precision, or a difference that this vector hardly shows"
        )
    return UNKNOWN


def _share(values: list[dict[str, trial.Values]], seen: Seen, measure: Measure) -> float:
    """Return which share of the parameters' numbers a trial explains."""
    limit = measure.limit("theta")
    right = [errors <= limit for quantity, errors in measure.errors(values, seen) if quantity == "theta"]
    return float(np.mean(np.concatenate(right)))


def _of_the_way(problem: Trajectory, exact: list[dict[str, trial.Values]], seen: Seen) -> float:
    """Return the largest error of a parameter, as a share of the way that it has come."""
    worst = 0.0
    for name, initial in problem.params.items():
        before, way = trial.FLOATS.array(initial).ravel(), np.zeros(1)
        for now, got in zip(exact, seen, strict=True):
            theta = np.asarray(now[name]["theta"])
            way = way + np.abs(theta - before)
            before = theta
            errors = np.abs(got[name]["theta"].astype(np.float64) - theta)
            share = np.where(errors == 0, 0.0, errors / np.maximum(way, np.finfo(np.float64).tiny))
            worst = max(worst, float(np.where(np.isfinite(share), share, np.inf).max(initial=0.0)))
    return worst
