"""Invalid arguments of Adagrad, Adadelta and RMSprop: each raises what it raises in torch, in a single group too."""

import numpy as np
import pytest

import refoptim as optim
from refoptim import Parameter

NAN, INF = float("nan"), float("inf")
NAMES = ("Adagrad", "Adadelta", "RMSprop")
LEAST = "'<=' not supported between instances of 'float' and "

INVALID = [
    *(
        case
        for name in NAMES
        for case in [
            (name, {"lr": -0.5}, ValueError, "Invalid learning rate: -0.5"),
            (name, {"lr": NAN}, ValueError, "Invalid learning rate: nan"),
            (name, {"lr": "a"}, TypeError, f"{LEAST}'str'"),
            (name, {"lr": None}, TypeError, f"{LEAST}'NoneType'"),
            (name, {"eps": -1e-8}, ValueError, "Invalid epsilon value: -1e-08"),
            (name, {"eps": NAN}, ValueError, "Invalid epsilon value: nan"),
            (name, {"eps": "a"}, TypeError, f"{LEAST}'str'"),
            (name, {"weight_decay": -1}, ValueError, "Invalid weight_decay value: -1"),
            (name, {"weight_decay": NAN}, ValueError, "Invalid weight_decay value: nan"),
        ]
    ),
    ("Adagrad", {"lr_decay": -0.5}, ValueError, "Invalid lr_decay value: -0.5"),
    ("Adagrad", {"lr_decay": NAN}, ValueError, "Invalid lr_decay value: nan"),
    ("Adagrad", {"initial_accumulator_value": -1}, ValueError, "Invalid initial_accumulator_value value: -1"),
    ("Adagrad", {"initial_accumulator_value": NAN}, ValueError, "Invalid initial_accumulator_value value: nan"),
    ("Adadelta", {"rho": -0.5}, ValueError, "Invalid rho value: -0.5"),
    ("Adadelta", {"rho": 1.5}, ValueError, "Invalid rho value: 1.5"),
    ("Adadelta", {"rho": NAN}, ValueError, "Invalid rho value: nan"),
    ("Adadelta", {"rho": "a"}, TypeError, f"{LEAST}'str'"),
    ("RMSprop", {"alpha": -0.5}, ValueError, "Invalid alpha value: -0.5"),
    ("RMSprop", {"alpha": NAN}, ValueError, "Invalid alpha value: nan"),
    ("RMSprop", {"momentum": -0.5}, ValueError, "Invalid momentum value: -0.5"),
    ("RMSprop", {"momentum": NAN}, ValueError, "Invalid momentum value: nan"),
    ("Adagrad", {"fused": True, "foreach": True}, RuntimeError, "`fused` and `foreach` cannot be `True` together."),
    ("Adagrad", {"fused": True, "differentiable": True}, RuntimeError, "`fused` does not support `differentiable`"),
]
# torch has no fused here.
OURS = [
    (name, {"fused": True, **other}, RuntimeError, message)
    for name in ("Adadelta", "RMSprop")
    for other, message in [
        ({"foreach": True}, "`fused` and `foreach` cannot be `True` together."),
        ({"differentiable": True}, "`fused` does not support `differentiable`"),
    ]
]
# The first of two invalid ones is named.
ADAGRAD = {"lr": -1, "lr_decay": -2, "weight_decay": -3, "initial_accumulator_value": -4, "eps": -5}
ADADELTA = {"lr": -1, "rho": -2, "eps": -3, "weight_decay": -4}
RMSPROP = {"lr": -1, "eps": -2, "momentum": -3, "weight_decay": -4, "alpha": -5}
WORDS = {"lr": "learning rate", "eps": "epsilon value"}
ORDER = [
    (name, dict(list(options.items())[start:]), ValueError, f"Invalid {WORDS.get(first, f'{first} value')}: {value}")
    for name, options in (("Adagrad", ADAGRAD), ("Adadelta", ADADELTA), ("RMSprop", RMSPROP))
    for start, (first, value) in enumerate(options.items())
]
# Unknown options, and positions that are names.
CALLS = [
    ("Adagrad", (0.1, 0, 0, 0, 1e-10, None, False), {}, "positional argument"),
    ("Adadelta", (1.0, 0.9, 1e-6, 0, None, False), {}, "positional argument"),
    ("RMSprop", (0.1, 0.9, 1e-8, 0, 0, False, False, None, False, False, None), {}, "positional argument"),
    ("Adagrad", (), {"capturable": True}, "unexpected keyword argument 'capturable'"),
    ("Adadelta", (), {"alpha": 0.9}, "unexpected keyword argument 'alpha'"),
    ("RMSprop", (), {"rho": 0.9}, "unexpected keyword argument 'rho'"),
]
VALID = [
    ("Adagrad", {"lr": INF, "lr_decay": INF, "eps": 0, "initial_accumulator_value": INF, "weight_decay": INF}),
    ("Adagrad", {"lr": 0, "maximize": True, "foreach": False, "fused": False}),
    ("Adadelta", {"lr": 0, "rho": 1.0, "eps": 0, "capturable": True}),
    ("Adadelta", {"lr": INF, "rho": 0, "foreach": True, "differentiable": False}),
    ("RMSprop", {"lr": INF, "alpha": 1.5, "eps": INF, "momentum": 2, "centered": True, "capturable": True}),
    ("RMSprop", {"lr": 0, "alpha": 0, "eps": 0, "foreach": False}),
]


