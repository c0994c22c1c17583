"""The tier ``special``: what becomes of numbers that are infinite, not a number, zero, subnormal or too large."""

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
from refoptim.conformance.vectors.numbers import coarse, rounded
from refoptim.conformance.vectors.options import asked, complete, dyadic
from refoptim.conformance.vectors.vector import Group, Step, Trajectory, content_hash

Array = NDArray[Any]

# Too large to be squared, and too small to be normal.
_LARGE = {"f32": 2.0**100, "f64": 2.0**600}
_SUBNORMAL = {"f32": 2.0**-140, "f64": 2.0**-1060}
_RUNS = 6


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


def entries(optimizer: str, module: ModuleType, own: Mapping[str, Case]) -> Iterator[dict[str, Any]]:
    """Yield the entries of an optimizer.

    A class is expected where every order of operations and every precision of the hyperparameters leads to it.
    """
    for name, case in own.items():
        for dtype in ("f32", "f64"):
            asks = problem(case, dtype)
            options = asked(optimizer, asks.groups[0].options)
            entry = {
                "id": f"{optimizer.lower()}.{dtype}.special.{name}",
                "comment": "infinity, NaN, zeros, subnormal numbers and such as are too large to be squared",
                "tier": "special",
                "flags": ["Special"],
                "requires": [f"dtype:{dtype}", *options],
                "result": "valid",
                "problem": encoded(asks),
                "expect": {"encoding": "class", "scale": "element", "after": _classes(asks, module)},
                "budget": {},
                "margin": None,
                "witness": {},
            }
            yield entry | {"sha256": content_hash(entry)}


def _classes(asks: Trajectory, module: ModuleType) -> list[dict[str, dict[str, str]]]:
    meanings = oracle.meanings_of(asks, module.meaning)
    kinds = [kind(noise) for noise in map(_noise, range(_RUNS)) for kind in (rounded, _coarse_of(asks))]
    with np.errstate(all="ignore"):
        runs = [list(oracle.run(asks, meanings, numbers)) for numbers in kinds]
    found = []
    for moment in zip(*runs, strict=True):
        names = moment[0]["w"]
        found.append({"w": {name: _agreed([run["w"][name] for run in moment]) for name in names}})
    return found


def _noise(run: int) -> np.random.RandomState | None:
    return np.random.RandomState(run) if run else None


def _coarse_of(asks: Trajectory) -> Any:
    return lambda noise: coarse(DTYPES[asks.dtype], noise)


def _agreed(arrays: list[Array]) -> str:
    letters = ["".join(map(class_of, np.asarray(array, np.float64).ravel().tolist())) for array in arrays]
    return "".join(found[0] if len(set(found)) == 1 else "?" for found in zip(*letters, strict=True))
