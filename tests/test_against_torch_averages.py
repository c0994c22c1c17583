"""NAdam, RAdam and ASGD beside torch's in float64: random configurations, and torch's state_dicts going on here."""

from itertools import product

import numpy as np
import pytest

import refoptim as optim
from refoptim import Parameter
from refoptim.conformance.tolerances import CLOSE

torch = pytest.importorskip("torch", reason="torch is not installed: only the frozen vectors witness it then")

NAMES = ("NAdam", "RAdam", "ASGD")
SHAPES = [(), (1,), (0,), (5,), (2, 3), (2, 0), (3, 1, 2), (17,)]
IMPLEMENTATIONS = {"fused": {}, "foreach": {"foreach": True}, "for_loop": {"foreach": False}}
CLOSE_TO = {"RAdam": CLOSE["torch float64"], **dict.fromkeys(("NAdam", "ASGD"), CLOSE["torch float32 state"])}
HOST = {"NAdam": ["step", "mu_product"], "RAdam": ["step"], "ASGD": ["step", "eta", "mu"]}
STEPS = 12


def pick(draw, *choices):
    return choices[draw.integers(len(choices))]


def options_of(name, draw):
    common = {
        "lr": float(draw.uniform(0, 0.2)),
        "weight_decay": pick(draw, 0, 0.1, 1.0),
        "maximize": pick(draw, False, True),
    }
    if name == "ASGD":
        return common | {
            "lambd": pick(draw, 0, 1e-4, 0.5),
            "alpha": pick(draw, 0, 0.75, 2.0),
            "t0": pick(draw, 1e6, 0, 3, 4.5),
        }
    common |= {
        "betas": (pick(draw, 0, 0.5, 0.9), pick(draw, 0.0, 0.6, 0.9, 0.999)),
        "eps": pick(draw, 1e-8, 1e-3, 1.0),
        "decoupled_weight_decay": pick(draw, False, True),
    }
    return common | ({"momentum_decay": pick(draw, 0, 4e-3, 1.0, 50.0)} if name == "NAdam" else {})


def numbers(draw, shape, dtype):
    array = draw.standard_normal(shape) * 10.0 ** draw.integers(-3, 2)
    if np.dtype(dtype).kind == "c":
        array = array + 1j * draw.standard_normal(shape)
    return np.asarray(array, dtype)


def group_of(params, places, name, seed):
    """Return a group of some of the parameters; every second one has options of its own."""
    mine = options_of(name, np.random.default_rng(seed)) if seed % 2 else {}
    return {"params": [params[i] for i in places], **mine}


class Pair:
    """An optimizer of ours and one of torch's, of the same parameters."""

    def __init__(self, name, options, starts, places, seeds, extra):
        self.ours = [Parameter(start) for start in starts]
        self.theirs = [torch.tensor(start, requires_grad=True) for start in starts]
        self.opt, self.torch_opt = (
            getattr(library, name)(
                [group_of(params, part, name, seed) for part, seed in zip(places, seeds, strict=True)],
                **options,
                **more,
            )
            for library, params, more in [
                (optim, self.ours, extra),
                (torch.optim, self.theirs, {"foreach": False}),
            ]
        )
        self.close = CLOSE_TO[name]

    def set_lr(self, factor):
        for groups in (self.opt.param_groups, self.torch_opt.param_groups):
            groups[-1]["lr"] *= factor

    def step(self, draw, rarity, here=True):
        for p, tensor in zip(self.ours, self.theirs, strict=True):
            grad = None if draw.random() < rarity else numbers(draw, p.shape, p.dtype)
            p.grad = grad
            tensor.grad = None if grad is None else torch.tensor(grad)
        self.torch_opt.step()
        if here:
            self.opt.step()
            self.assert_agree()

    def assert_agree(self):
        for p, tensor in zip(self.ours, self.theirs, strict=True):
            np.testing.assert_allclose(p.data, tensor.detach().numpy(), **self.close)

    def assert_states_agree(self):
        for p, tensor in zip(self.ours, self.theirs, strict=True):
            entry = self.torch_opt.state.get(tensor, {})
            assert list(self.opt.state[p]) == list(entry)
            for key, value in self.opt.state[p].items():
                np.testing.assert_allclose(value, entry[key].numpy(), **self.close)


