"""Invalid arguments: each raises what it raises in torch, and also as an option of a single group."""

import numpy as np
import pytest

import refoptim as optim
from refoptim import Parameter
from refoptim.optimizer import Optimizer

NAN, INF = float("nan"), float("inf")
NESTEROV = "Nesterov momentum requires a momentum and zero dampening"
BETAS = "betas must be either both floats or both Tensors"
STR_LESS = "'<' not supported between instances of 'str' and 'float'"
STR_LEAST = "'<=' not supported between instances of 'float' and 'str'"

INVALID = [
    ("SGD", {"lr": -0.5}, ValueError, "Invalid learning rate: -0.5"),
    ("SGD", {"lr": -INF}, ValueError, "Invalid learning rate: -inf"),
    ("SGD", {"lr": "a"}, TypeError, STR_LESS),
    ("SGD", {"lr": None}, TypeError, "'<' not supported between instances of 'NoneType' and 'float'"),
    ("SGD", {"momentum": -0.5}, ValueError, "Invalid momentum value: -0.5"),
    ("SGD", {"weight_decay": -1}, ValueError, "Invalid weight_decay value: -1"),
    ("SGD", {"nesterov": True}, ValueError, NESTEROV),
    ("SGD", {"nesterov": True, "momentum": 0.9, "dampening": 0.5}, ValueError, NESTEROV),
    ("SGD", {"nesterov": True, "momentum": 0.0}, ValueError, NESTEROV),
    *(
        case
        for name in ("Adam", "AdamW")
        for case in [
            (name, {"lr": -0.5}, ValueError, "Invalid learning rate: -0.5"),
            (name, {"lr": NAN}, ValueError, "Invalid learning rate: nan"),
            (name, {"lr": "a"}, TypeError, STR_LEAST),
            (name, {"lr": [0.5]}, TypeError, "'<=' not supported between instances of 'float' and 'list'"),
            (name, {"eps": -1e-8}, ValueError, "Invalid epsilon value: -1e-08"),
            (name, {"eps": NAN}, ValueError, "Invalid epsilon value: nan"),
            (name, {"betas": (1.0, 0.5)}, ValueError, "Invalid beta parameter at index 0: 1.0"),
            (name, {"betas": (-0.5, 0.5)}, ValueError, "Invalid beta parameter at index 0: -0.5"),
            (name, {"betas": (NAN, 0.5)}, ValueError, "Invalid beta parameter at index 0: nan"),
            (name, {"betas": (0.5, 1.5)}, ValueError, "Invalid beta parameter at index 1: 1.5"),
            (name, {"betas": (0.5, 1)}, ValueError, "Invalid beta parameter at index 1: 1"),
            (name, {"betas": (0, 0.5)}, ValueError, BETAS),
            (name, {"betas": (0.5, 0)}, ValueError, BETAS),
            (name, {"betas": (0, 0)}, ValueError, BETAS),
            (name, {"betas": (np.float32(0.5), np.float32(0.5))}, ValueError, BETAS),
            (name, {"betas": (0.5,)}, IndexError, "tuple index out of range"),
            (name, {"betas": 0.5}, TypeError, "'float' object is not subscriptable"),
            (name, {"weight_decay": -1}, ValueError, "Invalid weight_decay value: -1"),
            (name, {"weight_decay": NAN}, ValueError, "Invalid weight_decay value: nan"),
        ]
    ),
    *(
        case
        for name in ("SGD", "Adam", "AdamW")
        for case in [
            (name, {"fused": True, "foreach": True}, RuntimeError, "`fused` and `foreach` cannot be `True` together."),
            (name, {"fused": True, "differentiable": True}, RuntimeError, "`fused` does not support `differentiable`"),
        ]
    ),
]
# The first of two invalid ones is named.
ORDER = [
    ("SGD", {"lr": -1, "momentum": -2, "weight_decay": -3, "nesterov": True}, ValueError, "Invalid learning rate: -1"),
    ("SGD", {"momentum": -2, "weight_decay": -3, "nesterov": True}, ValueError, "Invalid momentum value: -2"),
    ("SGD", {"weight_decay": -3, "nesterov": True}, ValueError, "Invalid weight_decay value: -3"),
    ("Adam", {"lr": -1, "eps": -2, "betas": (3, 4)}, ValueError, "Invalid learning rate: -1"),
    ("Adam", {"eps": -2, "betas": (3, 4)}, ValueError, "Invalid epsilon value: -2"),
    ("Adam", {"betas": (3, 4), "weight_decay": -1}, ValueError, "Invalid beta parameter at index 0: 3"),
    ("Adam", {"betas": (0, 0), "weight_decay": -1}, ValueError, "Invalid weight_decay value: -1"),
]
# Unknown options, and positions that are names.
CALLS = [
    ("SGD", (0.1, 0.9, 0.0, 0.0, True, False), {}, "positional argument"),
    ("Adam", (0.1, (0.9, 0.99), 1e-8, 0.0, False, None), {}, "positional argument"),
    ("AdamW", (), {"decoupled_weight_decay": True}, "unexpected keyword argument 'decoupled_weight_decay'"),
    ("SGD", (), {"capturable": True}, "unexpected keyword argument 'capturable'"),
]
VALID = [
    ("SGD", {"lr": NAN}),
    ("SGD", {"lr": 0, "momentum": NAN, "weight_decay": INF, "dampening": -3}),
    ("SGD", {"lr": INF, "momentum": 2.0}),
    ("Adam", {"lr": 0, "eps": 0, "betas": (0.0, 0.0), "weight_decay": 0}),
    ("Adam", {"lr": INF, "betas": [0.5, np.float64(0.5)]}),
    ("AdamW", {"lr": 1, "capturable": True, "fused": True}),
]


