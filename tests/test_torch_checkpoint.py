"""State_dicts to and from torch: either library goes on where the other stopped, on the same trajectory."""

import numpy as np
import pytest
import saving

import refoptim as optim
from refoptim import Parameter, SparseGrad
from refoptim.conformance.tolerances import CLOSE

torch = pytest.importorskip("torch")

CASES = [
    *saving.CASES,
    ("Adam", {"lr": 0.05, "decoupled_weight_decay": True, "weight_decay": 0.1}),
    ("AdamW", {"lr": 0.05, "amsgrad": True, "maximize": True}),
    ("Adamax", {"lr": 0.05, "weight_decay": 0.1}),
    ("NAdam", {"lr": 0.05}),
    ("NAdam", {"lr": 0.05, "momentum_decay": 1.0, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("RAdam", {"lr": 0.05, "betas": (0.9, 0.99), "maximize": True}),
    ("RAdam", {"lr": 0.05, "betas": (0.5, 0.6), "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.5, "initial_accumulator_value": 0.5}),
    ("Adadelta", {"lr": 1.0, "rho": 0.5, "weight_decay": 0.1}),
    ("RMSprop", {"lr": 0.1}),
    ("RMSprop", {"lr": 0.1, "centered": True, "momentum": 0.5, "eps": 0.1}),
    ("Rprop", {"lr": 0.1, "etas": (0.7, 1.4)}),
    ("ASGD", {"lr": 0.1, "lambd": 0.5, "alpha": 2.0, "t0": 3, "weight_decay": 0.1}),
    ("ASGD", {"lr": 0.1, "t0": 0, "maximize": True}),
    ("SparseAdam", {"lr": 0.1, "betas": (0.5, 0.75)}),
    ("Adafactor", {"lr": 0.1, "d": 2.0, "weight_decay": 0.1}),
    ("Muon", {"lr": 0.1, "nesterov": False, "ns_steps": 3}),
]
IMPLEMENTATIONS = [{}, {"foreach": True}, {"foreach": False, "fused": False}]
# torch's Adafactor divides by the parameter's size, SparseAdam wants rows and Muon matrices.
SHAPES = {name: [(3,), (4, 3), (2, 2), (5, 1, 2)] for name in ("Adafactor", "SparseAdam")}
SHAPES |= {"Muon": [(3, 3), (2, 4), (4, 2), (1, 5)]}
CLOSE_TO = dict.fromkeys(("NAdam", "ASGD"), CLOSE["torch float32 state"]) | {"Muon": CLOSE["matrix float64"]}
# Only with it is Muon's iteration torch's.
DIALECT = {"Muon": {"dialect": "torch"}}


def values(name, seed):
    draw = np.random.default_rng(seed)
    return [np.asarray(draw.standard_normal(shape)) for shape in SHAPES.get(name, [(3,), (), (2, 2), (0,)])]


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
    """Return parameters and an optimizer with two groups of them, ours and torch's."""
    ours = [Parameter(value) for value in values(name, 0)]
    theirs = [torch.tensor(value, requires_grad=True) for value in values(name, 0)]
    built = []
    for library, params, more in [(optim, ours, DIALECT.get(name, {})), (torch.optim, theirs, {})]:
        items = [(f"p{i}", p) for i, p in enumerate(params)] if named else params
        own = {"lr": 0.25} if name == "Muon" else {"lr": 0.25, "maximize": True}
        groups = [{"params": items[:1], **own}, {"params": items[1:]}]
        built.append(getattr(library, name)(groups, **options, **more))
    return ours, built[0], theirs, built[1]


def grads_of(name, seed, absent, sparse):
    """Return random gradients, of SparseAdam every second row of them."""
    for i, grad in enumerate(values(name, seed)):
        if i in absent:
            yield None
        else:
            yield sparse(np.arange(len(grad))[::2], grad[::2], grad.shape) if name == "SparseAdam" else grad


def sparse_tensor(rows, rest, shape):
    return torch.sparse_coo_tensor(torch.tensor(rows)[None], torch.tensor(rest), shape, check_invariants=True)


def step_ours(opt, seed, absent=()):
    opt.step(grads=grads_of(type(opt).__name__, seed, absent, SparseGrad))


def step_theirs(params, opt, seed, absent=()):
    for p, grad in zip(params, grads_of(type(opt).__name__, seed, absent, sparse_tensor), strict=True):
        p.grad = torch.tensor(grad) if isinstance(grad, np.ndarray) else grad
    opt.step()


def assert_agree(ours, theirs, name):
    for p, tensor in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.data, tensor.detach().numpy(), **CLOSE_TO.get(name, CLOSE["torch float64"]))


def assert_states_agree(saved, torchs, name):
    """Compare two states by their keys, in order, and by their values."""
    # torch's Adagrad has state before a parameter's first gradient.
    torchs = {number: entry for number, entry in torchs.items() if entry.get("step") != 0}
    assert {number: list(entry) for number, entry in saved.items()} == {n: list(entry) for n, entry in torchs.items()}
    for number, entry in torchs.items():
        for key, value in entry.items():
            close = CLOSE_TO.get(name, CLOSE["torch float64"])
            np.testing.assert_allclose(saved[number][key], value, **close, err_msg=key)


def go_on(ours, opt, theirs, torch_opt):
    """Take ten steps in both libraries, with a new learning rate for the last five."""
    name = type(opt).__name__
    for seed in range(3, 13):
        if seed == 8:
            for groups in (opt.param_groups, torch_opt.param_groups):
                groups[1]["lr"] *= 2.0
        step_ours(opt, seed, absent=[seed - 4])
        step_theirs(theirs, torch_opt, seed, absent=[seed - 4])
        assert_agree(ours, theirs, name)
    assert_states_agree(opt.state_dict()["state"], arrays(torch_opt.state_dict())["state"], name)


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("named", [False, True])
def test_layout_is_torchs(name, options, named):
    _, opt, params, torch_opt = both(name, options, named)
    for seed in range(2):
        step_ours(opt, seed, absent=[2])
        step_theirs(params, torch_opt, seed, absent=[2])
    ours, theirs = opt.state_dict(), arrays(torch_opt.state_dict())
    assert list(ours) == list(theirs)
    groups = ours["param_groups"]
    assert [list(group.items()) for group in groups] == [list(group.items()) for group in theirs["param_groups"]]
    assert_states_agree(ours["state"], theirs["state"], name)


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_torchs_state_dict_goes_on_here(name, options, implementation):
    _, _, theirs, torch_opt = both(name, options)
    for seed in range(3):
        step_theirs(theirs, torch_opt, seed, absent=[seed])
    # The options come with the state.
    ours, opt, _, _ = both(name, {})
    for p, tensor in zip(ours, theirs, strict=True):
        p.data = tensor.detach().numpy()
    saved = arrays(torch_opt.state_dict())
    for group in saved["param_groups"]:
        group.update(implementation)
    opt.load_state_dict(saved)
    assert {type(opt.state[p][key]) for p in ours for key in opt.initial_host} <= {int, float}
    go_on(ours, opt, theirs, torch_opt)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_our_state_dict_goes_on_in_torch(name, options):
    ours, opt, _, _ = both(name, options)
    for seed in range(3):
        step_ours(opt, seed, absent=[seed])
    _, _, theirs, torch_opt = both(name, {})
    with torch.no_grad():
        for p, tensor in zip(ours, theirs, strict=True):
            tensor.copy_(torch.from_numpy(p.data))
    torch_opt.load_state_dict(tensors(opt.state_dict()))
    go_on(ours, opt, theirs, torch_opt)


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
    saved["state"] = {1: {"momentum_buffer": None}}
    opt.load_state_dict(saved)
    step_ours(opt, 1)
    np.testing.assert_array_equal(opt.state[ours[1]]["momentum_buffer"], values("SGD", 1)[1])
