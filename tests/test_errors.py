"""Invalid options: every class refuses them with torch's error, in each of its groups, before anything has changed."""

import inspect
import re
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pytest

import refoptim as optim
from refoptim import Parameter

NAN = float("nan")
NOT_LEAST = "'<=' not supported between instances of 'float' and"
NESTEROV = "Nesterov momentum requires a momentum and zero dampening"
BETAS = "betas must be either both floats or both Tensors"
BETA = "Invalid beta parameter at index"
HALF, HALVES = np.array(0.5), (np.float32(0.5), np.float32(0.5))
UNEQUAL_BETAS = [(0, 0.5), (0.5, 0), (0, 0), HALVES, (HALF, 0.5), (0.5, HALF)]
ADJUSTMENT = "Adjust learning rate function adam is not supported"
ADJUSTMENTS = "(None, 'original', 'match_rms_adamw')"
THREE, STEPS = "Coefficients must be a tuple of exactly 3 values", "Number of steps must be less than 100"
MATRICES = "Muon only supports 2D parameters whereas we found a parameter with size:"
REAL = "SparseAdam does not support complex parameters"
WOLFE, INTEGER = "only 'strong_wolfe' is supported", "must be an integer, but is 2.5"
CONJUGATE = "CG needs line_search_fn='strong_wolfe': without it directions are not conjugate"
METHODS = "Invalid method: 'newton'; use one of polak_ribiere, hager_zhang"
TWICE = ({"fused": True, "foreach": True}, RuntimeError, "`fused` and `foreach` cannot be `True` together.")
TRACED = ({"fused": True, "differentiable": True}, RuntimeError, "`fused` does not support `differentiable`")


class Row(NamedTuple):
    """What a class is given, and what it says."""

    name: str
    options: dict[str, Any]
    kind: type[Exception]
    torchs: str
    ours: str | None = None  # where it says more than torch, or says it in other words

    def __str__(self):
        return f"{self.name} {self.options}"

    @property
    def message(self):
        return self.ours or self.torchs


def rows(names, *cases):
    return [Row(name, *case) for name in names.split() for case in cases]


def invalid(option, what, *values):
    """Return cases of numbers that are out of range."""
    return [({option: value}, ValueError, f"Invalid {what}: {value}") for value in values]


def should(option, what, limit, *values):
    """Return the same in the words of torch's newer classes."""
    return [({option: value}, ValueError, f"{what} should be {limit} but is: {value}") for value in values]


def not_ordered(option, *values):
    """Return cases of what cannot be compared with a number."""
    return [({option: value}, TypeError, f"{NOT_LEAST} '{type(value).__name__}'") for value in values]


def not_a_pair(option):
    short, single = ({option: (0.5,)}, IndexError, "tuple index out of range"), "'float' object is not subscriptable"
    return [short, ({option: 0.5}, TypeError, single)]


def three(option, *values):
    return [({option: values}, ValueError, f"{option} must be two values, but are {values}")]


RATE = [*invalid("lr", "learning rate", -0.5, NAN), *not_ordered("lr", "a", None, [0.5])]
NEWER_RATE = should("lr", "Learning rate", ">= 0", -0.5, NAN)
EPS = [*invalid("eps", "epsilon value", -1e-8, NAN), *not_ordered("eps", "a")]
DECAY = invalid("weight_decay", "weight_decay value", -1, NAN)
FIRST = [({"betas": (value, 0.5)}, ValueError, f"{BETA} 0: {value}") for value in (1.0, -0.5, True, NAN)]
SECOND = [({"betas": (0.5, value)}, ValueError, f"{BETA} 1: {value}") for value in (1.5, 1, -0.5, NAN)]
ETAS = [(0.0, 1.2), (-0.5, 1.2), (1.0, 1.2), (0.5, 1.0), (1.2, 0.5), (NAN, 1.2), (0.5, NAN)]
NESTEROVS = [{}, {"momentum": 0.9, "dampening": 0.5}, {"momentum": 0.0}]

