"""RMSprop: plain, with momentum, centered, and both."""

from typing import Any

from .decay import decayed
from .namespace import namespace


def rmsprop(
    theta: Any,
    g: Any,
    v: Any,
    *,
    gamma: Any,
    alpha: Any,
    epsilon: Any,
    lambda_: Any,
    maximize: bool = False,
    decoupled: bool = False,
    inside: bool = False,
) -> tuple[Any, Any]:
    r"""Return the parameter and the mean square after one step.

    .. math::
        g_t &\leftarrow g_t + \lambda \theta_{t-1} \\
        v_t &= \alpha v_{t-1} + (1 - \alpha) g_t^2 \\
        \theta_t &= \theta_{t-1} - \gamma \frac{g_t}{\sqrt{v_t} + \epsilon}

    where :math:`\gamma` is ``lr``, :math:`\alpha` is ``alpha``, :math:`\epsilon` is ``eps`` and :math:`\lambda` is
    ``weight_decay``, which adds :math:`\lambda \theta_{t-1}` to the gradient or, ``decoupled``, takes
    :math:`\gamma \lambda \theta_{t-1}` from the parameter. With ``inside``, as Keras, TensorFlow and optax have it,
    :math:`\epsilon` is inside the root: :math:`\sqrt{v_t + \epsilon}`.
    """
    theta, g = decayed(theta, g, gamma, lambda_, decoupled, maximize)
    v = alpha * v + (1 - alpha) * g * g
    return theta - gamma * (g / _divisor(v, epsilon, inside)), v


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
    decoupled: bool = False,
    inside: bool = False,
) -> tuple[Any, Any, Any]:
    r"""Return the parameter, the mean square and the momentum buffer after one step.

    As :func:`rmsprop`, with the step kept in a buffer, without the learning rate:

    .. math::
        b_t &= \mu b_{t-1} + \frac{g_t}{\sqrt{v_t} + \epsilon} \\
        \theta_t &= \theta_{t-1} - \gamma b_t

    where :math:`\mu` is ``momentum``. With ``inside``, the learning rate is inside the buffer as :math:`\epsilon` is
    inside the root:

    .. math::
        b_t &= \mu b_{t-1} + \gamma \frac{g_t}{\sqrt{v_t + \epsilon}} \\
        \theta_t &= \theta_{t-1} - b_t
    """
    theta, g = decayed(theta, g, gamma, lambda_, decoupled, maximize)
    v = alpha * v + (1 - alpha) * g * g
    if inside:
        b = mu * b + gamma * (g / _divisor(v, epsilon, inside))
        return theta - b, v, b
    b = mu * b + g / _divisor(v, epsilon, inside)
    return theta - gamma * b, v, b


def centered(
    theta: Any,
    g: Any,
    v: Any,
    a: Any,
    *,
    gamma: Any,
    alpha: Any,
    epsilon: Any,
    lambda_: Any,
    maximize: bool = False,
    decoupled: bool = False,
    inside: bool = False,
) -> tuple[Any, Any, Any]:
    r"""Return the parameter, the mean square and the mean after one step.

    As :func:`rmsprop`, with the variance in the place of the mean square in the root:

    .. math::
        a_t &= \alpha a_{t-1} + (1 - \alpha) g_t \\
        \theta_t &= \theta_{t-1} - \gamma \frac{g_t}{\sqrt{\max(v_t - a_t^2, 0)} + \epsilon}

    A variance is not negative. The maximum says so where :math:`v` and :math:`a` are rounded.
    """
    theta, g = decayed(theta, g, gamma, lambda_, decoupled, maximize)
    v = alpha * v + (1 - alpha) * g * g
    a = alpha * a + (1 - alpha) * g
    return theta - gamma * (g / _divisor(_variance(v, a), epsilon, inside)), v, a


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
    decoupled: bool = False,
    inside: bool = False,
) -> tuple[Any, Any, Any, Any]:
    r"""Return the parameter, the mean square, the momentum buffer and the mean after one step.

    As :func:`momentum`, with the root of :func:`centered`.
    """
    theta, g = decayed(theta, g, gamma, lambda_, decoupled, maximize)
    v = alpha * v + (1 - alpha) * g * g
    a = alpha * a + (1 - alpha) * g
    if inside:
        b = mu * b + gamma * (g / _divisor(_variance(v, a), epsilon, inside))
        return theta - b, v, b, a
    b = mu * b + g / _divisor(_variance(v, a), epsilon, inside)
    return theta - gamma * b, v, b, a


def _variance(v: Any, a: Any) -> Any:
    square = a * a
    return namespace(v).maximum(v - square, 0 * square)


def _divisor(square: Any, epsilon: Any, inside: bool) -> Any:
    sqrt = namespace(square).sqrt
    return sqrt(square + epsilon) if inside else sqrt(square) + epsilon
