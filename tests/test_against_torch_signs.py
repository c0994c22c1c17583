"""Adamax and Rprop agree with torch in float64, on random configurations, under each of the three implementations."""

import math
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


def pick(draw, *choices):
    return choices[draw.integers(len(choices))]


def adamax_options(draw):
    return {
        "lr": float(draw.uniform(0, 0.2)),
        "betas": (pick(draw, 0, 0.5, 0.9), pick(draw, 0.0, 0.9, 0.999)),
        "eps": pick(draw, 1e-8, 1e-3, 1.0),
        "weight_decay": pick(draw, 0, 0.1, 1.0),
        "maximize": pick(draw, False, True),
    }


def rprop_options(draw):
    return {
        "lr": pick(draw, float(draw.uniform(0, 0.2)), 1e-9, 100.0),
        "etas": (pick(draw, 0.5, 0.01, 0.99), pick(draw, 1.2, 1.01, 3.0)),
        "step_sizes": pick(draw, (1e-6, 50), (0.01, 0.1), (0.0, math.inf), (0.1, 0.05)),
        "maximize": pick(draw, False, True),
    }


OPTIONS = {"Adamax": adamax_options, "Rprop": rprop_options}


def numbers(draw, shape, dtype):
    """Return numbers of one size, some of them 0."""
    array = draw.standard_normal(shape) * 10.0 ** draw.integers(-3, 3) * (draw.random(shape) < 0.9)
    if np.dtype(dtype).kind == "c":
        array = array + 1j * draw.standard_normal(shape)
    return np.asarray(array, dtype)


