"""RMSprop, Adagrad, Adadelta and Adafactor, with the axes on which their dialects differ as parameters."""

from typing import Any

from refoptim.conformance.dialects.decay import decayed, same, settled
from refoptim.conformance.dialects.moments import Kept, divisor
from refoptim.formulas.namespace import namespace
from refoptim.formulas.power import one_minus_power


def rmsprop(
    theta: Any,
    g: Any,
    v: Any,
    b: Any,
    a: Any,
    *,
    t: int,
    gamma: Any,
    alpha: Any,
    epsilon: Any,
    lambda_: Any,
    mu: Any,
    centered: bool,
    eps: str,
    velocity: str,
    bias: str,
    decay: str,
    kept: Kept = same,
) -> tuple[Any, ...]:
    """Return the parameter, the mean square, the momentum buffer and the mean after step t.

    Axes:
        eps: ``"outside"`` the root, ``"inside"``, or its lower ``"limit"``.
        velocity: whether the learning rate is ``"outside"`` the momentum buffer or ``"inside"``.
        bias: whether the mean square is corrected, and of ``centered`` the mean: ``"none"`` or ``"both"``.
        decay: as :func:`decayed` has it.

    """
    xp = namespace(theta)
    theta, g = decayed(theta, g, gamma, lambda_, decay)
    v = kept(alpha * v + (1 - alpha) * g * g)
    c = one_minus_power(alpha, t) if bias == "both" else 1
    square = v / c
    if centered:
        a = kept(alpha * a + (1 - alpha) * g)
        variance = square - (a / c) * (a / c)
        square = xp.maximum(variance, 0)
    delta = g / divisor(square, epsilon, 1, eps)
    if mu == 0:
        theta = theta - gamma * delta
    elif velocity == "outside":
        b = kept(mu * b + delta)
        theta = theta - gamma * b
    else:
        b = kept(mu * b + gamma * delta)
        theta = theta - b
    return settled(theta, gamma, lambda_, decay), v, b, a


def adagrad(
    theta: Any,
    g: Any,
    s: Any,
    *,
    t: int,
    gamma: Any,
    eta: Any,
    epsilon: Any,
    lambda_: Any,
    eps: str,
    decay: str,
    kept: Kept = same,
) -> tuple[Any, ...]:
    """Return the parameter and the sum of squares after step t.

    Axes:
        eps: ``"outside"`` the root, ``"inside"``, or its lower ``"limit"``.
        decay: as :func:`decayed` has it.

    """
    theta, g = decayed(theta, g, gamma, lambda_, decay)
    s = kept(s + g * g)
    theta = theta - gamma / (1 + (t - 1) * eta) * (g / divisor(s, epsilon, 1, eps))
    return settled(theta, gamma, lambda_, decay), s


def adadelta(
    theta: Any,
    g: Any,
    v: Any,
    u: Any,
    *,
    gamma: Any,
    rho: Any,
    epsilon: Any,
    lambda_: Any,
    eps: str,
    stored: str,
    decay: str,
    kept: Kept = same,
) -> tuple[Any, ...]:
    """Return the parameter and the mean squares of gradient and update after step t.

    Axes:
        eps: ``"inside"`` both roots or ``"outside"`` of them.
        stored: the mean square of what: the ``"update"`` before the learning rate, or the ``"step"`` with it.
        decay: as :func:`decayed` has it.

    """
    theta, g = decayed(theta, g, gamma, lambda_, decay)
    v = kept(rho * v + (1 - rho) * g * g)
    delta = divisor(u, epsilon, 1, eps) / divisor(v, epsilon, 1, eps) * g
    moved = gamma * delta
    seen = moved if stored == "step" else delta
    u = kept(rho * u + (1 - rho) * seen * seen)
    return settled(theta - moved, gamma, lambda_, decay), v, u


def adafactor(
    theta: Any,
    g: Any,
    r: Any,
    c: Any,
    v: Any,
    *,
    t: Any,
    gamma: Any,
    tau: Any,
    epsilon1: Any,
    epsilon2: Any,
    d: Any,
    lambda_: Any,
    eps1: str,
    rate: str,
    factored: str,
    kept: Kept = same,
) -> tuple[Any, ...]:
    """Return the parameter, the mean squares of rows and columns, and the mean square of a vector after step t.

    Axes:
        eps1: the first epsilon: the estimate's lower ``"limit"``, or ``"added"`` to the squared gradient.
        rate: what limits the step size beside ``1/sqrt(t)``: the learning rate, ``"lr"``, or ``"0.01"``.
        factored: which matrices are: ``"always"`` all, or those ``"from 128"`` rows and columns on.

    """
    xp = namespace(theta)
    w = t**tau
    square = g * g + (epsilon1 if eps1 == "added" else 0)
    if theta.ndim > 1 and (factored == "always" or min(theta.shape[-2:]) >= 128):
        r = kept((1 - w) * r + w * (square.sum(-1, keepdims=True) / theta.shape[-1]))
        c = kept((1 - w) * c + w * (square.sum(-2, keepdims=True) / theta.shape[-2]))
        mean = r.sum(-2, keepdims=True) / theta.shape[-2]
        estimate = r * c / (xp.maximum(mean, epsilon1) if eps1 == "limit" else mean)
    else:
        estimate = v = kept((1 - w) * v + w * square)
    u = g / xp.sqrt(xp.maximum(estimate, epsilon1 * epsilon1) if eps1 == "limit" else estimate)
    most = gamma if rate == "lr" else 0.01
    alpha = xp.maximum(_rms(theta), epsilon2) * min(most, t**-0.5)
    u = alpha / xp.maximum(_rms(u) / d, 1) * u
    return theta - gamma * lambda_ * theta - u, r, c, v


def _rms(x: Any) -> Any:
    return namespace(x).sqrt((x * x).sum() / x.size)
