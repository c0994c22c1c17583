"""Adagrad, Adadelta and RMSprop beside torch in float64, on random configurations, under each implementation."""

from itertools import product

import numpy as np
import pytest

import refoptim as optim
from refoptim import Parameter
from refoptim.conformance.tolerances import CLOSE

torch = pytest.importorskip("torch", reason="torch is not installed: only the frozen vectors witness it then")

SHAPES = [(), (1,), (0,), (5,), (2, 3), (2, 0), (3, 1, 2), (17,)]
IMPLEMENTATIONS = {"fused": {}, "foreach": {"foreach": True}, "for_loop": {"foreach": False}}
CONFIGURATIONS = range(20)
STEPS = 12
# What a group may say for itself; torch takes the others from the group too, but for Adagrad's first sum.
OF_GROUPS = ("lr", "eps", "weight_decay", "lr_decay", "rho", "alpha", "maximize")


def pick(draw, *choices):
    return choices[draw.integers(len(choices))]


def common(draw):
    return {
        "lr": float(draw.uniform(0, 0.2)),
        "weight_decay": pick(draw, 0, 0.1, 1.0),
        "maximize": pick(draw, False, True),
    }


def adagrad_options(draw):
    return common(draw) | {
        "lr_decay": pick(draw, 0, 0.1, 2),
        "initial_accumulator_value": pick(draw, 0, 0.1, 3),
        "eps": pick(draw, 1e-10, 1e-3, 1.0),
    }


def adadelta_options(draw):
    return common(draw) | {"rho": pick(draw, 0.0, 0.5, 0.9, 1.0), "eps": pick(draw, 1e-6, 1e-3, 1.0)}


def rmsprop_options(draw):
    centered = pick(draw, False, True)
    return common(draw) | {
        # At 0 the variance is 0, which rounding does not hit. A small eps would bring out what the difference lost.
        "alpha": pick(draw, 0.5, 0.9, 0.99) if centered else pick(draw, 0.0, 0.5, 0.99, 1.0),
        "eps": pick(draw, 0.1, 1.0) if centered else pick(draw, 1e-8, 1e-3, 1.0),
        "momentum": pick(draw, 0, 0, 0.5, 0.9, 1.5),
        "centered": centered,
    }


OPTIONS = {"Adagrad": adagrad_options, "Adadelta": adadelta_options, "RMSprop": rmsprop_options}


def numbers(draw, shape, dtype):
    array = draw.standard_normal(shape) * 10.0 ** draw.integers(-3, 3)
    if np.dtype(dtype).kind == "c":
        array = array + 1j * draw.standard_normal(shape)
    return np.asarray(array, dtype)


def group_of(params, places, name, options, seed):
    """Return a group of some of the parameters; every second one overrides some of the options."""
    mine = OPTIONS[name](np.random.default_rng(seed)) if seed % 2 else {}
    kept = {option: value for option, value in mine.items() if option in OF_GROUPS}
    if options.get("centered"):
        kept = {option: value for option, value in kept.items() if option not in ("alpha", "eps")}
    return {"params": [params[i] for i in places], **kept}


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(("name", "number"), [*product(OPTIONS, CONFIGURATIONS)])
@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_trajectories_agree(name, number, dtype, implementation):
    draw = np.random.default_rng([number, len(name), np.dtype(dtype).itemsize])
    starts = [numbers(draw, pick(draw, *SHAPES), dtype) for _ in range(draw.integers(1, 7))]
    options = OPTIONS[name](draw)
    places = [list(part) for part in np.array_split(draw.permutation(len(starts)), draw.integers(1, 4))]
    seeds = draw.integers(1000, size=len(places))
    rarity = pick(draw, 0.0, 0.0, 0.3)

    ours = [Parameter(start) for start in starts]
    theirs = [torch.tensor(start, requires_grad=True) for start in starts]
    opt, torch_opt = (
        getattr(library, name)(
            [group_of(params, part, name, options, seed) for part, seed in zip(places, seeds, strict=True)],
            **options,
            **extra,
        )
        for library, params, extra in [
            (optim, ours, IMPLEMENTATIONS[implementation]),
            (torch.optim, theirs, {"foreach": False}),
        ]
    )
    for step in range(STEPS):
        if step == STEPS // 2:
            for groups in (opt.param_groups, torch_opt.param_groups):
                groups[-1]["lr"] *= 0.5
        for p, tensor in zip(ours, theirs, strict=True):
            grad = None if draw.random() < rarity else numbers(draw, p.shape, dtype)
            p.grad = grad
            tensor.grad = None if grad is None else torch.tensor(grad)
        opt.step()
        torch_opt.step()
        for p, tensor in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(p.data, tensor.detach().numpy(), **CLOSE["torch float64"])
    for p, tensor in zip(ours, theirs, strict=True):
        entry = {key: value.numpy() for key, value in torch_opt.state.get(tensor, {}).items()}
        # torch's Adagrad has state before the first step.
        assert list(opt.state[p]) == list(entry) or (entry["step"] == 0 and not opt.state[p])
        for key, value in opt.state[p].items():
            np.testing.assert_allclose(value, entry[key], **CLOSE["torch float64"])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Adagrad", {"lr_decay": 0.1, "initial_accumulator_value": 0.5}),
        ("Adadelta", {}),
        ("RMSprop", {"momentum": 0.9}),
        ("RMSprop", {"centered": True}),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
