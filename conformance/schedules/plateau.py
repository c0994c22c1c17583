"""ReduceLROnPlateau as its documentation tells it, and metrics to try it on."""

from math import inf, isnan
from typing import Any

import numpy as np


def metrics(mode: str, epochs: int) -> list[float]:
    """Return a metric for each epoch: on a coarse grid, so that some are equal, and now and then NaN or infinite."""
    rng = np.random.default_rng(epochs)
    gain = 3 * (1 - np.exp(-np.arange(epochs) / (epochs / 4))) + rng.normal(0, 0.15, epochs)
    values = np.round(gain if mode == "max" else 4 - gain, 1)
    values[rng.random(epochs) < 1 / 40] = np.nan
    values[[0, epochs // 2]] = -inf if mode == "max" else inf
    return values.tolist()


def learning_rates(
    seen: list[float],
    lr: float,
    mode: str = "min",
    factor: float = 0.1,
    patience: int = 10,
    threshold: float = 1e-4,
    threshold_mode: str = "rel",
    cooldown: int = 0,
    min_lr: float = 0.0,
    eps: float = 1e-8,
) -> list[float]:
    """Return the learning rate at first and after each metric."""
    curve, waited, rest = [lr], 0, 0
    best = inf if mode == "min" else -inf
    for metric in seen:
        improved = _better(metric, best, mode, threshold, threshold_mode)
        if improved:
            best = metric
        waited = 0 if improved or rest else waited + 1
        rest = max(rest - 1, 0)
        if waited > patience:
            waited, rest = 0, cooldown
            lower = max(lr * factor, min_lr)
            lr = lower if lr - lower > eps else lr
        curve.append(lr)
    return curve


def _better(metric: float, best: float, mode: str, threshold: float, threshold_mode: str) -> bool:
    if isnan(metric):
        return False
    margin: Any = {
        ("min", "rel"): 1 - threshold,
        ("max", "rel"): 1 + threshold,
        ("min", "abs"): -threshold,
        ("max", "abs"): threshold,
    }[mode, threshold_mode]
    limit = best * margin if threshold_mode == "rel" else best + margin
    return metric < limit if mode == "min" else metric > limit
