"""Values beside torch's where rounding is float32's, and of differentiable steps. Float64: test_random_agreement.py."""

from itertools import product

import numpy as np
import pytest

import refoptim as optim
from refoptim import Parameter
from refoptim.conformance.tolerances import CLOSE

IMPLEMENTATIONS = {"fused": {}, "foreach": {"foreach": True}, "for_loop": {"foreach": False, "fused": False}}
CASES = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9, "dampening": 0.5, "weight_decay": 0.1}),
    ("SGD", {"momentum": 0.9, "nesterov": True, "maximize": True}),
    ("Adam", {}),
    ("Adam", {"amsgrad": True, "weight_decay": 0.1}),
    ("AdamW", {}),
    ("Adamax", {}),
    ("Adamax", {"weight_decay": 0.1, "maximize": True}),
    ("NAdam", {}),
    ("NAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("RAdam", {}),
    ("RAdam", {"weight_decay": 0.1, "betas": (0.9, 0.99)}),
    ("Adagrad", {"lr_decay": 0.1, "initial_accumulator_value": 0.5}),
    ("Adadelta", {}),
    ("RMSprop", {"momentum": 0.9}),
    ("RMSprop", {"centered": True}),
    ("Rprop", {}),
    ("ASGD", {}),
    ("ASGD", {"weight_decay": 0.1, "t0": 3, "lambd": 0.1}),
]
SINGLE = [(*case, dtype) for case, dtype in product(CASES, [np.float32, np.complex64])]
SINGLE += [("Adafactor", {"weight_decay": 0.1}, np.float32)]


def numbers(draw, shape, dtype):
    """Return numbers of one size, some of them 0."""
    array = draw.standard_normal(shape) * 10.0 ** draw.integers(-3, 3) * (draw.random(shape) < 0.9)
    return np.asarray(array + 1j * draw.standard_normal(shape) if np.dtype(dtype).kind == "c" else array, dtype)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(("name", "options", "dtype"), SINGLE)
def test_single_precision_is_as_near_as_its_rounding(name, options, dtype, implementation):
    torch = pytest.importorskip("torch", reason="torch is not installed: only the frozen vectors witness it then")
    draw = np.random.default_rng(7)
    start = numbers(draw, (50,), dtype)
    p, tensor = Parameter(start), torch.tensor(start, requires_grad=True)
    opt = getattr(optim, name)([p], lr=0.05, **options, **IMPLEMENTATIONS[implementation])
    torch_opt = getattr(torch.optim, name)([tensor], lr=0.05, **options)
    for _ in range(20):
        grad = numbers(draw, (50,), dtype)
        tensor.grad = torch.tensor(grad)
        opt.step(grads=[grad])
        torch_opt.step()
    np.testing.assert_allclose(p.data, tensor.detach().numpy(), **CLOSE["torch float32"])


@pytest.mark.parametrize(("name", "options"), CASES)
def test_differentiable_steps_are_the_same_steps(name, options):
    draw = np.random.default_rng(5)
    start = draw.standard_normal(4)
    a, b = Parameter(start), Parameter(start)
    plain = getattr(optim, name)([a], foreach=True, **options)
    traced = getattr(optim, name)([b], differentiable=True, **options)
    for _ in range(8):
        grad = draw.standard_normal(4)
        plain.step(grads=[grad])
        traced.step(grads=[grad.copy()])
    np.testing.assert_allclose(b.data, a.data, **CLOSE["float64"])
    assert traced.state[b].keys() == plain.state[a].keys()
    for key, value in plain.state[a].items():
        assert np.ndim(traced.state[b][key]) == np.ndim(value)
        np.testing.assert_allclose(traced.state[b][key], value, **CLOSE["float64"])
