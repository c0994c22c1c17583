"""Schedules in other dialects, and what is wrong where one is none of them."""

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import pairwise, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refoptim.conformance.dialects import axes
from refoptim.conformance.dialects.fit import Choice, Fit
from refoptim.conformance.dialects.words import of_fits
from refoptim.conformance.runner.judge import compared
from refoptim.conformance.vectors.encoding import wide_from_hex
from refoptim.conformance.vectors.vector import Schedule, Vector, decoded

Array = NDArray[Any]

UNKNOWN = "matches no known dialect"
# Trials are rounded at every step, by the library's cosine too.
SLACK = 8.0


def curves(problem: Schedule, choice: Mapping[str, str]) -> list[list[float]]:
    """Return each group's learning rates at epochs 0, 1, ... in a dialect.

    Args:
        problem: of ReduceLROnPlateau, CosineAnnealingLR or OneCycleLR.
        choice: the values of its axes, where they are not torch's.

    """
    values = axes.base(problem.algorithm) | dict(choice)
    curve = {"ReduceLROnPlateau": _plateau, "CosineAnnealingLR": _cosine, "OneCycleLR": _one_cycle}
    return [curve[problem.algorithm](problem, values, i) for i in range(len(problem.lrs))]


def _plateau(problem: Schedule, choice: Mapping[str, str], i: int) -> list[float]:
    o = {"mode": "min", "factor": 0.1, "patience": 10, "threshold": 1e-4, "threshold_mode": "rel", "cooldown": 0}
    o |= {"min_lr": 0.0, "eps": 1e-8} | problem.options
    least = o["min_lr"][i] if isinstance(o["min_lr"], tuple) else o["min_lr"]
    absolute = o["threshold_mode"] == "abs" or choice["threshold"] == "absolute"
    waits = o["patience"] - (choice["patience"] == "at")
    sign = 1.0 if o["mode"] == "min" else -1.0
    lr, best, bad, rest = problem.lrs[i], math.inf, 0, 0
    curve = [lr]
    for metric in problem.metrics or ():
        value = sign * metric  # smaller is better
        # A share of the best, which may be negative, is one of its own sign.
        limit = best - o["threshold"] if absolute else best * (1 - sign * o["threshold"])
        better = value < limit
        best = value if better else best
        if choice["cooldown"] == "one less":
            rest, bad = (rest - 1, 0) if rest else (rest, bad)
            bad = 0 if better else bad + (not rest)
        else:
            bad = 0 if better or rest else bad + 1
            rest = max(rest - 1, 0)
        if bad and bad > waits:
            bad, rest = 0, o["cooldown"]
            lower = max(lr * o["factor"], least)
            lr = lower if lr - lower > o["eps"] else lr
        curve.append(lr)
    return curve


def _cosine(problem: Schedule, choice: Mapping[str, str], i: int) -> list[float]:
    first, end, floor = problem.lrs[i], problem.options["T_max"], problem.options.get("eta_min", 0.0)
    least = floor * first if choice["floor"] == "relative" else floor
    epochs = range(problem.epochs + 1)
    at = [min(e, end) if choice["end"] == "stays" else e for e in epochs]
    return [least + (first - least) * (1 + math.cos(math.pi * e / end)) / 2 for e in at]


def _one_cycle(problem: Schedule, choice: Mapping[str, str], i: int) -> list[float]:
    o = {"epochs": 0, "steps_per_epoch": 0, "total_steps": None, "pct_start": 0.3, "anneal_strategy": "cos"}
    o |= {"div_factor": 25.0, "final_div_factor": 1e4, "three_phase": False} | problem.options
    total = o["total_steps"] or o["epochs"] * o["steps_per_epoch"]
    top = o["max_lr"][i] if isinstance(o["max_lr"], tuple) else o["max_lr"]
    start = top / o["div_factor"]
    rates = [start, top, *([start] if o["three_phase"] else []), start / o["final_div_factor"]]
    shares = [o["pct_start"], *([2 * o["pct_start"]] if o["three_phase"] else []), 1.0]
    whole = choice["ends"] == "whole"
    late = 1 if o["three_phase"] else 0
    ends = [0.0, *(float(int(s * total)) if whole else s * total - 1 - late * (s == shares[1]) for s in shares)]
    return [_between(e, rates, ends, o["anneal_strategy"]) for e in range(problem.epochs + 1)]


