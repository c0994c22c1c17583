"""Muon: torch's bits in torch's dialect, the iteration's own precision without, and what it refuses."""

import math
from itertools import product

import numpy as np
import pytest

import refoptim as optim
from refoptim import Parameter
from refoptim.conformance.tolerances import CLOSE
from refoptim.formulas.bfloat16 import bfloat16
from refoptim.kernels import jit, matmul
from refoptim.kernels.bfloat16 import round_to_bfloat16

SHAPES = [(1, 1), (1, 5), (5, 1), (6, 8), (8, 6), (17, 17), (64, 32)]
OPTIONS = [
    {},
    {"nesterov": False, "adjust_lr_fn": "match_rms_adamw"},
    {"momentum": 0, "ns_steps": 2, "ns_coefficients": (2, -1.5, 0.5), "adjust_lr_fn": "original"},
    {"eps": 30.0, "ns_steps": 0},
]
STEPS = 3


def data(shape, dtype, seed=0):
    rng = np.random.default_rng([seed, *shape])
    return rng.standard_normal(shape).astype(dtype), rng.standard_normal((STEPS, *shape)).astype(dtype)


def moved(theta, gradients, **options):
    """Return by how much a matrix has moved after some steps, and its momentum."""
    param = Parameter(theta)
    optimizer = optim.Muon([param], lr=1.0, weight_decay=0, **options)
    for gradient in gradients:
        optimizer.step(grads=[gradient])
    return param.data - theta, optimizer.state[param]["momentum_buffer"]


def plainly(theta, gradients, **options):
    """Return the same, written down once more, in float64."""
    o = {"momentum": 0.95, "nesterov": True, "ns_coefficients": (3.4445, -4.775, 2.0315), "eps": 1e-7, "ns_steps": 5}
    o |= {"adjust_lr_fn": None} | options
    (a, b, c), mu = o["ns_coefficients"], o["momentum"]
    total, buffer = np.zeros(theta.shape), np.zeros(theta.shape)
    scale = math.sqrt(max(1, theta.shape[0] / theta.shape[1]))
    if o["adjust_lr_fn"] == "match_rms_adamw":
        scale = 0.2 * math.sqrt(max(theta.shape))
    for gradient in gradients.astype(np.float64):
        buffer = mu * buffer + (1 - mu) * gradient
        u = mu * buffer + (1 - mu) * gradient if o["nesterov"] else buffer
        left, values, right = np.linalg.svd(u, full_matrices=False)
        values /= max(np.linalg.norm(u), o["eps"])
        for _ in range(o["ns_steps"]):
            values = a * values + b * values**3 + c * values**5
        total -= scale * (left * values) @ right
    return total, buffer


def assert_near(got, expected, kind):
    np.testing.assert_allclose(got / np.abs(expected).max(), expected / np.abs(expected).max(), **CLOSE[kind])


IMPLEMENTATIONS = {"fused": {}, "foreach": {"foreach": True}, "for-loop": {"foreach": False}}


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("shape", "options"), [*product(SHAPES, OPTIONS)])
def test_the_iteration_is_a_polynomial_of_the_singular_values(shape, options, dtype, implementation):
    theta, gradients = data(shape, dtype)
    # From 0 on: beside a large parameter a float32 update loses digits.
    got, buffer = moved(np.zeros_like(theta), gradients, **options, **IMPLEMENTATIONS[implementation])
    expected, its = plainly(np.zeros_like(theta), gradients, **options)
    kind = "matrix float64" if dtype is np.float64 else "matrix float32"
    assert_near(got, expected, kind)
    assert_near(buffer, its, kind)


@pytest.mark.parametrize(("shape", "options"), [*product(SHAPES, OPTIONS)])
def test_float64_arithmetic_rounds_once(shape, options):
    theta, gradients = data(shape, np.float32)
    got, _ = moved(np.zeros_like(theta), gradients[:1], arithmetic="float64", **options)
    exact, _ = plainly(np.zeros_like(theta), gradients[:1], **options)
    assert np.max(np.abs(got - exact) / np.spacing(np.abs(exact).astype(np.float32))) <= 0.5 + 2**-10


