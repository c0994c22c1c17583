"""Adam, AdamW and AMSGrad as published."""

from typing import Any

from .decay import decayed
from .namespace import namespace
from .power import one_minus_power


def adam(
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
    decoupled: bool = False,
    maximize: bool = False,
    hat: bool = False,
) -> tuple[Any, Any, Any]:
    r"""Return the parameter and both moments after step t.

    .. math::
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t \\
        v_t &= \beta_2 v_{t-1} + (1 - \beta_2) g_t^2 \\
        \theta_t &= \theta_{t-1} - \gamma \frac{m_t / (1 - \beta_1^t)}{\sqrt{v_t / (1 - \beta_2^t)} + \epsilon}

    where :math:`\gamma` is ``lr``, :math:`\beta_1, \beta_2` are ``betas``, :math:`\epsilon` is ``eps`` and
    :math:`\lambda` is ``weight_decay``, which adds :math:`\lambda \theta_{t-1}` to the gradient or, ``decoupled``,
    takes :math:`\gamma \lambda \theta_{t-1}` from the parameter. With ``hat``, :math:`\epsilon` is where the correction
    has not been, as in Keras and TensorFlow, :math:`\gamma \frac{\sqrt{1 - \beta_2^t}}{1 - \beta_1^t}
    \frac{m_t}{\sqrt{v_t} + \epsilon}`: it is divided by :math:`\sqrt{1 - \beta_2^t}`.
    """
    sqrt = namespace(theta).sqrt
    theta, g = decayed(theta, g, gamma, lambda_, decoupled, maximize)
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    m_hat = m / one_minus_power(beta1, t)
    v_hat = v / one_minus_power(beta2, t)
    if hat:
        epsilon = epsilon / one_minus_power(beta2, t) ** 0.5
    return theta - gamma * m_hat / (sqrt(v_hat) + epsilon), m, v


def amsgrad(
    theta: Any,
    g: Any,
    m: Any,
    v: Any,
    v_max: Any,
    *,
    t: int,
    gamma: Any,
    beta1: Any,
    beta2: Any,
    epsilon: Any,
    lambda_: Any,
    decoupled: bool = False,
    maximize: bool = False,
    hat: bool = False,
) -> tuple[Any, Any, Any, Any]:
    r"""Return the parameter, both moments and the largest second moment so far after step t.

    As :func:`adam`, with :math:`\hat v^{max}_t = \max(\hat v^{max}_{t-1}, v_t)` in the place of :math:`v_t` in the
    root: the maximum is taken before the bias is corrected, as torch does since 2.6 and as its code always did.
    """
    xp = namespace(theta)
    theta, g = decayed(theta, g, gamma, lambda_, decoupled, maximize)
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    v_max = xp.maximum(v_max, v)
    m_hat = m / one_minus_power(beta1, t)
    v_hat = v_max / one_minus_power(beta2, t)
    if hat:
        epsilon = epsilon / one_minus_power(beta2, t) ** 0.5
    return theta - gamma * m_hat / (xp.sqrt(v_hat) + epsilon), m, v, v_max


def amsgrad_corrected(
    theta: Any,
    g: Any,
    m: Any,
    v: Any,
    v_max: Any,
    *,
    t: int,
    gamma: Any,
    beta1: Any,
    beta2: Any,
    epsilon: Any,
    lambda_: Any,
    decoupled: bool = False,
    maximize: bool = False,
) -> tuple[Any, Any, Any, Any]:
    r"""Return the parameter, both moments and the largest corrected second moment so far after step t.

    As :func:`adam`, with :math:`\hat v^{max}_t = \max(\hat v^{max}_{t-1}, v_t / (1 - \beta_2^t))` in the root: the
    maximum is taken after the bias is corrected, as optax does.
    """
    xp = namespace(theta)
    theta, g = decayed(theta, g, gamma, lambda_, decoupled, maximize)
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    v_max = xp.maximum(v_max, v / one_minus_power(beta2, t))
    m_hat = m / one_minus_power(beta1, t)
    return theta - gamma * m_hat / (xp.sqrt(v_max) + epsilon), m, v, v_max
