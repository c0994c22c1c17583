"""Numbers that the host computes once per step: exactly, then rounded once to float64."""

import math
from typing import Any

import numpy as np

from .formulas.power import BITS


def number(value: Any) -> float:
    """Return a hyperparameter as a Python float; learning rates may be arrays of one element."""
    # Plus refuses text, which float() would read.
    return float(value.item() if isinstance(value, np.ndarray) else +value)


def times_ratio(x: float, numerator: int, denominator: int) -> float:
    """Return x * numerator / denominator, rounded once."""
    if not math.isfinite(x):
        return x
    a, b = x.as_integer_ratio()
    try:
        return a * numerator / (b * denominator)
    except OverflowError:
        return math.inf


def fixed_sqrt(x: int) -> int:
    """Return the square root of a fixed-point number."""
    return math.isqrt(x << BITS)