INVALID = [
    *rows("SGD", *invalid("lr", "learning rate", -0.5, -float("inf"))),
    *rows("SGD", ({"lr": "a"}, TypeError, "'<' not supported between instances of 'str' and 'float'")),
    *rows("SGD", ({"lr": None}, TypeError, "'<' not supported between instances of 'NoneType' and 'float'")),
    *rows("SGD", *invalid("momentum", "momentum value", -0.5), *invalid("weight_decay", "weight_decay value", -1)),
    *rows("SGD", *(({"nesterov": True, **others}, ValueError, NESTEROV) for others in NESTEROVS)),
    *rows("Adam AdamW Adamax NAdam RAdam Adagrad Adadelta RMSprop", *RATE, *EPS, *DECAY),
    *rows("Adam AdamW Adamax NAdam RAdam SparseAdam", *FIRST, *SECOND, *not_a_pair("betas")),
    *rows("Adam AdamW", *(({"betas": b}, ValueError, BETAS, f"{BETAS}, but got {b}") for b in UNEQUAL_BETAS)),
    *rows("NAdam", *invalid("momentum_decay", "momentum_decay value", -0.5, NAN)),
    *rows("Adagrad", *invalid("lr_decay", "lr_decay value", -0.5, NAN)),
    *rows("Adagrad", *invalid("initial_accumulator_value", "initial_accumulator_value value", -1, NAN)),
    *rows("Adadelta", *invalid("rho", "rho value", -0.5, 1.5, NAN), *not_ordered("rho", "a")),
    *rows("RMSprop", *invalid("momentum", "momentum value", -0.5, NAN), *invalid("alpha", "alpha value", -0.5, NAN)),
    *rows("Rprop", *RATE, *not_a_pair("etas")),
    *rows("Rprop", *(({"etas": etas}, ValueError, f"Invalid eta values: {etas[0]}, {etas[1]}") for etas in ETAS)),
    *rows("ASGD", *RATE, *DECAY),
    *rows("SparseAdam", *invalid("lr", "learning rate", 0.0, -1, NAN), *invalid("eps", "epsilon value", 0.0, -1, NAN)),
    *rows("Adafactor Muon", *NEWER_RATE, *not_ordered("lr", "a", None, [0.5])),
    *rows("Adafactor", *should("beta2_decay", "beta2_decay", "<= 0", 0.1, NAN)),
    *rows("Adafactor", ({"eps": (-1e-8, 1e-3)}, ValueError, "epsilon1 should be >= 0 but is: -1e-08")),
    *rows("Adafactor", ({"eps": (None, -1.0)}, ValueError, "epsilon2 should be >= 0 but is: -1.0")),
    *rows("Adafactor", ({"eps": (None, None)}, TypeError, f"{NOT_LEAST} 'NoneType'")),
    *rows("Adafactor", *should("d", "Clipping threshold d", ">= 1", 0.5, NAN)),
    *rows("Adafactor", *should("weight_decay", "weight_decay", ">= 0", -1.0, NAN)),
    *rows("Muon", *should("momentum", "momentum", ">= 0", -0.1, NAN)),
    *rows("Muon", *should("weight_decay", "weight decay", ">= 0", -0.1, NAN)),
    *rows("Muon", ({"adjust_lr_fn": "adam"}, ValueError, ADJUSTMENT, f"{ADJUSTMENT}: use one of {ADJUSTMENTS}")),
    *rows("LBFGS", *RATE),
    *rows("SGD Adam AdamW Adagrad", TWICE, TRACED),
]
# torch notices in a step.
LATE_IN_TORCH = [
    *rows("Muon", ({"ns_coefficients": (1.0, 2.0)}, ValueError, THREE, f"{THREE}, but are (1.0, 2.0)")),
    *rows("Muon", ({"ns_steps": 100}, ValueError, f"{STEPS} for computational efficiency", f"{STEPS}, but is 100")),
    *rows("LBFGS", ({"line_search_fn": "armijo"}, RuntimeError, WOLFE, f"{WOLFE}, but line_search_fn is 'armijo'")),
]
# torch has no such option or no such class, or computes on.
OURS = [
    *rows("Adamax NAdam RAdam Adadelta RMSprop Rprop ASGD", TWICE, TRACED),
    *rows("SparseAdam Adafactor Muon", TWICE),
    *rows("Adam AdamW Adamax NAdam RAdam SparseAdam", *three("betas", 0.5, 0.5, 0.5)),
    *rows("Rprop", *three("etas", 0.5, 1.5, 2.0), *three("step_sizes", 0.1, 1.0, 2.0)),
    *rows("Adafactor", *three("eps", None, 0.1, 0.1)),
    *rows("Muon", ({"ns_steps": 2.5}, TypeError, f"ns_steps {INTEGER}")),
    *rows("Muon", ({"ns_steps": -1}, ValueError, "Number of steps should be >= 0 but is: -1")),
    *rows("LBFGS", ({"history_size": 0}, ValueError, "Invalid history_size: 0; it must be at least 1")),
    *rows("LBFGS", ({"history_size": 2.5}, TypeError, f"history_size {INTEGER}")),
    *rows("LBFGS CG", ({"max_iter": 2.5}, TypeError, f"max_iter {INTEGER}")),
    *rows("LBFGS CG", ({"max_eval": "3"}, TypeError, "max_eval must be an integer, but is '3'")),
    *rows("CG", *RATE, ({"line_search_fn": "armijo"}, RuntimeError, f"{WOLFE}, but line_search_fn is 'armijo'")),
    *rows("CG", ({"line_search_fn": None}, RuntimeError, CONJUGATE)),
    *rows("CG", ({"method": "newton"}, ValueError, METHODS)),
]
# The first of several invalid options is named: all of these from one on.
ORDERS = {
    "SGD": "lr momentum weight_decay nesterov",
    **dict.fromkeys(("Adam", "AdamW", "Adamax", "RAdam"), "lr eps betas weight_decay"),
    "NAdam": "lr eps betas weight_decay momentum_decay",
    "Adagrad": "lr lr_decay weight_decay initial_accumulator_value eps",
    "Adadelta": "lr rho eps weight_decay",
    "RMSprop": "lr eps momentum weight_decay alpha",
    "Rprop": "lr etas",
    "ASGD": "lr weight_decay",
    "SparseAdam": "lr eps betas",
    "Adafactor": "lr beta2_decay eps d weight_decay",
    "Muon": "lr momentum weight_decay adjust_lr_fn",
}


