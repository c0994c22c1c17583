"""Adamax as published."""

from typing import Any

from .decay import coupled
from .namespace import namespace
from .power import one_minus_power


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
    maximize: bool = False,
) -> tuple[Any, Any, Any]:
    r"""Return the parameter, the first moment and the infinity norm after step t.

    .. math::
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t \\
        u_t &= \max(\beta_2 u_{t-1}, |g_t| + \epsilon) \\
        \theta_t &= \theta_{t-1} - \frac{\gamma}{1 - \beta_1^t} \frac{m_t}{u_t}

    where :math:`\gamma` is ``lr``, :math:`\beta_1, \beta_2` are ``betas``, :math:`\epsilon` is ``eps`` and
    :math:`\lambda` is ``weight_decay``, which adds :math:`\lambda \theta_{t-1}` to the gradient.
    """
    xp = namespace(theta)
    g = coupled(theta, g, lambda_, maximize)
    m = beta1 * m + (1 - beta1) * g
    u = xp.maximum(beta2 * u, xp.abs(g) + epsilon)
    return theta - gamma / one_minus_power(beta1, t) * m / u, m, u
