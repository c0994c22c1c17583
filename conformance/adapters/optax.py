"""optax on JAX, as it comes: transformations are built again for every learning rate, and keep their state."""

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refoptim.conformance.adapters.grouped import Grouped, Part, by_name, renamed
from refoptim.conformance.adapters.optax_schedules import curve
from refoptim.conformance.runner.adapter import Info, Unsupported
from refoptim.conformance.vectors.vector import Group, Schedule, Trajectory, kind_of

jax: Any = import_module("jax")
jnp: Any = import_module("jax.numpy")
optax: Any = import_module("optax")

Array = NDArray[Any]

# Below which Adafactor takes no parameter's size to be, an option in torch.
_SMALLEST_SCALE = 1e-3

_LR = {"lr": "learning_rate"}
_ADAM = {**_LR, "betas": ("b1", "b2"), "eps": "eps"}
_MOMENTS = {"exp_avg": "mu", "exp_avg_sq": "nu"}


def _consistent_rms(adjust_lr_fn: str | None) -> dict[str, Any]:
    return {"consistent_rms": 0.2} if adjust_lr_fn == "match_rms_adamw" else {}


# By torch's name: the function, and its names of options and of state by torch's. RMSprop's momentum has
# the learning rate in it, and NAdam's does not change from step to step.
_OPTIMIZERS: dict[str, tuple[Callable[..., Any], dict[str, Any], dict[str, str]]] = {
    "SGD": (optax.sgd, {**_LR, "momentum": "momentum", "nesterov": "nesterov"}, {"momentum_buffer": "trace"}),
    "Adam": (optax.adam, _ADAM, _MOMENTS),
    "AdamW": (optax.adamw, {**_ADAM, "weight_decay": "weight_decay", "decoupled_weight_decay": ""}, _MOMENTS),
    "Adamax": (optax.adamax, _ADAM, {"exp_avg": "mu", "exp_inf": "nu"}),
    "NAdam": (optax.nadam, {**_ADAM, "momentum_decay": ""}, _MOMENTS),
    "RAdam": (optax.radam, _ADAM, _MOMENTS),
    "RMSprop": (
        optax.rmsprop,
        {**_LR, "alpha": "decay", "eps": "eps", "momentum": "momentum", "centered": "centered"},
        {"square_avg": "nu", "grad_avg": "mu"},
    ),
    "Adagrad": (
        optax.adagrad,
        {**_LR, "eps": "eps", "initial_accumulator_value": "initial_accumulator_value"},
        {"sum": "sum_of_squares"},
    ),
    "Adadelta": (
        optax.adadelta,
        {**_LR, "rho": "rho", "eps": "eps", "weight_decay": "weight_decay"},
        {"square_avg": "e_g", "acc_delta": "e_x"},
    ),
    "Adafactor": (
        optax.adafactor,
        {
            **_LR,
            "beta2_decay": "decay_rate",
            "eps": "eps",
            "d": "clipping_threshold",
            "weight_decay": "weight_decay_rate",
        },
        {},
    ),
    "Rprop": (
        optax.rprop,
        {**_LR, "etas": ("eta_minus", "eta_plus"), "step_sizes": ("min_step_size", "max_step_size")},
        {"step_size": "step_sizes"},
    ),
    "Muon": (
        optax.contrib.muon,
        {**_LR, "momentum": "beta", "nesterov": "nesterov", "weight_decay": "weight_decay", "eps": "eps"}
        | {"ns_coefficients": "ns_coeffs", "ns_steps": "ns_steps", "adjust_lr_fn": _consistent_rms},
        {},
    ),
}
_AMSGRAD = (optax.amsgrad, {**_ADAM, "amsgrad": ""}, {**_MOMENTS, "max_exp_avg_sq": "nu_max"})


class Optax(Grouped):
    """optax."""

    def __init__(self) -> None:
        self.info = Info(
            "optax", f"{version('optax')} (jax {jax.__version__})", homepage="https://optax.readthedocs.io"
        )

    def _part(self, problem: Trajectory, group: Group, params: dict[str, Array]) -> Part:
        if "lr" not in group.options:
            raise Unsupported("feature:torch_defaults")  # it has no default learning rate
        jax.config.update("jax_enable_x64", problem.dtype == "f64")
        return _Part(*_chosen(problem, group), params)

    def schedule(self, problem: Schedule) -> list[list[float]]:
        """Ask the schedule of each group for its learning rates."""
        jax.config.update("jax_enable_x64", True)
        return [curve(problem, group) for group in range(len(problem.lrs))]


def _chosen(problem: Trajectory, group: Group) -> tuple[Callable[..., Any], dict[str, Any], dict[str, str]]:
    """Return the function, its options, and its names of state."""
    algorithm, options = problem.algorithm, dict(group.options)
    if algorithm == "Adam" and options.get("decoupled_weight_decay"):
        algorithm = "AdamW"
    found = _AMSGRAD if algorithm == "Adam" and options.get("amsgrad") else _OPTIMIZERS.get(algorithm)
    if found is None:
        raise Unsupported(f"optimizer:{algorithm}")
    made, names, state = found
    given = renamed(options, names)
    if algorithm == "Adafactor":
        given |= _adafactor(given, problem.dtype)
    return made, given, state


def _adafactor(given: dict[str, Any], dtype: str) -> dict[str, Any]:
    """Return what optax has under another sign, or as one number of two."""
    first, second = given["eps"]
    if second != _SMALLEST_SCALE:
        raise Unsupported("option:eps")
    decay = given["weight_decay_rate"]
    return {
        "decay_rate": -given["decay_rate"],
        "eps": float(np.finfo(kind_of(dtype)).eps) if first is None else first,
        "weight_decay_rate": decay or None,
    }


class _Part:
    def __init__(
        self, made: Callable[..., Any], given: dict[str, Any], names: dict[str, str], params: dict[str, Array]
    ) -> None:
        self.names = names
        self._params = {name: jnp.asarray(array) for name, array in params.items()}
        self._lr = given.pop("learning_rate")
        self._state = made(self._lr, **given).init(self._params)
        self._update = jax.jit(lambda lr, grads, state, params: made(lr, **given).update(grads, state, params))

    def step(self, grads: dict[str, Array | None], lr: float | None) -> None:
        self._lr = self._lr if lr is None else lr
        given = {name: jnp.asarray(grad) for name, grad in grads.items()}
        updates, self._state = self._update(self._lr, given, self._state, self._params)
        self._params = optax.apply_updates(self._params, updates)

    def params(self) -> dict[str, Array]:
        return {name: np.asarray(value) for name, value in self._params.items()}

    def state(self) -> dict[str, dict[str, Array]]:
        held = {quantity: optax.tree.get(self._state, own) for quantity, own in self.names.items()}
        return by_name({quantity: own for quantity, own in held.items() if own is not None})

    def write(self, params: dict[str, Array], state: dict[str, dict[str, Array]]) -> None:
        self._params = {name: jnp.asarray(array) for name, array in params.items()}
        held = {quantity: own for quantity, own in self.names.items() if quantity in next(iter(state.values()), {})}
        given = {own: {name: jnp.asarray(state[name][quantity]) for name in params} for quantity, own in held.items()}
        self._state = optax.tree.set(self._state, **given)