def _between(e: int, rates: list[float], ends: list[float], strategy: str) -> float:
    for i, (begin, end) in enumerate(pairwise(ends)):
        if e <= end:
            share = (e - begin) / (end - begin)
            weight = 1 - share if strategy == "linear" else (1 + math.cos(math.pi * share)) / 2
            return rates[i + 1] + (rates[i] - rates[i + 1]) * weight
    return rates[-1]


def verdict(vector: Vector, answer: Mapping[str, Any]) -> str:
    """Return which dialect, or which mistake, gives a schedule that is not what a vector expects."""
    problem = decoded("schedule", vector.problem)
    assert isinstance(problem, Schedule)
    got = _columns(vector, answer)
    expected = np.array([wide_from_hex(column, vector.expect["encoding"])[0] for column in vector.expect["lr"]])
    limit = SLACK + max(budget["B"] for budget in vector.budget.values())
    if _distance(got, expected) <= limit:
        return ""
    fits = []
    for choices, values, seen in (*_dialects(problem), *_mistakes(problem, expected)):
        distance = _distance(got[: len(values), seen], values)
        # What would be right explains nothing.
        if distance <= limit < _distance(values, expected[: len(values), seen]):
            fits.append(Fit(choices, distance, state=True))
    singles = [choice for fit in fits for choice in fit.choices]
    return of_fits(problem.algorithm, fits, singles, axes.base(problem.algorithm)) if fits else UNKNOWN


def _columns(vector: Vector, answer: Mapping[str, Any]) -> Array:
    found: dict[tuple[str, str], list[float]] = {}
    for one in compared(vector, answer):
        found.setdefault((one.quantity, one.param), []).append(float(one.got[0]))
    return np.array(list(found.values()))


def _distance(got: Array, values: Array) -> float:
    """Return the largest error, in ulps of the largest value so far."""
    scale = np.maximum.accumulate(np.abs(values), axis=1)
    errors = np.abs(got - values) / np.spacing(scale)
    return float(np.where(np.isfinite(got), errors, np.inf).max(initial=0.0))


# Choices, the rates that they give, and the places in the answer where these are.
Trial = tuple[tuple[Choice, ...], Array, Array]


def _dialects(problem: Schedule) -> Iterator[Trial]:
    known, epochs = axes.base(problem.algorithm), np.array(problem.record)
    every = [[(axis.name, value.name) for value in axis.values] for axis in axes.of(problem.algorithm)]
    for values in product(*every):
        choices = tuple(Choice(axis, value) for axis, value in values if value != known[axis])
        if choices:
            with suppress(ArithmeticError):  # such as phases without epochs
                yield choices, np.array(curves(problem, dict(values)))[:, epochs], np.arange(len(epochs))


def _mistakes(problem: Schedule, expected: Array) -> Iterator[Trial]:
    """Yield what the right schedule looks like when it is a step late or early, is not there, or is float32."""
    at = {epoch: i for i, epoch in enumerate(problem.record)}
    for value, shift, words in (("late", -1, "is an epoch late"), ("early", 1, "is an epoch early")):
        pairs = [(i, at[epoch + shift]) for epoch, i in at.items() if epoch + shift in at]
        here, there = np.array([i for i, _ in pairs], int), np.array([j for _, j in pairs], int)
        if len(pairs) > len(at) // 2:
            yield (Choice("epoch", value, words),), expected[:, there], here
    everywhere = np.arange(expected.shape[1])
    constant = np.broadcast_to(expected[:, :1], expected.shape)
    yield (Choice("schedule", "none", "does not change the learning rate"),), constant, everywhere
    coarse = expected.astype(np.float32).astype(np.float64)
    yield (Choice("precision", "float32", "is the right schedule, rounded to float32"),), coarse, everywhere
