"""Steps along sparse gradients: of their rows alone, where they lie.

Where there is no loop over rows, on a GPU, for formulas and for 16 bits, they are taken out of the flat arrays, stepped
like any others, and put back.
"""

from collections.abc import Callable
from functools import partial
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
    grad: SparseGrad = slots.params[place].grad.summed()
    slots.prepare(variant.state, settings.initial)
    return _step_rows, (settings, slots, place, grad, _computation(settings, slots, place))


# What steps rows, given the parameter's array and those of its state with all rows, the rows' numbers, and the values
# of the gradient there.
_Computation = Callable[[list[Any], Array, Any], None]


def _computation(settings: Settings, slots: Slots, place: int) -> _Computation:
    if slots.is_half:
        return partial(_on_copies, slots.device, computation(settings, slots, place))
    step, last = evaluation(settings, slots, place)
    if slots.device is CPU and isinstance(step, kernels.jit.CpuKernel):
        return partial(_in_place, step, last)
    return partial(_on_copies, slots.device, lambda *arrays: step(*arrays, last))


def _step_rows(settings: Settings, slots: Slots, place: int, grad: SparseGrad, compute: _Computation) -> None:
    device, rows = slots.device, grad.rows
    width = grad.width * (slots.dtype.itemsize // slots.real.itemsize)
    values = _values(device, grad, slots.real)
    theta, _, *state = (
        flat.reshape(grad.height, width) for flat in slots.arrays_of(slots.run_of(place), settings.variant.state)
    )
    if settings.variant.sparse == "history":
        # Momentum moves every row that ever had a gradient, with or without one now.
        rows, values = _joined(device, rows, values, _history(slots, place, state), width)
        slots.touched[place] = grad.height, rows
    if rows.size:
        compute([theta, *state], rows, values)


def _in_place(kernel: Any, scalars: Array, arrays: list[Any], rows: Array, values: Any) -> None:
    theta, *state = (array.reshape(-1) for array in arrays)
    kernel.loop(theta, scalars).rows.step((theta, values, *state), rows, arrays[0].shape[1], scalars)


def _on_copies(device: Device, compute: Callable[..., None], arrays: list[Any], rows: Array, values: Any) -> None:
    theta, *state = (_take(device, array, rows) for array in arrays)
    compute(theta, values, *state)
    for array, new in zip(arrays, (theta, *state), strict=True):
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
    height, known = slots.touched.get(place, (0, None))
    if known is not None and height == state[0].shape[0]:
        return known
    if slots.host_of(place) is None:
        return np.empty(0, np.int64)
    arrays = state if slots.device is CPU else map(slots.device.host, state)
    return np.flatnonzero(np.any([array.any(axis=1) for array in arrays], axis=0))


def _joined(device: Device, rows: Array, values: Any, others: Array, width: int) -> tuple[Array, Any]:
    """Return these rows and others, each once, with values of zero for the others."""
    joined = np.sort(np.concatenate([rows, others]))  # np.union1d takes five times as long
    joined = joined[np.diff(joined, prepend=-1) != 0]
    if joined.size == rows.size:
        return rows, values
    all_values = device.zeros(joined.size * width, values.dtype)
    _put(device, all_values.reshape(joined.size, width), np.searchsorted(joined, rows), values)
    # As those of a gradient are: for arrays that can be written to kernels would be compiled once more.
    for array in (joined, all_values) if device is CPU else ():
        array.flags.writeable = False
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
