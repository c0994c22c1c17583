"""The fused results have the same bits however they are computed: by which processor, threads, arrays, runs or groups.

Compared by bytes. Another processor is a second process that runs this file: Numba compiles for the processor it is
told, and keeps to the instructions of that one.
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np
import pytest

import refoptim as optim
from refoptim import kernels
from refoptim.conformance.formats import finfo
from refoptim.conformance.subjects import as_sparse
from refoptim.kernels import jit


class SparselyFed(optim.SparseAdam):
    """SparseAdam, given gradients of every element."""

    def step(self, closure=None, *, grads):
        return super().step(closure, grads=[None if grad is None else as_sparse(grad) for grad in grads])


OPTIMIZERS = {
    "sgd": (optim.SGD, {"lr": 0.1, "weight_decay": 0.01}),
    "momentum": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.1, "maximize": True}),
    "nesterov": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    "adam": (optim.Adam, {"lr": 0.01, "weight_decay": 0.01}),
    "adamw": (optim.AdamW, {"lr": 0.01, "maximize": True}),
    "amsgrad": (optim.AdamW, {"lr": 0.01, "amsgrad": True}),
    "adamax": (optim.Adamax, {"lr": 0.01, "weight_decay": 0.01}),
    "rprop": (optim.Rprop, {"lr": 0.01, "maximize": True}),
    "nadam": (optim.NAdam, {"lr": 0.01, "weight_decay": 0.01, "decoupled_weight_decay": True}),
    "radam": (optim.RAdam, {"lr": 0.01, "betas": (0.5, 0.9), "weight_decay": 0.01}),
    "asgd": (optim.ASGD, {"lr": 0.1, "lambd": 0.1, "t0": 2, "weight_decay": 0.01}),
    "adagrad": (optim.Adagrad, {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.5, "weight_decay": 0.01}),
    "adadelta": (optim.Adadelta, {"weight_decay": 0.01}),
    "rmsprop": (optim.RMSprop, {"lr": 0.01, "weight_decay": 0.01}),
    "rmsprop-momentum": (optim.RMSprop, {"lr": 0.01, "momentum": 0.9, "maximize": True}),
    "rmsprop-centered": (optim.RMSprop, {"lr": 0.01, "centered": True, "weight_decay": 0.01}),
    "rmsprop-both": (optim.RMSprop, {"lr": 0.01, "momentum": 0.9, "centered": True}),
    "sparse-adam": (SparselyFed, {"lr": 0.01}),
    "keras-momentum": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "dialect": "keras"}),
    "keras-nesterov": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "dialect": "keras"}),
    "optax-amsgrad": (optim.Adam, {"lr": 0.01, "amsgrad": True, "weight_decay": 0.01, "dialect": "optax"}),
    "keras-adamax": (optim.Adamax, {"lr": 0.01, "weight_decay": 0.01, "dialect": "keras"}),
    "keras-adagrad": (optim.Adagrad, {"lr": 0.1, "weight_decay": 0.01, "dialect": "keras"}),
    "keras-rmsprop": (optim.RMSprop, {"lr": 0.01, "weight_decay": 0.01, "dialect": "keras"}),
    "keras-rmsprop-momentum": (optim.RMSprop, {"lr": 0.01, "momentum": 0.9, "dialect": "keras"}),
    "optax-rmsprop-centered": (optim.RMSprop, {"lr": 0.01, "centered": True, "weight_decay": 0.01, "dialect": "optax"}),
    "optax-rmsprop-both": (optim.RMSprop, {"lr": 0.01, "momentum": 0.9, "centered": True, "dialect": "optax"}),
}
# What parameters share rather than have an element each of.
HOST = ("step", "mu_product", "eta", "mu")
HALVES = {"float16": (np.float16, {}), "stochastic": (np.float16, {"rounding": "stochastic"})}
if ml_dtypes := find_spec("ml_dtypes") and import_module("ml_dtypes"):
    HALVES |= {"bfloat16": (ml_dtypes.bfloat16, {}), "master": (ml_dtypes.bfloat16, {"master_weights": True})}
PRECISIONS = {"float32": (np.float32, {}), "float64": (np.float64, {}), "wide": (np.float32, {"arithmetic": "float64"})}
CASES = [pytest.param(name, precision, id=f"{name}-{precision}") for name in OPTIMIZERS for precision in PRECISIONS]
# One of each kernel and of each precision, for what is compiled anew.
FEW = [("sgd", "float64"), ("momentum", "wide"), ("nesterov", "float32"), ("adam", "float32"), ("amsgrad", "float32")]
FEW += [("adamw", "float64"), ("adam", "wide")]
FEW += [("nadam", "float32"), ("radam", "float64"), ("asgd", "wide")]
FEW += [("adagrad", "float32"), ("adadelta", "float64"), ("rmsprop-momentum", "wide"), ("rmsprop-centered", "float32")]
FEW += product(["adam", "momentum"], HALVES)
MANY = [*product(OPTIMIZERS, PRECISIONS), *product(["adam", "momentum"], HALVES)]

SIZE, STEPS = 2_999, 5
# Cuts of the elements: around vectors and cache lines, in many small ones, and with nothing at all.
CUTS = {"two": [1], "odd": [1, 3, 18, 82, 82, 1106, 2998], "small": list(range(0, 200, 7)), "half": [SIZE // 2]}


def data(dtype):
    """Return parameters and gradients: of everyday size, tiny, huge and 0."""
    rng = np.random.default_rng(11)
    scale = 2.0 ** rng.integers(-30, 30, SIZE)
    scale[::17], scale[5::31] = finfo(dtype).smallest_subnormal, 0
    with np.errstate(over="ignore"):
        theta = (rng.standard_normal(SIZE) * scale).astype(dtype)
        return theta, (rng.standard_normal((STEPS, SIZE)) * scale[::-1]).astype(dtype)


def build(name, precision, groups):
    """Return an optimizer of these lists of arrays, and its parameters."""
    kind, options = OPTIMIZERS[name]
    groups = [[optim.Parameter(array) for array in arrays] for arrays in groups]
    precise = (PRECISIONS | HALVES)[precision][1]
    optimizer = kind([{"params": group} for group in groups], **precise, **options)
    return optimizer, [param for group in groups for param in group]


def result(optimizer, param, seen=np.asarray):
    """Return the bytes of a parameter and of its state."""
    entry = {"data": param.data} | dict(optimizer.state[param])
    return {key: seen(value).tobytes() for key, value in entry.items()}


def with_one_nan(array):
    """Return a copy that has one NaN for all: its sign is the processor's that computes it."""
    copy = np.array(array)
    strange = np.isnan(copy)
    if strange.any():
        copy[strange] = np.nan
    return copy


