"""The rules that multiply a flat array by a number, divide it, or bring its elements between two bounds."""

from typing import Any, NamedTuple

import numpy as np

from refoptim.kernels.arithmetic import maximum, minimum, unpack, widen
from refoptim.kernels.jit import cpu_kernel, cpu_rule
from refoptim.kernels.strips import gpu_elementwise


class Scalars(NamedTuple):
    """What these need beside the array, in the type to compute in."""

    number: float  # the factor, the divisor, or the largest magnitude


def scaled(x, h):
    """Return a multiple of x."""
    return x * h.number


def clamped(x, h):
    """Return x, or the bound that it is beyond. NaN stays."""
    return minimum(maximum(x, -h.number), h.number)


def divided(x, h):
    """Return a part of x."""
    return x / h.number


_scaled_cpu, scaled_gpu = cpu_rule(scaled), gpu_elementwise(scaled)
_clamped_cpu, clamped_gpu = cpu_rule(clamped), gpu_elementwise(clamped)
_divided_cpu, divided_gpu = cpu_rule(divided), gpu_elementwise(divided)


@cpu_kernel
def scaled_cpu(x, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in range(x.size):
        x[i] = _scaled_cpu(widen(x[i], h), h)


@cpu_kernel
def clamped_cpu(x, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in range(x.size):
        x[i] = _clamped_cpu(widen(x[i], h), h)


@cpu_kernel
def divided_cpu(x, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in range(x.size):
        x[i] = _divided_cpu(widen(x[i], h), h)


def scale(x: Any, factor: float) -> None:
    """Multiply a flat array by a number, in float64, and round once."""
    scaled_cpu(x, np.array((factor,), np.float64))


def clamp(x: Any, bound: float) -> None:
    """Bring every element of a flat array into [-bound, bound]. NaN stays."""
    clamped_cpu(x, np.array((bound,), np.float64))


def divide(x: Any, divisor: Any) -> None:
    """Divide a flat array by the first element of another, in the type of that."""
    divided_cpu(x, divisor)
