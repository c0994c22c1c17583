"""Steps along sparse gradients: rows are taken out of the flat arrays, stepped like any others, and put back."""

from collections.abc import Callable
from typing import Any

import numpy as np

from . import kernels
from .arrays import Array
from .cpu import CPU, Device, Launch
from .half_steps import computation
from .implementations import Settings, evaluation
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
    if slots.is_half:
        compute = computation(settings, slots, place)
    else:
        step, scalars = evaluation(settings, slots, place)

        def compute(*arrays: Any) -> None:
            step(*arrays, scalars)

    return _step_rows, (settings, slots, place, grad, compute)


def _step_rows(settings: Settings, slots: Slots, place: int, grad: SparseGrad, compute: Callable[..., None]) -> None:
    device, rows = slots.device, grad.rows
    width = grad.width * (slots.dtype.itemsize // slots.real.itemsize)
    values = _values(device, grad, slots.real)
    theta, _, *state = (
        flat.reshape(grad.height, width) for flat in slots.arrays_of(slots.run_of(place), settings.variant.state)
    )
    if settings.variant.sparse == "history":
        # Momentum moves every row that ever had a gradient, with or without one now.
        rows, values = _joined(device, rows, values, _history(slots, place, state), width)
        slots.touched[place] = rows
    if not rows.size:
        return
    taken = [_take(device, array, rows) for array in (theta, *state)]
    compute(taken[0], values, *taken[1:])
    for array, new in zip((theta, *state), taken, strict=True):
        _put(device, array, rows, new)


def _values(device: Device, grad: SparseGrad, real: Any) -> Any:
    """Return a gradient's values as kernels see them: flat, and on this device."""
    if grad.place is device:
        return device.kernels_array(grad.values).reshape(-1).view(real)
    values = device.zeros(grad.values.size, grad.dtype)
    device.copy(values, grad.values.reshape(-1))
    return values.view(real)


def _history(slots: Slots, place: int, state: list[Any]) -> Array:
    """Return the rows that have state which is not zero."""
    known = slots.touched.get(place)
    if known is not None:
        return known
    if slots.host_of(place) is None:
        return np.empty(0, np.int64)
    arrays = state if slots.device is CPU else map(slots.device.host, state)
    return np.flatnonzero(np.any([array.any(axis=1) for array in arrays], axis=0))


def _joined(device: Device, rows: Array, values: Any, others: Array, width: int) -> tuple[Array, Any]:
    """Return these rows and others, each once and in order, with values of zero for the others."""
    joined = np.union1d(rows, others)
    if joined.size == rows.size:
        return rows, values
    all_values = device.zeros(joined.size * width, values.dtype)
    _put(device, all_values.reshape(joined.size, width), np.searchsorted(joined, rows), values)
    return joined, all_values


def _take(device: Device, array: Any, rows: Array) -> Any:
    """Return rows of an array, one behind the other."""
    if device is CPU:
        return array[rows].reshape(-1)
    width = int(array.shape[1])
    taken, bits = device.zeros(rows.size * width, array.dtype), kernels.half.as_bits
    kernels.rows.gather_gpu.launch(bits(taken), bits(array).reshape(-1), device.uploaded(rows), width)
    return taken


def _put(device: Device, array: Any, rows: Array, taken: Any) -> None:
    """Write what :func:`_take` returned back into the rows."""
    if device is CPU:
        array[rows] = taken.reshape(rows.size, array.shape[1])
    else:
        bits, width = kernels.half.as_bits, int(array.shape[1])
        kernels.rows.scatter_gpu.launch(bits(taken), bits(array).reshape(-1), device.uploaded(rows), width)
