"""Stochastic gradient descent and Muon, with the axes on which their dialects differ as parameters."""

from typing import Any

from refoptim.conformance.dialects.decay import decayed, same, settled
from refoptim.conformance.dialects.moments import Kept
from refoptim.formulas.muon import orthogonalized


def sgd(
    theta: Any,
    g: Any,
    b: Any,
    *,
    t: int,
    gamma: Any,
    mu: Any,
    tau: Any,
    lambda_: Any,
    nesterov: bool,
    velocity: str,
    start: str,
    buffer: str,
    ahead: str,
    decay: str,
    kept: Kept = same,
) -> tuple[Any, ...]:
    """Return the parameter and the momentum buffer after step t.

    Axes:
        velocity: whether the learning rate is ``"outside"`` the buffer or ``"inside"``.
        start: whether the first gradient goes into it ``"undamped"`` or ``"damped"``.
        buffer: whether it is a ``"sum"`` or a ``"mean"``, to which gradients contribute by ``1 - momentum``.
        ahead: what is added to the buffer times momentum when looking ahead: the ``"gradient"``, the ``"buffer"``, or
            nothing, ``"alone"``; ``"swapped"``, the gradient times momentum is added to the buffer.
        decay: as :func:`decayed` has it.

    """
    theta, g = decayed(theta, g, gamma, lambda_, decay)
    if mu == 0:
        return settled(theta - gamma * g, gamma, lambda_, decay), b
    pull = g if velocity == "outside" else gamma * g
    share = 1 if start == "undamped" and t == 1 else 1 - tau
    b = kept(mu * b + (share if buffer == "sum" else (1 - mu) * share) * pull)
    looking = {"gradient": (pull, b), "buffer": (b, b), "alone": (0, b), "swapped": (b, pull)}
    near, far = looking[ahead] if nesterov else (b, 0)
    direction = near + mu * far
    theta = theta - (gamma * direction if velocity == "outside" else direction)
    return settled(theta, gamma, lambda_, decay), b


def muon(
    theta: Any,
    g: Any,
    b: Any,
    *,
    gamma: Any,
    mu: Any,
    nesterov: bool,
    coefficients: tuple[Any, Any, Any],
    epsilon: Any,
    steps: int,
    lambda_: Any,
    adjusted: str,
    buffer: str,
    scale: str,
    decay: str,
    kept: Kept = same,
) -> tuple[Any, ...]:
    """Return the matrix and its momentum after step t.

    Axes:
        buffer: whether it is a ``"mean"``, or a ``"sum"``: what follows differs by no more than epsilon does.
        scale: of the learning rate: as the option says, ``"option"``, which is in ``adjusted``, or whatever that says
            ``"match_rms_adamw"`` or ``"none"``.
        decay: as :func:`decayed` has it.

    """
    theta, g = decayed(theta, g, gamma, lambda_, decay)
    share = 1 - mu if buffer == "mean" else 1
    b = kept(mu * b + share * g)
    u = mu * b + share * g if nesterov else b
    rows, columns = u.shape
    x = u if rows <= columns else u.swapaxes(0, 1)
    x = orthogonalized(x, coefficients, epsilon, steps, same)
    squares = {
        "original": gamma**2 * max(rows, columns) / columns,
        "match_rms_adamw": (0.2 * gamma) ** 2 * max(rows, columns),
        "none": gamma**2,
    }
    size = squares[adjusted if scale == "option" else scale] ** 0.5
    theta = theta - size * (x if rows <= columns else x.swapaxes(0, 1))
    return settled(theta, gamma, lambda_, decay), b
