"""Arrays of 16-bit numbers, stored from wider ones where they lie.

On a GPU the kernels are those of rules that multiply: by 1, which is exact.
"""

from typing import Any

import numpy as np

from refoptim.kernels import half_arrays, philox
from refoptim.kernels.memory import assign, on_gpu
from refoptim.kernels.scaling import scaled_gpu
from refoptim.kernels.vectors import multiple_gpu


def store(target: Any, x: Any, draws: Any = None, result: int = 0) -> None:
    """Round an array of wider numbers once into another: see ``half_arrays.store``.

    With draws it is stochastic, with the random bits that an element's result of this number has.
    """
    if draws is not None:
        draws = philox.of_result(draws, result)
    if not on_gpu(target):
        half_arrays.store(target, x, draws)
    elif draws is None or target.dtype.itemsize != 2:
        assign(target, x)
    else:
        multiple_gpu.half.stochastic((target.reshape(-1), x.reshape(-1)), np.ones(1, x.dtype), draws)


def store_parts(target: Any, x: Any, draws: Any, result: int, parts: Any) -> None:
    """Round stochastically, on the CPU, where parts of the array have random bits of their own.

    A row for each part: its first element, the one behind its last, and what to add to the place that the random bits
    of an element go by.
    """
    half_arrays.store_parts(target, x, philox.of_result(draws, result), parts)


def widen(target: Any, x: Any) -> None:
    """Copy an array of 16-bit numbers, or of others, into one of wider ones."""
    if on_gpu(target) or x.dtype.itemsize != 2:
        assign(target, x)
    else:
        half_arrays.widen(target, x)


def restore(master: Any, theta: Any) -> None:
    """Give master weights the values of the parameters that somebody has written to."""
    if on_gpu(master):
        scaled_gpu.half.master((theta.reshape(-1), master.reshape(-1)), np.ones(1, master.dtype))
    else:
        master[...] = half_arrays.restored(theta, master)
