"""Entries of vector files: a problem with its exact answer, its budget, and the proof that it tests what it says."""

from typing import Any, NamedTuple

import numpy as np
from flint import arb
from numpy.typing import NDArray

from refoptim.conformance import truth
from refoptim.conformance.case import Case
from refoptim.conformance.vectors import budgets, oracle, witness
from refoptim.conformance.vectors.encoding import (
    WIDER,
    encoded_options,
    to_hex,
)
from refoptim.conformance.vectors.numbers import EXACT
from refoptim.conformance.vectors.options import asked
from refoptim.conformance.vectors.vector import Rows, Trajectory, content_hash

Array = NDArray[Any]

# How well a value must be known, in ulps of float64, before it is written down.
KNOWN = 2.0**-40


class Recipe(NamedTuple):
    """A vector to be made."""

    id: str
    comment: str
    tier: str
    flags: tuple[str, ...]
    case: Case
    problem: Trajectory


class UnfitVectorError(ValueError):
    """A vector would not test what it says."""


def trajectory_entry(recipe: Recipe, module: Any) -> dict[str, Any]:
    """Return the entry of a recipe.

    Raises:
        UnfitVectorError: a documented default could change without being noticed, even in float64.
        truth.WideBallError: a value or a decision is not known well enough.

    """
    problem = recipe.problem
    options = asked(problem.algorithm, problem.groups[0].options)
    meanings = oracle.meanings_of(problem, module.meaning)
    scale = "tensor" if meanings[0].whole else "element"
    with truth.precision():
        with truth.margins() as margins:
            moments = list(oracle.run(problem, meanings, EXACT))
        exact = [
            {name: {quantity: split(value) for quantity, value in now.items()} for name, now in moment.items()}
            for moment in moments
        ]
        budget = budgets.budget(problem, meanings, exact, scale)
        moved = _witness(recipe, module, exact, budget, scale, options)
    entry = {
        "id": recipe.id,
        "comment": recipe.comment,
        "tier": recipe.tier,
        "flags": sorted({*recipe.flags, *(name for name in moved if not name.startswith("default:"))}),
        "requires": _requires(problem, options, scale),
        "result": "valid",
        "problem": encoded(problem),
        "expect": {
            "encoding": WIDER[problem.dtype],
            "scale": scale,
            "after": [
                {name: {q: wide(pair, problem.dtype) for q, pair in now.items()} for name, now in moment.items()}
                for moment in exact
            ],
        },
        "budget": budget,
        "margin": float(f"{min(margins):.2g}") if margins else None,
        "witness": moved,
    }
    return entry | {"sha256": content_hash(entry)}


def _witness(
    recipe: Recipe, module: Any, exact: budgets.Exact, budget: dict[str, Any], scale: str, options: list[str]
) -> dict[str, float]:
    found: dict[str, float] = {}
    others = list(witness.without(recipe.problem, options))
    if "LeftOut" in recipe.flags:
        others += witness.changed_defaults(recipe.case, recipe.problem)
    for name, problem in others:
        moments = list(oracle.run(problem, oracle.meanings_of(problem, module.meaning), EXACT))
        only_theta = [{name: {"theta": now["theta"]} for name, now in moment.items()} for moment in exact]
        floats = [{key: {"theta": split(now["theta"])[0]} for key, now in moment.items()} for moment in moments]
        errors = budgets.worst(recipe.problem, floats, only_theta, scale)
        share = max(errors.values()) / budget["theta"]["A"]
        if share > witness.LEAST:
            found[name] = float(f"{share:.2g}")
        elif name.startswith("default:") and recipe.problem.dtype == "f64":
            raise UnfitVectorError(f"{recipe.id}: without {name} the result moves by only {share:.3g} budgets")
    return found


def _requires(problem: Trajectory, options: list[str], scale: str) -> list[str]:
    grads = [grad for step in problem.steps for grad in step.grads.values()]
    lrs = {step.lrs for step in problem.steps}
    found = {
        "feature:param_groups": len(problem.groups) > 1,
        "feature:none_grad": any(grad is None for grad in grads),
        "feature:lr_per_step": len(lrs) > 1,
        "feature:sparse": any(isinstance(grad, Rows) for grad in grads),
        "feature:torch_defaults": () in lrs,
        "feature:reduction": scale == "tensor",
    }
    return [f"dtype:{problem.dtype}", *(name for name, wanted in found.items() if wanted), *options]


def split(value: truth.Balls) -> tuple[Array, Array]:
    """Return exact values as float64 and what is missing from them, as float64 too.

    Raises:
        truth.WideBallError: the values are not known that well.

    """
    flat = np.asarray(value, object).ravel()
    # Not of float(): it rounds the middle down towards zero in some versions.
    high = np.array([_nearest(ball) for ball in flat], np.float64)
    rest = [arb(ball) - arb(float(part)) for ball, part in zip(flat, high, strict=True)]
    for ball, part in zip(flat, high, strict=True):
        if not arb(ball).rad() <= arb(float(np.spacing(abs(part)))) * KNOWN:
            raise truth.WideBallError(f"the exact value is only known to be {ball}")
    return high, np.array([_nearest(ball) for ball in rest], np.float64)


def _nearest(ball: Any) -> float:
    return float(arb(ball).mid())


def wide(pair: tuple[Array, Array], dtype: str) -> Any:
    """Return exact values in what is wider than a dtype."""
    high, low = pair
    return to_hex(high) if WIDER[dtype] == "f64" else {"hi": to_hex(high), "lo": to_hex(low)}


def encoded(problem: Trajectory) -> dict[str, Any]:
    """Return a problem as it is sent."""
    return {
        "algorithm": problem.algorithm,
        "dtype": problem.dtype,
        "params": [
            {"name": name, "shape": list(array.shape), "init": to_hex(array)} for name, array in problem.params.items()
        ],
        "groups": [{"params": list(g.params), "options": encoded_options(g.options)} for g in problem.groups],
        "steps": [
            {
                "lr": [to_hex(np.array([lr])) for lr in step.lrs],
                "grads": {name: _encoded_grad(grad) for name, grad in step.grads.items()},
            }
            for step in problem.steps
        ],
        "record": sorted(problem.record),
    }


def _encoded_grad(grad: Array | Rows | None) -> Any:
    if isinstance(grad, Rows):
        return {"indices": grad.indices.tolist(), "values": to_hex(grad.values)}
    return None if grad is None else to_hex(grad)
