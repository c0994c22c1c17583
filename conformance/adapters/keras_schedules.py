"""Keras's schedules and its callback, for those of torch's schedulers that are documented to say the same."""

import os
from collections.abc import Callable, Mapping
from importlib import import_module
from itertools import accumulate
from types import SimpleNamespace
from typing import Any

from refoptim.conformance.runner.adapter import Unsupported
from refoptim.conformance.vectors.vector import Schedule

os.environ.setdefault("KERAS_BACKEND", "jax")
keras: Any = import_module("keras")  # it reads the environment

Options = Mapping[str, Any]

_schedules = keras.optimizers.schedules


def curve(problem: Schedule, group: int) -> list[float]:
    """Return a group's learning rates at the epochs that the problem asks for."""
    lr = problem.lrs[group]
    options = {
        name: value[group] if isinstance(value, tuple) and name != "milestones" else value
        for name, value in problem.options.items()
    }
    if problem.algorithm == "ReduceLROnPlateau":
        return _plateau(problem, options, lr)
    made = _MADE.get(problem.algorithm)
    if made is None:
        raise Unsupported(f"scheduler:{problem.algorithm}")
    schedule = _compiled(made(lr, options))
    return [float(schedule(epoch)) for epoch in problem.record]


def _compiled(schedule: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a schedule as a training loop on JAX has it, which is much faster."""
    if keras.backend.backend() != "jax":
        return schedule
    jax: Any = import_module("jax")
    return jax.jit(schedule)


def _steps(lr: float, o: Options) -> Any:
    """Return what changes after its boundaries, where torch's changes at its milestones."""
    milestones = sorted(o["milestones"])
    values = list(accumulate([lr, *(o["gamma"] for _ in milestones)], float.__mul__))
    return _schedules.PiecewiseConstantDecay([at - 1 for at in milestones], values)


def _restarts(lr: float, o: Options) -> Any:
    alpha = o["eta_min"] / lr
    return _schedules.CosineDecayRestarts(lr, o["T_0"], t_mul=float(o["T_mult"]), m_mul=1.0, alpha=alpha)


_MADE: dict[str, Callable[[float, Options], Callable[[int], Any]]] = {
    "StepLR": lambda lr, o: _schedules.ExponentialDecay(lr, o["step_size"], o["gamma"], staircase=True),
    "MultiStepLR": _steps,
    "ExponentialLR": lambda lr, o: _schedules.ExponentialDecay(lr, 1, o["gamma"]),
    "LinearLR": lambda lr, o: _schedules.PolynomialDecay(
        lr * o["start_factor"], o["total_iters"], lr * o["end_factor"]
    ),
    "PolynomialLR": lambda lr, o: _schedules.PolynomialDecay(lr, o["total_iters"], 0.0, power=o["power"]),
    "CosineAnnealingLR": lambda lr, o: _schedules.CosineDecay(lr, o["T_max"], alpha=o["eta_min"] / lr),
    "CosineAnnealingWarmRestarts": _restarts,
}


def _plateau(problem: Schedule, o: Options, lr: float) -> list[float]:
    optimizer = keras.optimizers.SGD(lr)
    names = {"factor": "factor", "patience": "patience", "mode": "mode", "cooldown": "cooldown", "min_lr": "min_lr"}
    given = {own: o[name] for name, own in names.items()}
    callback = keras.callbacks.ReduceLROnPlateau(monitor="loss", min_delta=o["threshold"], **given)
    # It knows whether more or less is better from the mode, and asks the model for nothing but its optimizer.
    callback.set_model(SimpleNamespace(optimizer=optimizer, metrics=[]))
    callback.on_train_begin()
    found = [lr]
    for epoch, metric in enumerate(problem.metrics or ()):
        callback.on_epoch_end(epoch, {"loss": metric})
        found.append(float(optimizer.learning_rate))
    return [found[epoch] for epoch in problem.record]
