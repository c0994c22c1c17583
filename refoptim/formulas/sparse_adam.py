"""Adam for sparse gradients, as torch has it."""

from typing import Any

from .namespace import namespace
from .power import one_minus_power


def sparse_adam(
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
    maximize: bool = False,
) -> tuple[Any, Any, Any]:
    r"""Return the rows that have a gradient, and both of their moments, after step t.

    .. math::
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t \\
        v_t &= \beta_2 v_{t-1} + (1 - \beta_2) g_t^2 \\
        \theta_t &= \theta_{t-1} - \gamma \frac{\sqrt{1 - \beta_2^t}}{1 - \beta_1^t} \frac{m_t}{\sqrt{v_t} + \epsilon}

    where :math:`\gamma` is ``lr``, :math:`\beta_1, \beta_2` are ``betas`` and :math:`\epsilon` is ``eps``. Rows
    without a gradient stay what they were, their moments too.
    """
    sqrt = namespace(theta).sqrt
    g = -g if maximize else g
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    bias1, bias2 = one_minus_power(beta1, t), one_minus_power(beta2, t)
    return theta - gamma * bias2**0.5 / bias1 * (m / (sqrt(v) + epsilon)), m, v
