"""Arguments: what torch's constructors take is taken, by the same names and defaults; the base class's own errors."""

import inspect
import re

import numpy as np
import pytest

import refoptim as optim
from refoptim import Parameter
from refoptim.optimizer import Optimizer

NAN, INF = float("nan"), float("inf")
ONE_GROUP = ("LBFGS", "CG")
FUSED_IN_TORCH = ("SGD", "Adam", "AdamW", "Adagrad")
FUSED_HERE = ("Adamax", "NAdam", "RAdam", "Adadelta", "RMSprop", "Rprop", "ASGD", "SparseAdam")
OF_TORCH = (*FUSED_IN_TORCH, *FUSED_HERE, "Adafactor", "Muon", "LBFGS")
NAMES = (*OF_TORCH, "CG")
# Arguments that torch lacks; the others have "fused arithmetic".
BEYOND = dict.fromkeys(FUSED_IN_TORCH, "arithmetic dialect") | {"LBFGS": "arithmetic"}
BEYOND |= dict.fromkeys(("Adamax", "NAdam", "RMSprop"), "fused arithmetic dialect")
BEYOND |= {"SparseAdam": "foreach fused arithmetic", "Muon": "foreach fused arithmetic dialect"}

# What all but the minimizers have for parameters of 16 bits.
HALF = ["master_weights", "rounding", "seed"]

