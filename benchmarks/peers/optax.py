"""optax, as it is used: one jitted function for update and addition, which takes parameters and state as its own.

What computes other numbers than torch is left out: NAdam has no schedule there, and Rprop another first step.
"""

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import optax
from algorithms import Algorithm
from optax import contrib

from refoptim.buffers import Array

from . import Contender

# The same numbers as torch's defaults.
OPTIMIZERS: dict[str, Callable[..., Any]] = {
    "Adam": partial(optax.adam, 1e-3),
    "AdamW": partial(optax.adamw, 1e-3, weight_decay=1e-2),
    "SGD": partial(optax.sgd, 1e-3),
    "Adadelta": partial(optax.adadelta, 1.0),
    "Adagrad": partial(optax.adagrad, 1e-2, initial_accumulator_value=0.0, eps=1e-10),
    "Adamax": partial(optax.adamax, 2e-3),
    "RAdam": partial(optax.radam, 1e-3),
    "RMSprop": partial(optax.rmsprop, 1e-2, decay=0.99, eps_in_sqrt=False),
    "Adafactor": partial(optax.adafactor, 1e-2, min_dim_size_to_factor=1),
    "Muon": partial(contrib.muon, 1e-3, weight_decay=0.1),
}
# XLA compiles these, of 1,000 tensors, for minutes: for 300 Adafactor took 12 s, Muon 69.
SLOW_TO_COMPILE, MOST_TENSORS = ("Adafactor", "Muon"), 300

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_enable_x64", True)
jax.devices()  # XLA starts its threads now: see LIBRARIES


def threads() -> int:
    """Return how many threads a step takes: XLA starts one for each core that the process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def contenders(algorithm: Algorithm, values: Array, grads: Array) -> dict[str, Callable[[], Contender]]:
    """Return who takes part, by name."""
    if algorithm.name not in OPTIMIZERS:
        return {}
    return {"optax": partial(make, algorithm, values, grads)}


def make(algorithm: Algorithm, values: Array, grads: Array) -> Contender:
    """Return an optimizer of these parameters, one for each row."""
    if algorithm.name in SLOW_TO_COMPILE and len(values) > MOST_TENSORS:
        raise ValueError(f"XLA compiles {len(values):,} tensors for minutes; {MOST_TENSORS} are the most here")
    optimizer = OPTIMIZERS[algorithm.name](**algorithm.options)
    params, gradients = ([jax.device_put(row, may_alias=False) for row in rows] for rows in (values, grads))
    held = [params, jax.jit(optimizer.init)(params)]

    @partial(jax.jit, donate_argnums=(0, 1))
    def update(params: Any, state: Any, gradients: Any) -> Any:
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    def step() -> None:
        held[:] = update(*held, gradients)
        jax.block_until_ready(held)

    # Through JAX: a NumPy view of a buffer would keep it from being donated.
    return Contender(step, lambda tensor, picks: jax.device_get(held[0][tensor].reshape(-1)[picks]))