def orders():
    for name, order in ORDERS.items():
        first = [next(row for row in INVALID if row.name == name and option in row.options) for option in order.split()]
        for start, row in enumerate(first[:-1]):
            yield row._replace(options={k: v for later in first[start:] for k, v in later.options.items()})
    yield from rows("Adam AdamW", ({"betas": (0, 0), "weight_decay": -1}, *DECAY[0][1:]))
    yield from rows("Adamax", ({"betas": (0, 4), "weight_decay": -1}, ValueError, f"{BETA} 1: 4"))


ORDER = list(orders())
ONE_GROUP = ("LBFGS", "CG")
SINGLE = [*product([*INVALID, *LATE_IN_TORCH, *OURS], ("group", "added", "loaded"))]
SINGLE = [(row, how) for row, how in SINGLE if not (row.name in ONE_GROUP and how == "added")]


def build(library, name, params, **options):
    return getattr(library, name)(params, **options)


def torch_step(library, name, params, **options):
    """Build an optimizer of torch's and take a step."""
    optimizer = build(library, name, params, **options)
    for param in params:
        param.grad = param.new_ones(param.shape)
    optimizer.step(lambda: 1.0)


def complaint(attempt, *args, **options):
    with pytest.raises(Exception) as caught:  # noqa: PT011
        attempt(*args, **options)
    return type(caught.value), str(caught.value)


