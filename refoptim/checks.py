"""Checks of what a user hands to an optimizer, with torch's messages. They run before anything is changed."""

from math import prod
from typing import Any

import numpy as np


def check_lr(lr: Any, accept_nan: bool = False) -> None:
    """Raise unless the learning rate is at least 0: a number, or an array of one element."""
    if prod(np.shape(lr)) != 1:
        raise ValueError("Tensor lr must be 1-element")
    check_least("learning rate", lr, accept_nan=accept_nan)


def check_newer_lr(lr: Any) -> None:
    """Raise unless the learning rate is at least 0, in the words of torch's newer classes."""
    if prod(np.shape(lr)) != 1:
        raise ValueError("Tensor lr must be 1-element")
    if not 0.0 <= lr:  # noqa: SIM300
        raise ValueError(f"Learning rate should be >= 0 but is: {lr}")


def check_least(what: str, value: Any, accept_nan: bool = False) -> None:
    """Raise unless the value is at least 0."""
    # In torch's words, so that what cannot be compared raises the same message.
    if value < 0.0 if accept_nan else not 0.0 <= value:  # noqa: SIM300
        raise ValueError(f"Invalid {what}: {value}")


def check_betas(betas: Any) -> None:
    """Raise unless there are two, both in [0, 1)."""
    for index in (0, 1):
        if not 0.0 <= betas[index] < 1.0:
            raise ValueError(f"Invalid beta parameter at index {index}: {betas[index]}")
    check_pair("betas", betas)


def check_pair(name: str, values: Any) -> None:
    """Raise unless there are two values."""
    if len(values) != 2:
        raise ValueError(f"{name} must be two values, but are {values}")


def check_moments(options: dict[str, Any]) -> None:
    """Raise unless the options that Adam's family has in common are in range."""
    check_lr(options["lr"])
    check_least("epsilon value", options["eps"])
    check_betas(options["betas"])
    check_least("weight_decay value", options["weight_decay"])


def given(**options: Any) -> dict[str, Any]:
    """Return the options that are not None: those that torch lacks are in a group only if a user asks for them."""
    return {name: value for name, value in options.items() if value is not None}


def check_implementation(group: dict[str, Any]) -> None:
    """Raise where two ways to compute are asked for at once."""
    if group.get("fused"):
        if group.get("differentiable"):
            raise RuntimeError("`fused` does not support `differentiable`")
        if group.get("foreach"):
            raise RuntimeError("`fused` and `foreach` cannot be `True` together.")


def check_arithmetic(arithmetic: Any) -> None:
    """Raise unless it names a way to compute."""
    if arithmetic not in (None, "float64"):
        raise ValueError(f"Invalid arithmetic: {arithmetic!r}; use None (the parameters' own) or 'float64'")
