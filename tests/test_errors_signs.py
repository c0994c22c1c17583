"""Invalid arguments of Adamax and Rprop: each raises what it raises in torch, and also as an option of one group."""

import numpy as np
import pytest

import refoptim as optim
from refoptim import Parameter

NAN, INF = float("nan"), float("inf")
STR_LEAST = "'<=' not supported between instances of 'float' and 'str'"

INVALID = [
    ("Adamax", {"lr": -0.5}, ValueError, "Invalid learning rate: -0.5"),
    ("Adamax", {"lr": NAN}, ValueError, "Invalid learning rate: nan"),
    ("Adamax", {"lr": "a"}, TypeError, STR_LEAST),
    ("Adamax", {"eps": -1e-8}, ValueError, "Invalid epsilon value: -1e-08"),
    ("Adamax", {"eps": NAN}, ValueError, "Invalid epsilon value: nan"),
    ("Adamax", {"betas": (1.0, 0.5)}, ValueError, "Invalid beta parameter at index 0: 1.0"),
    ("Adamax", {"betas": (-0.5, 0.5)}, ValueError, "Invalid beta parameter at index 0: -0.5"),
    ("Adamax", {"betas": (0.5, 1)}, ValueError, "Invalid beta parameter at index 1: 1"),
    ("Adamax", {"betas": (0.5, NAN)}, ValueError, "Invalid beta parameter at index 1: nan"),
    ("Adamax", {"betas": (0.5,)}, IndexError, "tuple index out of range"),
    ("Adamax", {"betas": 0.5}, TypeError, "'float' object is not subscriptable"),
    ("Adamax", {"weight_decay": -1}, ValueError, "Invalid weight_decay value: -1"),
    ("Adamax", {"weight_decay": NAN}, ValueError, "Invalid weight_decay value: nan"),
    ("Rprop", {"lr": -0.5}, ValueError, "Invalid learning rate: -0.5"),
    ("Rprop", {"lr": NAN}, ValueError, "Invalid learning rate: nan"),
    ("Rprop", {"lr": "a"}, TypeError, STR_LEAST),
    ("Rprop", {"etas": (0.0, 1.2)}, ValueError, "Invalid eta values: 0.0, 1.2"),
    ("Rprop", {"etas": (-0.5, 1.2)}, ValueError, "Invalid eta values: -0.5, 1.2"),
    ("Rprop", {"etas": (1.0, 1.2)}, ValueError, "Invalid eta values: 1.0, 1.2"),
    ("Rprop", {"etas": (0.5, 1.0)}, ValueError, "Invalid eta values: 0.5, 1.0"),
    ("Rprop", {"etas": (1.2, 0.5)}, ValueError, "Invalid eta values: 1.2, 0.5"),
    ("Rprop", {"etas": (NAN, 1.2)}, ValueError, "Invalid eta values: nan, 1.2"),
    ("Rprop", {"etas": (0.5, NAN)}, ValueError, "Invalid eta values: 0.5, nan"),
    ("Rprop", {"etas": (0.5,)}, IndexError, "tuple index out of range"),
    ("Rprop", {"etas": 0.5}, TypeError, "'float' object is not subscriptable"),
]
# The first of two invalid ones is named.
ORDER = [
    ("Adamax", {"lr": -1, "eps": -2, "betas": (3, 4)}, ValueError, "Invalid learning rate: -1"),
    ("Adamax", {"eps": -2, "betas": (3, 4)}, ValueError, "Invalid epsilon value: -2"),
    ("Adamax", {"betas": (3, 4), "weight_decay": -1}, ValueError, "Invalid beta parameter at index 0: 3"),
    ("Adamax", {"betas": (0, 4), "weight_decay": -1}, ValueError, "Invalid beta parameter at index 1: 4"),
    ("Rprop", {"lr": -1, "etas": (3, 4)}, ValueError, "Invalid learning rate: -1"),
]
# Unknown options, and positions that are names.
CALLS = [
    ("Adamax", (0.1, (0.9, 0.99), 1e-8, 0.0, None, False), {}, "positional argument"),
    ("Adamax", (), {"amsgrad": True}, "unexpected keyword argument 'amsgrad'"),
    ("Rprop", (0.1, (0.5, 1.2), (1e-6, 50), False), {}, "positional argument"),
    ("Rprop", (), {"weight_decay": 0.1}, "unexpected keyword argument 'weight_decay'"),
]
VALID = [
    ("Adamax", {"lr": 0, "eps": 0, "betas": (0, 0), "weight_decay": 0}),
    ("Adamax", {"lr": INF, "betas": [0.5, np.float64(0.5)], "foreach": True, "capturable": True}),
    ("Rprop", {"lr": 0, "etas": (1e-300, INF), "step_sizes": (0, INF)}),
    ("Rprop", {"lr": INF, "etas": [0.5, np.float64(1.5)], "step_sizes": (50, -1), "foreach": False}),
]


def message_of(library, tensor, name, args, options):
    with pytest.raises(Exception) as caught:  # noqa: PT011
        getattr(library, name)([tensor], *args, **options)
    return type(caught.value), str(caught.value)


def libraries():
    """Yield this library with a parameter and, if it is installed, torch with a tensor."""
    yield optim, Parameter([1.0])
    try:
        import torch
    except ImportError:
        return
    yield torch.optim, torch.zeros(1)


@pytest.mark.parametrize(("name", "options", "kind", "message"), [*INVALID, *ORDER])
def test_invalid_options_raise_what_torch_raises(name, options, kind, message):
    for library, tensor in libraries():
        assert message_of(library, tensor, name, (), options) == (kind, message)


@pytest.mark.parametrize(("name", "args", "options", "message"), CALLS)
def test_arguments_are_named_and_placed_as_in_torch(name, args, options, message):
    for library, tensor in libraries():
        with pytest.raises(TypeError, match=message):
            getattr(library, name)([tensor], *args, **options)


@pytest.mark.parametrize("name", ["Adamax", "Rprop"])
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
    assert str(caught.value) == message
    assert opt.state_dict() == before
    assert (repr(a), repr(b)) == ("Parameter([1.])", "Parameter([2.])")


@pytest.mark.parametrize(("name", "options"), VALID)
def test_what_torch_accepts_is_accepted(name, options):
    for library, p in libraries():
        group = getattr(library, name)([p], **options).param_groups[0]
        for option, value in options.items():
            assert group[option] == value


@pytest.mark.parametrize("name", ["Adamax", "Rprop"])
def test_learning_rates_of_several_elements_are_refused(name):
    for lr in (np.array([0.1, 0.2]), np.array([]), np.array([[0.1], [0.2]])):
        with pytest.raises(ValueError, match=r"^Tensor lr must be 1-element$"):
            getattr(optim, name)([Parameter([1.0])], lr=lr)
