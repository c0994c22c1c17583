"""Hyperparameters as numbers, and numbers as the array that a kernel takes."""

from collections.abc import Callable
from functools import lru_cache, partial
from operator import index
from struct import Struct
from typing import Any

import numpy as np

from .arrays import Array


def number(name: str, value: Any) -> float:
    """Return an option as a Python float; learning rates may be arrays of one element."""
    if type(value) is float:  # as a rule, and in each step of some optimizers
        return value
    if isinstance(value, np.ndarray):
        if value.size != 1:
            raise ValueError(f"{name} must be one number, but is an array of shape {value.shape}")
        value = value.item()
    if isinstance(value, str) or not hasattr(value, "__float__"):
        raise TypeError(f"{name} must be a number, but is {value!r}")
    return float(value)


def integer(name: str, value: Any) -> int:
    """Return an option as a Python int."""
    try:
        return index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, but is {value!r}") from None


def packed(numbers: tuple[float, ...], dtype: np.dtype[Any]) -> Array:
    """Return numbers as an array, rounded once to its dtype.

    As ``np.array(numbers, dtype)``, in half the time; a number that is too large becomes infinity without a warning.
    """
    result = np.empty(len(numbers), dtype)
    _struct(len(numbers), dtype.char).pack_into(result.data, 0, *numbers)
    return result


def packer(array: Array) -> Callable[..., None]:
    """Return what writes other numbers to a packed array."""
    return partial(_struct(array.size, array.dtype.char).pack_into, array.data, 0)


@lru_cache(maxsize=64)
def _struct(count: int, code: str) -> Struct:
    return Struct(f"{count}{code}")
