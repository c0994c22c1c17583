"""Arrays as users hand them over: whose they are, and whether they can be taken for plain numbers."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def carries_derivatives(array: Any) -> bool:
    """Return whether an array carries another library's derivatives, which a copy would cut off."""
    if type(array) is np.ndarray:  # as almost all are
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


@lru_cache(maxsize=64)  # NumPy makes the name anew each time, which takes longer than copying a small array
def dtype_name(dtype: Any) -> str:
    """Return what a dtype is called whatever its byte order and its library, so that torch's equal NumPy's."""
    return dtype.name if isinstance(dtype, np.dtype) else str(dtype).rpartition(".")[2]
