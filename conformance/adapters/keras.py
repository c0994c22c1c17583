"""Keras, as it comes, on JAX unless KERAS_BACKEND says otherwise."""

from collections.abc import Callable
from importlib import import_module
from typing import Any
from warnings import catch_warnings, simplefilter

import numpy as np
from numpy.typing import NDArray

from refoptim.conformance.adapters.grouped import Grouped, Part, by_name, renamed
from refoptim.conformance.adapters.keras_schedules import curve, keras
from refoptim.conformance.runner.adapter import Info, Unsupported
from refoptim.conformance.vectors.vector import Group, Schedule, Trajectory, kind_of

Array = NDArray[Any]


def _decay(weight_decay: float) -> dict[str, Any]:
    return {"weight_decay": weight_decay or None}  # its word for none


def _coefficients(given: tuple[float, float, float]) -> dict[str, float]:
    return dict(zip(("muon_a", "muon_b", "muon_c"), given, strict=True))


_USUAL = {"lr": "learning_rate", "weight_decay": _decay}
_ADAM = {**_USUAL, "betas": ("beta_1", "beta_2"), "eps": "epsilon"}
_MOMENTS = {"exp_avg": "_momentums", "exp_avg_sq": "_velocities"}
_HATS = {**_MOMENTS, "max_exp_avg_sq": "_velocity_hats"}

# By torch's name: the class, its options by torch's names, and its state. What has the learning rate in it is no
# momentum buffer. Muon's eps is not its users' to choose, and its scale is one of torch's two.
_OPTIMIZERS: dict[str, tuple[Callable[..., Any], dict[str, Any], dict[str, str]]] = {
    "SGD": (keras.optimizers.SGD, {**_USUAL, "momentum": "momentum", "nesterov": "nesterov"}, {}),
    "Adam": (keras.optimizers.Adam, {**_ADAM, "amsgrad": "amsgrad"}, _HATS),
    "AdamW": (
        keras.optimizers.AdamW,
        {**_ADAM, "amsgrad": "amsgrad", "weight_decay": "weight_decay", "decoupled_weight_decay": ""},
        _HATS,
    ),
    "Adamax": (keras.optimizers.Adamax, _ADAM, {"exp_avg": "_m", "exp_inf": "_u"}),
    "NAdam": (
        keras.optimizers.Nadam,
        {**_ADAM, "momentum_decay": "", "decoupled_weight_decay": ""},
        _MOMENTS,
    ),
    "RMSprop": (
        keras.optimizers.RMSprop,
        {**_USUAL, "alpha": "rho", "eps": "epsilon", "momentum": "momentum", "centered": "centered"},
        {"square_avg": "_velocities", "grad_avg": "_average_gradients"},
    ),
    "Adagrad": (
        keras.optimizers.Adagrad,
        {**_USUAL, "eps": "epsilon", "initial_accumulator_value": "initial_accumulator_value"},
        {"sum": "_accumulators"},
    ),
    "Adadelta": (
        keras.optimizers.Adadelta,
        {**_USUAL, "rho": "rho", "eps": "epsilon"},
        {"square_avg": "_accumulated_grads", "acc_delta": "_accumulated_delta_vars"},
    ),
    "Adafactor": (
        keras.optimizers.Adafactor,
        {**_USUAL, "beta2_decay": "beta_2_decay", "eps": ("epsilon_1", "epsilon_2"), "d": "clip_threshold"},
        {},
    ),
    "Muon": (
        keras.optimizers.Muon,
        {**_USUAL, "momentum": "momentum", "nesterov": "nesterov", "ns_steps": "ns_steps"}
        | {"ns_coefficients": _coefficients, "eps": "", "adjust_lr_fn": ""},
        {},
    ),
}


class Keras(Grouped):
    """Keras."""

    none_grads = True

    def __init__(self) -> None:
        name = f"{keras.__version__} ({keras.backend.backend()})"
        self.info = Info("Keras", name, homepage="https://keras.io")

    def _part(self, problem: Trajectory, group: Group, params: dict[str, Array]) -> Part:
        algorithm, options = problem.algorithm, dict(group.options)
        if algorithm == "Adam" and options.get("decoupled_weight_decay"):
            algorithm = "AdamW"
        if algorithm not in _OPTIMIZERS:
            raise Unsupported(f"optimizer:{algorithm}")
        if algorithm == "Adafactor" and "eps" in options:
            first, second = options["eps"]
            options["eps"] = (float(np.finfo(kind_of(problem.dtype)).eps) if first is None else first, second)
        _use(problem.dtype)
        return _Part(algorithm, options, params)

    def schedule(self, problem: Schedule) -> list[list[float]]:
        """Ask the schedule of each group for its learning rates."""
        _use("f64")
        return [curve(problem, group) for group in range(len(problem.lrs))]


def _use(dtype: str) -> None:
    """Make this the dtype of what has no other: learning rates, above all."""
    if keras.backend.backend() == "jax":
        jax: Any = import_module("jax")
        jax.config.update("jax_enable_x64", dtype == "f64")
    keras.backend.set_floatx("float64" if dtype == "f64" else "float32")


class _Part:
    def __init__(self, algorithm: str, options: dict[str, Any], params: dict[str, Array]) -> None:
        made, names, self.names = _OPTIMIZERS[algorithm]
        self._params = {name: keras.Variable(array, dtype=array.dtype.name) for name, array in params.items()}
        self._optimizer = made(**renamed(options, names))
        self._optimizer.build(list(self._params.values()))

    def step(self, grads: dict[str, Array | None], lr: float | None) -> None:
        if lr is not None:
            self._optimizer.learning_rate = lr
        given = {name: None if grad is None else keras.ops.convert_to_tensor(grad) for name, grad in grads.items()}
        with catch_warnings():
            simplefilter("ignore")  # gradients are missing on purpose
            self._optimizer.apply_gradients([(given[name], variable) for name, variable in self._params.items()])

    def params(self) -> dict[str, Array]:
        return {name: _values(variable) for name, variable in self._params.items()}

    def state(self) -> dict[str, dict[str, Array]]:
        held = {quantity: own for quantity in self.names if (own := self._held(quantity))}
        return by_name({quantity: {name: _values(v) for name, v in own.items()} for quantity, own in held.items()})

    def _held(self, quantity: str) -> dict[str, Any]:
        own = getattr(self._optimizer, self.names[quantity], [])
        return dict(zip(self._params, own, strict=True)) if own else {}

    def write(self, params: dict[str, Array], state: dict[str, dict[str, Array]]) -> None:
        for name, variable in self._params.items():
            variable.assign(params[name])
            for quantity, values in state[name].items():
                self._held(quantity)[name].assign(values)


def _values(variable: Any) -> Array:
    return keras.ops.convert_to_numpy(variable.value)
