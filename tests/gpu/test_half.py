"""Parameters of float16 and bfloat16: no bit differs between the CPU and the GPU; arrays of who else has them."""

from functools import cache

import numpy as np
import pytest
from numba.core import config

ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes, extra half, is not installed")

import refoptim as optim  # noqa: E402
from refoptim.conformance import cases  # noqa: E402
from refoptim.conformance.subjects import as_sparse  # noqa: E402
from refoptim.kernels.jit import cuda  # noqa: E402
from refoptim.utils import clip_grad_norm_, clip_grad_value_, get_total_norm  # noqa: E402

SIMULATED = bool(config.ENABLE_CUDASIM)
SIZE, STEPS = (131, 3) if SIMULATED else (1_000_003, 100)
DTYPES = {"float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
WAYS = {
    "nearest": {},
    "wide": {"arithmetic": "float64"},
    "master": {"master_weights": True},
    "stochastic": {"rounding": "stochastic", "seed": 2**63 + 5},
}
# Whole matrices: their shape, how many steps, and the largest numbers. The square of one is in float16 too.
MATRICES, SHAPE, FEW_STEPS, LARGEST = {"Adafactor", "Muon"}, (5, 3) if SIMULATED else (1_000, 1_000), 3, 2.0**6
ALL = [case for module in cases.stems().values() for case in module.CASES if case.optimizer not in {"LBFGS", "CG"}]
FIRST = {case.optimizer: case for case in reversed(ALL)}
CASES = [
    pytest.param(case, way, form, id=f"{case}-{way}-{form}".replace(" ", ""))
    for case in ALL
    for way in WAYS
    for form in DTYPES
    if case is FIRST[case.optimizer] or (way == "nearest" and form == "bfloat16" and not SIMULATED)
    if case.optimizer != "Muon" or not SIMULATED or (way, form) == ("stochastic", "bfloat16")  # half a minute each
    if case.optimizer != "SparseAdam" or way in ("nearest", "wide")  # sparse gradients are refused with the others
]

formats = pytest.mark.parametrize("form", DTYPES)


@cache
def numbers(form):
    """Return parameters, and some gradients that take turns: of everyday size, tiny, subnormal, huge and 0."""
    rng = np.random.default_rng(13)
    scale = 2.0 ** rng.integers(-14, 8, SIZE)
    scale[::17], scale[5::31], scale[7::41] = 2.0**-24, 0, 2.0**14
    theta = (rng.standard_normal(SIZE) * scale).astype(DTYPES[form])
    return theta, (rng.standard_normal((5, SIZE)) * scale[::-1]).astype(DTYPES[form])


def matrix(x):
    return np.clip(x[: np.prod(SHAPE)].reshape(SHAPE), -LARGEST, LARGEST).astype(x.dtype)


def run(case, way, form, device):
    """Return an optimizer after some steps on a device."""
    theta, gradients = numbers(form)
    if case.optimizer in MATRICES:
        theta, *gradients = map(matrix, (theta, *gradients))
    param = optim.Parameter(theta, device=device)
    optimizer = getattr(optim, case.optimizer)([param], **case.options, **WAYS[way])
    for step in range(FEW_STEPS if case.optimizer in MATRICES else STEPS):
        gradient = gradients[step % len(gradients)]
        sparse = case.optimizer == "SparseAdam"
        param.grad = as_sparse(gradient) if sparse else optim.Parameter(gradient, device=device).data
        optimizer.step()
    return optimizer


@pytest.mark.parametrize(("case", "way", "form"), CASES)
def test_no_bit_differs(case, way, form, differences):
    cpu, gpu = (run(case, way, form, device) for device in ("cpu", "cuda"))
    assert gpu.param_groups[0]["params"][0].device == "cuda:0"
    assert differences(cpu, gpu) == {}


@formats
def test_a_bit_that_differs_is_seen(form, differences):
    cpu, gpu = (run(FIRST["Adam"], "nearest", form, device) for device in ("cpu", "cuda"))
    (param,) = cpu.param_groups[0]["params"]
    param.data.view(np.uint16)[1] ^= 1
    assert differences(cpu, gpu) == {"0: theta": 1}


@formats
def test_cuts_and_missing_gradients(form, differences):
    sizes, rng = [1, 3, 18, 5, 0, 31], np.random.default_rng(5)
    values = [rng.standard_normal(size).astype(DTYPES[form]) for size in sizes]
    for way in ("master", "stochastic"):
        optimizers = []
        for device in ("cpu", "cuda"):
            params = [optim.Parameter(value, device=device) for value in values]
            optimizers.append(optim.AdamW(params, lr=0.01, **WAYS[way]))
        for step in range(4):
            for optimizer in optimizers:
                for place, (param, value) in enumerate(zip(optimizer.param_groups[0]["params"], values, strict=True)):
                    given = optim.Parameter(value, device=param.device).data
                    param.grad = None if (step + place) % 4 == 1 else given
                optimizer.step()
        assert differences(*optimizers) == {}


@formats
def test_norms_and_clipping(form, differing, sized):
    size, found = sized(1_000_003, 1_100), []
    rng = np.random.default_rng(3)
    values = (rng.standard_normal(size) * 2.0 ** rng.integers(-12, 6, size)).astype(DTYPES[form])
    for device in ("cpu", "cuda"):
        params = [optim.Parameter(part, device=device) for part in np.split(values, [1, 4, 4, size // 2])]
        for param in params:
            param.grad = param.data
        norms = [get_total_norm([param.grad for param in params], p) for p in (0, 1, 2, 3, np.inf, -np.inf)]
        norms.append(clip_grad_norm_(params, 0.25 * float(norms[2])))
        clip_grad_value_(params, 0.01)
        found.append((norms, params))
    assert found[0][0] == found[1][0]
    assert [differing(one.grad, other.grad) for one, other in zip(found[0][1], found[1][1])] == [0] * 5


def numbas(values):
    return cuda.to_device(values)


def cupys(values):
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    if values.dtype != np.float16 and int(cupy.__version__.partition(".")[0]) < 14:
        pytest.skip("CuPy has bfloat16 from version 14 on")
    return cupy.asarray(values)


def torchs(values):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("torch's CUDA build is not installed")
    bits = torch.tensor(values.view(np.int16), device="cuda")
    return bits.view(torch.float16 if values.dtype == np.float16 else torch.bfloat16)


def jaxs(values):
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    try:
        return jax.device_put(values, jax.devices("gpu")[0])
    except RuntimeError as error:
        pytest.skip(f"JAX has no GPU: {error}")


@formats
@pytest.mark.driver
@pytest.mark.parametrize("made", [numbas, cupys, torchs, jaxs])
def test_arrays_of_the_libraries_are_taken(made, form, differing):
    values = np.arange(12).reshape(3, 4).astype(DTYPES[form])
    param = optim.Parameter(made(values))
    assert (param.device, param.dtype) == ("cuda:0", DTYPES[form])
    param.grad = made(values)
    optim.SGD([param], lr=0.5).step()
    assert differing(param.data, (0.5 * values.astype(np.float32)).astype(DTYPES[form])) == 0


@formats
@pytest.mark.driver
def test_torch_sees_the_memory_of_a_parameter(form):
    """By DLPack where CuPy has the dtype. ``docs/gpu.md`` says what to do without."""
    cupys(np.zeros(1, DTYPES[form]))
    torchs(np.zeros(1, DTYPES[form]))
    torch = pytest.importorskip("torch")
    param = optim.Parameter(np.ones(3, DTYPES[form]), device="cuda")
    seen = torch.from_dlpack(param.data)
    assert seen.dtype == getattr(torch, form)
    seen.mul_(2)
    assert np.asarray(param).tolist() == [2, 2, 2]
