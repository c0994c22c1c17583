"""RMSprop: plain, with momentum, centered, and both."""

from typing import Any

from .decay import coupled
from .namespace import namespace


def rmsprop(
    theta: Any, g: Any, v: Any, *, gamma: Any, alpha: Any, epsilon: Any, lambda_: Any, maximize: bool = False
) -> tuple[Any, Any]:
    r"""Return the parameter and the mean square after one step.

    .. math::
        g_t &\leftarrow g_t + \lambda \theta_{t-1} \\
        v_t &= \alpha v_{t-1} + (1 - \alpha) g_t^2 \\
        \theta_t &= \theta_{t-1} - \gamma \frac{g_t}{\sqrt{v_t} + \epsilon}

    where :math:`\gamma` is ``lr``, :math:`\alpha` is ``alpha``, :math:`\epsilon` is ``eps`` and :math:`\lambda` is
    ``weight_decay``.
    """
    g = coupled(theta, g, lambda_, maximize)
    v = alpha * v + (1 - alpha) * g * g
    return theta - gamma * (g / (namespace(theta).sqrt(v) + epsilon)), v


def momentum(
    theta: Any,
    g: Any,
    v: Any,
    b: Any,
    *,
    gamma: Any,
    alpha: Any,
    epsilon: Any,
    lambda_: Any,
    mu: Any,
    maximize: bool = False,
) -> tuple[Any, Any, Any]:
    r"""Return the parameter, the mean square and the momentum buffer after one step.

    As :func:`rmsprop`, with the step kept in a buffer, without the learning rate:

    .. math::
        b_t &= \mu b_{t-1} + \frac{g_t}{\sqrt{v_t} + \epsilon} \\
        \theta_t &= \theta_{t-1} - \gamma b_t

    where :math:`\mu` is ``momentum``.
    """
    g = coupled(theta, g, lambda_, maximize)
    v = alpha * v + (1 - alpha) * g * g
    b = mu * b + g / (namespace(theta).sqrt(v) + epsilon)
    return theta - gamma * b, v, b


def centered(
    theta: Any, g: Any, v: Any, a: Any, *, gamma: Any, alpha: Any, epsilon: Any, lambda_: Any, maximize: bool = False
) -> tuple[Any, Any, Any]:
    r"""Return the parameter, the mean square and the mean after one step.

    As :func:`rmsprop`, with the variance in the place of the mean square in the root:

    .. math::
        a_t &= \alpha a_{t-1} + (1 - \alpha) g_t \\
        \theta_t &= \theta_{t-1} - \gamma \frac{g_t}{\sqrt{\max(v_t - a_t^2, 0)} + \epsilon}

    A variance is not negative. The maximum says so where :math:`v` and :math:`a` are rounded.
    """
    g = coupled(theta, g, lambda_, maximize)
    v = alpha * v + (1 - alpha) * g * g
    a = alpha * a + (1 - alpha) * g
    return theta - gamma * (g / (_deviation(v, a) + epsilon)), v, a


def centered_momentum(
    theta: Any,
    g: Any,
    v: Any,
    b: Any,
    a: Any,
    *,
    gamma: Any,
    alpha: Any,
    epsilon: Any,
    lambda_: Any,
    mu: Any,
    maximize: bool = False,
) -> tuple[Any, Any, Any, Any]:
    r"""Return the parameter, the mean square, the momentum buffer and the mean after one step.

    As :func:`momentum`, with the root of :func:`centered`.
    """
    g = coupled(theta, g, lambda_, maximize)
    v = alpha * v + (1 - alpha) * g * g
    a = alpha * a + (1 - alpha) * g
    b = mu * b + g / (_deviation(v, a) + epsilon)
    return theta - gamma * b, v, b, a


def _deviation(v: Any, a: Any) -> Any:
    """Return the root of the variance."""
    xp, square = namespace(v), a * a
    return xp.sqrt(xp.maximum(v - square, 0 * square))
