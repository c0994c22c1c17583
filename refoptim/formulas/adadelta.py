"""Adadelta as published."""

from typing import Any

from .decay import coupled
from .namespace import namespace


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
    maximize: bool = False,
) -> tuple[Any, Any, Any]:
    r"""Return the parameter and the mean squares of gradient and update after one step.

    .. math::
        g_t &\leftarrow g_t + \lambda \theta_{t-1} \\
        v_t &= \rho v_{t-1} + (1 - \rho) g_t^2 \\
        \Delta_t &= \frac{\sqrt{u_{t-1} + \epsilon}}{\sqrt{v_t + \epsilon}} g_t \\
        u_t &= \rho u_{t-1} + (1 - \rho) \Delta_t^2 \\
        \theta_t &= \theta_{t-1} - \gamma \Delta_t

    where :math:`\gamma` is ``lr``, :math:`\rho` is ``rho``, :math:`\epsilon` is ``eps`` and :math:`\lambda` is
    ``weight_decay``.
    """
    sqrt = namespace(theta).sqrt
    g = coupled(theta, g, lambda_, maximize)
    v = rho * v + (1 - rho) * g * g
    delta = sqrt(u + epsilon) / sqrt(v + epsilon) * g
    u = rho * u + (1 - rho) * delta * delta
    return theta - gamma * delta, v, u
