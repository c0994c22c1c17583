"""Adagrad as published, with a learning rate that may decay."""

from typing import Any

from .decay import coupled
from .namespace import namespace


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
    maximize: bool = False,
) -> tuple[Any, Any]:
    r"""Return the parameter and the sum of squared gradients after step t.

    .. math::
        g_t &\leftarrow g_t + \lambda \theta_{t-1} \\
        s_t &= s_{t-1} + g_t^2 \\
        \theta_t &= \theta_{t-1} - \frac{\gamma}{1 + (t - 1) \eta} \frac{g_t}{\sqrt{s_t} + \epsilon}

    where :math:`\gamma` is ``lr``, :math:`\eta` is ``lr_decay``, :math:`\epsilon` is ``eps``, :math:`\lambda` is
    ``weight_decay`` and :math:`s_0` is ``initial_accumulator_value``.
    """
    sqrt = namespace(theta).sqrt
    g = coupled(theta, g, lambda_, maximize)
    s = s + g * g
    return theta - gamma / (1 + (t - 1) * eta) * (g / (sqrt(s) + epsilon)), s
