"""RAdam as published, with the threshold of its authors' code."""

from math import sqrt
from typing import Any

from .decay import decayed
from .namespace import namespace
from .power import ONE, complement, one_minus_power


def length(beta2: Any, t: int) -> Any:
    r"""Return the length of the mean of squares, :math:`\rho_t = \rho_\infty - 2 t \beta_2^t / (1 - \beta_2^t)`.

    For a float it is rounded once: written plainly, two numbers of some thousands leave one of about 5.
    """
    if isinstance(beta2, float):
        n, d, _, _ = _ratios(beta2, t)
        return n / d
    return 2 / (1 - beta2) - 1 - 2 * t * beta2**t / (1 - beta2**t)


def rectification(beta2: Any, t: int) -> Any:
    r"""Return :math:`r_t`, or 0 where the mean of squares is too short to divide by. For a float it is rounded twice.

    .. math::
        r_t = \sqrt{\frac{(\rho_t - 4)(\rho_t - 2) \rho_\infty}{(\rho_\infty - 4)(\rho_\infty - 2) \rho_t}}
        \quad\text{if } \rho_t > 5, \qquad \rho_\infty = \frac{2}{1 - \beta_2} - 1
    """
    if isinstance(beta2, float):
        n, d, p, q = _ratios(beta2, t)
        long = n > 5 * d
        return sqrt((n - 4 * d) * (n - 2 * d) * p * q / ((p - 4 * q) * (p - 2 * q) * n * d)) if long else 0.0
    rho, rho_inf = length(beta2, t), 2 / (1 - beta2) - 1
    return ((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)) ** 0.5 if rho > 5 else 0


def _ratios(beta2: float, t: int) -> tuple[int, int, int, int]:
    """Return the length as a ratio of two integers, and the length that it goes to as another."""
    kept, whole = beta2.as_integer_ratio()
    bias, p, q = complement(beta2, t), whole + kept, whole - kept
    return p * bias - 2 * t * (ONE - bias) * q, q * bias, p, q


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
    decoupled: bool = False,
    maximize: bool = False,
) -> tuple[Any, Any, Any]:
    r"""Return the parameter and both moments after step t.

    .. math::
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t, \qquad \hat m_t = m_t / (1 - \beta_1^t) \\
        v_t &= \beta_2 v_{t-1} + (1 - \beta_2) g_t^2, \qquad l_t = \sqrt{1 - \beta_2^t} / (\sqrt{v_t} + \epsilon) \\
        \theta_t &= \theta_{t-1} - \gamma \hat m_t r_t l_t \quad\text{or, unless } \rho_t > 5, \quad
        \theta_{t-1} - \gamma \hat m_t

    where :math:`\gamma` is ``lr``, :math:`\beta_1, \beta_2` are ``betas``, :math:`\epsilon` is ``eps`` and
    :math:`\lambda` is ``weight_decay``, which adds :math:`\lambda \theta_{t-1}` to the gradient or, ``decoupled``,
    takes :math:`\gamma \lambda \theta_{t-1}` from the parameter.
    """
    xp = namespace(theta)
    theta, g = decayed(theta, g, gamma, lambda_, decoupled, maximize)
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    m_hat = m / one_minus_power(beta1, t)
    r = rectification(beta2, t)
    if r == 0:
        return theta - gamma * m_hat, m, v
    root = one_minus_power(beta2, t) ** 0.5
    return theta - gamma * r * root * m_hat / (xp.sqrt(v) + epsilon), m, v
