"""Plain NumPy: each formula as one would write it by hand, in place where that is natural. NumPy takes one thread.

Hyperparameters are torch's defaults. ``t`` is the number of the step, from 1; state arrays start with zeros.
"""

import math
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import NamedTuple

import numpy as np
from algorithms import Algorithm

from refoptim.buffers import Array

from . import Contender

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8


def sgd(p: Array, g: Array, t: int) -> None:
    """Step along the gradient."""
    p -= 1e-3 * g


def sgd_momentum(p: Array, g: Array, t: int, m: Array) -> None:
    """Step along a sum of gradients."""
    m *= 0.9
    m += g
    p -= 1e-3 * m


def adam(p: Array, g: Array, t: int, m: Array, v: Array) -> None:
    """Adam."""
    m *= BETA1
    m += (1 - BETA1) * g
    v *= BETA2
    v += (1 - BETA2) * g * g
    p -= 1e-3 / (1 - BETA1**t) * m / (np.sqrt(v) / math.sqrt(1 - BETA2**t) + EPS)


def adamw(p: Array, g: Array, t: int, m: Array, v: Array) -> None:
    """Adam with decoupled weight decay."""
    p *= 1 - 1e-3 * 1e-2
    adam(p, g, t, m, v)


def adadelta(p: Array, g: Array, t: int, v: Array, u: Array) -> None:
    """Adadelta."""
    v *= 0.9
    v += 0.1 * g * g
    delta = np.sqrt(u + 1e-6) / np.sqrt(v + 1e-6) * g
    u *= 0.9
    u += 0.1 * delta * delta
    p -= delta


def adagrad(p: Array, g: Array, t: int, s: Array) -> None:
    """Adagrad."""
    s += g * g
    p -= 1e-2 * g / (np.sqrt(s) + 1e-10)


def adamax(p: Array, g: Array, t: int, m: Array, u: Array) -> None:
    """Adam with the infinity norm."""
    m *= BETA1
    m += (1 - BETA1) * g
    u *= BETA2
    np.maximum(u, np.abs(g) + EPS, out=u)
    p -= 2e-3 / (1 - BETA1**t) * m / u


def asgd(p: Array, g: Array, t: int, average: Array) -> None:
    """Averaged SGD, in its first million steps, where the average is the parameter."""
    p *= 1 - 1e-4 * 1e-2 / (1 + 1e-4 * 1e-2 * (t - 1)) ** 0.75
    p -= 1e-2 / (1 + 1e-4 * 1e-2 * (t - 1)) ** 0.75 * g
    average[...] = p


def nadam(p: Array, g: Array, t: int, m: Array, v: Array, product: Array) -> None:
    """Adam with Nesterov's momentum, whose schedule multiplies up."""
    mu, mu_next = (BETA1 * (1 - 0.5 * 0.96 ** (i * 0.004)) for i in (t, t + 1))
    product *= mu
    done = float(product[0])
    m *= BETA1
    m += (1 - BETA1) * g
    v *= BETA2
    v += (1 - BETA2) * g * g
    mean = mu_next / (1 - done * mu_next) * m + (1 - mu) / (1 - done) * g
    p -= 2e-3 * mean / (np.sqrt(v) / math.sqrt(1 - BETA2**t) + EPS)


def radam(p: Array, g: Array, t: int, m: Array, v: Array) -> None:
    """Adam that begins without its denominator."""
    m *= BETA1
    m += (1 - BETA1) * g
    v *= BETA2
    v += (1 - BETA2) * g * g
    longest = 2 / (1 - BETA2) - 1
    length = longest - 2 * t * BETA2**t / (1 - BETA2**t)
    if length > 5:
        top, bottom = (length - 4) * (length - 2) * longest, (longest - 4) * (longest - 2) * length
        size = 1e-3 / (1 - BETA1**t) * math.sqrt(top / bottom * (1 - BETA2**t))
        p -= size * m / (np.sqrt(v) + EPS)
    else:
        p -= 1e-3 / (1 - BETA1**t) * m


def rmsprop(p: Array, g: Array, t: int, v: Array) -> None:
    """RMSprop."""
    v *= 0.99
    v += 0.01 * g * g
    p -= 1e-2 * g / (np.sqrt(v) + EPS)


def rprop(p: Array, g: Array, t: int, before: Array, size: Array) -> None:
    """Rprop, without taking back a step."""
    same = np.sign(g * before)
    size *= np.where(same > 0, 1.2, np.where(same < 0, 0.5, 1.0)).astype(p.dtype)
    np.clip(size, 1e-6, 50, out=size)
    before[...] = np.where(same < 0, 0, g)
    p -= np.sign(before) * size


class Formula(NamedTuple):
    """A formula, what its state arrays start with, and how many numbers that start with 1 go along."""

    step: Callable[..., None]
    arrays: tuple[float, ...] = ()
    numbers: int = 0


FORMULAS = {
    "Adam": Formula(adam, (0, 0)),
    "AdamW": Formula(adamw, (0, 0)),
    "SGD": Formula(sgd),
    "Adadelta": Formula(adadelta, (0, 0)),
    "Adagrad": Formula(adagrad, (0,)),
    "Adamax": Formula(adamax, (0, 0)),
    "ASGD": Formula(asgd, (0,)),
    "NAdam": Formula(nadam, (0, 0), numbers=1),
    "RAdam": Formula(radam, (0, 0)),
    "RMSprop": Formula(rmsprop, (0,)),
    "Rprop": Formula(rprop, (0, 1e-2)),
}


def threads() -> int:
    """Return how many threads a step takes."""
    return 1


def contenders(algorithm: Algorithm, values: Array, grads: Array) -> dict[str, Callable[[], Contender]]:
    """Return who takes part, by name."""
    formula = Formula(sgd_momentum, (0,)) if algorithm.options.get("momentum") else FORMULAS.get(algorithm.name)
    return {} if formula is None else {"NumPy": partial(make, formula, values, grads)}


def make(formula: Formula, values: Array, grads: Array) -> Contender:
    """Return an optimizer of these parameters, one for each row."""
    params, gradients, steps = values.copy(), grads.copy(), count(1)
    state = [np.full_like(values, start) for start in formula.arrays]
    numbers = [np.ones((len(values), 1)) for _ in range(formula.numbers)]
    rows = list(zip(params, gradients, *state, *numbers, strict=True))

    def step() -> None:
        t = next(steps)
        for param, gradient, *others in rows:
            formula.step(param, gradient, t, *others)

    return Contender(step, lambda tensor, picks: params[tensor].reshape(-1)[picks])
