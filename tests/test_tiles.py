"""Loops over float32 that compute in float64: the bits of the rule's own loop, by multiplication and tile by tile."""

import itertools
from importlib import import_module
from pkgutil import iter_modules

import numpy as np
import pytest
from numba import njit, types

from refoptim import kernels
from refoptim.kernels.division import quotient
from refoptim.kernels.jit import CpuKernel
from refoptim.kernels.tiles import TILE

MODULES = [import_module(f"refoptim.kernels.{info.name}") for info in iter_modules(kernels.__path__)]
KERNELS = {
    f"{module.__name__.rpartition('.')[2]}.{name}": kernel
    for module in MODULES
    for name, kernel in vars(module).items()
    if isinstance(kernel, CpuKernel)
}
# A root and a division, two of both, none, many arrays, and two.
FEW = ["adam.adam_cpu", "adadelta.adadelta_cpu", "rprop.rprop_cpu", "rmsprop.centered_momentum_cpu", "swa.average_cpu"]
EVERY = [pytest.param(name, marks=[] if name in FEW else pytest.mark.slow) for name in KERNELS]
COUNT = 200_000


@njit(error_model="numpy")
def quotients(a, b, out):
    for i in range(out.size):
        out[i] = quotient(a[i], b[i])


def bits(values):
    """Return the bits of an array, the same for every NaN: which one comes out is the hardware's choice."""
    return np.where(np.isnan(values), np.nan, values).view(f"u{values.itemsize}")


def divided(a, b):
    """Return quotients by multiplication, and those of the processor."""
    out = np.empty_like(a)
    quotients(a, b, out)
    with np.errstate(all="ignore"):
        return out, a / b


def random_pairs(kind):
    """Return dividends and divisors: of any size, and those whose quotients are the hardest to round."""
    rng = np.random.default_rng(7)
    a, b = rng.uniform(1, 2, (2, COUNT))
    if kind == "any":
        a, b = (x * rng.choice([-1.0, 1.0], COUNT) * 2.0 ** rng.integers(-400, 400, COUNT) for x in (a, b))
    elif kind == "divisors below 2":
        b = 2 - 2.0 ** -rng.uniform(1, 52, COUNT)
    elif kind == "small integers":
        a, b = rng.integers(1, 2**20, (2, COUNT)).astype(float)
    elif kind == "nearly an integer":
        b = rng.integers(1, 2**20, COUNT) * 1.0
        a = np.nextafter(b * rng.integers(1, 2**20, COUNT), 0)
    else:  # halfway between two numbers, but for the last bit of the dividend
        b = 1 + rng.integers(0, 2**26, COUNT) * 2.0**-26
        a = np.nextafter(b * (1 + (2 * rng.integers(0, 2**25, COUNT) + 1) * 2.0**-26), 2)
    return a, b


@pytest.mark.parametrize(
    "kind", ["any", "divisors below 2", "small integers", "nearly an integer", "nearly halfway of short numbers"]
)
def test_a_quotient_has_the_bits_of_the_processors(kind):
    out, want = divided(*random_pairs(kind))
    np.testing.assert_array_equal(out.view(np.uint64), want.view(np.uint64))


USUAL = [0.0, 1.0, 3.0, 2.0**-149, 2.0**128, 2.0**-298, 2.0**256, np.inf, np.nan]


def test_what_is_no_number_and_zeros_are_divided_as_the_processor_does():
    a, b = np.array(list(itertools.product([*USUAL, *np.negative(USUAL)], repeat=2))).T.copy()
    out, want = divided(a, b)
    np.testing.assert_array_equal(bits(out), bits(want))


def test_divisors_of_absurd_size_make_no_nan_of_numbers():
    sizes = 2.0 ** np.array([-1074, -1060, -1024, -1023, -1022, -1021, -1020, 1020, 1021, 1022, 1023])
    sizes = np.concatenate([sizes, 1.3 * sizes, 1.9 * sizes[:-1]])
    a, b = np.array(list(itertools.product(USUAL[:-1], [*sizes, *-sizes]))).T.copy()
    out, want = divided(a, b)
    np.testing.assert_array_equal(np.isnan(out), np.isnan(want))
    np.testing.assert_array_equal(np.signbit(out)[a == 0], np.signbit(want)[a == 0])


def arrays_for(kernel, size):
    """Return arrays of everyday numbers, and some that are not; those of the state are not negative."""
    rng = np.random.default_rng(size)
    scale = 2.0 ** rng.integers(-30, 30, (kernel.arrays, size))
    numbers = (rng.standard_normal((kernel.arrays, size)) * scale).astype(np.float32)
    numbers[2:] = np.abs(numbers[2:])
    odd = np.array([0, -0.0, 1e-45, np.finfo(np.float32).max, np.inf, np.nan], np.float32)
    numbers[:2, :: max(size // 6, 1)][:, :6] = odd[: len(range(0, size, max(size // 6, 1))[:6])]
    return [row.copy() for row in numbers]


@pytest.mark.parametrize("name", EVERY)
def test_tiles_have_the_bits_of_the_rules_own_loop(name):
    kernel = KERNELS[name]
    scalars = np.random.default_rng(3).uniform(0.1, 0.9, len(kernel._names["Scalars"]._fields))
    for size in (0, 1, TILE - 1, TILE, TILE + 1, 5 * TILE + 7):
        own, other = arrays_for(kernel, size), arrays_for(kernel, size)
        kernel.serial(*own, scalars)
        kernel.tiled.serial(*other, scalars)
        for x, y in zip(own, other, strict=True):
            np.testing.assert_array_equal(bits(x), bits(y))


def test_nothing_is_divided_but_by_multiplication():
    kernel, arrays = kernels.adam.adam_cpu, [types.float32[::1]] * 4
    for loop, divides in ((kernel.serial, True), (kernel.tiled.serial, False)):
        fresh = njit(error_model="numpy")(loop.py_func)  # code from the cache cannot be seen
        fresh.compile((*arrays, types.float64[::1]))
        [code] = fresh.inspect_llvm().values()
        assert "llvm.sqrt" in code
        assert ("fdiv" in code) == divides
        assert ("llvm.prefetch" in code) != divides
