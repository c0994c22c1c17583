"""Adamax as published."""

from typing import Any

from .decay import decayed
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
    decoupled: bool = False,
    outside: bool = False,
) -> tuple[Any, Any, Any]:
    r"""Return the parameter, the first moment and the infinity norm after step t.

    .. math::
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t \\
        u_t &= \max(\beta_2 u_{t-1}, |g_t| + \epsilon) \\
        \theta_t &= \theta_{t-1} - \frac{\gamma}{1 - \beta_1^t} \frac{m_t}{u_t}

    where :math:`\gamma` is ``lr``, :math:`\beta_1, \beta_2` are ``betas``, :math:`\epsilon` is ``eps`` and
    :math:`\lambda` is ``weight_decay``, which adds :math:`\lambda \theta_{t-1}` to the gradient or, ``decoupled``,
    takes :math:`\gamma \lambda \theta_{t-1}` from the parameter. With ``outside``, as Keras has it, :math:`\epsilon` is
    not in the maximum but in the division, :math:`m_t / (u_t + \epsilon)`.
    """
    xp = namespace(theta)
    theta, g = decayed(theta, g, gamma, lambda_, decoupled, maximize)
    m = beta1 * m + (1 - beta1) * g
    u = xp.maximum(beta2 * u, xp.abs(g) if outside else xp.abs(g) + epsilon)
    divisor = u + epsilon if outside else u
    return theta - gamma / one_minus_power(beta1, t) * m / divisor, m, u
