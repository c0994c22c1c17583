"""Invalid arguments of NAdam, RAdam and ASGD: each raises what it raises in torch, and also as a group's option."""

import inspect

import numpy as np
import pytest

import refoptim as optim
from refoptim import Parameter

NAN, INF = float("nan"), float("inf")
STR_LEAST = "'<=' not supported between instances of 'float' and 'str'"
NAMES = ("NAdam", "RAdam", "ASGD")

INVALID = [
    *(
        case
        for name in NAMES
        for case in [
            (name, {"lr": -0.5}, ValueError, "Invalid learning rate: -0.5"),
            (name, {"lr": NAN}, ValueError, "Invalid learning rate: nan"),
            (name, {"lr": "a"}, TypeError, STR_LEAST),
            (name, {"weight_decay": -1}, ValueError, "Invalid weight_decay value: -1"),
            (name, {"weight_decay": NAN}, ValueError, "Invalid weight_decay value: nan"),
        ]
    ),
    *(
        case
        for name in ("NAdam", "RAdam")
        for case in [
            (name, {"eps": -1e-8}, ValueError, "Invalid epsilon value: -1e-08"),
            (name, {"eps": NAN}, ValueError, "Invalid epsilon value: nan"),
            (name, {"betas": (1.0, 0.5)}, ValueError, "Invalid beta parameter at index 0: 1.0"),
            (name, {"betas": (-0.5, 0.5)}, ValueError, "Invalid beta parameter at index 0: -0.5"),
            (name, {"betas": (NAN, 0.5)}, ValueError, "Invalid beta parameter at index 0: nan"),
            (name, {"betas": (0.5, 1)}, ValueError, "Invalid beta parameter at index 1: 1"),
            (name, {"betas": (0.5,)}, IndexError, "tuple index out of range"),
            (name, {"betas": 0.5}, TypeError, "'float' object is not subscriptable"),
        ]
    ),
    ("NAdam", {"momentum_decay": -0.5}, ValueError, "Invalid momentum_decay value: -0.5"),
    ("NAdam", {"momentum_decay": NAN}, ValueError, "Invalid momentum_decay value: nan"),
]
# The first of two invalid ones is named.
ORDER = [
    ("NAdam", {"lr": -1, "eps": -2}, ValueError, "Invalid learning rate: -1"),
    ("NAdam", {"eps": -2, "betas": (3, 4)}, ValueError, "Invalid epsilon value: -2"),
    ("NAdam", {"betas": (3, 4), "weight_decay": -1}, ValueError, "Invalid beta parameter at index 0: 3"),
    ("NAdam", {"weight_decay": -1, "momentum_decay": -1}, ValueError, "Invalid weight_decay value: -1"),
    ("RAdam", {"lr": -1, "eps": -2}, ValueError, "Invalid learning rate: -1"),
    ("RAdam", {"eps": -2, "betas": (3, 4)}, ValueError, "Invalid epsilon value: -2"),
    ("RAdam", {"betas": (3, 4), "weight_decay": -1}, ValueError, "Invalid beta parameter at index 0: 3"),
    ("ASGD", {"lr": -1, "weight_decay": -1}, ValueError, "Invalid learning rate: -1"),
]
CALLS = [
    ("NAdam", (2e-3, (0.9, 0.999), 1e-8, 0, 4e-3, False, None), {}, "positional argument"),
    ("RAdam", (1e-3, (0.9, 0.999), 1e-8, 0, False, None), {}, "positional argument"),
    ("ASGD", (1e-2, 1e-4, 0.75, 1e6, 0, None, False, False, False, None), {}, "positional argument"),
]
VALID = [
    ("NAdam", {"lr": 0, "eps": 0, "betas": (0, 0), "weight_decay": 0, "momentum_decay": 0}),
    ("NAdam", {"lr": INF, "betas": [0.5, 0.25], "momentum_decay": INF}),
    ("RAdam", {"lr": 0, "eps": 0, "betas": (0, 0), "weight_decay": 0}),
    ("RAdam", {"lr": INF, "betas": [np.float32(0.5), 0.25], "capturable": True}),
    ("ASGD", {"lr": 0, "lambd": -1, "alpha": -2.0, "t0": -5, "weight_decay": 0}),
    ("ASGD", {"lr": INF, "lambd": NAN, "alpha": NAN, "t0": NAN, "weight_decay": INF, "capturable": True}),
]


def message_of(library, tensor, name, args, options):
    with pytest.raises(Exception) as caught:  # noqa: PT011
        getattr(library, name)([tensor], *args, **options)
    return type(caught.value), str(caught.value)


@pytest.mark.parametrize(("name", "options", "kind", "message"), [*INVALID, *ORDER])
def test_invalid_options_raise_the_documented_error(name, options, kind, message):
    assert message_of(optim, Parameter([1.0]), name, (), options) == (kind, message)


