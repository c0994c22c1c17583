"""Schedulers as plain data, and back."""

from collections.abc import Mapping
from copy import deepcopy
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np

from ..interrupts import Uninterrupted
from .curves import members
from .exact import rounded
from .overrides import overridden
from .rates import Ledger, rate, unchanged_on_error

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


class Changes(NamedTuple):
    """What a load is going to do."""

    # Schedulers, or a user's callable objects, and the attributes that each is to get.
    attributes: list[tuple[Any, dict[str, Any]]]
    # Objects that load their state themselves, and the state of each.
    loads: list[tuple[Any, Any]]


def saved(scheduler: Any) -> dict[str, Any]:
    """Return a scheduler's attributes, and the digits of the learning rates."""
    left_out: list[str] = []
    state = {name: _plain(name, value, left_out) for name, value in vars(scheduler).items() if name not in UNSAVED}
    state["exact_lrs"] = _digits(scheduler)
    return state | ({"left_out": left_out} if left_out else {})


def load(scheduler: Any, state: Any) -> None:
    """Give a scheduler the saved attributes, all of them or, if there is anything wrong with them, none."""
    changes = Changes([], [])
    ledger = _plan(scheduler, state, changes)
    with Uninterrupted(), unchanged_on_error(scheduler.optimizer, members(scheduler)):
        # Only these can fail. They are given copies: torch's way is to take things out.
        for target, value in changes.loads:
            target.load_state_dict(deepcopy(value))
        for target, attributes in changes.attributes:
            vars(target).update(attributes)
        if ledger is not None:
            scheduler._ledger[:] = ledger


def _plain(name: str, value: Any, left_out: list[str]) -> Any:
    if hasattr(value, "state_dict"):
        return value.state_dict()
    if callable(value):
        described = getattr(value, "__qualname__", type(value).__qualname__)
        left_out.append(f"{name}: {getattr(value, '__module__', None) or type(value).__module__}.{described}")
        attributes = vars(value) if _has_attributes(value) else {}
        return {key: _plain(f"{name}.{key}", item, left_out) for key, item in attributes.items()} or None
    if isinstance(value, list | tuple):
        return [_plain(f"{name}[{place}]", item, left_out) for place, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {key: _plain(f"{name}[{key!r}]", item, left_out) for key, item in value.items()}
    return _copied(value)


def _has_attributes(function: Any) -> bool:
    """Return whether a callable is an object of a user's class, whose attributes are saved."""
    return hasattr(function, "__dict__") and not isinstance(function, FunctionType | type)


def _copied(value: Any) -> Any:
    # A number of NumPy's, or of torch's, becomes Python's.
    return value.item() if getattr(value, "shape", None) == () else deepcopy(value)


def _plan(scheduler: Any, state: Any, changes: Changes) -> Ledger | None:
    """Check a scheduler's state, and add to the changes what it leads to. Return the ledger, if it has one."""
    kind = type(scheduler).__name__
    if not isinstance(state, Mapping):
        raise TypeError(f"the state of {kind} must be a dict, but is of type {type(state).__name__!r}")
    if "exact_lrs" not in state:
        state = scheduler._completed(state)
    own = vars(scheduler).keys() - UNSAVED
    missing = sorted(own - state.keys())
    if missing:
        raise KeyError(f"{', '.join(missing)}: missing from the loaded state of {kind}, which has {sorted(state)}")
    attributes = {
        name: _restored(name, kind, vars(scheduler).get(name), value, changes)
        for name, value in state.items()
        if name not in UNSAVED
    }
    for name in ("base_lrs", "_last_lr"):
        if name in attributes:
            attributes[name] = _rates(f"{name} of {kind}", attributes[name])
    # A group that was added after the last step has no learning rate there yet.
    ledger = _ledger(state)
    groups, loaded = len(scheduler.optimizer.param_groups), max(len(attributes.get("_last_lr", ())), len(ledger or ()))
    if loaded != groups:
        raise ValueError(f"the loaded state of {kind} is for {loaded} groups, but the optimizer has {groups}")
    candidate = object.__new__(type(scheduler))
    vars(candidate).update({**vars(scheduler), **attributes})
    candidate._check()
    changes.attributes.append((scheduler, {name: vars(candidate)[name] for name in attributes}))
    return ledger


def _rates(name: str, values: Any) -> list[float]:
    if not isinstance(values, list | tuple):
        raise TypeError(f"{name} must be a list of numbers in the loaded state, but is {values!r}")
    return [rate(value) for value in values]


def _restored(name: str, kind: str, current: Any, value: Any, changes: Changes) -> Any:
    """Return what an attribute is to be. What happens inside of schedulers and callables is added to the changes."""
    if hasattr(current, "state_dict"):
        if overridden(type(current), "load_state_dict"):
            changes.loads.append((current, value))
        else:
            _plan(current, value, changes)
        return current
    if callable(current):
        if value is not None:
            if not isinstance(value, Mapping) or not _has_attributes(current):
                accepted = "a dict of attributes, or None," if _has_attributes(current) else "None"
                raise TypeError(f"{name} of {kind} must be {accepted} in the loaded state, but is {value!r}")
            inside = {
                key: _restored(f"{name}.{key}", kind, vars(current).get(key), item, changes)
                for key, item in value.items()
            }
            changes.attributes.append((current, inside))
        return current
    if isinstance(current, list | tuple) and any(callable(item) or hasattr(item, "state_dict") for item in current):
        if not isinstance(value, list | tuple) or len(value) != len(current):
            raise ValueError(f"{name} of {kind} must be a list of {len(current)} in the loaded state, but is {value!r}")
        return [_restored(f"{name}[{i}]", kind, old, new, changes) for i, (old, new) in enumerate(zip(current, value))]
    return _copied(value)


def _digits(scheduler: Any) -> list[Any]:
    """Return each group's learning rate and the value that it was rounded from, or None if somebody changed it."""
    groups = scheduler.optimizer.param_groups
    known = [*scheduler._ledger, *[(0.0, 0, 0)] * len(groups)]
    return [[lr, f"{m:#x}p{x}"] if lr == rate(group["lr"]) else None for (lr, m, x), group in zip(known, groups)]


def _ledger(state: Mapping[str, Any]) -> Ledger | None:
    if (entries := state.get("exact_lrs")) is None:
        return None
    if not isinstance(entries, list | tuple):
        raise TypeError(f"exact_lrs must be a list in the loaded state, but is {entries!r}")
    return [(0.0, 0, 0) if entry is None else _known(*entry) for entry in entries]


def _known(lr: float, digits: str) -> tuple[float, int, int]:
    m, _, x = digits.partition("p")
    value = int(m, 16), int(x)
    if lr not in (rounded(*value), float(np.float32(rounded(*value)))):
        raise ValueError(f"exact_lrs: {digits} is not {lr}")
    return lr, *value
