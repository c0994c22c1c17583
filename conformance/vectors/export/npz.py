"""The vectors as NumPy's arrays, a file per algorithm, which ``numpy.load(file, allow_pickle=False)`` reads.

The names of a vector's arrays begin with its id and a slash:

* ``problem``: JSON, as a string, of what is no array, e.g. the options with their numbers as decimals, which are exact;
* ``budget/<quantity>``: budgets A and B, in scaled ulps; ``invalid``: whether the right answer is to reject it.

Trajectories and traces have ``init/<param>``, and:

* ``lr``: each step's learning rates, by group; ``record``: the steps after which something is expected;
* ``grad/<param>``: the gradients, step after step, zeros where there is none; ``has_grad/<param>``: whether there is
  one; of a sparse one ``grad/<param>/<step>/rows`` and ``/values``, for steps from 1;
* ``expected/<param>/<quantity>``: the exact values after each recorded step, as float64, NaN where the quantity is not
  yet there, with a last axis of two if they are complex; ``low/<param>/<quantity>``: what is missing from them;
* of the tier ``special`` ``expected`` has a letter for each number: n (not a number), p (infinity), m (minus infinity),
  z (zero), f (finite, not zero), ? (anything);
* of traces ``loss`` and ``grad/<param>`` by call of the closure, ``expected/<param>`` and ``low/<param>`` by call and
  in the end, and ``per_step``: the number of calls.

Schedules have ``lr``, ``record``, ``metrics`` if they watch some, and ``expected/<column>`` with ``low/<column>``.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refoptim.conformance.vectors.encoding import decoded_options, wide_from_hex
from refoptim.conformance.vectors.vector import Rows, Schedule, Trace, Trajectory, Vector, decoded

Array = NDArray[Any]
Named = Iterator[tuple[str, Array]]


def write(vectors: Sequence[Vector], folder: Path, _: Path | None) -> int:
    """Write the files."""
    files: dict[str, dict[str, Array]] = defaultdict(dict)
    for vector in vectors:
        file = files[f"{vector.algorithm.lower()}.{vector.type}.npz"]
        file |= {f"{vector.id}/{name}": array for name, array in _arrays(vector)}
    for name, arrays in files.items():
        np.savez_compressed(folder / name, allow_pickle=False, **arrays)
    return len(vectors)


def _arrays(vector: Vector) -> Named:
    yield "problem", np.array(json.dumps(_plain(vector.problem)))
    yield "invalid", np.array(vector.result == "invalid")
    for quantity, budget in vector.budget.items():
        yield f"budget/{quantity}", np.array([budget["A"], budget["B"]])
    problem = decoded(vector.type, vector.problem)
    if isinstance(problem, Schedule):
        yield from _schedule(vector, problem)
        return
    for name, array in problem.params.items():
        yield f"init/{name}", array
    yield from _trajectory(vector, problem) if isinstance(problem, Trajectory) else _trace(vector, problem)


def _plain(problem: dict[str, Any]) -> dict[str, Any]:
    """Return what is no array, without encodings."""
    kept = {name: problem[name] for name in ("algorithm", "dtype", "options", "groups", "epochs") if name in problem}
    groups = [group | {"options": decoded_options(group["options"])} for group in kept.get("groups", ())]
    options = {"options": decoded_options(kept["options"])} if "options" in kept else {}
    return kept | options | ({"groups": groups} if groups else {})


def _trajectory(vector: Vector, problem: Trajectory) -> Named:
    yield "lr", np.array([step.lrs for step in problem.steps])
    yield "record", np.array(sorted(problem.record))
    for name, like in problem.params.items():
        grads = [step.grads[name] for step in problem.steps]
        yield f"has_grad/{name}", np.array([grad is not None for grad in grads])
        if any(isinstance(grad, Rows) for grad in grads):
            for t, grad in enumerate(grads, 1):
                if isinstance(grad, Rows):
                    yield f"grad/{name}/{t}/rows", grad.indices
                    yield f"grad/{name}/{t}/values", grad.values
        else:
            yield f"grad/{name}", np.array([np.zeros_like(like) if grad is None else grad for grad in grads])
        yield from _after(vector, name, like)


def _after(vector: Vector, param: str, like: Array) -> Named:
    moments = [after.get(param, {}) for after in vector.expect["after"]]
    for quantity in dict.fromkeys(name for moment in moments for name in moment):
        values = [_wide(vector, moment[quantity], like) if quantity in moment else None for moment in moments]
        there = next(pair for pair in values if pair is not None)
        for part, array in enumerate(there):
            none = np.full_like(array, "" if array.dtype.kind == "U" else np.nan)
            stacked = [none if pair is None else pair[part] for pair in values]
            yield f"{('expected', 'low')[part]}/{param}/{quantity}", np.array(stacked)


def _wide(vector: Vector, text: Any, like: Array) -> tuple[Array, ...]:
    if vector.expect["encoding"] == "class":
        return (np.array(list(text)).reshape(like.shape),)
    pair = wide_from_hex(text, vector.expect["encoding"])
    parts = (*like.shape, 2) if like.dtype.kind == "c" else like.shape
    # Rows and columns of a factored moment have shapes of their own.
    return tuple(part.reshape(parts) if part.size == np.prod(parts, dtype=int) else part for part in pair)


def _schedule(vector: Vector, problem: Schedule) -> Named:
    yield "lr", np.array(problem.lrs)
    yield "record", np.array(problem.record)
    if problem.metrics is not None:
        yield "metrics", np.array(problem.metrics)
    for i, column in enumerate(vector.expect["lr"]):
        high, low = wide_from_hex(column, vector.expect["encoding"])
        yield f"expected/{i}", high
        yield f"low/{i}", low


def _trace(vector: Vector, problem: Trace) -> Named:
    yield "loss", np.array(problem.losses)
    yield "per_step", np.array(vector.expect["per_step"])
    for name, like in problem.params.items():
        yield f"grad/{name}", np.array([grads[name] for grads in problem.grads])
        points = [_wide(vector, point[name], like) for point in (*vector.expect["calls"], vector.expect["after"])]
        yield f"expected/{name}", np.array([high for high, _ in points])
        yield f"low/{name}", np.array([low for _, low in points])