@pytest.mark.parametrize("row", [*INVALID, *ORDER, *LATE_IN_TORCH, *OURS], ids=str)
def test_invalid_options_raise_the_documented_error(row):
    p = Parameter([[1.0]])
    data = p.data
    assert complaint(build, optim, row.name, [p], **row.options) == (row.kind, row.message)
    assert p.data is data


@pytest.mark.parametrize("row", [*INVALID, *ORDER, *LATE_IN_TORCH], ids=str)
def test_invalid_options_raise_what_torch_raises(row):
    torch = pytest.importorskip("torch")
    attempt = torch_step if row in LATE_IN_TORCH else build
    assert complaint(attempt, torch.optim, row.name, [torch.zeros(1, 1)], **row.options) == (row.kind, row.torchs)


@pytest.mark.parametrize("row", [*LATE_IN_TORCH, *OURS], ids=str)
def test_what_only_our_constructor_refuses_torchs_takes_or_lacks(row):
    torch = pytest.importorskip("torch")
    if hasattr(torch.optim, row.name):
        known = inspect.signature(getattr(torch.optim, row.name)).parameters
        build(torch.optim, row.name, [torch.zeros(1, 1)], **{k: v for k, v in row.options.items() if k in known})


@pytest.mark.parametrize(("row", "how"), SINGLE, ids=str)
def test_options_of_a_single_group_are_checked_too(row, how):
    a, b = Parameter([[1.0]]), Parameter([[2.0]])
    opt = build(optim, row.name, [a])
    before, saved = opt.state_dict(), opt.state_dict()
    saved["param_groups"][0].update(row.options)
    groups = [{"params": [a]}, {"params": [b], **row.options}]
    attempts = {
        "group": lambda: build(optim, row.name, groups[1:] if row.name in ONE_GROUP else groups),
        "added": lambda: opt.add_param_group(groups[1]),
        "loaded": lambda: opt.load_state_dict(saved),
    }
    with pytest.raises(row.kind) as caught:
        attempts[how]()
    assert str(caught.value) == row.message
    assert opt.state_dict() == before
    assert len(opt.param_groups) == 1
    assert (repr(a), repr(b)) == ("Parameter([[1.]])", "Parameter([[2.]])")


# What the parameters themselves must not be: class, arrays, error, torch's message and the end of ours if it differs.
COMPLEX = np.ones((2, 2), np.complex64)
PARAMETERS = [
    ("Muon", [np.ones(3)], ValueError, f"{MATRICES} torch.Size([3])", "(3,)"),
    ("Muon", [np.ones(())], ValueError, f"{MATRICES} torch.Size([])", "()"),
    ("Muon", [np.ones((2, 2, 2))], ValueError, f"{MATRICES} torch.Size([2, 2, 2])", "(2, 2, 2)"),
    ("Muon", [COMPLEX], RuntimeError, "Muon does not support complex parameters", ""),
    ("Adafactor", [COMPLEX], RuntimeError, "Adafactor does not support complex parameters", ""),
    ("SparseAdam", [np.ones(2), COMPLEX], ValueError, f"Complex params at indices [[0, 1]]: {REAL}", ""),
]


@pytest.mark.parametrize(("name", "arrays", "kind", "torchs", "end"), PARAMETERS, ids=str)
def test_parameters_that_a_class_cannot_take(name, arrays, kind, torchs, end):
    message = torchs[: torchs.index("torch.Size")] + end if end else torchs
    params = [Parameter(array) for array in arrays]
    assert complaint(build, optim, name, params) == (kind, message)
    opt = build(optim, name, [Parameter([[1.0]])])
    with pytest.raises(kind, match=re.escape(message.replace("[[0, 1]]", "[[1, 1]]"))):
        opt.add_param_group({"params": params})
    assert len(opt.param_groups) == 1
    torch = pytest.importorskip("torch")
    assert complaint(torch_step, torch.optim, name, [torch.tensor(array) for array in arrays]) == (kind, torchs)
