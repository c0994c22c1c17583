"""Loops over float32 that compute in float64: the bits of the rule's own loop, by Newton's steps and pack by pack."""

import itertools
from importlib import import_module
from pkgutil import iter_modules

import numpy as np
import pytest
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from refoptim import kernels
from refoptim.kernels import newton, tiles
from refoptim.kernels.jit import CpuKernel
from refoptim.kernels.pack_steps import ends_with_quotient
from refoptim.kernels.packs import WIDTH

MODULES = [import_module(f"refoptim.kernels.{info.name}") for info in iter_modules(kernels.__path__)]
KERNELS = {
    f"{module.__name__.rpartition('.')[2]}.{name}": kernel
    for module in MODULES
    for name, kernel in vars(module).items()
    if isinstance(kernel, CpuKernel)
}
COUNT = 200_000
DOUBLE, SINGLE = ir.DoubleType(), ir.FloatType()


def seeded():
    """Return whether the processor has seeds for Newton's steps."""
    return newton.has_seeds(cpu_target.target_context)


def elementwise(generate, width, element=DOUBLE):
    """Return a compiled loop over arrays, the last one for results, that takes so many numbers at a time."""
    kind = element if width == 1 else ir.VectorType(element, width)

    @intrinsic
    def step(typing_context, arrays, i):
        def emit(context, builder, signature, arguments):
            items = cgutils.unpack_tuple(builder, arguments[0])
            made = [context.make_array(x)(context, builder, item) for x, item in zip(arrays, items)]
            places = [builder.gep(array.data, [arguments[1]]) for array in made]
            *given, out = [builder.bitcast(place, kind.as_pointer()) for place in places]
            builder.store(generate(builder, *(builder.load(place, align=4) for place in given)), out, align=4)
            return context.get_dummy_value()

        return types.void(arrays, i), emit

    @njit(error_model="numpy")
    def loop(arrays):
        for i in range(0, arrays[0].size, width):
            step(arrays, i)

    return loop


@pytest.fixture(scope="module")
def divided():
    """Return what gives quotients by multiplication, and those of the processor."""
    return compared(elementwise(newton.quotient, 1), 1, lambda a, b: a / b)


@pytest.fixture(scope="module")
def rooted():
    """Return what gives roots by multiplication, and those of the processor."""
    if not seeded():
        pytest.skip("this processor has no seeds")
    return compared(elementwise(newton.double_root, 8), 8, np.sqrt)


def compared(loop, width, want):
    def run(*arrays):
        size = arrays[0].size
        padded = [np.concatenate([x, np.ones(-size % width)]) for x in arrays]
        out = np.empty_like(padded[0])
        loop((*padded, out))
        with np.errstate(all="ignore"):
            return out[:size], want(*arrays)

    return run


def bits(values):
    """Return the bits of an array, the same for every NaN: which one comes out is the hardware's choice."""
    return np.where(np.isnan(values), np.nan, values).view(f"u{values.itemsize}")


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
def test_a_quotient_has_the_bits_of_the_processors(divided, kind):
    out, want = divided(*random_pairs(kind))
    np.testing.assert_array_equal(out.view(np.uint64), want.view(np.uint64))


USUAL = [0.0, 1.0, 3.0, 2.0**-149, 2.0**128, 2.0**-298, 2.0**256, np.inf, np.nan]


def test_what_is_no_number_and_zeros_are_divided_as_the_processor_does(divided):
    a, b = np.array(list(itertools.product([*USUAL, *np.negative(USUAL)], repeat=2))).T.copy()
    out, want = divided(a, b)
    np.testing.assert_array_equal(bits(out), bits(want))


def test_divisors_of_absurd_size_make_no_nan_of_numbers(divided):
    sizes = 2.0 ** np.array([-1074, -1060, -1024, -1023, -1022, -1021, -1020, 1020, 1021, 1022, 1023])
    sizes = np.concatenate([sizes, 1.3 * sizes, 1.9 * sizes[:-1]])
    a, b = np.array(list(itertools.product(USUAL[:-1], [*sizes, *-sizes]))).T.copy()
    out, want = divided(a, b)
    np.testing.assert_array_equal(np.isnan(out), np.isnan(want))
    np.testing.assert_array_equal(np.signbit(out)[a == 0], np.signbit(want)[a == 0])


@pytest.mark.parametrize("kind", ["any", "between 1 and 4", "squares", "nearly squares", "nearly powers of 4"])
def test_a_root_has_the_bits_of_the_processors(rooted, kind):
    out, want = rooted(random_radicands(kind))
    np.testing.assert_array_equal(out.view(np.uint64), want.view(np.uint64))


