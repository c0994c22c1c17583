"""Adagrad as published, with a learning rate that may decay."""

from typing import Any

from .decay import decayed
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
    decoupled: bool = False,
    inside: bool = False,
) -> tuple[Any, Any]:
    r"""Return the parameter and the sum of squared gradients after step t.

    .. math::
        g_t &\leftarrow g_t + \lambda \theta_{t-1} \\
        s_t &= s_{t-1} + g_t^2 \\
        \theta_t &= \theta_{t-1} - \frac{\gamma}{1 + (t - 1) \eta} \frac{g_t}{\sqrt{s_t} + \epsilon}

    where :math:`\gamma` is ``lr``, :math:`\eta` is ``lr_decay``, :math:`\epsilon` is ``eps``, :math:`\lambda` is
    ``weight_decay`` and :math:`s_0` is ``initial_accumulator_value``. Decay that is ``decoupled`` takes
    :math:`\gamma \lambda \theta_{t-1}` from the parameter and leaves the gradient alone. With ``inside``, as Keras and
    optax have it, :math:`\epsilon` is inside the root: :math:`\sqrt{s_t + \epsilon}`.
    """
    sqrt = namespace(theta).sqrt
    theta, g = decayed(theta, g, gamma, lambda_, decoupled, maximize)
    s = s + g * g
    divisor = sqrt(s + epsilon) if inside else sqrt(s) + epsilon
    return theta - gamma / (1 + (t - 1) * eta) * (g / divisor), s
