"""Problems that make no sense, which an implementation must refuse: torch's own checks of arguments."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from refoptim.conformance.vectors.entry import encoded
from refoptim.conformance.vectors.options import documented
from refoptim.conformance.vectors.vector import Group, Step, Trajectory, content_hash

# By option, what it must not be; where a tuple stands for another option too, all of them are set.
_WRONG: dict[str, dict[str, dict[str, Any]]] = {
    "lr": {"negative-lr": {"lr": -1.0}},
    "betas": {
        "beta1-of-one": {"betas": (1.0, 0.999)},
        "beta2-of-one": {"betas": (0.9, 1.0)},
        "negative-beta1": {"betas": (-0.1, 0.999)},
    },
    "weight_decay": {"negative-weight-decay": {"weight_decay": -0.5}},
    "momentum": {"negative-momentum": {"momentum": -0.5}},
    "nesterov": {"nesterov-without-momentum": {"nesterov": True, "momentum": 0.0}},
    "rho": {"rho-above-one": {"rho": 1.5}},
    "alpha": {"negative-alpha": {"alpha": -0.5}},
    "lr_decay": {"negative-lr-decay": {"lr_decay": -0.5}},
    "initial_accumulator_value": {"negative-initial-accumulator-value": {"initial_accumulator_value": -0.5}},
    "etas": {"etas-the-wrong-way-round": {"etas": (1.25, 0.5)}},
    "momentum_decay": {"negative-momentum-decay": {"momentum_decay": -0.5}},
}
# What torch does not check, though it has the option.
_UNCHECKED = {("ASGD", "alpha"), ("Muon", "momentum"), ("Muon", "nesterov"), ("Muon", "eps")}


def problems(optimizer: str) -> Iterator[tuple[str, Trajectory]]:
    """Yield an optimizer's problems that make no sense, by name."""
    usual = documented(optimizer)
    eps = usual.get("eps")
    wrong = {
        name: changes
        for option, found in _WRONG.items()
        if option in usual
        for name, changes in found.items()
        if (optimizer, option) not in _UNCHECKED
    }
    if isinstance(eps, float) and (optimizer, "eps") not in _UNCHECKED:
        wrong["negative-eps"] = {"eps": -1.0}
    theta = np.ones((2, 3), np.float32)
    for name, changes in wrong.items():
        group = Group(("w",), usual | changes)
        step = Step((group.options["lr"],), {"w": theta})
        yield name, Trajectory(optimizer, "f32", {"w": theta}, (group,), (step,), frozenset({1}))
    twice = (Group(("w",), usual), Group(("w",), usual))
    step = Step((usual["lr"], usual["lr"]), {"w": theta})
    yield "parameter-in-two-groups", Trajectory(optimizer, "f32", {"w": theta}, twice, (step,), frozenset({1}))


def entries(optimizer: str) -> Iterator[dict[str, Any]]:
    """Yield the entries of an optimizer."""
    for name, problem in problems(optimizer):
        entry = {
            "id": f"{optimizer.lower()}.f32.invalid.{name}",
            "comment": "must be refused",
            "tier": "invalid",
            "flags": ["Invalid"],
            "requires": ["dtype:f32", *(["feature:param_groups"] if len(problem.groups) > 1 else [])],
            "result": "invalid",
            "problem": encoded(problem),
            "expect": {"encoding": "f64", "scale": "element", "after": []},
            "budget": {},
            "margin": None,
            "witness": {},
        }
        yield entry | {"sha256": content_hash(entry)}
