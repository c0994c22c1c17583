"""Steps along sparse gradients: rows are taken out of the flat arrays, stepped like any others, and put back."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .buffers import Array
from .implementations import Launch, Settings, evaluation
from .slots import Slots
from .sparse import SparseGrad


def plan_rows(settings: Settings, slots: Slots, place: int) -> Launch:
    """Return the step of a parameter whose gradient is sparse. Raise if its optimizer cannot take one."""
    variant, name = settings.variant, type(settings.algorithm).__name__
    if not variant.sparse:
        hint = ", please consider SparseAdam instead" if name in ("Adam", "AdamW") else ""
        raise RuntimeError(f"{name} does not support sparse gradients{hint}")
    if settings.group.get("weight_decay", 0) != 0:
        raise RuntimeError("weight_decay option is not compatible with sparse gradients")
    grad: SparseGrad = slots.params[place].grad.coalesce()
    slots.prepare(variant.state, settings.initial)
    compute, scalars = evaluation(settings, slots, place)
    return _step_rows, (settings, slots, place, grad, compute, scalars)


def _step_rows(
    settings: Settings, slots: Slots, place: int, grad: SparseGrad, compute: Callable[..., None], scalars: Any
) -> None:
    rows = grad.rows
    width = grad.width * (slots.dtype.itemsize // slots.real.itemsize)
    values = grad.values.view(slots.real).reshape(len(rows), width)
    theta, _, *state = (
        flat.reshape(grad.height, width) for flat in slots.arrays_of(slots.run_of(place), settings.variant.state)
    )
    if settings.variant.sparse == "history":
        # Momentum moves every row that ever had a gradient, with or without one now.
        rows, values = _joined(rows, values, _history(slots, place, state))
        slots.touched[place] = rows
    if not rows.size:
        return
    taken = [np.ascontiguousarray(array[rows]) for array in (theta, *state)]
    compute(*(array.ravel() for array in (taken[0], values, *taken[1:])), scalars)
    for array, new in zip((theta, *state), taken, strict=True):
        array[rows] = new


def _history(slots: Slots, place: int, state: list[Array]) -> Array:
    """Return the rows that have state which is not zero."""
    known = slots.touched.get(place)
    if known is not None:
        return known
    if slots.host_of(place) is None:
        return np.empty(0, np.int64)
    return np.flatnonzero(np.any([array.any(axis=1) for array in state], axis=0))


def _joined(rows: Array, values: Array, others: Array) -> tuple[Array, Array]:
    """Return these rows and others, each once and in order, with values of zero for the others."""
    joined = np.union1d(rows, others)
    if joined.size == rows.size:
        return rows, values
    all_values = np.zeros((joined.size, values.shape[1]), values.dtype)
    all_values[np.searchsorted(joined, rows)] = values
    return joined, all_values