# Positions that are names, and unknown options.
TOO_MANY = {
    "SGD": (0.1, 0.9, 0.0, 0.0, True, False),
    "Adam": (0.1, (0.9, 0.99), 1e-8, 0.0, False, None),
    "AdamW": (0.1, (0.9, 0.99), 1e-8, 0.0, False, None),
    "Adamax": (0.1, (0.9, 0.99), 1e-8, 0.0, None, False),
    "NAdam": (2e-3, (0.9, 0.999), 1e-8, 0, 4e-3, False, None),
    "RAdam": (1e-3, (0.9, 0.999), 1e-8, 0, False, None),
    "Adagrad": (0.1, 0, 0, 0, 1e-10, None, False),
    "Adadelta": (1.0, 0.9, 1e-6, 0, None, False),
    "RMSprop": (0.1, 0.9, 1e-8, 0, 0, False, False, None, False, False, None),
    "Rprop": (0.1, (0.5, 1.2), (1e-6, 50), False),
    "ASGD": (1e-2, 1e-4, 0.75, 1e6, 0, None, False, False, False, None),
    "SparseAdam": (1e-3, (0.9, 0.999), 1e-8, False, None),
    "Adafactor": (1e-2, -0.8, (None, 1e-3), 1.0, 0.0, None),
    "Muon": (1e-3, 0.1, 0.95, True, (3.4445, -4.775, 2.0315), 1e-7, 5, None, None),
    "LBFGS": (1, 20, None, 1e-7, 1e-9, 100, None, None),
    "CG": (1, 20, None, 1e-7, 1e-9, "polak_ribiere", "strong_wolfe", None),
}
UNKNOWN = {
    "AdamW": "decoupled_weight_decay",
    "Adamax": "amsgrad",
    "SGD": "capturable",
    "Adagrad": "capturable",
    "Adadelta": "alpha",
    "RMSprop": "rho",
    "Rprop": "weight_decay",
    "SparseAdam": "weight_decay",
    "Adafactor": "betas",
    "Muon": "maximize",
    "LBFGS": "maximize",
}
VALID = [
    ("SGD", {"lr": NAN}),
    ("SGD", {"lr": 0, "momentum": NAN, "weight_decay": INF, "dampening": -3}),
    ("SGD", {"lr": INF, "momentum": 2.0}),
    ("Adam", {"lr": 0, "eps": 0, "betas": (0.0, 0.0), "weight_decay": 0}),
    ("Adam", {"lr": INF, "betas": [0.5, np.float64(0.5)]}),
    ("AdamW", {"lr": 1, "capturable": True, "fused": True}),
    ("Adamax", {"lr": 0, "eps": 0, "betas": (0, 0), "weight_decay": 0}),
    ("Adamax", {"lr": INF, "betas": [0.5, np.float64(0.5)], "foreach": True, "capturable": True}),
    ("NAdam", {"lr": 0, "eps": 0, "betas": (0, 0), "weight_decay": 0, "momentum_decay": 0}),
    ("NAdam", {"lr": INF, "betas": [0.5, 0.25], "momentum_decay": INF}),
    ("RAdam", {"lr": 0, "eps": 0, "betas": (0, 0), "weight_decay": 0}),
    ("RAdam", {"lr": INF, "betas": [np.float32(0.5), 0.25], "capturable": True}),
    ("Adagrad", {"lr": INF, "lr_decay": INF, "eps": 0, "initial_accumulator_value": INF, "weight_decay": INF}),
    ("Adagrad", {"lr": 0, "maximize": True, "foreach": False, "fused": False}),
    ("Adadelta", {"lr": 0, "rho": 1.0, "eps": 0, "capturable": True}),
    ("Adadelta", {"lr": INF, "rho": 0, "foreach": True, "differentiable": False}),
    ("RMSprop", {"lr": INF, "alpha": 1.5, "eps": INF, "momentum": 2, "centered": True, "capturable": True}),
    ("RMSprop", {"lr": 0, "alpha": 0, "eps": 0, "foreach": False}),
    ("Rprop", {"lr": 0, "etas": (1e-300, INF), "step_sizes": (0, INF)}),
    ("Rprop", {"lr": INF, "etas": [0.5, np.float64(1.5)], "step_sizes": (50, -1), "foreach": False}),
    ("ASGD", {"lr": 0, "lambd": -1, "alpha": -2.0, "t0": -5, "weight_decay": 0}),
    ("ASGD", {"lr": INF, "lambd": NAN, "alpha": NAN, "t0": NAN, "weight_decay": INF, "capturable": True}),
    ("SparseAdam", {"lr": 1e-300, "eps": INF, "betas": (0, 0.0), "maximize": True}),
    ("Adafactor", {"lr": 0, "beta2_decay": 0, "eps": (0, 0), "d": 1, "weight_decay": INF}),
    ("Adafactor", {"lr": INF, "beta2_decay": -INF, "eps": [None, INF], "d": INF, "foreach": False}),
    ("Muon", {"lr": 0, "momentum": 2.0, "weight_decay": 0, "nesterov": False, "ns_steps": 99}),
    ("Muon", {"lr": INF, "ns_coefficients": [1, 2, 3], "adjust_lr_fn": "match_rms_adamw", "eps": 0}),
    ("LBFGS", {"lr": 0, "max_iter": 0, "max_eval": 0, "tolerance_grad": 0, "history_size": 1}),
    ("LBFGS", {"lr": INF, "tolerance_change": INF, "line_search_fn": "strong_wolfe"}),
]


def libraries(count=1):
    """Yield this library with parameters and, if it is installed, torch with tensors."""
    yield optim, [Parameter([[1.0]]) for _ in range(count)]
    try:
        import torch
    except ImportError:
        return
    yield torch.optim, [torch.zeros(1, 1) for _ in range(count)]


@pytest.mark.parametrize("name", NAMES)
def test_arguments_are_placed_as_in_torch(name):
    for library, params in libraries():
        if hasattr(library, name):
            getattr(library, name)(params, *TOO_MANY[name][:-1])
            with pytest.raises(TypeError, match="positional argument"):
                getattr(library, name)(params, *TOO_MANY[name])


@pytest.mark.parametrize(("name", "option"), UNKNOWN.items())
def test_arguments_of_other_classes_are_unknown_as_in_torch(name, option):
    for library, params in libraries():
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{option}'"):
            getattr(library, name)(params, **{option: True})


