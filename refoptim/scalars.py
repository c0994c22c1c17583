"""Numbers that the host computes once per step, in float64 and to about one ulp."""

import math
from decimal import Context, Decimal
from functools import lru_cache
from typing import Any

import numpy as np


def number(value: Any) -> float:
    """Return a hyperparameter as a Python float; learning rates may be arrays of one element."""
    return float(value.item() if isinstance(value, np.ndarray) else value)


def one_minus_power(beta: float, t: int) -> float:
    """Return 1 - beta**t without cancellation.

    It is -expm1(t * log(beta)) with the logarithm in two parts, the first short enough for an exact product with t.
    """
    if beta <= 0.0:
        return 1.0
    high, low = _log(beta)
    rest = math.expm1(t * high)
    return -(rest + (rest + 1.0) * (t * low))


@lru_cache(maxsize=64)
def _log(x: float) -> tuple[float, float]:
    exact = Decimal(x).ln(Context(prec=40))
    high = float(np.float32(exact))
    return high, float(exact - Decimal(high))
