"""Adam and its relatives, with the axes on which their dialects differ as parameters.

Each formula takes and returns what the published one does, on any array type. ``kept`` is what storing does to state.
"""

from collections.abc import Callable
from math import prod
from typing import Any

from refoptim.conformance.dialects.decay import decayed, same, settled
from refoptim.formulas.nadam import momentum
from refoptim.formulas.namespace import namespace
from refoptim.formulas.power import one_minus_power
from refoptim.formulas.radam import length

Kept = Callable[[Any], Any]


def adam(
    theta: Any,
    g: Any,
    m: Any,
    v: Any,
    w: Any,
    *,
    t: int,
    gamma: Any,
    beta1: Any,
    beta2: Any,
    epsilon: Any,
    lambda_: Any,
    largest: bool,
    eps: str,
    moments: str,
    bias: str,
    amsgrad: str,
    decay: str,
    kept: Kept = same,
) -> tuple[Any, ...]:
    """Return the parameter, both moments and, of AMSGrad, the largest second moment after step t.

    Axes:
        eps: where epsilon is: ``"outside"``, ``"hat"``, ``"inside"`` the root, or its lower ``"limit"``.
        moments: ``"means"``, or ``"sums"``, or the ``"first sum"`` alone or the ``"second sum"``.
        bias: which moments are corrected: ``"both"``, ``"first"``, ``"second"`` or ``"none"``.
        amsgrad: where ``largest``, the maximum of ``"raw"`` or ``"corrected"`` second moments, or ``"uncorrected"``:
            neither moment is.
        decay: as :func:`decayed` has it.

    """
    xp = namespace(theta)
    theta, g = decayed(theta, g, gamma, lambda_, decay)
    m = kept(beta1 * m + (1 if moments in ("sums", "first sum") else 1 - beta1) * g)
    v = kept(beta2 * v + (1 if moments in ("sums", "second sum") else 1 - beta2) * g * g)
    plain = largest and amsgrad == "uncorrected"
    c1 = one_minus_power(beta1, t) if bias in ("both", "first") and not plain else 1
    c2 = one_minus_power(beta2, t) if bias in ("both", "second") and not plain else 1
    v_hat = v / c2
    if largest:
        w = kept(xp.maximum(w, v_hat if amsgrad == "corrected" else v))
        v_hat = w if amsgrad == "corrected" else w / c2
    theta = theta - gamma * (m / c1) / divisor(v_hat, epsilon, c2, eps)
    return settled(theta, gamma, lambda_, decay), m, v, w


def divisor(v_hat: Any, epsilon: Any, c2: Any, eps: str) -> Any:
    r"""Return what a moment is divided by, given the corrected second moment and its correction.

    With ``"hat"``, :math:`(\sqrt v + \epsilon) / \sqrt{c_2}`: epsilon is where the correction has not been.
    """
    xp = namespace(v_hat)
    if eps == "inside":
        return xp.sqrt(v_hat + epsilon)
    if eps == "limit":
        return xp.maximum(xp.sqrt(v_hat), epsilon)
    return xp.sqrt(v_hat) + (epsilon / c2**0.5 if eps == "hat" else epsilon)


def adamax(
    theta: Any,
    g: Any,
    m: Any,
    u: Any,
    *,
    t: int,
    gamma: Any,
    beta1: Any,
    beta2: Any,
    epsilon: Any,
    lambda_: Any,
    eps: str,
    bias: str,
    decay: str,
    kept: Kept = same,
) -> tuple[Any, ...]:
    """Return the parameter, the first moment and the infinity norm after step t.

    Axes:
        eps: ``"maximum"``, where epsilon is added to the gradient's size in it, ``"outside"``, added to the norm that
            divides, or ``"none"``.
        bias: whether the first moment is corrected: ``"first"`` or ``"none"``.
        decay: as :func:`decayed` has it.

    """
    xp = namespace(theta)
    theta, g = decayed(theta, g, gamma, lambda_, decay)
    m = kept(beta1 * m + (1 - beta1) * g)
    u = kept(xp.maximum(beta2 * u, xp.abs(g) + (epsilon if eps == "maximum" else 0)))
    m_hat = m / one_minus_power(beta1, t) if bias == "first" else m
    theta = theta - gamma * m_hat / (u + epsilon if eps == "outside" else u)
    return settled(theta, gamma, lambda_, decay), m, u


def nadam(
    theta: Any,
    g: Any,
    m: Any,
    v: Any,
    *,
    t: int,
    gamma: Any,
    beta1: Any,
    beta2: Any,
    epsilon: Any,
    psi: Any,
    lambda_: Any,
    eps: str,
    mu: str,
    decay: str,
    kept: Kept = same,
) -> tuple[Any, ...]:
    """Return the parameter and both moments after step t.

    Axes:
        eps: ``"outside"``, ``"hat"`` or ``"inside"``.
        mu: the momenta: a ``"schedule"`` at the pace of psi or, whatever psi is, ``"psi=1"``; ``"constant"``, as if
            psi were 0 without the half, or ``"shared"``: constant, with one correction for both of its terms.
        decay: as :func:`decayed` has it.

    """
    theta, g = decayed(theta, g, gamma, lambda_, decay)
    m = kept(beta1 * m + (1 - beta1) * g)
    v = kept(beta2 * v + (1 - beta2) * g * g)
    if mu in ("schedule", "psi=1"):
        pace = psi if mu == "schedule" else 1
        now, following = momentum(beta1, pace, t), momentum(beta1, pace, t + 1)
        product = prod((momentum(beta1, pace, i) for i in range(1, t)), start=now)
        bias, bias_next = 1 - product, 1 - product * following
    else:
        now = following = beta1
        bias = one_minus_power(beta1, t)
        bias_next = one_minus_power(beta1, t + 1) if mu == "constant" else bias
    m_hat = following / bias_next * m + (1 - now) / bias * g
    c2 = one_minus_power(beta2, t)
    theta = theta - gamma * m_hat / divisor(v / c2, epsilon, c2, eps)
    return settled(theta, gamma, lambda_, decay), m, v


def radam(
    theta: Any,
    g: Any,
    m: Any,
    v: Any,
    *,
    t: int,
    gamma: Any,
    beta1: Any,
    beta2: Any,
    epsilon: Any,
    lambda_: Any,
    eps: str,
    threshold: str,
    below: str,
    decay: str,
    kept: Kept = same,
) -> tuple[Any, ...]:
    """Return the parameter and both moments after step t.

    Axes:
        eps: ``"hat"``, ``"outside"`` or ``"inside"``.
        threshold: what the length of the mean must exceed to be divided by: ``"5"`` or ``"4"``.
        below: what happens until then: a ``"step"`` along the first moment, or none, ``"still"``.
        decay: as :func:`decayed` has it.

    """
    theta, g = decayed(theta, g, gamma, lambda_, decay)
    m = kept(beta1 * m + (1 - beta1) * g)
    v = kept(beta2 * v + (1 - beta2) * g * g)
    m_hat = m / one_minus_power(beta1, t)
    rho, rho_inf = length(beta2, t), 2 / (1 - beta2) - 1
    if rho > int(threshold):
        r = ((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)) ** 0.5
        c2 = one_minus_power(beta2, t)
        theta = theta - gamma * r * m_hat / divisor(v / c2, epsilon, c2, eps)
    elif below == "step":
        theta = theta - gamma * m_hat
    return settled(theta, gamma, lambda_, decay), m, v
