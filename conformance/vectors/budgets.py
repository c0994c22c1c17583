"""Budgets: how far a correct implementation may be from the exact values, measured, not guessed."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refoptim.conformance.case import Meaning
from refoptim.conformance.runner.judge import scaled_errors
from refoptim.conformance.scenario import reals
from refoptim.conformance.vectors import oracle
from refoptim.conformance.vectors.encoding import DTYPES, real_of
from refoptim.conformance.vectors.numbers import Bias, Numbers, coarse, rounded
from refoptim.conformance.vectors.vector import Trajectory

Array = NDArray[Any]
# Exact values as two float64 each, by quantity and parameter, after each recorded step.
Exact = list[dict[str, dict[str, tuple[Array, Array]]]]

RUNS = 8
FLOOR, FACTOR = 8.0, 4.0


def budget(problem: Trajectory, meanings: Sequence[Meaning], exact: Exact, scale: str) -> dict[str, dict[str, float]]:
    """Return each quantity's budgets: A with hyperparameters in float64, B with coarse ones, never less.

    Four times the largest error of any run, and eight ulps: a run literally as the formula has it, others whose every
    result is moved by up to an ulp, and for B such as are always moved the same way.
    """
    errors: dict[str, dict[str, float]] = {}
    noises = [None, *(np.random.RandomState(run) for run in range(1, RUNS + 1))]
    kinds = [("A", rounded(noise)) for noise in noises]
    kinds += [("B", coarse(DTYPES[problem.dtype], noise)) for noise in (*noises, Bias(1), Bias(-1))]
    for grade, numbers in kinds:
        for quantity, error in _errors(problem, meanings, exact, scale, numbers).items():
            entry = errors.setdefault(quantity, {"A": 0.0, "B": 0.0})
            entry[grade] = max(entry[grade], error)
    found = {}
    for quantity, entry in errors.items():
        a = _limit(entry["A"])
        found[quantity] = {"A": a, "B": max(a, _limit(entry["B"]))}
    return found


def _limit(error: float) -> float:
    """Return a budget, rounded up to two digits: the last bit of a power must not change the file."""
    exact = FLOOR + FACTOR * error
    unit = 10.0 ** (math.floor(math.log10(exact)) - 1)
    return float(f"{math.ceil(exact / unit) * unit:.6g}")


def _errors(
    problem: Trajectory, meanings: Sequence[Meaning], exact: Exact, scale: str, numbers: Numbers
) -> dict[str, float]:
    found: dict[str, float] = {}
    with np.errstate(all="ignore"):
        moments = list(oracle.run(problem, meanings, numbers))
    for (param, quantity), errors in worst(problem, moments, exact, scale).items():
        del param
        found[quantity] = max(found.get(quantity, 0.0), errors)
    return found


def worst(problem: Trajectory, moments: list[dict[str, Any]], exact: Exact, scale: str) -> dict[tuple[str, str], float]:
    """Return the largest error of each parameter's quantities over all recorded steps, in scaled ulps."""
    kind = np.dtype(DTYPES[real_of(problem.dtype)]).type
    largest = {(name, "theta"): np.abs(reals(array)).astype(np.float64) for name, array in problem.params.items()}
    found: dict[tuple[str, str], float] = {}
    for now, right in zip(moments, exact, strict=True):
        for name, quantities in right.items():
            for quantity, (high, low) in quantities.items():
                key = name, quantity
                largest[key] = np.maximum(largest.get(key, 0.0), np.abs(high))
                sizes = largest[key]
                sizes = np.full_like(sizes, sizes.max(initial=0.0)) if scale == "tensor" else sizes
                got = np.asarray(now[name][quantity], np.float64).ravel()
                errors = scaled_errors(got, high, low, sizes, kind)
                found[key] = max(found.get(key, 0.0), float(errors.max(initial=0.0)))
    return found
