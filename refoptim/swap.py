"""Lending an optimizer to other parameters and another state, for a while."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from . import checkpoint, devices
from .kernels.interrupts import Uninterrupted
from .layout import Layout
from .optimizer import Optimizer
from .parameter import Parameter


@contextmanager
def swap_in_optimizer_params_and_state(
    optimizer: Optimizer, swapin_parameters: Mapping[str, Parameter], swapin_optim_state: dict[str, Any]
) -> Iterator[None]:
    """Let an optimizer work on other parameters, with another state and other options, and restore its own on leaving.

    Args:
        optimizer: the optimizer; it must have state.
        swapin_parameters: as many parameters as it has, by any names, in the same order.
        swapin_optim_state: a state_dict for them. What the optimizer changes in its arrays and step counts is written
            back to it on leaving; entries that did not exist before are not added.

    Raises:
        RuntimeError: the optimizer has no state yet, or the parameters, groups, options or state do not match its own.

    >>> import numpy as np, refoptim as optim
    >>> p, q = optim.Parameter([1.0]), optim.Parameter([5.0])
    >>> optimizer = optim.Adam([p], lr=0.1)
    >>> optimizer.step(grads=[np.array([1.0])])
    >>> with optim.swap_in_optimizer_params_and_state(optimizer, {"q": q}, optimizer.state_dict()):
    ...     optimizer.step(grads=[np.array([1.0])])
    >>> p.data, q.data
    (array([0.9]), array([4.9]))

    """
    groups = _groups(optimizer, list(swapin_parameters.values()), swapin_optim_state)
    try:
        entries = checkpoint.entries(optimizer, groups, swapin_optim_state)
    except (KeyError, TypeError, ValueError) as error:
        raise RuntimeError(f"swap_in_optimizer_params_and_state: {error.args[0]}") from error
    layouts = [Layout(optimizer, group) for group in groups]
    checkpoint.fill(layouts, entries)
    with Uninterrupted():
        for layout in layouts:
            layout.occupy()
    own = optimizer.param_groups, optimizer._layouts
    optimizer.param_groups, optimizer._layouts = groups, layouts
    try:
        yield
    finally:
        try:
            with Uninterrupted():
                _write_back(optimizer, swapin_optim_state)
        finally:
            optimizer.param_groups, optimizer._layouts = own


def _groups(optimizer: Optimizer, params: list[Parameter], state_dict: Any) -> list[dict[str, Any]]:
    """Return the optimizer's groups with these parameters and the options of the state_dict."""
    name = "swap_in_optimizer_params_and_state"
    if not len(optimizer.state):
        raise RuntimeError(f"{name} requires initialized optimizer state.")
    if not isinstance(state_dict, dict) or not {"state", "param_groups"} <= state_dict.keys():
        raise RuntimeError(f"{name} requires an optimizer state_dict, but got {type(state_dict).__name__}")
    live, saved = optimizer.param_groups, state_dict["param_groups"]
    if [len(group["params"]) for group in live] != [len(group["params"]) for group in saved]:
        raise RuntimeError(f"{name} requires groups of the same sizes as optimizer.param_groups")
    if sum(len(group["params"]) for group in live) != len(params):
        raise RuntimeError(
            f"{name} got {len(params)} parameters for an optimizer of {sum(1 for _ in optimizer._params())}"
        )
    groups = []
    for own, new in zip(live, saved, strict=True):
        if own.keys() != new.keys():
            raise RuntimeError(f"{name} requires the options {sorted(own)}, but got {sorted(new)}")
        taken, params = params[: len(own["params"])], params[len(own["params"]) :]
        groups.append({**new, "params": taken})
    return groups


def _write_back(optimizer: Optimizer, state_dict: dict[str, Any]) -> None:
    for group, saved in zip(optimizer.param_groups, state_dict["param_groups"], strict=True):
        for param, number in zip(group["params"], saved["params"], strict=True):
            given, now = state_dict["state"].get(number, {}), optimizer.state[param]
            for name in given.keys() & now.keys():
                if isinstance(given[name], np.ndarray):
                    given[name][...] = devices.to_host(now[name])
                else:
                    given[name] = now[name]