@pytest.mark.parametrize(("name", "options", "kind", "message"), [*INVALID, *ORDER])
def test_invalid_options_raise_what_torch_raises(name, options, kind, message):
    torch = pytest.importorskip("torch")
    assert message_of(torch.optim, torch.zeros(1), name, (), options) == (kind, message)


def libraries():
    """Yield this library with a parameter and, if it is installed, torch with a tensor."""
    yield optim, Parameter([1.0])
    try:
        import torch
    except ImportError:
        return
    yield torch.optim, torch.zeros(1)


@pytest.mark.parametrize(("name", "args", "options", "message"), CALLS)
def test_arguments_are_named_and_placed_as_in_torch(name, args, options, message):
    for library, tensor in libraries():
        with pytest.raises(TypeError, match=message):
            getattr(library, name)([tensor], *args, **options)


@pytest.mark.parametrize("name", NAMES)
def test_signature_and_defaults_are_torchs_in_torchs_order(name):
    torch = pytest.importorskip("torch")
    ours, theirs = getattr(optim, name), getattr(torch.optim, name)
    signatures = [
        [(p.name, p.default, p.kind) for p in inspect.signature(kind.__init__).parameters.values()]
        for kind in (ours, theirs)
    ]
    beyond = [(name, None, inspect.Parameter.KEYWORD_ONLY) for name in ("fused", "arithmetic")]
    assert signatures[0] == [*signatures[1], *beyond]
    a, b = ours([Parameter([1.0])]), theirs([torch.zeros(1)])
    assert list(a.defaults.items()) == list(b.defaults.items())
    assert list(a.param_groups[0]) == list(b.param_groups[0])


@pytest.mark.parametrize(("name", "options", "kind", "message"), INVALID)
@pytest.mark.parametrize("how", ["group", "added", "loaded"])
def test_options_of_a_single_group_are_checked_too(name, options, kind, message, how):
    a, b = Parameter([1.0]), Parameter([2.0])
    build = getattr(optim, name)
    opt = build([a])
    before, saved = opt.state_dict(), opt.state_dict()
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


@pytest.mark.parametrize(("name", "options"), VALID)
def test_what_torch_accepts_is_accepted(name, options):
    for library, p in libraries():
        group = getattr(library, name)([p], **options).param_groups[0]
        for option, value in options.items():
            assert group[option] == value or value != value


@pytest.mark.parametrize("name", NAMES)
def test_learning_rates_of_several_elements_are_refused(name):
    for lr in (np.array([0.1, 0.2]), np.array([])):
        with pytest.raises(ValueError, match=r"^Tensor lr must be 1-element$"):
            getattr(optim, name)([Parameter([1.0])], lr=lr)
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match=r"^Tensor lr must be 1-element$"):
        getattr(torch.optim, name)([torch.zeros(1)], lr=torch.tensor([0.1, 0.2]))


@pytest.mark.parametrize("lambd", [-1.0, -2.0])
def test_a_schedule_that_leaves_the_reals_is_an_error_that_changes_nothing(lambd):
    p = Parameter([1.0])
    opt = optim.ASGD([p], lr=1.0, lambd=lambd)
    with pytest.raises(ValueError, match=r"1 \+ lambd \* lr \* step must be above 0, but is"):
        opt.step(grads=[np.array([1.0])])
    assert p.data == 1.0
    assert not opt.state[p]


@pytest.mark.parametrize("name", ["NAdam", "ASGD"])
@pytest.mark.parametrize(("value", "kind"), [("a", TypeError), ([0.5, 0.5], ValueError)])
def test_host_numbers_of_a_loaded_state_are_checked(name, value, kind):
    p = Parameter([1.0])
    opt = getattr(optim, name)([p])
    opt.step(grads=[np.array([1.0])])
    saved, before = opt.state_dict(), repr(opt.state_dict())
    saved["state"][0]["mu_product" if name == "NAdam" else "eta"] = value
    with pytest.raises(kind):
        opt.load_state_dict(saved)
    assert repr(opt.state_dict()) == before


@pytest.mark.parametrize(("beta2", "decided"), [("0.999", True), ("0.999 +/- 1e-9", True), ("0.999 +/- 1e-3", False)])
def test_a_length_that_is_not_known_to_be_above_5_is_no_verdict(beta2, decided):
    flint = pytest.importorskip("flint", reason="python-flint, extra conformance, is not installed")
    from refoptim.conformance import truth
    from refoptim.conformance.cases import radam

    meaning = radam.meaning(radam.CASES[0])
    with truth.precision():
        zeros = [truth.balls(np.ones(2)) for _ in range(4)]
        symbols = truth.exact_symbols(meaning.symbols(6)) | {"beta2": flint.arb(beta2)}
        if decided:
            assert len(meaning.formula(*zeros, **symbols)) == 3
        else:
            with pytest.raises(truth.WideBallError, match="above 5"):
                meaning.formula(*zeros, **symbols)
