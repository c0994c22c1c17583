"""State_dicts to and from torch: either library goes on where the other stopped, on the same trajectory."""

import numpy as np
import pytest

import refoptim as optim
from refoptim import Parameter
from refoptim.conformance.tolerances import CLOSE

torch = pytest.importorskip("torch")

SHAPES = [(3,), (), (2, 2), (0,)]
CASES = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "maximize": True}),
    ("Adam", {"lr": 0.05}),
    ("Adam", {"lr": 0.05, "amsgrad": True, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.05, "decoupled_weight_decay": True, "weight_decay": 0.1}),
    ("AdamW", {"lr": 0.05, "betas": (0.8, 0.95)}),
    ("AdamW", {"lr": 0.05, "amsgrad": True, "maximize": True}),
]


def values(seed):
    draw = np.random.default_rng(seed)
    return [np.asarray(draw.standard_normal(shape)) for shape in SHAPES]


def convert(saved, kind, function):
    """Return the nested dicts and lists with everything of this kind replaced."""
    if isinstance(saved, kind):
        return function(saved)
    if isinstance(saved, dict):
        return {key: convert(value, kind, function) for key, value in saved.items()}
    return type(saved)(convert(value, kind, function) for value in saved) if type(saved) in (list, tuple) else saved


def arrays(saved):
    return convert(saved, torch.Tensor, lambda tensor: tensor.detach().numpy().copy())


def tensors(saved):
    return convert(saved, np.ndarray, lambda array: torch.from_numpy(array.copy()))


def both(name, options, named=False):
    ours = [Parameter(value) for value in values(0)]
    theirs = [torch.tensor(value, requires_grad=True) for value in values(0)]
    built = []
    for library, params in [(optim, ours), (torch.optim, theirs)]:
        items = [(f"p{i}", p) for i, p in enumerate(params)] if named else params
        groups = [{"params": items[:1], "lr": 0.25}, {"params": items[1:]}]
        built.append(getattr(library, name)(groups, **options))
    return ours, built[0], theirs, built[1]


def step_ours(opt, seed, absent=()):
    opt.step(grads=[None if i in absent else grad for i, grad in enumerate(values(seed))])


def step_theirs(params, opt, seed, absent=()):
    for i, (p, grad) in enumerate(zip(params, values(seed), strict=True)):
        p.grad = None if i in absent else torch.tensor(grad)
    opt.step()


def assert_agree(ours, theirs):
    for p, tensor in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.data, tensor.detach().numpy(), **CLOSE["torch float64"])


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("named", [False, True])
def test_layout_is_torchs(name, options, named):
    _, opt, params, torch_opt = both(name, options, named)
    for seed in range(2):
        step_ours(opt, seed, absent=[2])
        step_theirs(params, torch_opt, seed, absent=[2])
    ours, theirs = opt.state_dict(), arrays(torch_opt.state_dict())
    assert list(ours) == list(theirs)
    assert [list(group.items()) for group in ours["param_groups"]] == [
        list(group.items()) for group in theirs["param_groups"]
    ]
    assert {n: list(entry) for n, entry in ours["state"].items()} == {
        n: list(entry) for n, entry in theirs["state"].items()
    }
    for number, entry in theirs["state"].items():
        for key, value in entry.items():
            np.testing.assert_allclose(ours["state"][number][key], value, **CLOSE["torch float64"])


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("implementation", [{}, {"foreach": True}, {"foreach": False, "fused": False}])
def test_torchs_state_dict_goes_on_here(name, options, implementation):
    ours, opt, theirs, torch_opt = both(name, options)
    for seed in range(3):
        step_theirs(theirs, torch_opt, seed, absent=[seed])
    for p, tensor in zip(ours, theirs, strict=True):
        p.data = tensor.detach().numpy()
    saved = arrays(torch_opt.state_dict())
    for group in saved["param_groups"]:
        group.update(implementation)
    opt.load_state_dict(saved)
    for seed in range(3, 13):
        step_ours(opt, seed, absent=[seed - 4])
        step_theirs(theirs, torch_opt, seed, absent=[seed - 4])
        assert_agree(ours, theirs)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_our_state_dict_goes_on_in_torch(name, options):
    ours, opt, theirs, torch_opt = both(name, options)
    for seed in range(3):
        step_ours(opt, seed, absent=[seed])
    with torch.no_grad():
        for p, tensor in zip(ours, theirs, strict=True):
            tensor.copy_(torch.from_numpy(p.data))
    torch_opt.load_state_dict(tensors(opt.state_dict()))
    for seed in range(3, 13):
        step_ours(opt, seed, absent=[seed - 4])
        step_theirs(theirs, torch_opt, seed, absent=[seed - 4])
        assert_agree(ours, theirs)


def test_tensors_are_taken_as_they_are():
    ours, opt, theirs, torch_opt = both("Adam", {})
    step_theirs(theirs, torch_opt, 1)
    opt.load_state_dict(torch_opt.state_dict())
    assert opt.state[ours[0]]["step"] == 1
    assert type(opt.state[ours[0]]["exp_avg"]) is np.ndarray
    np.testing.assert_array_equal(opt.state[ours[2]]["exp_avg"], torch_opt.state[theirs[2]]["exp_avg"])


def test_a_momentum_buffer_of_none_is_no_state():
    ours, opt, _, _ = both("SGD", {"momentum": 0.9, "dampening": 0.5})
    saved = opt.state_dict()
    saved["state"] = {0: {"momentum_buffer": None}}
    opt.load_state_dict(saved)
    step_ours(opt, 1)
    np.testing.assert_array_equal(opt.state[ours[0]]["momentum_buffer"], values(1)[0])