def random_radicands(kind):
    """Return numbers of any size, and those whose roots are the hardest to round."""
    rng = np.random.default_rng(8)
    if kind == "any":
        return rng.uniform(1, 4, COUNT) * 2.0 ** rng.integers(-900, 900, COUNT)
    if kind == "between 1 and 4":
        return rng.uniform(1, 4, COUNT)
    roots = rng.integers(2**25, 2**26, COUNT) * 1.0
    if kind == "squares":
        return roots**2
    if kind == "nearly squares":
        return np.nextafter(roots**2, rng.choice([0.0, np.inf], COUNT))
    # Of 1 + j * 2**-52 the root is 1 + j * 2**-53 but for j**2 * 2**-107: with an odd j that is between two numbers.
    return (1 + (2 * np.arange(COUNT) - COUNT + 1) * 2.0**-52) * 4.0 ** rng.integers(-200, 200, COUNT)


def test_what_has_no_root_and_zeros_have_that_of_the_processor(rooted):
    numbers = np.array([*USUAL, *np.negative(USUAL)])
    out, want = rooted(numbers)
    np.testing.assert_array_equal(bits(out), bits(want))


# Roots go by the digits and by whether the exponent is even: these are all, and some of all exponents.
SINGLES = {
    "all digits": (0x3F800000, 0x40800000, 1),
    "all small ones": (0x00000000, 0x04000000, 5),
    "all exponents": (0x00000000, 0x80000000, 1009),
    "negative": (0x80000000, 0xFFFFFFFF, 10007),
}


@pytest.mark.parametrize("name", SINGLES)
def test_every_root_of_float32_has_the_bits_of_the_processors(name):
    if not seeded():
        pytest.skip("this processor has no seeds")
    loop = elementwise(newton.single_root, 16, SINGLE)
    x = np.arange(*SINGLES[name], dtype=np.uint32).view(np.float32)
    x = np.concatenate([x, np.ones(-x.size % 16, np.float32)])
    out = np.empty_like(x)
    loop((x, out))
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(bits(out), bits(np.sqrt(x)))


def test_radicands_of_absurd_size_make_no_nan(rooted):
    sizes = 2.0 ** np.array([-1074, -1060, -1024, -1023, -1022, -1021, 1020, 1021, 1022, 1023])
    out, want = rooted(np.concatenate([sizes, 1.3 * sizes, 1.9 * sizes[:-1]]))
    np.testing.assert_array_equal(np.isnan(out), np.isnan(want))


def arrays_for(kernel, size):
    """Return arrays of everyday numbers, and some that are not; those of the state are not negative."""
    rng = np.random.default_rng(size)
    scale = 2.0 ** rng.integers(-30, 30, (kernel.arrays, size))
    numbers = (rng.standard_normal((kernel.arrays, size)) * scale).astype(np.float32)
    numbers[2:] = np.abs(numbers[2:])
    odd = np.array([0, -0.0, 1e-45, np.finfo(np.float32).max, np.inf, np.nan], np.float32)
    numbers[:2, :: max(size // 6, 1)][:, :6] = odd[: len(range(0, size, max(size // 6, 1))[:6])]
    return [row.copy() for row in numbers]


@pytest.mark.parametrize("name", KERNELS)
def test_tiles_have_the_bits_of_the_rules_own_loop(name):
    kernel = KERNELS[name]
    count = len(kernel._names["Scalars"]._fields)
    # Options that are off, one at a time: what a rule leaves out then may be what its stages go by.
    for off in range(count + 1):
        scalars = np.random.default_rng(3).uniform(0.1, 0.9, count)
        scalars[off : off + 1] = 0
        for size in (0, 1, WIDTH - 1, WIDTH, WIDTH + 1, 5 * WIDTH + 7):
            own, other = arrays_for(kernel, size), arrays_for(kernel, size)
            kernel.serial(*own, scalars)
            kernel.tiled.serial(*other, scalars)
            for x, y in zip(own, other, strict=True):
                np.testing.assert_array_equal(bits(x), bits(y))


STAGES = {"adam.adam_cpu": 2, "adadelta.adadelta_cpu": 1, "radam.radam_cpu": 2, "sgd.sgd_cpu": 1}


@pytest.mark.parametrize(("kernel", "stages"), STAGES.items())
def test_a_rule_that_ends_with_a_quotient_is_taken_in_two_stages(kernel, stages):
    loop = KERNELS[kernel].tiled.serial.py_func
    assert loop.__globals__["over"] is {1: tiles.over, 2: tiles.over_in_stages}[stages]


def test_a_quotient_that_may_be_left_out_is_taken_in_one_stage():
    def rule(theta, g, h):
        if h.eps != 0:
            g = g / h.eps
        return theta - g

    assert not ends_with_quotient(rule)


def test_newtons_steps_stand_beside_the_divider():
    kernel, arrays = kernels.adam.adam_cpu, [types.float32[::1]] * 4
    for loop, is_tiled in ((kernel.serial, False), (kernel.tiled.serial, True)):
        fresh = njit(error_model="numpy")(loop.py_func)  # code from the cache cannot be seen
        fresh.compile((*arrays, types.float64[::1]))
        [code] = fresh.inspect_llvm().values()
        by_newton = [is_tiled and seeded(), is_tiled and not seeded()]  # roots, quotients
        assert ["rsqrt14" in code, "fdiv" not in code] == by_newton
        assert ("llvm.prefetch" in code) == is_tiled
