"""The learning-rate schedules in closed form: eta at epoch e, which may be an array of epochs.

On balls, epochs are object arrays of ints, and what divides them in a cosine must be a ball.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .namespace import namespace
from .trigonometry import cos_pi


def by_factor(e: Any, eta_0: Any, *, factor: Any) -> Any:
    r"""Return :math:`\eta_0 \lambda(e)`: LambdaLR."""
    return eta_0 * factor(e)


def multiplicative(e: Any, eta_0: Any, *, factors: Sequence[Any]) -> Any:
    r"""Return :math:`\eta_0 \prod_{k=1}^e \lambda(k)`, given the :math:`\lambda(k)`: MultiplicativeLR."""
    products = np.cumprod(np.asarray([1, *factors]))
    return eta_0 * products[np.asarray(e, int)]


def step(e: Any, eta_0: Any, *, step_size: int, gamma: Any) -> Any:
    r"""Return :math:`\eta_0 \gamma^{\lfloor e / s \rfloor}`: StepLR, where :math:`s` is ``step_size``."""
    return eta_0 * gamma ** (e // step_size)


def multi_step(e: Any, eta_0: Any, *, milestones: Sequence[int], gamma: Any) -> Any:
    r"""Return :math:`\eta_0 \gamma^n`, where :math:`n` is the number of milestones until e: MultiStepLR."""
    where = namespace(e).where
    return eta_0 * gamma ** sum(where(milestone <= e, 1, 0) for milestone in milestones)


def exponential(e: Any, eta_0: Any, *, gamma: Any) -> Any:
    r"""Return :math:`\eta_0 \gamma^e`: ExponentialLR."""
    return eta_0 * gamma**e


def constant(e: Any, eta_0: Any, *, factor: Any, total_iters: int) -> Any:
    r"""Return :math:`\eta_0 f` before ``total_iters`` and :math:`\eta_0` from there on: ConstantLR."""
    return eta_0 * namespace(e).where(e < total_iters, factor, 1)


def linear(e: Any, eta_0: Any, *, start_factor: Any, end_factor: Any, total_iters: int) -> Any:
    r"""Return :math:`\eta_0 (s + (f - s) \min(e, T) / T)`: LinearLR."""
    passed = namespace(e).where(e < total_iters, e, total_iters)
    return eta_0 * (start_factor + (end_factor - start_factor) * passed / total_iters)


def polynomial(e: Any, eta_0: Any, *, total_iters: Any, power: Any) -> Any:
    r"""Return :math:`\eta_0 (1 - \min(e, T) / T)^p`: PolynomialLR."""
    left = namespace(e).where(e < total_iters, total_iters - e, 0)
    return eta_0 * (left / total_iters) ** power


def cosine(e: Any, eta_0: Any, *, t_max: Any, eta_min: Any) -> Any:
    r"""Return :math:`\eta_{min} + (\eta_0 - \eta_{min}) (1 + \cos(\pi e / T_{max})) / 2`: CosineAnnealingLR."""
    return eta_min + (eta_0 - eta_min) * (1 + cos_pi(e / t_max)) / 2


def cosine_restarts(e: Any, eta_0: Any, *, t_0: int, t_mult: int, eta_min: Any) -> Any:
    r"""Return the cosine of the epochs since the last restart: CosineAnnealingWarmRestarts.

    The time between restarts is ``t_0`` at first, and ``t_mult`` times as long each time.
    """
    where = namespace(e).where
    since, between = e, t_0 + 0 * e
    if t_mult == 1:
        since = e % t_0
    while np.any(over := since >= between):
        since, between = where(over, since - between, since), where(over, between * t_mult, between)
    # Balls stay balls when they are divided by integers.
    return cosine(since + 0 * eta_0, eta_0, t_max=between, eta_min=eta_min)


def cyclic(e: Any, eta_base: Any, *, eta_max: Any, up: Any, down: Any, scale: Any) -> Any:
    r"""Return :math:`\eta_{base} + (\eta_{max} - \eta_{base}) k_e s(c, e)` in cycle c = 1, 2, ...: CyclicLR.

    :math:`k` goes from 0 to 1 in ``up`` epochs, and back in ``down``.
    """
    where = namespace(e).where
    cycle, since = 1 + e // (up + down), e % (up + down)
    rises = since <= up
    height = (eta_max - eta_base) * where(rises, since, up + down - since) / where(rises, up, down)
    return eta_base + height * scale(cycle, e)


def one_cycle(e: Any, etas: Sequence[Any], *, ends: Sequence[Any], anneal: str) -> Any:
    r"""Return what lies between ``etas[i]`` at epoch ``ends[i]`` and the next: OneCycleLR, and its momentum.

    .. math::
        \eta_{i+1} + (\eta_i - \eta_{i+1}) w, \quad w = \frac{1 + \cos(\pi p)}{2} \text{ or } 1 - p

    where :math:`p` goes from 0 to 1. After the last of the ends it stays where it is.
    """
    where = namespace(e).where
    result = etas[-1] + 0 * e
    for i in reversed(range(len(ends) - 1)):
        p = (e - ends[i]) / (ends[i + 1] - ends[i])
        weight = 1 - p if anneal == "linear" else (1 + cos_pi(p)) / 2
        result = where(e <= ends[i + 1], etas[i + 1] + (etas[i] - etas[i + 1]) * weight, result)
    return result
