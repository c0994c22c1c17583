"""Formats of numbers, NumPy's and ml_dtypes'."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

# Why there are no rows of bfloat16, where there are none.
LEFT_OUT = "bfloat16 is left out: ml_dtypes is not installed (pip install 'refoptim[conformance]')."


def halves() -> list[Any]:
    """Return the dtypes of 16 bits: float16, and bfloat16 where ml_dtypes, which has it, is installed."""
    found = [import_module("ml_dtypes").bfloat16] if find_spec("ml_dtypes") else []
    return [np.dtype(dtype) for dtype in (*found, np.float16)]


def is_half(dtype: Any) -> bool:
    """Return whether numbers of a dtype have 16 bits."""
    return np.dtype(dtype).name in ("bfloat16", "float16")


def ulps(values: Any, dtype: Any) -> Any:
    """Return the distances of a format's numbers at these float64 values, as if it had no largest number."""
    limits = finfo(dtype)
    _, exponents = np.frexp(values)
    return np.ldexp(1.0, np.maximum(exponents - 1, limits.minexp) - limits.nmant)


def nearest(values: Any, dtype: Any) -> Any:
    """Return the nearest numbers of a format, of two the even ones, or infinity beyond the largest; all as float64."""
    ulp = ulps(values, dtype)
    return bounded(np.rint(values / ulp) * ulp, dtype)


def bounded(values: Any, dtype: Any) -> Any:
    """Return the values, and infinity in the place of those beyond the largest of a format."""
    return np.where(np.abs(values) <= float(finfo(dtype).max), values, np.copysign(np.inf, values))


def finfo(dtype: Any) -> Any:
    """Return the limits of a floating-point dtype."""
    return (import_module("ml_dtypes") if np.dtype(dtype).name == "bfloat16" else np).finfo(dtype)
