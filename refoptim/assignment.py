"""What may be assigned to a parameter's values and to its gradient."""

from typing import Any

import numpy as np

from . import devices
from .arrays import carries_derivatives, dtype_name, library, spelled, unmasked
from .cpu import CPU, Device
from .errors import GradientShapeError, GradientTypeError

_TO_GPU = "numba.cuda.to_device(values) or cupy.asarray(values)"
_TO_HOST = "values.copy_to_host() or cupy.asnumpy(values)"


def checked(values: Any, what: str, label: str, data: Any, device: Device | None) -> Any:
    """Return values as an array that can be copied into one like ``data``, and raise if they cannot.

    The device is the buffer's; None is that there is no buffer, because the array may be another library's.
    """
    if device is CPU and type(values) is np.ndarray and values.dtype == data.dtype and values.shape == data.shape:
        return values
    if device is None and _stays_foreign(values, data):
        source, array = CPU, values
    else:
        source = devices.device_of(values)
        if source is CPU and not hasattr(values, "__array__") and not hasattr(values, "__array_interface__"):
            raise GradientTypeError(
                f"assigned {what} of {label} expected to be an array or None but got {what} of type "
                f"{type(values).__name__!r}: write np.asarray(values, {spelled(data.dtype)})"
            )
        if source is not (device or CPU):
            hint = _TO_GPU if source is CPU else _TO_HOST
            raise GradientTypeError(
                f"assigned {what} of {label} is on {source.name}, but the parameter is on {(device or CPU).name}: "
                f"write {hint}"
            )
        array = unmasked(values, f"the {what} of {label}") if source is CPU else values
    if array.dtype != data.dtype and dtype_name(array.dtype) != dtype_name(data.dtype):
        raise GradientTypeError(
            f"assigned {what} of {label} has dtype {array.dtype}, but the parameter has dtype {data.dtype}: "
            f"write values.astype({spelled(data.dtype)})"
        )
    shape, expected = tuple(array.shape), tuple(data.shape)
    if shape != expected:
        raise GradientShapeError(
            f"assigned {what} of {label} has shape {shape}, but the parameter has shape {expected}"
        )
    return array if source is CPU else source.kernels_array(array)


def _stays_foreign(values: Any, data: Any) -> bool:
    return carries_derivatives(values) or (carries_derivatives(data) and library(values) == library(data))
