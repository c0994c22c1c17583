"""Adafactor as published in its version without momentum, with relative step sizes and a limit on the update."""

from typing import Any

import numpy as np

from .namespace import namespace


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
    maximize: bool = False,
) -> tuple[Any, Any, Any, Any]:
    r"""Return the parameter and its state after step t. What its shape has no state for is handed through.

    .. math::
        w_t &= t^\tau, \qquad \rho_t = \min(\gamma, 1 / \sqrt t), \qquad
        \alpha_t = \max(\epsilon_2, \operatorname{RMS}(\theta_{t-1})) \rho_t \\
        r_t &= (1 - w_t) r_{t-1} + w_t \operatorname{mean}_{columns}(g_t^2) \\
        c_t &= (1 - w_t) c_{t-1} + w_t \operatorname{mean}_{rows}(g_t^2) \\
        \hat v_t &= r_t c_t / \max(\operatorname{mean}(r_t), \epsilon_1) \\
        u_t &= g_t / \sqrt{\max(\hat v_t, \epsilon_1^2)} \\
        \theta_t &= \theta_{t-1} - \gamma \lambda \theta_{t-1}
            - \alpha_t u_t / \max(1, \operatorname{RMS}(u_t) / d)

    where :math:`\gamma` is ``lr``, :math:`\tau` is ``beta2_decay``, :math:`\epsilon_1, \epsilon_2` are ``eps`` and
    :math:`\lambda` is ``weight_decay``. A vector has
    :math:`\hat v_t = (1 - w_t) \hat v_{t-1} + w_t g_t^2`, and more than two dimensions are many matrices.
    """
    xp = namespace(theta)
    epsilon1 = float(np.finfo(theta.dtype).eps) if epsilon1 is None else epsilon1
    w = t**tau
    square = g * g
    if theta.ndim > 1:
        r = (1 - w) * r + w * (square.sum(-1, keepdims=True) / theta.shape[-1])
        c = (1 - w) * c + w * (square.sum(-2, keepdims=True) / theta.shape[-2])
        mean = r.sum(-2, keepdims=True) / theta.shape[-2]
        estimate = r * c / xp.maximum(mean, epsilon1)
    else:
        estimate = v = (1 - w) * v + w * square
    u = g / xp.sqrt(xp.maximum(estimate, epsilon1**2))
    # Both are numbers. Exact ones that cannot be told apart are the same: either is right.
    alpha = xp.maximum(_rms(theta), epsilon2) * min(gamma, t**-0.5)
    u = alpha / xp.maximum(_rms(u) / d, 1) * u
    kept = theta - gamma * lambda_ * theta if lambda_ else theta
    return kept - (-u if maximize else u), r, c, v


def _rms(x: Any) -> Any:
    return namespace(x).sqrt((x * x).sum() / x.size)
