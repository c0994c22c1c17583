"""optax's schedules, for those of torch's schedulers that are documented to say the same."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from refoptim.conformance.adapters.replay import cycles_momentum
from refoptim.conformance.runner.adapter import Unsupported
from refoptim.conformance.vectors.vector import Schedule

jax: Any = import_module("jax")
jnp: Any = import_module("jax.numpy")
optax: Any = import_module("optax")

Options = Mapping[str, Any]


def curve(problem: Schedule, group: int) -> list[float]:
    """Return a group's learning rates at the epochs that the problem asks for."""
    options = {name: value[group] if _by_group(name, value) else value for name, value in problem.options.items()}
    if problem.algorithm == "ReduceLROnPlateau":
        return _plateau(problem, options, problem.lrs[group])
    if cycles_momentum(problem):
        raise Unsupported("option:cycle_momentum")
    schedule = jax.jit(_schedule(problem.algorithm, options, problem.lrs[group]))
    return [float(schedule(epoch)) for epoch in problem.record]


def _by_group(name: str, value: Any) -> bool:
    return isinstance(value, tuple) and name not in ("milestones", "schedulers")


def _schedule(algorithm: str, options: Options, lr: float) -> Callable[[Any], Any]:
    made = _MADE.get(algorithm)
    if made is None:
        raise Unsupported(f"scheduler:{algorithm}")
    return made(lr, options)


def _constant(lr: float, o: Options) -> Callable[[Any], Any]:
    if not o["factor"]:
        raise Unsupported("option:factor")  # from 0 no factor leads back
    return optax.piecewise_constant_schedule(lr * o["factor"], {o["total_iters"]: 1 / o["factor"]})


def _multi_step(lr: float, o: Options) -> Callable[[Any], Any]:
    scales = {at: o["gamma"] ** o["milestones"].count(at) for at in o["milestones"]}
    return optax.piecewise_constant_schedule(lr, scales)


def _cosine(lr: float, o: Options) -> Callable[[Any], Any]:
    return optax.cosine_decay_schedule(lr, o["T_max"], alpha=o["eta_min"] / lr)


def _one_cycle(_: float, o: Options) -> Callable[[Any], Any]:
    if o["three_phase"] or o["anneal_strategy"] != "cos":
        raise Unsupported("option:three_phase" if o["three_phase"] else "option:anneal_strategy")
    total = o["total_steps"] or o["epochs"] * o["steps_per_epoch"]
    return optax.cosine_onecycle_schedule(total, o["max_lr"], o["pct_start"], o["div_factor"], o["final_div_factor"])


def _sequence(lr: float, o: Options) -> Callable[[Any], Any]:
    parts = [_schedule(part["algorithm"], part["options"], lr) for part in o["schedulers"]]
    return optax.join_schedules(parts, list(o["milestones"]))


_MADE: dict[str, Callable[[float, Options], Callable[[Any], Any]]] = {
    "ConstantLR": _constant,
    "LinearLR": lambda lr, o: optax.linear_schedule(lr * o["start_factor"], lr * o["end_factor"], o["total_iters"]),
    "PolynomialLR": lambda lr, o: optax.polynomial_schedule(lr, 0.0, o["power"], o["total_iters"]),
    "StepLR": lambda lr, o: optax.exponential_decay(lr, o["step_size"], o["gamma"], staircase=True),
    "MultiStepLR": _multi_step,
    "ExponentialLR": lambda lr, o: optax.exponential_decay(lr, 1, o["gamma"]),
    "CosineAnnealingLR": _cosine,
    "OneCycleLR": _one_cycle,
    "SequentialLR": _sequence,
}


def _plateau(problem: Schedule, o: Options, lr: float) -> list[float]:
    if o["mode"] != "min":
        raise Unsupported("option:mode")
    relative = o["threshold_mode"] == "rel"
    thresholds = {"rtol": o["threshold"] if relative else 0.0, "atol": 0.0 if relative else o["threshold"]}
    watched = optax.contrib.reduce_on_plateau(
        o["factor"],
        o["patience"],
        **thresholds,
        cooldown=o["cooldown"],
        min_scale=o["min_lr"] / lr,
    )
    update = jax.jit(lambda state, value: watched.update(one, state, value=value)[1])
    one = {"w": jnp.ones(1)}
    state, found = watched.init(one), [lr]
    for metric in problem.metrics or ():
        state = update(state, metric)
        found.append(lr * float(state.scale))
    return [found[epoch] for epoch in problem.record]