def groups_of(params, places, name, seeds):
    """Return groups of some of the parameters each; every second one has options of its own."""
    found = []
    for part, seed in zip(places, seeds, strict=True):
        mine = OPTIONS[name](np.random.default_rng(seed)) if seed % 2 else {}
        found.append({"params": [params[i] for i in part], **mine})
    return found


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(("name", "seed"), [*product(OPTIONS, CONFIGURATIONS)])
@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_trajectories_agree(name, seed, dtype, implementation):
    draw = np.random.default_rng([seed, len(name), np.dtype(dtype).itemsize])
    starts = [numbers(draw, pick(draw, *SHAPES), dtype) for _ in range(draw.integers(1, 7))]
    options = OPTIONS[name](draw)
    places = [list(part) for part in np.array_split(draw.permutation(len(starts)), draw.integers(1, 4))]
    seeds = draw.integers(1000, size=len(places))
    rarity = pick(draw, 0.0, 0.0, 0.3)

    ours = [Parameter(start) for start in starts]
    theirs = [torch.tensor(start, requires_grad=True) for start in starts]
    opt = getattr(optim, name)(groups_of(ours, places, name, seeds), **options, **IMPLEMENTATIONS[implementation])
    torch_opt = getattr(torch.optim, name)(groups_of(theirs, places, name, seeds), **options, foreach=False)
    for step in range(STEPS):
        if step in (1, STEPS // 2):
            for groups in (opt.param_groups, torch_opt.param_groups):
                groups[-1]["lr"] *= 0.5
        for p, tensor in zip(ours, theirs, strict=True):
            p.grad = None if draw.random() < rarity else numbers(draw, p.shape, dtype)
            tensor.grad = None if p.grad is None else torch.tensor(p.grad)
        opt.step()
        torch_opt.step()
        for p, tensor in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(p.data, tensor.detach().numpy(), **CLOSE["torch float64"])
    for p, tensor in zip(ours, theirs, strict=True):
        entry = torch_opt.state.get(tensor, {})
        assert set(opt.state[p]) == set(entry)
        for key, value in opt.state[p].items():
            np.testing.assert_allclose(value, entry[key].numpy(), **CLOSE["torch float64"])


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
def test_single_precision_is_as_near_as_its_rounding(name, dtype, implementation):
    draw = np.random.default_rng(7)
    start = numbers(draw, (50,), dtype)
    p, tensor = Parameter(start), torch.tensor(start, requires_grad=True)
    opt = getattr(optim, name)([p], lr=0.05, **IMPLEMENTATIONS[implementation])
    torch_opt = getattr(torch.optim, name)([tensor], lr=0.05)
    for _ in range(20):
        grad = numbers(draw, (50,), dtype)
        tensor.grad = torch.tensor(grad)
        opt.step(grads=[grad])
        torch_opt.step()
    np.testing.assert_allclose(p.data, tensor.detach().numpy(), **CLOSE["torch float32"])


def both(name, grads, implementation, dtype=np.float64, **options):
    """Return a parameter's values after each step from 1, and its last state, with refoptim and with torch."""
    found = []
    ours, theirs = Parameter(np.ones(1, dtype)), torch.nn.Parameter(torch.tensor(np.ones(1, dtype)))
    for opt, p, array in [
        (getattr(optim, name)([ours], **options, **IMPLEMENTATIONS[implementation]), ours, np.array),
        (getattr(torch.optim, name)([theirs], **options), theirs, lambda x, kind: torch.tensor(np.array(x, kind))),
    ]:
        values = []
        for grad in grads:
            p.grad = array([grad], dtype)
            opt.step()
            values.append(float(p.data[0]))
        found += [values, {key: float(value if key == "step" else value[0]) for key, value in opt.state[p].items()}]
    return found


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("grads", [[0.0, 0.0, 1.0, 1.0], [-0.0, 1.0, math.nan, 1.0], [math.inf, math.inf, -math.inf]])
def test_rprop_knows_gradients_without_a_size(grads, implementation):
    values, state, torch_values, torch_state = both("Rprop", grads, implementation, lr=0.125)
    np.testing.assert_allclose(values, torch_values, **CLOSE["torch float64"])
    np.testing.assert_allclose(list(state.values()), list(torch_state.values()), **CLOSE["torch float64"])
    assert np.isfinite(values).all()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(("lr", "moved"), [(100.0, 50.0), (1e-9, 1e-6)])
def test_rprop_keeps_the_first_step_in_its_limits_as_torch_does(lr, moved, implementation):
    values, _, torch_values, _ = both("Rprop", [1.0], implementation, lr=lr)
    np.testing.assert_allclose([values, torch_values], 1 - moved, **CLOSE["torch float64"])


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_rprop_compares_signs_where_torchs_product_underflows(implementation):
    values, state, _, torch_state = both("Rprop", [1e-25] * 3, implementation, np.float32, lr=0.1)
    np.testing.assert_allclose(values, 1 - np.cumsum([0.1, 0.12, 0.144]), **CLOSE["float32"])
    np.testing.assert_allclose([state["step_size"], torch_state["step_size"]], [0.144, 0.1], **CLOSE["float32"])


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_rprop_shrinks_also_by_a_factor_that_underflows(implementation):
    # torch makes the factor 1 then, and forgets to forget the gradient.
    options = {"lr": 0.25, "etas": (1e-50, 1.5)}
    values, state, torch_values, torch_state = both("Rprop", [1.0, -1.0], implementation, np.float32, **options)
    assert (values, torch_values) == ([0.75, 0.75], [0.75, 1.0])
    np.testing.assert_allclose([state["step_size"], torch_state["step_size"]], [1e-6, 0.25], **CLOSE["float32"])


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_rprop_starts_with_the_learning_rate_of_a_parameters_first_step(implementation):
    a, b = Parameter([1.0]), Parameter([1.0])
    opt = optim.Rprop([a, b], lr=np.array([0.5]), **IMPLEMENTATIONS[implementation])
    opt.step(grads=[np.ones(1), None])
    opt.param_groups[0]["lr"] = 0.25
    opt.step(grads=[None, np.ones(1)])
    assert (a.data[0], b.data[0]) == (0.5, 0.75)
    assert (opt.state[a]["step_size"][0], opt.state[b]["step_size"][0]) == (0.5, 0.25)


def test_rprop_starts_with_a_learning_rate_that_has_become_0():
    a, b = Parameter([1.0]), Parameter([1.0])
    opt = optim.Rprop([a, b], lr=0.5, step_sizes=(0.0, 50.0))
    opt.step(grads=[np.ones(1), None])
    opt.param_groups[0]["lr"] = 0.0
    opt.step(grads=[None, np.ones(1)])
    assert (b.data[0], opt.state[b]["step_size"][0]) == (1.0, 0.0)
