"""Every optimizer with every option set of the conformance suite: no bit differs between the CPU and the GPU.

Parameters and gradients are of everyday size, tiny, subnormal, huge and 0, so that nothing that a GPU might flush or
approximate stays hidden.
"""

from functools import cache
from math import prod

import numpy as np
import pytest
from numba.core import config

import refoptim as optim
from refoptim.conformance import cases
from refoptim.conformance.subjects import as_sparse

SIMULATED = bool(config.ENABLE_CUDASIM)
SIZE, STEPS = (131, 3) if SIMULATED else (1_000_003, 100)
# For a case with a matrix, by the number of its dimensions: neither square nor a multiple of a tile. Of the first ones
# all rows begin where 16 bytes do, of the others not.
SHAPES = {2: (7, 12), 3: (3, 5, 9)} if SIMULATED else {2: (1_009, 996), 3: (11, 301, 303)}
# An exact product takes a fma for each of its terms: on the CPU, which has to keep up, hours for large matrices.
MUON = (7, 13) if SIMULATED else (257, 190)
PRECISIONS = {"float32": (np.float32, None), "float64": (np.float64, None), "wide": (np.float32, "float64")}
PRECISIONS |= {"complex64": (np.complex64, None), "complex128": (np.complex128, None)}

ALL = [(module, case) for module in cases.stems().values() for case in module.CASES]
FIRST = {case.optimizer: case for _, case in reversed(ALL)}


def precisions(module, case):
    """Return in which precisions a case is compared. Complex numbers take the kernels of real ones, in pairs."""
    complex_ones = case is FIRST[case.optimizer] and not getattr(module, "REAL_ONLY", False)
    if SIMULATED and (case is not FIRST[case.optimizer] or case.optimizer == "Muon"):
        return ["float32"]
    return ["float32", "float64", "wide", *(["complex64", "complex128"] if complex_ones else [])]


CASES = [
    pytest.param(case, precision, id=f"{case}-{precision}".replace(" ", ""))
    for module, case in ALL
    for precision in precisions(module, case)
]


def shape_of(case):
    if case.optimizer == "Muon":
        return MUON
    return SHAPES[len(case.shape)] if case.shape else (SIZE,)


@cache
def numbers(count, dtype):
    """Return parameters, and some gradients that take turns."""
    real = np.zeros(0, dtype).real.dtype
    count *= np.dtype(dtype).itemsize // real.itemsize
    rng = np.random.default_rng(11)
    scale = 2.0 ** rng.integers(-30, 30, count)
    scale[::17], scale[5::31] = np.finfo(real).smallest_subnormal, 0
    theta = (rng.standard_normal(count) * scale).astype(real)
    return theta.view(dtype), (rng.standard_normal((5, count)) * scale[::-1]).astype(real).view(dtype)


def build(case, precision, device):
    """Return an optimizer on a device, and its parameter."""
    dtype, arithmetic = PRECISIONS[precision]
    shape = shape_of(case)
    theta, gradients = numbers(prod(shape), dtype)
    param = optim.Parameter(theta.reshape(shape), device=device)
    optimizer = getattr(optim, case.optimizer)([param], **case.options, arithmetic=arithmetic)
    return optimizer, param, [gradient.reshape(shape) for gradient in gradients]


def on(param, gradient):
    """Return a gradient where its parameter is."""
    return optim.Parameter(gradient, device=param.device).data


def run(case, precision, device, steps=STEPS):
    """Return an optimizer after some steps on a device."""
    optimizer, param, gradients = build(case, precision, device)
    if SIMULATED and case.optimizer in ("Adafactor", "Muon"):
        steps = 1  # a matrix takes many blocks of 256 threads that meet, which are the system's
    sparse = case.optimizer == "SparseAdam"
    gradients = [as_sparse(gradient) if sparse else on(param, gradient) for gradient in gradients]
    for step in range(steps):
        param.grad = gradients[step % len(gradients)]
        optimizer.step()
    return optimizer


@pytest.mark.parametrize(("case", "precision"), CASES)
def test_no_bit_differs(case, precision, differences):
    cpu, gpu = (run(case, precision, device) for device in ("cpu", "cuda"))
    assert gpu.param_groups[0]["params"][0].device == "cuda:0"
    assert differences(cpu, gpu) == {}


def test_a_bit_that_differs_is_seen(differences):
    case = FIRST["Adam"]
    cpu, gpu = (run(case, "float32", device, steps=2) for device in ("cpu", "cuda"))
    assert differences(cpu, gpu) == {}
    (param,) = cpu.param_groups[0]["params"]
    param.data[SIZE // 2] = np.nextafter(param.data[SIZE // 2], np.float32(np.inf))
    assert differences(cpu, gpu) == {"0: theta": 1}
    cpu.state[param]["exp_avg"][:3] = [5, 6, 7]
    cpu.state[param]["step"] += 1
    assert differences(cpu, gpu) == {"0: theta": 1, "0: exp_avg": 3, "0: step": 1}


@pytest.mark.driver
def test_muon_of_a_million_elements(differences, monkeypatch):
    monkeypatch.setitem(globals(), "MUON", SHAPES[2])
    cpu, gpu = (run(FIRST["Muon"], "float32", device, steps=2) for device in ("cpu", "cuda"))
    assert differences(cpu, gpu) == {}


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("SparseAdam", {"lr": 0.01}),
        ("SGD", {"lr": 0.1}),
        ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.1}),
        ("Adagrad", {"lr": 0.1, "initial_accumulator_value": 0.5}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_no_bit_differs_in_some_rows(name, options, precision, sized, differences):
    dtype, _ = PRECISIONS[precision]
    height, width, rows = sized((50_021, 13, 4_999), (17, 5, 6))
    rng = np.random.default_rng(3)
    theta = rng.standard_normal((height, width)).astype(dtype)
    optimizers = []
    for device in ("cpu", "cuda"):
        param = optim.Parameter(theta, device=device)
        optimizers.append(getattr(optim, name)([param], **options))
    for _ in range(sized(20, 3)):
        # Rows named twice are added up, in an order that both devices keep.
        indices = rng.integers(0, height, (1, rows))
        values = rng.standard_normal((rows, width)).astype(dtype)
        for optimizer in optimizers:
            (param,) = optimizer.param_groups[0]["params"]
            param.grad = optim.SparseGrad(indices, values, param.shape)
            optimizer.step()
    assert differences(*optimizers) == {}


def test_cuts_and_missing_gradients(sized, differences):
    # Runs of parameters start anywhere, also where no 16 bytes begin; some sit steps out.
    sizes = [1, 3, 18, 64, 5, sized(1_106, 7), 2, 0, sized(30_011, 11)]
    rng = np.random.default_rng(5)
    values = [rng.standard_normal(size).astype(np.float32) for size in sizes]
    optimizers = []
    for device in ("cpu", "cuda"):
        params = [optim.Parameter(value, device=device) for value in values]
        optimizers.append(optim.AdamW([{"params": params[:4]}, {"params": params[4:], "lr": 0.1}], lr=0.01))
    for step in range(sized(12, 4)):
        gradients = [rng.standard_normal(size).astype(np.float32) for size in sizes]
        for optimizer in optimizers:
            params = [param for group in optimizer.param_groups for param in group["params"]]
            for place, (param, gradient) in enumerate(zip(params, gradients, strict=True)):
                param.grad = None if (step + place) % 4 == 1 else on(param, gradient)
            optimizer.step()
    assert differences(*optimizers) == {}