def whole(name, precision, seen=np.asarray):
    """Return what all elements in one parameter give."""
    theta, gradients = data((PRECISIONS | HALVES)[precision][0])
    optimizer, [param] = build(name, precision, [[theta]])
    for gradient in gradients:
        optimizer.step(grads=[gradient])
    return result(optimizer, param, seen)


def in_parts(name, precision, cuts):
    """Return what the elements cut into parameters give, put together again."""
    theta, gradients = data(PRECISIONS[precision][0])
    optimizer, params = build(name, precision, [np.split(theta, cuts)])
    for gradient in gradients:
        optimizer.step(grads=np.split(gradient, cuts))
    parts = [result(optimizer, param) for param in params]
    return {key: parts[0][key] if key in HOST else b"".join(part[key] for part in parts) for key in parts[0]}


@pytest.fixture
def variant(monkeypatch):
    """Return what chooses one thread, or several with little for each, for arrays of every size."""
    monkeypatch.setattr(jit, "GRAIN", 64)
    return lambda name: monkeypatch.setattr(jit, "SERIAL_BELOW", {"serial": sys.maxsize, "parallel": 0}[name])


@pytest.fixture
def threads():
    """Return what sets the number of threads, until the test ends."""
    before = optim.get_num_threads()
    yield optim.set_num_threads
    optim.set_num_threads(before)


@pytest.mark.parametrize(("name", "precision"), CASES)
def test_serial_parallel_and_any_number_of_threads(variant, threads, name, precision):
    variant("serial")
    want = whole(name, precision)
    variant("parallel")
    for count in range(1, 4):
        threads(count)
        assert whole(name, precision) == want, f"{count} threads"


@pytest.mark.parametrize("cuts", CUTS)
@pytest.mark.parametrize(("name", "precision"), CASES)
def test_parameters_may_be_cut_anywhere(variant, name, precision, cuts):
    variant("serial")
    assert in_parts(name, precision, CUTS[cuts]) == whole(name, precision)


def test_parameters_may_be_cut_in_the_parallel_variant(variant):
    variant("parallel")
    assert in_parts("adam", "float32", CUTS["odd"]) == whole("adam", "float32")


def test_shapes_do_not_matter():
    theta, gradients = (array[..., :2_990] for array in data(np.float32))
    results = []
    for shape in [(2_990,), (299, 10), (10, 1, 299), (1, 13, 23, 10)]:
        optimizer, [param] = build("adamw", "float32", [[theta.reshape(shape)]])
        for gradient in gradients:
            optimizer.step(grads=[gradient.reshape(shape)])
        results.append(result(optimizer, param))
    assert all(other == results[0] for other in results)