def libraries():
    """Yield this library with a parameter and, if it is installed, torch with a tensor."""
    yield optim, Parameter([1.0])
    try:
        import torch
    except ImportError:
        return
    yield torch.optim, torch.zeros(1)


def message_of(library, tensor, name, options):
    with pytest.raises(Exception) as caught:  # noqa: PT011
        getattr(library, name)([tensor], **options)
    return type(caught.value), str(caught.value)


@pytest.mark.parametrize(("name", "options", "kind", "message"), [*INVALID, *ORDER, *OURS])
def test_invalid_options_raise_the_documented_error(name, options, kind, message):
    p = Parameter([1.0])
    data = p.data
    assert message_of(optim, p, name, options) == (kind, message)
    assert p.data is data


@pytest.mark.parametrize(("name", "options", "kind", "message"), [*INVALID, *ORDER])
def test_invalid_options_raise_what_torch_raises(name, options, kind, message):
    torch = pytest.importorskip("torch")
    assert message_of(torch.optim, torch.zeros(1), name, options) == (kind, message)


@pytest.mark.parametrize(("name", "args", "options", "message"), CALLS)
def test_arguments_are_named_and_placed_as_in_torch(name, args, options, message):
    for library, tensor in libraries():
        with pytest.raises(TypeError, match=message):
            getattr(library, name)([tensor], *args, **options)


@pytest.mark.parametrize("name", NAMES)
def test_defaults_are_torchs_in_torchs_order(name):
    torch = pytest.importorskip("torch")
    ours, theirs = getattr(optim, name)([Parameter([1.0])]), getattr(torch.optim, name)([torch.zeros(1)])
    assert list(ours.defaults.items()) == list(theirs.defaults.items())
    assert list(ours.param_groups[0]) == list(theirs.param_groups[0])


@pytest.mark.parametrize("name", ["Adadelta", "RMSprop"])
@pytest.mark.parametrize("fused", [True, False])
def test_what_torch_does_not_have_is_an_option_only_if_it_is_given(name, fused):
    group = getattr(optim, name)([Parameter([1.0])], fused=fused).param_groups[0]
    assert list(group.items())[-1] == ("fused", fused)


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
        assert {option: group[option] for option in options} == options


@pytest.mark.parametrize("name", NAMES)
def test_learning_rates_of_several_elements_are_refused(name):
    for lr in (np.array([0.1, 0.2]), np.array([]), np.array([[0.1], [0.2]])):
        with pytest.raises(ValueError, match=r"^Tensor lr must be 1-element$"):
            getattr(optim, name)([Parameter([1.0])], lr=lr)
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match=r"^Tensor lr must be 1-element$"):
        getattr(torch.optim, name)([torch.zeros(1)], lr=torch.tensor([0.1, 0.2]))


@pytest.mark.parametrize(
    ("option", "state"), [({"momentum": 0.5}, "momentum_buffer"), ({"centered": True}, "grad_avg")]
)
def test_state_that_an_option_needs_cannot_begin_later(option, state):
    for library, p in libraries():
        opt = library.RMSprop([p])
        p.grad = np.array([0.5]) if library is optim else p.new_full((1,), 0.5)
        opt.step()
        before = p.data[0]
        opt.param_groups[0].update(option)
        with pytest.raises(KeyError, match=state):
            opt.step()
        assert p.data[0] == before
