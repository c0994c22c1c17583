"""Formats of numbers, NumPy's and ml_dtypes'."""

from importlib import import_module
from typing import Any

import numpy as np


def finfo(dtype: Any) -> Any:
    """Return the limits of a floating-point dtype."""
    return (import_module("ml_dtypes") if np.dtype(dtype).name == "bfloat16" else np).finfo(dtype)