def random_pair(name, number, dtype, implementation):
    draw = np.random.default_rng([number, len(name), ord(name[0]), np.dtype(dtype).itemsize])
    starts = [numbers(draw, pick(draw, *SHAPES), dtype) for _ in range(draw.integers(1, 7))]
    options = options_of(name, draw)
    places = [list(part) for part in np.array_split(draw.permutation(len(starts)), draw.integers(1, 4))]
    seeds = draw.integers(1000, size=len(places))
    rarity = pick(draw, 0.0, 0.0, 0.3)
    return draw, rarity, Pair(name, options, starts, places, seeds, IMPLEMENTATIONS[implementation])


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(("name", "number"), [*product(NAMES, range(20))])
@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_trajectories_agree(name, number, dtype, implementation):
    draw, rarity, pair = random_pair(name, number, dtype, implementation)
    for step in range(STEPS):
        if step == STEPS // 2:
            pair.set_lr(0.5)
        pair.step(draw, rarity)
    pair.assert_states_agree()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(("name", "number"), [*product(NAMES, range(4))])
def test_torchs_state_dict_goes_on_here(name, number, implementation):
    draw, rarity, pair = random_pair(name, number, np.float64, implementation)
    for _ in range(3):
        pair.step(draw, rarity, here=False)
    saved = pair.torch_opt.state_dict()
    for entry in saved["state"].values():
        entry.update({key: value.detach().numpy().copy() for key, value in entry.items()})
    for group in saved["param_groups"]:
        group.update({"foreach": IMPLEMENTATIONS[implementation].get("foreach")})
    for p, tensor in zip(pair.ours, pair.theirs, strict=True):
        p.data = tensor.detach().numpy()
    pair.opt.load_state_dict(saved)
    for p in pair.ours:
        assert all(type(pair.opt.state[p][key]) in (int, float) for key in HOST[name] if pair.opt.state[p])
    # The arrays in torch's own state are NumPy's now, and its steps need tensors.
    for entry in saved["state"].values():
        entry.update({key: torch.tensor(value) for key, value in entry.items()})
    pair.torch_opt.load_state_dict(saved)
    for step in range(STEPS):
        if step == STEPS // 2:
            pair.set_lr(2.0)
        pair.step(draw, rarity)
    pair.assert_states_agree()


@pytest.mark.parametrize("name", NAMES)
def test_layout_of_state_dicts_is_torchs(name):
    draw, _, pair = random_pair(name, 1, np.float64, "for_loop")
    pair.step(draw, 0.0)
    ours, theirs = pair.opt.state_dict(), pair.torch_opt.state_dict()
    assert list(ours) == list(theirs)
    assert [list(group.items()) for group in ours["param_groups"]] == [
        list(group.items()) for group in theirs["param_groups"]
    ]
    assert {n: list(entry) for n, entry in ours["state"].items()} == {
        n: list(entry) for n, entry in theirs["state"].items()
    }


@pytest.mark.parametrize("name", NAMES)
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


@pytest.mark.parametrize("name", NAMES)
def test_differentiable_steps_are_the_same_steps(name):
    draw = np.random.default_rng(5)
    start = draw.standard_normal(4)
    options = options_of(name, draw) | {"weight_decay": 0.1}
    a, b = Parameter(start), Parameter(start)
    plain = getattr(optim, name)([a], foreach=True, **options)
    traced = getattr(optim, name)([b], differentiable=True, **options)
    for _ in range(8):
        grad = draw.standard_normal(4)
        plain.step(grads=[grad])
        traced.step(grads=[grad.copy()])
    np.testing.assert_allclose(b.data, a.data, **CLOSE["float64"])
    assert {key: np.ndim(value) for key, value in traced.state[b].items()} == {
        key: np.ndim(value) for key, value in plain.state[a].items()
    }


def test_a_new_learning_rate_of_asgd_takes_effect_a_step_late_but_at_once_for_a_new_parameter():
    ours, theirs = [Parameter([0.0]), Parameter([0.0])], [torch.zeros(1, dtype=torch.float64) for _ in range(2)]
    opt, torch_opt = optim.ASGD(ours, lr=1.0, lambd=0), torch.optim.ASGD(theirs, lr=1.0, lambd=0)
    for lr in (1.0, 1.0, 0.125, 0.125):
        opt.param_groups[0]["lr"] = torch_opt.param_groups[0]["lr"] = lr
        second = None if lr == 1.0 else 1.0
        for p, tensor, value in zip(ours, theirs, (1.0, second), strict=True):
            p.grad = None if value is None else np.array([value])
            tensor.grad = None if value is None else torch.tensor([value], dtype=torch.float64)
        opt.step()
        torch_opt.step()
    assert [p.data.item() for p in ours] == [tensor.item() for tensor in theirs] == [-3.125, -0.25]


def test_infinities_beside_an_average_of_one_do_not_spread():
    p = Parameter([1.0, np.inf])
    opt = optim.ASGD([p], lr=0.5, lambd=0)
    for _ in range(2):
        opt.step(grads=[np.array([1.0, 1.0])])
    assert opt.state[p]["ax"].tolist() == p.data.tolist() == [0.0, np.inf]