@pytest.mark.parametrize(("name", "precision"), CASES)
def test_parameters_that_sit_out_do_not_touch_the_others(name, precision):
    # Each parameter has its own pattern of steps, so that a step falls into many runs.
    count = 16
    theta, gradients = data(PRECISIONS[precision][0])
    arrays = np.array_split(theta, count)
    optimizer, params = build(name, precision, [arrays])
    present = np.random.default_rng(3).random((STEPS, count)) < 0.6
    present[:, 4:7] = True
    for gradient, mask in zip(gradients, present, strict=True):
        optimizer.step(
            grads=[part if p else None for part, p in zip(np.array_split(gradient, count), mask, strict=True)]
        )
    for place, param in enumerate(params):
        alone, [same] = build(name, precision, [[arrays[place]]])
        for gradient in gradients[present[:, place]]:
            alone.step(grads=[np.array_split(gradient, count)[place]])
        assert result(optimizer, param) == result(alone, same), f"parameter {place}"


@pytest.mark.parametrize(("name", "precision"), CASES)
def test_the_order_of_groups_does_not_matter(name, precision):
    theta, gradients = data(PRECISIONS[precision][0])
    a, b, c = np.split(theta, [700, 2_001])
    one, (a1, b1, c1) = build(name, precision, [[a, b], [c]])
    other, (c2, b2, a2) = build(name, precision, [[c], [b, a]])
    for gradient in gradients:
        ga, gb, gc = np.split(gradient, [700, 2_001])
        one.step(grads=[ga, gb, gc])
        other.step(grads=[gc, gb, ga])
    for left, right in [(a1, a2), (b1, b2), (c1, c2)]:
        assert result(one, left) == result(other, right)


def digests(cases, seen=np.asarray):
    """Return a digest for each case, computed by one thread and by two in turn."""
    found = {}
    optim.set_num_threads(2)
    for place, (name, precision) in enumerate(cases):
        jit.GRAIN = 64
        jit.SERIAL_BELOW = sys.maxsize if place % 2 else 0
        content = repr(sorted(whole(name, precision, seen).items())).encode()
        found[f"{name}-{precision}"] = hashlib.sha256(content).hexdigest()
    return found


def instructions():
    """Return which of these the compiled code of float32 Adam has: fused multiplications, and wide registers."""
    kernel = kernels.adam.adam_cpu
    code = "".join(kernel.serial.inspect_asm().values())
    return [mark for mark in ("vfmadd", "%ymm", "%zmm", "{%k") if mark in code]


def run_as(processor, cases, cache):
    """Return digests and instructions of a process that compiles for this processor."""
    environment = os.environ | {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(cache)}
    command = [sys.executable, "-W", "error", __file__, json.dumps(cases)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


# What a processor must have to run the code, and what its code must contain, or must not.
PROCESSORS = {
    "x86-64": ("sse2", set(), {"vfmadd", "%ymm", "%zmm"}),
    "haswell": ("avx2", {"vfmadd", "%ymm"}, {"%zmm", "{%k"}),
    "skylake-avx512": ("avx512dq", {"vfmadd"}, set()),
}


def has(feature):
    return feature in Path("/proc/cpuinfo").read_text(encoding="utf-8").split()


@pytest.mark.skipif(platform.machine() != "x86_64" or sys.platform != "linux", reason="the processors are x86-64 ones")
@pytest.mark.parametrize(
    ("processor", "cases"),
    [
        pytest.param("x86-64", FEW, id="x86-64"),
        pytest.param("haswell", FEW, id="haswell", marks=pytest.mark.slow),
        pytest.param("x86-64", MANY, id="x86-64-all", marks=pytest.mark.slow),
        pytest.param("haswell", MANY, id="haswell-all", marks=pytest.mark.slow),
        pytest.param("skylake-avx512", MANY, id="avx512-all", marks=pytest.mark.slow),
    ],
)
@pytest.mark.usefixtures("threads")
def test_other_processors(tmp_path, monkeypatch, processor, cases):
    feature, present, absent = PROCESSORS[processor]
    if not has(feature):
        pytest.skip(f"this machine has no {feature}")
    other = run_as(processor, cases, tmp_path)
    assert present <= set(other["instructions"])
    assert not absent & set(other["instructions"])
    for name in ("SERIAL_BELOW", "GRAIN"):
        monkeypatch.setattr(jit, name, getattr(jit, name))
    assert other["digests"] == digests(cases)


if __name__ == "__main__":
    # With cases by the tests, on this processor; without by people, to compare with another.
    computed = digests(json.loads(sys.argv[1])) if len(sys.argv) > 1 else digests(FEW, with_one_nan)
    json.dump({"digests": computed, "instructions": instructions()}, sys.stdout)
