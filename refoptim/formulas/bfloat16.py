"""Rounding to bfloat16 of arrays that are of another type."""

from typing import Any

import numpy as np


def bfloat16(x: Any) -> Any:
    """Return an array of the same type, each number as the bfloat16 nearest to its float32."""
    with np.errstate(all="ignore"):
        bits = np.array(x, np.float32, ndmin=1).view(np.uint32)
    # The upper half, one more if the lower half is past the middle, or at it and the upper one odd.
    nearest = (bits + 0x7FFF + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)
    result = np.where(np.isnan(x), np.float32(np.nan), nearest.view(np.float32).reshape(np.shape(x)))
    return result.astype(np.asarray(x).dtype)
