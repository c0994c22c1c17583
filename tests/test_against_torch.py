"""Agreement with torch in float64, on random configurations of each class, under each of the three implementations."""

from itertools import product

import numpy as np
import pytest

import refoptim as optim
from refoptim import Parameter
from refoptim.conformance.tolerances import CLOSE

torch = pytest.importorskip("torch", reason="torch is not installed: only the frozen vectors witness it then")

SHAPES = [(), (1,), (0,), (5,), (2, 3), (2, 0), (3, 1, 2), (17,)]
IMPLEMENTATIONS = {"fused": {}, "foreach": {"foreach": True}, "for_loop": {"foreach": False, "fused": False}}
CONFIGURATIONS = range(20)
STEPS = 12
# torch's square root is not correctly rounded, and its bias corrections lose digits: neither comes near this.


def pick(draw, *choices):
    return choices[draw.integers(len(choices))]


def sgd_options(draw):
    momentum = pick(draw, 0, 0, 0.5, 0.9, 1.5)
    nesterov = bool(momentum) and pick(draw, False, True)
    return {
        "lr": float(draw.uniform(0, 0.2)),
        "momentum": momentum,
        "dampening": 0 if nesterov else pick(draw, 0, 0.3, 1),
        "weight_decay": pick(draw, 0, 0.1, 1.0),
        "nesterov": nesterov,
        "maximize": pick(draw, False, True),
    }


def adam_options(draw):
    return {
        "lr": float(draw.uniform(0, 0.2)),
        "betas": (pick(draw, 0.0, 0.5, 0.9), pick(draw, 0.0, 0.9, 0.999)),
        "eps": pick(draw, 1e-8, 1e-3, 1.0),
        "weight_decay": pick(draw, 0, 0.1, 1.0),
        "amsgrad": pick(draw, False, True),
        "maximize": pick(draw, False, True),
    }


def options_of(name, draw):
    if name == "SGD":
        return sgd_options(draw)
    options = adam_options(draw)
    return options | {"decoupled_weight_decay": pick(draw, False, True)} if name == "Adam" else options


def numbers(draw, shape, dtype):
    array = draw.standard_normal(shape) * 10.0 ** draw.integers(-3, 3)
    if np.dtype(dtype).kind == "c":
        array = array + 1j * draw.standard_normal(shape)
    return np.asarray(array, dtype)


def group_of(params, places, name, options, seed):
    """Return a group of some of the parameters; every second one overrides half of the options."""
    mine = options_of(name, np.random.default_rng(seed)) if seed % 2 else {}
    if name == "SGD":
        return {"params": [params[i] for i in places], **mine}
    kept = {option: value for option, value in mine.items() if option in ("lr", "eps", "weight_decay")}
    return {"params": [params[i] for i in places], **kept}


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(("name", "number"), [*product(("SGD", "Adam", "AdamW"), CONFIGURATIONS)])
@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_trajectories_agree(name, number, dtype, implementation):
    draw = np.random.default_rng([number, len(name), np.dtype(dtype).itemsize])
    starts = [numbers(draw, pick(draw, *SHAPES), dtype) for _ in range(draw.integers(1, 7))]
    options = options_of(name, draw)
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
        entry = torch_opt.state.get(tensor, {})
        assert set(opt.state[p]) == {key for key, value in entry.items() if value is not None}
        for key, value in opt.state[p].items():
            np.testing.assert_allclose(value, entry[key].numpy(), **CLOSE["torch float64"])


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
def test_single_precision_is_as_near_as_its_rounding(name, dtype):
    draw = np.random.default_rng(7)
    start = numbers(draw, (50,), dtype)
    p, tensor = Parameter(start), torch.tensor(start, requires_grad=True)
    opt, torch_opt = getattr(optim, name)([p], lr=0.05), getattr(torch.optim, name)([tensor], lr=0.05)
    for _ in range(20):
        grad = numbers(draw, (50,), dtype)
        tensor.grad = torch.tensor(grad)
        opt.step(grads=[grad])
        torch_opt.step()
    np.testing.assert_allclose(p.data, tensor.detach().numpy(), **CLOSE["torch float32"])