def test_single_precision_is_as_near_as_its_rounding(name, options, dtype):
    draw = np.random.default_rng(7)
    start = numbers(draw, (50,), dtype)
    p, tensor = Parameter(start), torch.tensor(start, requires_grad=True)
    opt = getattr(optim, name)([p], lr=0.05, **options)
    torch_opt = getattr(torch.optim, name)([tensor], lr=0.05, **options)
    for _ in range(20):
        grad = numbers(draw, (50,), dtype)
        tensor.grad = torch.tensor(grad)
        opt.step(grads=[grad])
        torch_opt.step()
    np.testing.assert_allclose(p.data, tensor.detach().numpy(), **CLOSE["torch float32"])


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("direction", ["to torch", "from torch"])
def test_a_saved_state_goes_on_in_the_other_library(name, direction):
    draw = np.random.default_rng(3)
    start, grads = numbers(draw, (5,), np.float64), [numbers(draw, (5,), np.float64) for _ in range(6)]
    options = {"RMSprop": {"centered": True, "momentum": 0.5}, "Adagrad": {"lr_decay": 0.5}}.get(name, {})
    p, tensor = Parameter(start), torch.tensor(start, requires_grad=True)
    opt, torch_opt = getattr(optim, name)([p], **options), getattr(torch.optim, name)([tensor], **options)
    for grad in grads[:3]:
        tensor.grad = torch.tensor(grad)
        opt.step(grads=[grad])
        torch_opt.step()
    if direction == "from torch":
        saved = torch_opt.state_dict()
        saved["state"] = {i: {key: value.numpy() for key, value in s.items()} for i, s in saved["state"].items()}
        opt = getattr(optim, name)([p])
        opt.load_state_dict(saved)
    else:
        saved = opt.state_dict()
        saved["state"] = {i: {k: torch.as_tensor(v) for k, v in s.items()} for i, s in saved["state"].items()}
        torch_opt = getattr(torch.optim, name)([tensor])
        torch_opt.load_state_dict(saved)
    for grad in grads[3:]:
        tensor.grad = torch.tensor(grad)
        opt.step(grads=[grad])
        torch_opt.step()
    np.testing.assert_allclose(p.data, tensor.detach().numpy(), **CLOSE["torch float64"])
    assert opt.state[p]["step"] == len(grads)


def test_each_group_has_the_first_sum_it_asks_for():
    """As documented; torch gives all the constructor's."""
    sums = []
    for library, parameter, array in ((optim, Parameter, np.ones), (torch.optim, torch.nn.Parameter, torch.ones)):
        a, b = parameter(array(1)), parameter(array(1))
        opt = library.Adagrad([{"params": [a]}, {"params": [b], "initial_accumulator_value": 8.0}])
        a.grad, b.grad = array(1), array(1)
        opt.step()
        sums.append([float(opt.state[p]["sum"][0]) for p in (a, b)])
    assert sums == [[1.0, 9.0], [1.0, 1.0]]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("momentum", [0, 0.5])
def test_constant_gradients_have_a_variance(implementation, momentum):
    """torch's is the negative of what rounding left, for many constants, and its root is NaN."""
    constants = np.random.default_rng(5).uniform(0.1, 10, 500).astype(np.float32)
    options = {"alpha": 0.9, "centered": True, "momentum": momentum}
    p, tensor = Parameter(np.zeros(500, np.float32)), torch.zeros(500, requires_grad=True)
    opt = optim.RMSprop([p], **options, **IMPLEMENTATIONS[implementation])
    torch_opt = torch.optim.RMSprop([tensor], **options)
    tensor.grad = torch.tensor(constants)
    for _ in range(300):
        opt.step(grads=[constants])
        torch_opt.step()
    assert np.isfinite(p.data).all()
    assert torch.isnan(tensor).any()