@pytest.mark.parametrize("name", OF_TORCH)
def test_signatures_are_torchs_and_what_is_beyond_them_is_by_name_and_none(name):
    torch = pytest.importorskip("torch")
    ours, torchs = (
        [(p.name, p.default, p.kind) for p in inspect.signature(getattr(library, name).__init__).parameters.values()]
        for library in (optim, torch.optim)
    )
    beyond = BEYOND.get(name, "fused arithmetic").split() + (HALF if name != "LBFGS" else [])
    assert ours == [*torchs, *((option, None, inspect.Parameter.KEYWORD_ONLY) for option in beyond)]


@pytest.mark.parametrize("name", OF_TORCH)
def test_defaults_are_torchs_in_torchs_order(name):
    torch = pytest.importorskip("torch")
    ours, theirs = getattr(optim, name)([Parameter([[1.0]])]), getattr(torch.optim, name)([torch.zeros(1, 1)])
    assert list(ours.defaults.items()) == list(theirs.defaults.items())
    assert list(ours.param_groups[0]) == list(theirs.param_groups[0])


@pytest.mark.parametrize("name", FUSED_HERE)
@pytest.mark.parametrize("fused", [True, False])
def test_what_torch_does_not_have_is_an_option_only_if_it_is_given(name, fused):
    group = getattr(optim, name)([Parameter([1.0])], fused=fused).param_groups[0]
    assert list(group.items())[-1] == ("fused", fused)


@pytest.mark.parametrize(("name", "options"), VALID)
def test_what_torch_accepts_is_accepted(name, options):
    for library, params in libraries():
        group = getattr(library, name)(params, **options).param_groups[0]
        for option, value in options.items():
            same = group[option] == (tuple(value) if name == "Adam" and option == "betas" else value)
            assert same or value != value, option


@pytest.mark.parametrize("name", NAMES)
def test_learning_rates_of_several_elements_are_refused(name):
    message = r"^Tensor lr must be 1-element$"
    for lr in (np.array([0.1, 0.2]), np.array([]), np.array([[0.1], [0.2]])):
        with pytest.raises(ValueError, match=message):
            getattr(optim, name)([Parameter([[1.0]])], lr=lr)
    if name in OF_TORCH:
        torch = pytest.importorskip("torch")
        with pytest.raises(ValueError, match=message):
            getattr(torch.optim, name)([torch.zeros(1, 1)], lr=torch.tensor([0.1, 0.2]))


def test_betas_may_be_two_arrays():
    a, b = Parameter([1.0]), Parameter([1.0])
    for p, betas in [(a, (np.array(0.5), np.array([0.25]))), (b, (0.5, 0.25))]:
        opt = optim.Adam([p], betas=betas)
        for value in (1.0, 3.0):
            opt.step(grads=[np.array([value])])
    assert a.data == b.data


@pytest.mark.parametrize("name", [*NAMES, "Optimizer"])
@pytest.mark.parametrize("arithmetic", ["float32", "double", np.float64, 64, True])
def test_arithmetic_is_none_or_float64(name, arithmetic):
    build = getattr(optim, name) if name != "Optimizer" else lambda params, **more: Optimizer(params, {}, **more)
    with pytest.raises(ValueError, match=r"Invalid arithmetic: .*; use None \(the parameters' own\) or 'float64'"):
        build([Parameter([[1.0]])], arithmetic=arithmetic)


def test_dialects_of_muon():
    with pytest.raises(ValueError, match="Invalid dialect: 'jax'"):
        optim.Muon([Parameter([[1.0]])], dialect="jax")


def test_torchs_own_messages_of_the_base_class():
    for library, [p] in libraries():
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


@pytest.mark.parametrize("name", ONE_GROUP)
def test_minimizers_have_one_group(name):
    message = f"{name} doesn't support per-parameter options (parameter groups)"
    for library, params in libraries(2):
        if hasattr(library, name):
            groups = [{"params": [p]} for p in params]
            with pytest.raises(ValueError, match=re.escape(message)):
                getattr(library, name)(groups)
    opt = getattr(optim, name)([Parameter([1.0])])
    with pytest.raises(ValueError, match=re.escape(message)):
        opt.add_param_group({"params": [Parameter([1.0])]})
    assert len(opt.param_groups) == 1
