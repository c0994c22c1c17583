"""Arrays as users hand them over: whose they are, and whether they can be taken for plain numbers."""

from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def carries_derivatives(array: Any) -> bool:
    """Return whether an array carries another library's derivatives, which a copy would cut off."""
    if array is None or type(array) is np.ndarray:  # as almost all are
        return False
    if library(array) == "torch":
        return bool(getattr(array, "requires_grad", False))
    # JAX's concrete arrays are jaxlib's; what it traces is its own.
    return library(array) in ("autograd", "jax")


def library(value: Any) -> str:
    """Return the name of the package that a value's type comes from."""
    return type(value).__module__.partition(".")[0]


def unmasked(values: Any, what: str) -> Array:
    """Return the values as a NumPy array. Raise if they are masked: what lies under a mask would be used unnoticed."""
    if isinstance(values, np.ma.MaskedArray):
        raise TypeError(f"{what} must not be a masked array: write array.filled(0)")
    return np.asarray(values)


def is_half(dtype: Any) -> bool:
    """Return whether numbers of a dtype have 16 bits: NumPy's float16 or ml_dtypes' bfloat16."""
    return dtype_name(dtype) in ("float16", "bfloat16")


def is_real(dtype: Any) -> bool:
    """Return whether numbers of a dtype are real and not whole. NumPy itself does not know bfloat16 as such."""
    return dtype.kind == "f" or is_half(dtype)


def finfo(dtype: Any) -> Any:
    """Return the limits of a floating-point dtype."""
    return (import_module("ml_dtypes") if np.dtype(dtype).name == "bfloat16" else np).finfo(dtype)


def spelled(dtype: Any) -> str:
    """Return what to write for a dtype."""
    name = dtype_name(dtype)
    return f"{'ml_dtypes' if name == 'bfloat16' else 'np'}.{name}"


@lru_cache(maxsize=64)  # NumPy makes the name anew each time, which takes longer than copying a small array
def dtype_name(dtype: Any) -> str:
    """Return what a dtype is called whatever its byte order and its library, so that torch's equal NumPy's."""
    return dtype.name if isinstance(dtype, np.dtype) else str(dtype).rpartition(".")[2]
