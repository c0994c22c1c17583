"""The tier ``special``: what becomes of numbers that are infinite, not a number, zero, subnormal or too large."""

import math
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refoptim.conformance.case import Case
from refoptim.conformance.runner.judge import class_of
from refoptim.conformance.vectors import oracle
from refoptim.conformance.vectors.encoding import DTYPES
from refoptim.conformance.vectors.entry import encoded
from refoptim.conformance.vectors.numbers import coarse, rounded, wide
from refoptim.conformance.vectors.options import asked, complete, dyadic
from refoptim.conformance.vectors.vector import Group, Step, Trajectory, content_hash

Array = NDArray[Any]

# Too large to be squared, and too small to be normal.
_LARGE = {"f32": 2.0**100, "f64": 2.0**600}
_SUBNORMAL = {"f32": 2.0**-140, "f64": 2.0**-1060}
_RUNS = 6
_INFINITE = {"p", "m"}


def problem(case: Case, dtype: str) -> Trajectory:
    """Return three steps of elements with a special number each, in the parameter or in one of the gradients."""
    options = dyadic(complete(case))
    inf, nan, large, tiny = np.inf, np.nan, _LARGE[dtype], _SUBNORMAL[dtype]
    # The parameter, and its gradients.
    elements = [
        (1.0, 0.5, inf, -0.25),
        (1.0, 0.5, -inf, 0.25),
        (-1.0, inf, 1.0, 1.0),
        (2.0, 0.5, nan, 0.5),
        (1.0, 0.0, 0.0, 0.0),
        (0.0, 0.0, 0.5, 0.0),
        (-0.0, -0.0, -0.0, 0.5),
        (1.0, large, 1.0, -1.0),
        (1.0, 1.0, -large, large),
        (inf, 0.5, -0.5, 0.5),
        (-inf, 0.5, 0.5, 0.0),
        (nan, 0.5, 0.5, 0.5),
        (1.0, tiny, tiny, 0.0),
        (tiny, 0.5, 0.5, -0.5),
    ]
    values = np.array(elements).astype(DTYPES[dtype])
    steps = tuple(Step((options["lr"],), {"w": values[:, t].copy()}) for t in (1, 2, 3))
    group = Group(("w",), options)
    return Trajectory(case.optimizer, dtype, {"w": values[:, 0].copy()}, (group,), steps, frozenset({1, 2, 3}))


def entries(module: ModuleType, own: Mapping[str, Case]) -> Iterator[dict[str, Any]]:
    """Yield the entries of an optimizer: of its first case, and of all without decay, which must not touch infinity.

    A class is expected where every order of operations and every precision of the hyperparameters leads to it.
    """
    first = next(iter(own))
    for name, case in own.items():
        for dtype in ("f32", "f64") if name == first else ("f32",):
            asks = problem(case, dtype)
            if name == first or not asks.groups[0].options.get("weight_decay"):
                yield _entry(name, asks, module)


def _entry(name: str, asks: Trajectory, module: ModuleType) -> dict[str, Any]:
    options = asked(asks.algorithm, asks.groups[0].options)
    entry = {
        "id": f"{asks.algorithm.lower()}.{asks.dtype}.special.{name}",
        "comment": "infinity, NaN, zeros, subnormal numbers and such as are too large to be squared",
        "tier": "special",
        "flags": ["Special"],
        "requires": [f"dtype:{asks.dtype}", *options],
        "result": "valid",
        "problem": encoded(asks),
        "expect": {"encoding": "class", "scale": "element", "after": _classes(asks, module)},
        "budget": {},
        "margin": None,
        "witness": {},
    }
    return entry | {"sha256": content_hash(entry)}


def _classes(asks: Trajectory, module: ModuleType) -> list[dict[str, dict[str, str]]]:
    meanings = oracle.meanings_of(asks, module.meaning)
    kinds = [kind(noise) for noise in map(_noise, range(_RUNS)) for kind in (rounded, _coarse_of(asks))]
    with np.errstate(all="ignore"):
        runs = [list(oracle.run(asks, meanings, numbers)) for numbers in (*kinds, wide(DTYPES[asks.dtype]))]
    found = []
    for moment in zip(*runs, strict=True):
        names = moment[0]["w"]
        found.append({name: _agreed([run["w"][name] for run in moment], asks.dtype) for name in names})
    return [{"w": moment} for moment in _order_free(found, asks)]


def _order_free(found: list[dict[str, str]], asks: Trajectory) -> list[dict[str, str]]:
    """Return the classes that do not depend on how a sum is written: x + w * (y - x) is NaN where x is infinite."""
    options = asks.groups[0].options
    shrinks = bool(options.get("weight_decay")) or bool(options.get("lambd"))
    kept: list[dict[str, str]] = []
    for t, moment in enumerate(found):
        now = {name: list(letters) for name, letters in moment.items()}
        for i, theta in enumerate(asks.params["w"].tolist()):
            state = {found[t - 1][name][i] for name in moment if name != "theta"} if t else set()
            sizes = {abs(float(np.asarray(step.grads["w"])[i])) for step in asks.steps}
            # A variance of what is too large to be squared is anything.
            anything = state & _INFINITE or (options.get("centered") and _LARGE[asks.dtype] in sizes)
            was = {so_far["theta"][i] for so_far in found[:t]} | {class_of(theta)}
            if anything or (was & _INFINITE and shrinks):
                doubtful = set(now)
            else:
                seen = {so_far["theta"][i] for so_far in found[: t + 1]}
                doubtful = {"exp_avg"} if math.inf in sizes else set()
                doubtful |= {"theta"} if doubtful & set(now) and moment["theta"][i] in _INFINITE else set()
                doubtful |= {"ax"} if seen & {*_INFINITE, "n"} else set()
            for name in doubtful & set(now):
                now[name][i] = "?"
        kept.append({name: "".join(letters) for name, letters in now.items()})
    return kept


def _noise(run: int) -> np.random.RandomState | None:
    return np.random.RandomState(run) if run else None


def _coarse_of(asks: Trajectory) -> Any:
    return lambda noise: coarse(DTYPES[asks.dtype], noise)


def _agreed(arrays: list[Array], dtype: str) -> str:
    kind = DTYPES[dtype]
    letters = ["".join(map(class_of, np.asarray(a).astype(kind).astype(np.float64).tolist())) for a in arrays]
    return "".join(found[0] if len(set(found)) == 1 else "?" for found in zip(*letters, strict=True))