def beside_torch(shape, dtype, options, **ours):
    torch = pytest.importorskip("torch", reason="torch, whose numbers these are, is not installed")
    theta, gradients = data(shape, dtype)
    param, tensor = Parameter(theta), torch.nn.Parameter(torch.tensor(theta))
    left = optim.Muon([param], lr=0.1, weight_decay=0.1, **options, **ours)
    right = torch.optim.Muon([tensor], lr=0.1, weight_decay=0.1, **options)
    for gradient in gradients:
        tensor.grad = torch.tensor(gradient)
        left.step(grads=[gradient])
        right.step()
    return param.data, tensor.detach().numpy(), left.state[param], right.state[tensor]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("shape", "options"), [*product([s for s in SHAPES if max(s) < 20], OPTIONS)])
def test_torchs_dialect_gives_torchs_iteration(shape, options, dtype):
    ours, theirs, state, its = beside_torch(shape, dtype, options, dialect="torch")
    # The same bfloat16 numbers; decay and step differ by how they are rounded.
    np.testing.assert_allclose(ours, theirs, **CLOSE["float32" if dtype is np.float32 else "matrix float64"])
    kind = "float32" if dtype is np.float32 else "float64"
    np.testing.assert_allclose(state["momentum_buffer"], its["momentum_buffer"].numpy(), **CLOSE[kind])
    assert list(state) == list(its)


@pytest.mark.parametrize("shape", [(64, 32), (48, 130)])
@pytest.mark.parametrize("ours", [{"dialect": "torch"}, {"dialect": "torch", "foreach": True}, {}])
def test_torch_is_near_at_any_size(shape, ours):
    got, theirs, *_ = beside_torch(shape, np.float32, {}, **ours)
    assert_near(got, theirs, "matrix bfloat16")


def test_torchs_iteration_is_3_digits_and_ours_is_the_parameters():
    """Deviation: torch computes in bfloat16, whatever the parameters are of."""
    ours, theirs, *_ = beside_torch((16, 16), np.float64, {})
    theta, gradients = data((16, 16), np.float64)
    exact = theta
    for step in range(1, STEPS + 1):
        total = plainly(theta, gradients[:step])[0] - (plainly(theta, gradients[: step - 1])[0] if step > 1 else 0)
        exact = exact - 0.1 * 0.1 * exact + 0.1 * total
    errors = [np.abs(got - exact).max() for got in (ours, theirs)]
    assert errors[0] < 1e-13
    assert errors[1] > 1e-4


def test_eps_is_a_limit_of_the_norm():
    got, _ = moved(np.zeros((1, 1)), np.full((1, 1, 1), 40.0), momentum=0, eps=20.0, ns_steps=0)
    assert got.item() == -1.0
    got, _ = moved(np.zeros((1, 1)), np.full((1, 1, 1), 10.0), momentum=0, eps=20.0, ns_steps=0)
    assert got.item() == -0.5


def test_the_momentum_is_a_mean():
    """Deviation of torch's text, not of its numbers: the momentum after one step is a part of the gradient."""
    _, buffer = moved(np.zeros((2, 2)), np.ones((1, 2, 2)), momentum=0.75)
    assert (buffer == 0.25).all()


def test_decay_is_not_folded_into_a_number_near_1():
    theta = np.linspace(1, 2, 1024, dtype=np.float32).reshape(32, 32)
    param = Parameter(theta)
    optimizer = optim.Muon([param], lr=1.0, weight_decay=3e-8)
    optimizer.step(grads=[np.zeros_like(theta)])
    exact = theta.astype(np.float64) * (1 - 3e-8)
    assert np.max(np.abs(param.data - exact) / np.spacing(theta)) <= 0.5


def test_without_momentum_the_parameters_do_not_lose_their_momentum_buffer():
    """Deviation: torch normalizes the buffer of bfloat16 parameters in place; here the dialect must not."""
    _, buffer = moved(np.zeros((3, 3)), np.full((1, 3, 3), 8.0), momentum=0, nesterov=False, dialect="torch")
    assert (buffer == 8.0).all()


def trajectory():
    shapes = [(40, 70), (70, 40), (33, 33)]
    params = [Parameter(data(shape, np.float32)[0]) for shape in shapes]
    optimizer = optim.Muon(params, lr=0.1)
    for step in range(STEPS):
        optimizer.step(grads=[data(shape, np.float32)[1][step] for shape in shapes])
    return [param.data.tobytes() for param in params]


def test_threads_do_not_matter(monkeypatch):
    found = [trajectory()]
    monkeypatch.setattr(jit, "SERIAL_BELOW", 0)
    monkeypatch.setattr(jit, "GRAIN", 64)
    monkeypatch.setattr(matmul, "SERIAL_BELOW", 0)
    before = optim.get_num_threads()
    try:
        for threads in range(1, 4):
            optim.set_num_threads(threads)
            found.append(trajectory())
    finally:
        optim.set_num_threads(before)
    assert all(other == found[0] for other in found)


