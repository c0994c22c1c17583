"""The loops that multiply a flat array by a number, divide it, negate it, or bring its elements between two bounds."""

from typing import Any

from numba import float64, prange

from refoptim.kernels.arithmetic import maximum, minimum
from refoptim.kernels.jit import cpu_loop, cuda, gpu_kernel
from refoptim.kernels.memory import on_gpu


@cpu_loop
def scale_cpu(x, factor):
    # The factor is float64, and so is the product; storing it is the one rounding.
    for i in prange(x.size):
        x[i] = x[i] * factor


@gpu_kernel
def scale_gpu(x, factor):
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        x[i] = float64(x[i]) * factor


@cpu_loop
def clamp_cpu(x, bound):
    for i in prange(x.size):
        x[i] = minimum(maximum(float64(x[i]), -bound), bound)


@gpu_kernel
def clamp_gpu(x, bound):
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        x[i] = minimum(maximum(float64(x[i]), -bound), bound)


@gpu_kernel
def divide_gpu(x, divisor, least):
    """Divide by a number that lies on the GPU, or by another, if that is larger."""
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        x[i] = x[i] / maximum(divisor[0], least)


@gpu_kernel
def negative_gpu(z, x):
    for i in range(cuda.grid(1), z.size, cuda.gridsize(1)):
        z[i] = -x[i]


def scale(x: Any, factor: float) -> None:
    """Multiply a flat array by a number, in float64, and round once."""
    if on_gpu(x):
        scale_gpu.launch(x, factor)
    else:
        scale_cpu(x, factor)


def clamp(x: Any, bound: float) -> None:
    """Bring every element of a flat array into [-bound, bound]. NaN stays."""
    if on_gpu(x):
        clamp_gpu.launch(x, bound)
    else:
        clamp_cpu(x, bound)
