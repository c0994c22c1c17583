"""Beside torch in float64 on more than a thousand random configurations: options, groups, shapes, implementations.

Numbers are the same if they differ by the tolerance times the largest that the element has been: what torch rounds
while a parameter is large stays when it is small again. Left out is only where torch's own error grows beyond that:
centered RMSprop with a small eps, NAdam that divides by the last gradient alone, and all without any eps.
``docs/deviations.md`` has what lies behind these.
"""

from typing import Any, NamedTuple

import numpy as np
import pytest

import refoptim as optim
from refoptim import Parameter
from refoptim.conformance.tolerances import CLOSE

torch = pytest.importorskip("torch", reason="torch is not installed: only the frozen vectors witness it then")

PER_CLASS = 100
STEPS = 10
SHAPES = [(), (1,), (0,), (5,), (17,), (2, 3), (2, 0), (3, 1, 2)]
DTYPES = ["float64", "float64", "complex128"]
OURS = {"fused": {}, "foreach": {"foreach": True}, "for-loop": {"foreach": False, "fused": False}}
TORCHS = {"for-loop": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}
FUSED_IN_TORCH = ("SGD", "Adam", "AdamW", "Adagrad")


class Between(NamedTuple):
    """Any number in a range."""

    low: float
    high: float


# A list is a choice, a tuple is drawn item by item.
COMMON = {"lr": Between(0.0, 0.2), "weight_decay": [0, 0.1, Between(0.0, 1.0)], "maximize": [False, True]}
BETAS = ([0.0, 0.9, Between(0.0, 0.9)], [0.0, 0.999, Between(0.0, 0.999)])
EPS = [1e-8, 1e-3, Between(1e-3, 1.0)]
ADAMS = {**COMMON, "betas": BETAS, "eps": EPS}
OPTIONS: dict[str, dict[str, Any]] = {
    "SGD": {
        **COMMON,
        "momentum": [0, 0.9, Between(0.0, 1.5)],
        "dampening": [0, 1, Between(-0.5, 1.0)],
        "nesterov": [False, True],
    },
    "Adam": {**ADAMS, "amsgrad": [False, True], "decoupled_weight_decay": [False, True]},
    "AdamW": {**ADAMS, "amsgrad": [False, True]},
    "Adamax": ADAMS,
    "NAdam": {**ADAMS, "momentum_decay": [4e-3, 0, Between(0.0, 50.0)], "decoupled_weight_decay": [False, True]},
    "RAdam": {**ADAMS, "decoupled_weight_decay": [False, True]},
    "Adagrad": {**COMMON, "lr_decay": [0, Between(0.0, 2.0)], "eps": [1e-10, *EPS]},
    "Adadelta": {**COMMON, "lr": Between(0.0, 2.0), "rho": [0.9, 0.0, 1.0, Between(0.0, 1.0)], "eps": [1e-6, *EPS]},
    "RMSprop": {
        **COMMON,
        "alpha": [0.99, 0.0, 1.0, Between(0.0, 1.0)],
        "momentum": [0, 0.9, Between(0.0, 1.5)],
        "eps": EPS,
        "centered": [False, True],
    },
    "Rprop": {
        "lr": [Between(0.0, 0.2), 1e-9, 100.0],
        "etas": ([0.5, Between(0.01, 0.99)], [1.2, Between(1.01, 3.0)]),
        "step_sizes": [(1e-6, 50.0), (0.01, 0.1), (0.0, float("inf")), (0.1, 0.05)],
        "maximize": [False, True],
    },
    "ASGD": {
        **COMMON,
        "lambd": [1e-4, 0, Between(0.0, 1.0)],
        "alpha": [0.75, 0, Between(0.0, 2.0)],
        "t0": [1e6, 0, 3, Between(0.0, 8.0)],
    },
}
# What torch takes from the constructor, whatever a group says.
OF_ALL_GROUPS = {"Adagrad": {"initial_accumulator_value": [0, Between(0.0, 3.0)]}}
CLOSE_TO = dict.fromkeys(OPTIONS, CLOSE["torch float64"]) | dict.fromkeys(
    ("NAdam", "ASGD"), CLOSE["torch float32 state"]
)


