"""Flags: what may be wrong where a vector fails."""

from typing import Any

# By flag: the type of bug, and what the vector has.
FLAGS: dict[str, tuple[str, str]] = {
    "FromZero": ("FORMULA", "parameters start at 0 with a learning rate of 1: the update is seen at full precision"),
    "Dyadic": ("FORMULA", "all hyperparameters are exact in bfloat16: rounding them explains no difference"),
    "Defaults": ("NUMERICS", "default hyperparameters: rounding them to float32 is within budget B"),
    "LeftOut": ("OPTION", "no options are given, not even a learning rate: the documented defaults hold"),
    "Long": ("NUMERICS", "many steps: powers underflow, errors add up"),
    "Special": ("SPECIAL", "numbers that are infinite, not a number, zero, subnormal or too large to be squared"),
    "Boundary": ("FORMULA", "a decision is close, or both sides of it are equal"),
    "Invalid": ("VALIDATION", "the values make no sense and must be refused"),
    "ParamGroups": ("PLUMBING", "two groups, each with its own options"),
    "LrPerStep": ("PLUMBING", "the learning rate of a step is the one set before it, by group"),
    "NoneGrad": ("PLUMBING", "no gradient: value, state and step count stay as they are"),
    "ZeroGrad": ("PLUMBING", "a gradient of zeros is one: the step counts, state decays, decay and momentum act"),
    "Sparse": (
        "PLUMBING",
        "gradients of some rows; rows without one stay as they are, one that is named twice is summed",
    ),
    "Complex": ("FORMULA", "a complex number is a pair of real ones, each stepped by itself"),
    "Matrix": ("NUMERICS", "every number of a tensor is made of all: errors are counted beside its largest"),
    "SplitState": ("PLUMBING", "state is loaded: the step goes on from there"),
    "Maximize": ("OPTION", "the sign of the gradient is turned before anything else happens to it"),
    "WeightDecay": ("OPTION", "L2: weight decay times the parameter is added to the gradient"),
    "DecoupledWeightDecay": (
        "OPTION",
        "the parameter shrinks by the learning rate times weight decay, before the step",
    ),
    "Amsgrad": ("OPTION", "the largest second moment so far, taken before its bias is corrected"),
    "Momentum": ("OPTION", "the buffer starts as the first gradient"),
    "Dampening": ("OPTION", "the gradient goes into the buffer with a weight of 1 - dampening, but for the first one"),
    "Nesterov": ("OPTION", "the step looks ahead along the momentum"),
    "Centered": ("OPTION", "the variance of the gradient instead of its square"),
    "LrDecay": ("OPTION", "the learning rate shrinks with the number of steps that the parameter has taken"),
    "InitialAccumulatorValue": ("OPTION", "the sum of squares starts at a number of its own"),
    "AdjustLrFn": ("OPTION", "the learning rate depends on the matrix's shape in another way"),
    "Schedule": ("FORMULA", "the learning rate of each epoch"),
    "CyclesMomentum": ("OPTION", "the momentum is cycled against the learning rate"),
    "Metrics": ("FORMULA", "the learning rate depends on a metric"),
    "Composite": ("PLUMBING", "schedulers made of schedulers"),
    "Trace": ("FORMULA", "where the closure is called, call after call"),
    "LineSearch": ("FORMULA", "step sizes by a search under the strong Wolfe conditions"),
    "Dialect": ("FORMULA", "tells documented dialects of this optimizer apart"),
}

_LINKS = {"Amsgrad": ["https://github.com/pytorch/pytorch/issues/142323"]}


def of_option(name: str) -> str:
    """Return the flag of an option, e.g. ``WeightDecay`` of ``weight_decay``."""
    return "".join(part.capitalize() for part in name.split("_"))


def described(names: set[str]) -> dict[str, Any]:
    """Return the entries of a file's flags."""
    entries = {}
    for name in sorted(names):
        kind, text = FLAGS[name]
        entries[name] = {"bugType": kind, "description": text} | ({"links": _LINKS[name]} if name in _LINKS else {})
    return entries
