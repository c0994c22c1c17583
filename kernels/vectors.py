"""The rules that minimizers share: a multiple of a vector, and one vector and a multiple of another."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from refoptim.kernels.arithmetic import fma, unpack, widen
from refoptim.kernels.jit import cpu_kernel, cpu_rule, cpu_tasks
from refoptim.kernels.measures import copy, is_long
from refoptim.kernels.memory import empty, on_gpu
from refoptim.kernels.pairs import CHUNK, LANES
from refoptim.kernels.prefetch import copy_chunk
from refoptim.kernels.reductions import turn
from refoptim.kernels.strips import gpu_elementwise

# How many elements are copied, and then moved, while they are in the first cache.
_BLOCK = 2 * LANES


class Scalars(NamedTuple):
    """What these need beside the arrays: computed on the host in float64, rounded once to the vectors' type."""

    factor: float


def multiple(z, x, h):
    """Return factor * x; z is what was there before."""
    return h.factor * x


def combine(z, x, y, h):
    """Return x + factor * y; z is what was there before."""
    return fma(h.factor, y, x)


_multiple_cpu, multiple_gpu = cpu_rule(multiple), gpu_elementwise(multiple)
_combine_cpu, combine_gpu = cpu_rule(combine), gpu_elementwise(combine)


@cpu_kernel
def multiple_cpu(z, x, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in range(z.size):
        z[i] = _multiple_cpu(widen(z[i], h), widen(x[i], h), h)


@cpu_kernel
def combine_cpu(z, x, y, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in range(z.size):
        z[i] = _combine_cpu(widen(z[i], h), widen(x[i], h), widen(y[i], h), h)


def add(z: Any, x: Any, y: Any, factor: float) -> None:
    """Write x + factor * y to z, which may be one of them, in y's precision."""
    with np.errstate(over="ignore"):
        combine_cpu(z, x, y, np.array((factor,), y.dtype))


@cpu_tasks
def leave_cpu(x, theta, d, scalars, first, stop):
    """Write chunks of where the parameters are to x, and move them along d."""
    h = Scalars(*unpack(Scalars, scalars))
    for start in range(first * CHUNK, min(stop * CHUNK, theta.size), _BLOCK):
        part, along = theta[start : start + _BLOCK], d[start : start + _BLOCK]
        copy_chunk(x[start:], part)
        for i in range(part.size):
            part[i] = _combine_cpu(part[i], widen(part[i], h), widen(along[i], h), h)


def leave(x: Any, theta: Any, d: Any, factor: float) -> None:
    """Copy theta to x, and add factor * d to theta, in one pass if all are of one type."""
    if is_long(theta) and theta.dtype == d.dtype:
        with np.errstate(over="ignore"):
            scalars, chunks = np.array((factor,), d.dtype), -(-d.size // CHUNK)
        leave_cpu.run(chunks, turn(chunks), 4 * d.nbytes, x, theta, d, scalars)
    else:
        copy(x, theta)
        add(theta, x, d, factor)


def negative(x: Any, empty: Callable[..., Any] = empty) -> Any:
    """Return -x, as a new vector."""
    z = empty(x.size, x.dtype, x)
    if on_gpu(x):
        multiple_cpu(z, x, np.array((-1.0,), x.dtype))
    else:
        np.negative(x, out=z)
    return z