def test_matrices_do_not_disturb_each_other():
    shapes = [(3, 4), (0, 3), (4, 3), (2, 2)]
    together = [Parameter(data(shape, np.float64)[0]) for shape in shapes]
    alone = [Parameter(data(shape, np.float64)[0]) for shape in shapes]
    one = optim.Muon(together[:3])
    one.add_param_group({"params": together[3:], "lr": 0.3, "ns_steps": 2})
    many = [optim.Muon([p], **({} if i < 3 else {"lr": 0.3, "ns_steps": 2})) for i, p in enumerate(alone)]
    for step in range(STEPS):
        gradients = [
            None if (i + step) % 3 == 0 else data(shape, np.float64)[1][step] for i, shape in enumerate(shapes)
        ]
        one.step(grads=gradients)
        for optimizer, gradient in zip(many, gradients, strict=True):
            optimizer.step(grads=[gradient])
    assert all(a.data.tobytes() == b.data.tobytes() for a, b in zip(together, alone, strict=True))


def test_a_state_of_torchs_goes_on():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    theta, gradients = data((6, 8), np.float32)
    tensor, param = torch.nn.Parameter(torch.tensor(theta)), Parameter(theta)
    theirs, ours = torch.optim.Muon([tensor], lr=0.1), optim.Muon([param], lr=0.5, dialect="torch")
    for gradient in gradients:
        tensor.grad = torch.tensor(gradient)
        theirs.step()
    param.data[...] = tensor.detach().numpy()
    saved = theirs.state_dict()
    state = {i: {name: value.numpy() for name, value in entry.items()} for i, entry in saved["state"].items()}
    ours.load_state_dict({**saved, "state": state})
    assert ours.param_groups[0]["lr"] == 0.1
    for gradient in gradients:
        tensor.grad = torch.tensor(gradient)
        theirs.step()
        ours.step(grads=[gradient])
    np.testing.assert_allclose(param.data, tensor.detach().numpy(), **CLOSE["float32"])


@pytest.mark.parametrize("shape", [(), (3,), (2, 2, 2)])
def test_only_matrices(shape):
    with pytest.raises(ValueError, match="only supports 2D parameters"):
        optim.Muon([Parameter(np.ones(shape))])
    optimizer = optim.Muon([Parameter(np.ones((2, 2)))])
    with pytest.raises(ValueError, match="only supports 2D parameters"):
        optimizer.add_param_group({"params": [Parameter(np.ones(shape))]})
    assert len(optimizer.param_groups) == 1
    with pytest.raises(RuntimeError, match="complex"):
        optim.Muon([Parameter(np.ones((2, 2), complex))])


def test_nan_and_infinity_stay_in_their_matrix():
    params = [Parameter(np.ones((2, 3))), Parameter(np.ones((2, 3)))]
    optim.Muon(params).step(grads=[np.full((2, 3), np.inf), np.ones((2, 3))])
    assert np.isnan(params[0].data).all()
    assert np.isfinite(params[1].data).all()


def test_a_decay_that_is_off_does_not_touch_an_infinite_parameter():
    param = Parameter(np.array([[np.inf, 1.0], [1.0, 1.0]]))
    optim.Muon([param], weight_decay=0).step(grads=[np.ones((2, 2))])
    assert param.data[0, 0] == np.inf
    assert np.isfinite(param.data.ravel()[1:]).all()


@pytest.mark.parametrize("dialect", [None, "torch"])
@pytest.mark.parametrize(("value", "meaning"), [(None, False), ("", False), ("yes", True), (2, True)])
def test_nesterov_is_on_or_off(value, meaning, dialect):
    params = [Parameter(np.eye(3, 4)) for _ in range(2)]
    for param, nesterov in zip(params, (value, meaning), strict=True):
        optimizer = optim.Muon([param], nesterov=nesterov, dialect=dialect)
        for _ in range(2):
            optimizer.step(grads=[np.arange(12.0).reshape(3, 4)])
    assert params[0].data.tobytes() == params[1].data.tobytes()


def test_the_formulas_rounding_is_the_kernels():
    bits = np.random.default_rng(1).integers(0, 2**32, 1000, np.uint32)
    x = bits.view(np.float32)
    np.testing.assert_array_equal(bfloat16(x), round_to_bfloat16(x.copy()))
    assert bfloat16(np.float32(1.003)).shape == ()
    assert bfloat16(np.ones(3)).dtype == np.float64
