"""Strips: where they lie, what their code does, and what a launch hands over.

No GPU takes part. Strips are compiled for the CPU, and CUDA's own launch is replaced.
"""

import ctypes
import re
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest
from numba import cfunc, njit, types

from refoptim.kernels import adam, half_loops, half_numbers, half_strips, lbfgs, muon, philox, rprop, sgd
from refoptim.kernels.jit import THREADS, grid, on_stream
from refoptim.kernels.strips import ACCESS, RuleKernel, layout, step, step_strip, width

HUGE = 2**31 + 5


@pytest.mark.parametrize(
    ("size", "itemsizes", "offsets", "head", "wide", "strips"),
    [
        (8, [4, 4], [0, 0], 0, 4, 2),
        (7, [4, 4], [0, 16], 0, 4, 1),
        (3, [4], [0], 0, 4, 0),
        (8, [4, 4, 4], [4, 4, 20], 3, 4, 1),  # all of them one element behind an aligned one
        (2, [4, 4], [4, 4], 3, 4, 0),
        (8, [4, 4], [8, 4], 0, 4, 0),  # never aligned together
        (8, [4], [2], 0, 4, 0),
        (5, [8, 8], [0, 0], 0, 2, 2),
        (5, [8, 8], [8, 8], 1, 2, 2),
        (5, [8, 8], [8, 0], 0, 2, 0),
        (5, [8, 4], [0, 8], 0, 2, 2),  # two of the narrower ones are 8 bytes
        (5, [8, 4], [8, 4], 1, 2, 2),
        (5, [8, 4], [0, 4], 0, 2, 0),
        (HUGE, [4], [0], 0, 4, HUGE // 4),
        (HUGE, [8, 8], [8, 8], 1, 2, HUGE // 2),
    ],
)
def test_strips_lie_where_all_arrays_are_aligned(size, itemsizes, offsets, head, wide, strips):
    addresses = [2**40 * (i + 1) + offset for i, offset in enumerate(offsets)]
    assert layout(size, itemsizes, addresses) == (head, wide, strips)
    assert strips * wide + head <= size or strips == 0


@pytest.mark.parametrize("threads", [1, 5, THREADS, THREADS + 1, HUGE, 2**36])
def test_a_grid_has_as_many_threads_as_it_should(threads):
    blocks, of_a_block = grid(threads)
    assert threads <= blocks * of_a_block < threads + of_a_block
    assert 0 < of_a_block <= THREADS


def on_the_cpu(stepper, module, rule, kinds, scalar, *others):
    """Return what steps the strip or the element i, given addresses, i and scalars: what a GPU does, for a CPU."""
    fields = module.Scalars._fields
    names = {"Scalars": module.Scalars, "step": stepper, "rule": njit(error_model="numpy")(rule)}
    names |= {f"y{j}": other for j, other in enumerate(others)}
    arrays = ", ".join(f"x{j}" for j in range(len(kinds)))
    code = f"def stepped({arrays}, i, {', '.join(fields)}):\n"
    given = ", ".join([f"({arrays},)", "i", f"Scalars({', '.join(fields)})", *(f"y{j}" for j in range(len(others)))])
    exec(code + f"    step(rule, {given})", names)
    pointers = [types.CPointer(getattr(types, kind)) for kind in kinds]
    signature = types.void(*pointers, types.int64, *[getattr(types, scalar)] * len(fields))
    return cfunc(signature)(names["stepped"]).ctypes


@pytest.mark.parametrize(
    ("module", "rule", "kinds", "scalar"),
    [
        (adam, adam.adam, ["float32"] * 4, "float32"),
        (adam, adam.amsgrad, ["float32"] * 5, "float64"),
        (sgd, sgd.momentum, ["float64"] * 3, "float64"),
        (sgd, sgd.sgd, ["float32"] * 2, "float32"),
        (rprop, rprop.rprop, ["float32"] * 4, "float32"),
        (lbfgs, lbfgs.lbfgs_step, ["float32"], "float32"),
        (muon, muon.muon_direction, ["float64", "float32", "float32"], "float64"),
    ],
)
def test_the_code_of_a_strip_steps_its_elements_and_no_other(module, rule, kinds, scalar):
    rng, size, wide = np.random.default_rng(3), 24, width([np.dtype(kind).itemsize for kind in kinds])
    memory = [np.zeros(size * 8 + 2 * ACCESS, np.uint8) for _ in kinds]
    starts = [raw[-raw.ctypes.data % (2 * ACCESS) :] for raw in memory]
    arrays = [start[: size * np.dtype(kind).itemsize].view(kind) for start, kind in zip(starts, kinds)]
    for x in arrays:
        x[...] = rng.random(size)
    h = module.Scalars(*np.asarray(rng.random(len(module.Scalars._fields)), scalar))
    wanted = [x.copy() for x in arrays]
    strip, element = 2 * wide, 4 * wide + 1
    cpu = getattr(module, f"{rule.__name__}_cpu").serial
    for part in (slice(strip, strip + wide), slice(element, element + 1)):
        cpu(*(x[part] for x in wanted), np.array(h))
    addresses = [x.ctypes.data for x in arrays]
    for stepper, i in ((step_strip, strip), (step, element)):
        stepped = on_the_cpu(stepper, module, rule, kinds, scalar)
        pointers = [ctypes.cast(address, kind) for kind, address in zip(stepped.argtypes, addresses)]
        stepped(*pointers, i, *(number.item() for number in h))
    assert [x.tobytes() for x in arrays] == [x.tobytes() for x in wanted]


HALF_WAYS = {
    "nearest": (step, step_strip),
    "master": (half_strips.step_master, half_strips.step_master_strip),
    "stochastic": (half_strips.step_drawn, half_strips.step_drawn_strip),
}


@pytest.mark.parametrize("scalar", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["uint16", "int16"])
@pytest.mark.parametrize(
    ("way", "place"), [("nearest", 0), ("master", 0), ("stochastic", 2**32 - 11), ("stochastic", 2**32 - 5)]
)
def test_the_code_of_a_strip_of_16_bits_steps_its_elements_as_the_cpu_does(way, place, kind, scalar):
    """The plain functions, which the simulator runs, do the same."""
    rng, size, module, rule = np.random.default_rng(3), 40, adam, adam.amsgrad
    state = "float32" if way == "master" else kind
    kinds = [kind, *(["float32"] if way == "master" else []), kind, *[state] * 3]
    wide = width([np.dtype(name).itemsize for name in kinds])
    memory = [np.zeros(size * 4 + 2 * ACCESS, np.uint8) for _ in kinds]
    starts = [raw[-raw.ctypes.data % ACCESS :] for raw in memory]
    arrays = [start[: size * np.dtype(name).itemsize].view(name) for start, name in zip(starts, kinds)]
    for x in arrays:
        numbers = (rng.random(size) * 10.0 ** rng.uniform(-7, 1, size)).astype(np.float32)
        rounded = numbers.astype(np.float16).view(np.int16) if kind == "int16" else numbers.view(np.uint32) >> 16
        x[...] = numbers if x.dtype == np.float32 else rounded
    if way == "master":
        arrays[0][::2] = [half_numbers.nearest(x, arrays[0].dtype) for x in arrays[1][::2]]  # others were written to
    draws = philox.Draws(5, 9, 3, 1, place)
    given = [draws] if way == "stochastic" else []
    h = module.Scalars(*np.asarray(rng.random(len(module.Scalars._fields)), scalar))
    wanted, plain = ([x.copy() for x in arrays] for _ in range(2))
    strip, element = 2 * wide, 4 * wide + 1
    if way == "stochastic":
        # The strip's random bits are in one block, or in two.
        assert len({(place + i) // philox.SHARE for i in range(strip, strip + wide)}) == 1 + (place == 2**32 - 5)
    loop = getattr(half_loops.HalfLoops(rule, njit(error_model="numpy")(rule)), way).serial
    for first, stop in ((strip, strip + wide), (element, element + 1)):
        loop(tuple(wanted), np.array(h), *([np.array(draws, np.uint64)] if given else []), first, stop)
    for stepper, i in zip(HALF_WAYS[way], (element, strip)):
        stepper(rule, tuple(plain), i, h, *given)
        stepped = on_the_cpu(stepper, module, rule, kinds, scalar, *given)
        pointers = [ctypes.cast(x.ctypes.data, pointer) for x, pointer in zip(arrays, stepped.argtypes)]
        stepped(*pointers, i, *(number.item() for number in h))
    assert [x.tolist() for x in arrays] == [x.tolist() for x in wanted] == [x.tolist() for x in plain]


@pytest.fixture
def launches(monkeypatch):
    """Return what the launches of a test hand to CUDA, on a machine without a driver."""
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
    try:
        import_module("cuda.bindings.nvvm").version()
    except RuntimeError:
        pytest.skip("the CUDA toolkit is not installed: pip install numba-cuda[cu13]")
    launched = []
    names = ("dispatcher", "codegen", "cudadrv.driver")
    dispatcher, codegen, driver = (import_module(f"numba.cuda.{name}") for name in names)
    device = type("Device", (), {"compute_capability": (9, 0)})

    def launch(stream, shape, kernel, *numbers):
        launched.append(SimpleNamespace(stream=stream, grid=shape.grid, block=shape.block, numbers=numbers))

    monkeypatch.setattr(dispatcher, "get_current_device", lambda: device)
    monkeypatch.setattr(dispatcher._Kernel, "bind", lambda _: None)
    monkeypatch.setattr(codegen.CUDACodeLibrary, "_ensure_cc", lambda _, cc: cc or (9, 0))
    monkeypatch.setattr(codegen.CUDACodeLibrary, "get_cufunc", lambda _: SimpleNamespace(kernel=None))
    monkeypatch.setattr(driver, "_to_core_stream", lambda stream: stream)
    monkeypatch.setattr(dispatcher, "launch", launch)
    monkeypatch.setattr(import_module("cuda.core"), "launch", launch)
    return launched


def device_array(size, dtype, address):
    dtype = np.dtype(dtype)
    memory = SimpleNamespace(device_ctypes_pointer=ctypes.c_void_p(address))
    array = import_module("numba.cuda.cudadrv.devicearray").DeviceNDArray
    return array((size,), (dtype.itemsize,), dtype, gpu_data=memory)


def plain(numbers):
    """Return numbers as Python's, whatever wraps them."""
    return [getattr(number, "value", number) for number in numbers]


@pytest.mark.parametrize("array", [np.float32, np.float64])
@pytest.mark.parametrize("scalar", [np.float32, np.float64])
@pytest.mark.parametrize(("module", "rule", "count"), [(adam, adam.adam, 4), (sgd, sgd.sgd, 2)])
def test_a_launch_hands_over_what_numba_would(launches, module, rule, count, array, scalar):
    kernel, size = RuleKernel(rule), 204_803
    h = module.Scalars(*(scalar(i / 7) for i in range(len(module.Scalars._fields))))
    addresses = [2**40 + 4096 * i for i in range(count)]
    arrays = [device_array(size, array, address) for address in addresses]
    with on_stream("a stream"):
        kernel.launch(*arrays, h)
    head, wide, strips = layout(size, [x.dtype.itemsize for x in arrays], addresses)
    compiled = kernel.compiled([x.dtype for x in arrays], h)
    compiled[launches[0].grid, launches[0].block, "a stream"](tuple(addresses), size, head, wide, strips, h)
    ours, numbas = launches
    assert (ours.grid, ours.block, ours.stream) == (numbas.grid, numbas.block, "a stream")
    assert plain(ours.numbers) == plain(numbas.numbers) == [*addresses, size, head, wide, strips, *h]
    (overload,) = compiled.overloads.values()
    parameters = re.findall(r"\.param \.(\w+)", overload.library.get_asm_str(cc=(9, 0)))
    assert parameters == ["u64"] * (count + 4) + [np.dtype(scalar).name.replace("float", "f")] * len(h)
    assert {type(number) for number in ours.numbers[-len(h) :]} == {scalar}


def test_a_launch_hands_over_where_the_random_bits_are(launches):
    h = adam.Scalars(*(np.float32(i / 7) for i in range(len(adam.Scalars._fields))))
    arrays = tuple(device_array(1_003, np.float16, 2**40 + 4096 * i) for i in range(4))
    draws = half_loops.draws(5 << 32 | 7, 3, 1, 11)
    adam.adam_gpu.half.stochastic(arrays, np.array(h), philox.of_result(draws, 2))
    (launched,) = launches
    drawn = [7, 5, 3, 1, 11, philox.factor(2)]
    assert plain(launched.numbers) == [2**40 + 4096 * i for i in range(4)] + [1_003, 0, 8, 125, *h, *drawn]
    ((overload,),) = (kernel.overloads.values() for kernel in adam.adam_gpu.half._drawn._compiled.values())
    parameters = re.findall(r"\.param \.(\w+)", overload.library.get_asm_str(cc=(9, 0)))
    assert parameters == ["u64"] * 8 + ["f32"] * len(h) + ["u64"] * 6
    assert {type(number) for number in launched.numbers[-6:]} == {int}


@pytest.mark.parametrize("size", [1, 5])
def test_small_arrays_are_launched_without_a_warning(launches, size):
    h = sgd.Scalars(*[np.float32(1)] * len(sgd.Scalars._fields))
    sgd.sgd_cpu(*(device_array(size, np.float32, 2**40) for _ in range(2)), np.array(h))
    assert [launch.numbers[2] for launch in launches] == [size]


def test_arrays_of_two_types_have_one_width(launches):
    h = muon.Scalars(*[np.float64(1)] * len(muon.Scalars._fields))
    (overload,) = RuleKernel(muon.muon_direction).compiled([np.float64, np.float32, np.float32], h).overloads.values()
    accesses = re.findall(r"(?:ld|st)\.global\.v\S+", overload.library.get_asm_str(cc=(9, 0)))
    # Of u nothing is read.
    assert sorted(accesses) == ["ld.global.v2.f32"] * 2 + ["st.global.v2.f32", "st.global.v2.f64"]


def test_a_failing_launch_names_the_kernel(launches, monkeypatch):
    def launch(*_):
        raise ValueError("an invalid thing")

    monkeypatch.setattr(import_module("cuda.core"), "launch", launch)
    h = sgd.Scalars(*[np.float32(1)] * len(sgd.Scalars._fields))
    with pytest.raises(RuntimeError, match="the CUDA kernel sgd_gpu was not launched: an invalid thing") as caught:
        sgd.sgd_gpu.launch(*(device_array(5, np.float32, 2**40) for _ in range(2)), h)
    assert isinstance(caught.value.__cause__, ValueError)