def message_of(library, tensor, name, args, options):
    with pytest.raises(Exception) as caught:  # noqa: PT011
        getattr(library, name)([tensor], *args, **options)
    return type(caught.value), str(caught.value)


@pytest.mark.parametrize(("name", "options", "kind", "message"), [*INVALID, *ORDER])
def test_invalid_options_raise_the_documented_error(name, options, kind, message):
    p = Parameter([1.0])
    data = p.data
    got, text = message_of(optim, p, name, (), options)
    assert got is kind
    assert text.startswith(message)
    assert p.data is data


@pytest.mark.parametrize(("name", "options", "kind", "message"), [*INVALID, *ORDER])
def test_invalid_options_raise_what_torch_raises(name, options, kind, message):
    torch = pytest.importorskip("torch")
    assert message_of(torch.optim, torch.zeros(1), name, (), options) == (kind, message)


@pytest.mark.parametrize(("name", "args", "options", "message"), CALLS)
def test_arguments_are_named_and_placed_as_in_torch(name, args, options, message):
    for library, tensor in libraries():
        with pytest.raises(TypeError, match=message):
            getattr(library, name)([tensor], *args, **options)


def libraries():
    """Yield this library with a parameter and, if it is installed, torch with a tensor."""
    yield optim, Parameter([1.0])
    try:
        import torch
    except ImportError:
        return
    yield torch.optim, torch.zeros(1)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_defaults_are_torchs_in_torchs_order(name):
    torch = pytest.importorskip("torch")
    ours, theirs = getattr(optim, name)([Parameter([1.0])]), getattr(torch.optim, name)([torch.zeros(1)])
    assert list(ours.defaults.items()) == list(theirs.defaults.items())
    assert list(ours.param_groups[0]) == list(theirs.param_groups[0])


@pytest.mark.parametrize(("name", "options", "kind", "message"), INVALID)
@pytest.mark.parametrize("how", ["group", "added", "loaded"])
def test_options_of_a_single_group_are_checked_too(name, options, kind, message, how):
    a, b = Parameter([1.0]), Parameter([2.0])
    build = getattr(optim, name)
    opt = build([a])
    before = opt.state_dict()
    saved = opt.state_dict()
    saved["param_groups"][0].update(options)
    attempts = {
        "group": lambda: build([{"params": [a]}, {"params": [b], **options}]),
        "added": lambda: opt.add_param_group({"params": [b], **options}),
        "loaded": lambda: opt.load_state_dict(saved),
    }
    with pytest.raises(kind) as caught:
        attempts[how]()
    assert str(caught.value).startswith(message)
    assert opt.state_dict() == before
    assert (repr(a), repr(b)) == ("Parameter([1.])", "Parameter([2.])")


@pytest.mark.parametrize(("name", "options"), VALID)
def test_what_torch_accepts_is_accepted(name, options):
    for library, p in libraries():
        group = getattr(library, name)([p], **options).param_groups[0]
        for option, value in options.items():
            assert group[option] == (tuple(value) if option == "betas" else value) or value != value


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_learning_rates_of_several_elements_are_refused(name):
    for lr in (np.array([0.1, 0.2]), np.array([]), np.array([[0.1], [0.2]])):
        with pytest.raises(ValueError, match=r"^Tensor lr must be 1-element$"):
            getattr(optim, name)([Parameter([1.0])], lr=lr)
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match=r"^Tensor lr must be 1-element$"):
        getattr(torch.optim, name)([torch.zeros(1)], lr=torch.tensor([0.1, 0.2]))


@pytest.mark.parametrize("betas", [(np.array(0.5), 0.5), (0.5, np.array(0.5)), (0.5, 0.5, 0.5), (True, 0.5)])
def test_betas_are_two_of_one_kind(betas):
    with pytest.raises(ValueError, match=r"betas must be either both floats|Invalid beta"):
        optim.Adam([Parameter([1.0])], betas=betas)


def test_betas_may_be_two_arrays():
    a, b = Parameter([1.0]), Parameter([1.0])
    for p, betas in [(a, (np.array(0.5), np.array([0.25]))), (b, (0.5, 0.25))]:
        opt = optim.Adam([p], betas=betas)
        for value in (1.0, 3.0):
            opt.step(grads=[np.array([value])])
    assert a.data == b.data


@pytest.mark.parametrize("arithmetic", ["float32", "double", np.float64, 64, True])
def test_arithmetic_is_none_or_float64(arithmetic):
    with pytest.raises(ValueError, match=r"Invalid arithmetic: .*use None .* or 'float64'"):
        optim.SGD([Parameter([1.0])], arithmetic=arithmetic)
    with pytest.raises(ValueError, match="Invalid arithmetic"):
        Optimizer([Parameter([1.0])], {}, arithmetic=arithmetic)


def test_torchs_own_messages_of_the_base_class():
    for library, p in libraries():
        with pytest.raises(ValueError, match=r"^optimizer got an empty parameter list$"):
            library.SGD([])
        with pytest.raises(TypeError, match=r"^param_group must be a dict, but got <class 'int'>$"):
            library.SGD([{"params": [p]}, 3])
        with pytest.raises(ValueError, match=r"^some parameters appear in more than one parameter group$"):
            library.SGD([{"params": [p]}, {"params": [p]}])
        with pytest.raises(TypeError, match="need to be organized in ordered collections"):
            library.SGD([{"params": {p}}])
        opt = library.SGD([p])
        for groups, message in [
            ([], "loaded state dict has a different number of parameter groups"),
            ([{"params": []}], "parameter group that doesn't match the size of optimizer's group"),
        ]:
            with pytest.raises(ValueError, match=message):
                opt.load_state_dict({"state": {}, "param_groups": groups})
