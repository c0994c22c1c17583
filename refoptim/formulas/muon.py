"""Muon as published: momentum, made orthogonal by Newton and Schulz's iteration."""

from collections.abc import Callable
from typing import Any

from .namespace import namespace


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
    match_rms: bool = False,
    rounded: Callable[[Any], Any] = lambda x: x,
) -> tuple[Any, Any]:
    r"""Return the matrix and its momentum after a step.

    .. math::
        b_t &= \mu b_{t-1} + (1 - \mu) g_t \\
        u_t &= \mu b_t + (1 - \mu) g_t \quad\text{with nesterov, or } b_t \\
        \theta_t &= \theta_{t-1} - \gamma \lambda \theta_{t-1} - \gamma s \operatorname{NS}(u_t)

    where :math:`\gamma` is ``lr``, :math:`\mu` is ``momentum``, :math:`\lambda` is ``weight_decay`` and :math:`s` is
    :math:`\sqrt{\max(1, \text{rows} / \text{columns})}` or, with ``match_rms``,
    :math:`0.2 \sqrt{\max(\text{rows}, \text{columns})}`.
    """
    b = mu * b + (1 - mu) * g
    u = mu * b + (1 - mu) * g if nesterov else b
    rows, columns = u.shape
    x = u if rows <= columns else u.swapaxes(0, 1)
    x = orthogonalized(x, coefficients, epsilon, steps, rounded)
    # The root of a product with gamma, which may be exact, is as exact as gamma.
    adjusted = (0.2 * gamma) ** 2 * max(rows, columns) if match_rms else gamma**2 * max(rows, columns) / columns
    return theta - gamma * lambda_ * theta - adjusted**0.5 * (x if rows <= columns else x.swapaxes(0, 1)), b


def orthogonalized(
    u: Any, coefficients: tuple[Any, Any, Any], epsilon: Any, steps: int, rounded: Callable[[Any], Any]
) -> Any:
    r"""Return a matrix with the singular vectors of u, and with singular values near 1.

    .. math::
        X_0 &= u / \max(\|u\|, \epsilon) \\
        X_{k+1} &= a X_k + (b A_k + c A_k^2) X_k, \quad A_k = X_k X_k^\top

    where :math:`(a, b, c)` are ``ns_coefficients``, :math:`\epsilon` is ``eps`` and the norm is Frobenius's.
    """
    xp = namespace(u)
    a, b, c = coefficients
    u = rounded(u)
    x = rounded(u / rounded(xp.maximum(xp.sqrt((u * u).sum()), epsilon)))
    for _ in range(steps):
        gram = rounded(x @ x.swapaxes(0, 1))
        x = rounded(a * x + rounded(b * gram + c * (gram @ gram)) @ x)
    return x
