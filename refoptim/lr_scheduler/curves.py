"""Whole curves: the epochs that a user asks for, and a copy of a scheduler to run ahead with."""

from collections.abc import Callable
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import numpy as np

Rows = list[list[float]]


def curves(steps: Any, rows_at: Callable[[list[Any]], Rows], fractions: bool = False) -> list[Any]:
    """Return one curve for each group, as floats or arrays of the shape of steps."""
    epochs = np.asarray(steps)
    if not epochs.size:
        epochs = epochs.astype(int)
    if epochs.dtype.kind not in ("iuf" if fractions else "iu"):
        raise TypeError(f"steps must be integers{' or floats' if fractions else ''}, but are {steps!r}")
    if not (epochs >= 0).all():
        raise ValueError(f"steps must be at least 0, but {epochs.min()} is among them")
    if not epochs.ndim:
        return rows_at([epochs.item()])[0]
    rows = np.array(rows_at(epochs.ravel().tolist()))
    if not epochs.size:
        rows = np.empty((0, len(rows_at([0])[0])))
    return [column.reshape(epochs.shape) for column in rows.T]


def twin_of(scheduler: Any) -> Any:
    """Return a copy of a scheduler on groups of its own. Functions are shared with it."""
    optimizer = scheduler.optimizer
    groups = [{**group, "params": []} for group in optimizer.param_groups]
    stand_in = SimpleNamespace(param_groups=deepcopy(groups), defaults=optimizer.defaults, _opt_called=True)
    # Keyed by what is not to be copied. A bound method would be copied together with its object.
    memo: dict[int, Any] = {id(optimizer): stand_in, id(scheduler._ledger): vars(stand_in).setdefault("_lr_ledger", [])}
    for member in members(scheduler):
        for value in vars(member).values():
            for item in value if isinstance(value, list) else [value]:
                if callable(item):
                    memo[id(item)] = item
    return deepcopy(scheduler, memo)


def members(scheduler: Any) -> list[Any]:
    """Return a scheduler and all that it is made of."""
    found = [scheduler]
    for part in getattr(scheduler, "_schedulers", ()):
        found += members(part)
    return found
