"""One step of a trajectory by itself, from the exact state before it: tells a wrong step from errors that add up."""

from typing import Any, NamedTuple

from refoptim.conformance.vectors.encoding import DTYPES, real_of, to_hex, wide_from_hex
from refoptim.conformance.vectors.vector import Vector


class Singled(NamedTuple):
    """A request for a single step, and the vector that its answer is judged by."""

    sent: dict[str, Any]
    vector: Vector


def step(vector: Vector, t: int) -> Singled | None:
    """Return the request for step t, or None where the state before it is not known or is more than arrays."""
    record = vector.problem["record"]
    if t < 2 or t - 1 not in record or vector.algorithm in ("NAdam", "ASGD"):
        return None
    before = vector.expect["after"][record.index(t - 1)]
    taken = {name: sum(s["grads"][name] is not None for s in vector.problem["steps"][: t - 1]) for name in before}
    kind = DTYPES[real_of(vector.dtype)]
    start: dict[str, Any] = {}
    for name, quantities in before.items():
        rounded = {
            quantity: to_hex(wide_from_hex(value, vector.expect["encoding"])[0].astype(kind))
            for quantity, value in quantities.items()
        }
        start[name] = rounded | {"step": taken[name]}
    params = [p | {"init": start[p["name"]]["theta"]} for p in vector.problem["params"]]
    problem = vector.problem | {"params": params, "steps": vector.problem["steps"][t - 1 : t], "record": [1]}
    expect = vector.expect | {"after": [vector.expect["after"][record.index(t)]]}
    return Singled({"problem": problem, "start": start}, vector._replace(problem=problem, expect=expect))
