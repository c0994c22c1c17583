"""Loops use registers of 512 bits where they ask for them and the processor has good ones."""

import numpy as np
import pytest
from numba import njit, typeof
from numba.core.registry import cpu_target

from refoptim.kernels.registers import has, use_whole_registers


def squares(x):
    use_whole_registers()
    for i in range(x.size):
        x[i] = x[i] * x[i]


def test_a_loop_that_asks_for_whole_registers_has_them():
    x = np.arange(100, dtype=np.float32)
    compiled = njit(squares)
    compiled(x)
    assert (x == np.arange(100) ** 2).all()
    if not has(cpu_target.target_context, "avx512vbmi2"):
        pytest.skip("this processor has none that are worth it")
    assert "%zmm" in compiled.inspect_asm((typeof(x),))
