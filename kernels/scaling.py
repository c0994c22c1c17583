"""The loop that multiplies a flat array by a number."""

from numba import prange

from refoptim.kernels.jit import cpu_loop


@cpu_loop
def scale_cpu(x, factor):
    # The factor is float64, and so is the product; storing it is the one rounding.
    for i in prange(x.size):
        x[i] = x[i] * factor
