"""Rounding to bfloat16, the upper half of a float32, for those who want the numbers of a library that uses it."""

from typing import Any

import numpy as np
from numba import uint32

from refoptim.kernels.jit import cpu_loop, cpu_rule, cuda, gpu_kernel, gpu_rule
from refoptim.kernels.memory import on_gpu


def nearest(bits):
    """Return the bits of a float32 as those of the nearest bfloat16, of two the even one."""
    if bits & uint32(0x7FFFFFFF) > uint32(0x7F800000):
        # NaN stays NaN, whatever its lower half is.
        return (bits | uint32(0x400000)) & uint32(0xFFFF0000)
    return (bits + uint32(0x7FFF) + (bits >> uint32(16) & uint32(1))) & uint32(0xFFFF0000)


_nearest_cpu, _nearest_gpu = cpu_rule(nearest), gpu_rule(nearest)


@cpu_loop
def round_cpu(bits):
    for i in range(bits.size):
        bits[i] = _nearest_cpu(bits[i])


@gpu_kernel
def round_gpu(bits):
    i = cuda.grid(1)
    if i < bits.size:
        bits[i] = _nearest_gpu(bits[i])


def round_to_bfloat16(x: Any) -> Any:
    """Round a C-contiguous float32 array to bfloat16, in place, and return it."""
    bits = x.reshape(-1).view(np.uint32)
    if on_gpu(x):
        round_gpu.launch(bits)
    else:
        round_cpu(bits)
    return x