class Configuration(NamedTuple):
    """What both libraries are given."""

    name: str
    seed: int  # of the values
    ours: str
    torchs: str
    dtype: str
    groups: list[tuple[list[tuple[int, ...]], dict[str, Any]]]  # shapes of the parameters, and the group's own options
    options: dict[str, Any]
    missing: float  # the part of the gradients that is None
    lr_factors: dict[int, float]  # by step


def drawn(draw: np.random.Generator, spec: Any) -> Any:
    """Return a random value of a specification."""
    if isinstance(spec, Between):
        return float(draw.uniform(*spec))
    if isinstance(spec, list):
        return drawn(draw, spec[draw.integers(len(spec))])
    return tuple(drawn(draw, item) for item in spec) if isinstance(spec, tuple) else spec


def options_of(name: str, draw: np.random.Generator) -> dict[str, Any]:
    """Return random options that the class accepts."""
    while True:
        options = {option: drawn(draw, spec) for option, spec in OPTIONS[name].items()}
        if options.get("nesterov") and not (options["momentum"] > 0 and options["dampening"] == 0):
            continue
        # What float32 lost in the product of mu comes back larger where the last gradient and the decay nearly cancel.
        if name == "NAdam" and options["betas"][1] < 0.5:
            continue
        # torch's v - a**2 loses its digits where it is small beside v, which a small eps would bring out.
        if options.get("centered") and not (options["alpha"] >= 0.5 and options["eps"] >= 0.1):
            continue
        return options


def configuration(name: str, seed: int) -> Configuration:
    """Return a random configuration, always the same for the same seed."""
    draw = np.random.default_rng([list(OPTIONS).index(name), seed])
    options = options_of(name, draw) | {key: drawn(draw, spec) for key, spec in OF_ALL_GROUPS.get(name, {}).items()}
    groups = []
    for _ in range(draw.integers(1, 4)):
        shapes = [SHAPES[i] for i in draw.integers(len(SHAPES), size=draw.integers(1, 4))]
        groups.append((shapes, options_of(name, draw) if draw.random() < 0.5 else {}))
    dtype, missing = drawn(draw, DTYPES), drawn(draw, [0.0, 0.0, 0.3])
    torchs = ["for-loop", "foreach"]
    # torch's fused kernels take no complex numbers, and its fused momentum no gradients that come late.
    if name in FUSED_IN_TORCH and dtype == "float64" and not (name == "SGD" and missing):
        torchs.append("fused")
    lr_factors = {int(t): drawn(draw, [0.5, 0.0, 3.0]) for t in draw.choice(STEPS, size=draw.integers(3))}
    return Configuration(
        name, seed, drawn(draw, list(OURS)), drawn(draw, torchs), dtype, groups, options, missing, lr_factors
    )


