"""Schedulers as plain data, and back."""

from collections.abc import Mapping
from copy import deepcopy
from types import FunctionType
from typing import Any

import numpy as np

from ..interrupts import Uninterrupted
from .exact import rounded
from .rates import Ledger, rate

# What a scheduler shares with others or can compute again, and what torch keeps for the time of a call.
UNSAVED = {
    "optimizer",
    "exact_lrs",
    "left_out",
    "_ledger",
    "_members",
    "_never_fails",
    "_ahead",
    "_table",
    "_powers",
    "_claimed",
    "_is_initial",
    "_within_step",
    "_get_lr_called_within_step",
}

# A scheduler, or a user's callable object, and the attributes that it is to get.
Changes = list[tuple[Any, dict[str, Any]]]


def saved(scheduler: Any) -> dict[str, Any]:
    """Return a scheduler's attributes, and the digits of the learning rates."""
    left_out: list[str] = []
    state = {name: _plain(name, value, left_out) for name, value in vars(scheduler).items() if name not in UNSAVED}
    state["exact_lrs"] = _digits(scheduler)
    return state | ({"left_out": left_out} if left_out else {})


def load(scheduler: Any, state: Any) -> None:
    """Give a scheduler the saved attributes, all of them or, if there is anything wrong with them, none."""
    changes = _changes(scheduler, state)
    ledger = _ledger(state)
    with Uninterrupted():
        for target, attributes in changes:
            vars(target).update(attributes)
        if ledger is not None:
            scheduler._ledger[:] = ledger


def _plain(name: str, value: Any, left_out: list[str]) -> Any:
    if hasattr(value, "state_dict"):
        return value.state_dict()
    if callable(value):
        described = getattr(value, "__qualname__", type(value).__qualname__)
        left_out.append(f"{name}: {getattr(value, '__module__', None) or type(value).__module__}.{described}")
        attributes = {} if isinstance(value, FunctionType) else getattr(value, "__dict__", {})
        return {key: _plain(f"{name}.{key}", item, left_out) for key, item in attributes.items()} or None
    if isinstance(value, list | tuple):
        return [_plain(f"{name}[{place}]", item, left_out) for place, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {key: _plain(f"{name}[{key!r}]", item, left_out) for key, item in value.items()}
    return value.item() if isinstance(value, np.generic) else deepcopy(value)


def _changes(scheduler: Any, state: Any) -> Changes:
    kind = type(scheduler).__name__
    if not isinstance(state, Mapping):
        raise TypeError(f"the state of {kind} must be a dict, but is of type {type(state).__name__!r}")
    own = vars(scheduler).keys() - UNSAVED
    missing = sorted(own - state.keys())
    if missing:
        raise KeyError(f"{', '.join(missing)}: missing from the loaded state of {kind}, which has {sorted(state)}")
    changes: Changes = []
    attributes = {
        name: _restored(f"{name} of {kind}", vars(scheduler).get(name), value, changes)
        for name, value in state.items()
        if name not in UNSAVED
    }
    groups, loaded = len(scheduler.optimizer.param_groups), attributes.get("_last_lr", ())
    if len(loaded) != groups:
        raise ValueError(f"the loaded state of {kind} is for {len(loaded)} groups, but the optimizer has {groups}")
    candidate = object.__new__(type(scheduler))
    vars(candidate).update({**vars(scheduler), **attributes})
    candidate._check()
    return [*changes, (scheduler, {name: vars(candidate)[name] for name in attributes})]


def _restored(name: str, current: Any, value: Any, changes: Changes) -> Any:
    """Return what an attribute is to be. What happens inside of schedulers and callables is added to the changes."""
    if hasattr(current, "state_dict"):
        changes += _changes(current, value)
        return current
    if callable(current):
        if value is not None:
            changes.append((current, deepcopy(value)))
        return current
    if isinstance(current, list | tuple) and any(callable(item) or hasattr(item, "state_dict") for item in current):
        if not isinstance(value, list | tuple) or len(value) != len(current):
            raise ValueError(f"{name} must be a list of {len(current)} in the loaded state, but is {value!r}")
        return [_restored(f"{name}[{i}]", old, new, changes) for i, (old, new) in enumerate(zip(current, value))]
    return deepcopy(value)


def _digits(scheduler: Any) -> list[Any]:
    """Return each group's learning rate and the value that it was rounded from, or None if somebody changed it."""
    known = zip(scheduler._ledger, scheduler.optimizer.param_groups)
    return [[lr, f"{m:#x}p{x}"] if lr == rate(group["lr"]) else None for (lr, m, x), group in known]


def _ledger(state: Mapping[str, Any]) -> Ledger | None:
    entries = state.get("exact_lrs")
    return None if entries is None else [(0.0, 0, 0) if entry is None else _known(*entry) for entry in entries]


def _known(lr: float, digits: str) -> tuple[float, int, int]:
    m, _, x = digits.partition("p")
    value = int(m, 16), int(x)
    if lr not in (rounded(*value), float(np.float32(rounded(*value)))):
        raise ValueError(f"exact_lrs: {digits} is not {lr}")
    return lr, *value