def numbers(draw: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Return numbers of one size, some of them 0."""
    array = draw.standard_normal(shape) * 10.0 ** draw.integers(-3, 3) * (draw.random(shape) < 0.9)
    return np.asarray(array + 1j * draw.standard_normal(shape) if dtype == "complex128" else array, dtype)


def build(library: Any, c: Configuration, starts: list[Any], implementation: dict[str, bool]) -> Any:
    """Return the optimizer of a library, over parameters that start here."""
    rest = iter(starts)
    groups = [{"params": [next(rest) for _ in shapes], **own} for shapes, own in c.groups]
    return getattr(library, c.name)(groups, **c.options, **implementation)


def trajectories(c: Configuration, lr_error: float = 0.0) -> tuple[Any, Any, Any, Any]:
    """Return what all parameters are after each step, ours and torch's, and what state they have in the end."""
    draw = np.random.default_rng(c.seed)
    starts = [numbers(draw, shape, c.dtype) for shapes, _ in c.groups for shape in shapes]
    ours, theirs = [Parameter(start) for start in starts], [torch.tensor(start, requires_grad=True) for start in starts]
    left, right = build(optim, c, ours, OURS[c.ours]), build(torch.optim, c, theirs, TORCHS[c.torchs])
    for group in left.param_groups:
        group["lr"] *= 1 + lr_error
    found: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for t in range(STEPS):
        for group in [*left.param_groups, *right.param_groups]:
            group["lr"] *= c.lr_factors.get(t, 1.0)
        for p, tensor in zip(ours, theirs, strict=True):
            p.grad = None if draw.random() < c.missing else numbers(draw, p.shape, c.dtype)
            tensor.grad = None if p.grad is None else torch.tensor(p.grad)
        left.step()
        right.step()
        found[0].append(np.concatenate([p.data.ravel() for p in ours]))
        found[1].append(np.concatenate([tensor.detach().numpy().ravel() for tensor in theirs]))
    states = [dict(left.state[p]) for p in ours]
    torch_states = [{k: v.numpy() for k, v in right.state[p].items() if v is not None} for p in theirs]
    return *map(np.array, found), states, torch_states


def relative(ours: np.ndarray, theirs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both in units of the largest that each element has been, or of 1."""
    size = np.maximum.accumulate(np.maximum(1.0, np.abs(theirs)))
    return ours / size, theirs / size


CONFIGURATIONS = {name: [configuration(name, seed) for seed in range(PER_CLASS)] for name in OPTIONS}
ALL = [c for configurations in CONFIGURATIONS.values() for c in configurations]


@pytest.mark.parametrize("name", OPTIONS)
def test_trajectories_and_states_agree(name):
    for c in CONFIGURATIONS[name]:
        ours, theirs, states, torch_states = trajectories(c)
        np.testing.assert_allclose(*relative(ours, theirs), **CLOSE_TO[name], err_msg=str(c))
        for state, torch_state in zip(states, torch_states, strict=True):
            # torch's Adagrad has state before a parameter's first gradient.
            assert set(state) == set(torch_state) or (not state and torch_state["step"] == 0), c
            for key, value in state.items():
                np.testing.assert_allclose(value, torch_state[key], **CLOSE_TO[name], err_msg=f"{key} of {c}")


@pytest.mark.parametrize("name", OPTIONS)
def test_a_learning_rate_that_is_a_little_wrong_is_seen(name):
    """By ten tolerances: the values that are compared are large and many enough to tell."""
    seen = 0
    for c in CONFIGURATIONS[name][:20]:
        ours, theirs, *_ = trajectories(c, lr_error=10 * CLOSE_TO[name]["rtol"])
        seen += not np.allclose(*relative(ours, theirs), **CLOSE_TO[name], equal_nan=True)
    # Rprop only starts with it.
    assert seen >= (5 if name == "Rprop" else 10), seen


def test_there_are_a_thousand_configurations():
    assert len({str(c._replace(seed=0)) for c in ALL}) == len(ALL) >= 1000


FEATURES = {
    "0-d": lambda c: any(shape == () for shapes, _ in c.groups for shape in shapes),
    "empty": lambda c: any(0 in shape for shapes, _ in c.groups for shape in shapes),
    "matrix": lambda c: any(len(shape) > 1 for shapes, _ in c.groups for shape in shapes),
    "several groups": lambda c: len(c.groups) > 1,
    "options of a group": lambda c: any(own for _, own in c.groups),
    "missing gradients": lambda c: c.missing > 0,
    "changed lr": lambda c: len(c.lr_factors) > 0,
    "complex": lambda c: c.dtype == "complex128",
    "maximize": lambda c: c.options["maximize"],
    **{f"our {name}": lambda c, name=name: c.ours == name for name in OURS},
    **{f"torch's {name}": lambda c, name=name: c.torchs == name for name in ("for-loop", "foreach")},
}


@pytest.mark.parametrize("feature", FEATURES)
def test_every_class_has_configurations_with(feature):
    counts = {name: sum(map(FEATURES[feature], configurations)) for name, configurations in CONFIGURATIONS.items()}
    assert min(counts.values()) >= 10, counts


def test_torchs_fused_kernels_take_part():
    assert all(sum(c.torchs == "fused" for c in CONFIGURATIONS[name]) >= 10 for name in FUSED_IN_TORCH)
