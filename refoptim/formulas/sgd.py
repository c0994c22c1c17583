"""Stochastic gradient descent as published: plain, with momentum and with Nesterov's."""

from typing import Any

from .decay import coupled, decayed


def sgd(theta: Any, g: Any, *, gamma: Any, lambda_: Any, maximize: bool = False) -> tuple[Any]:
    r"""Return the parameter after one step.

    .. math::
        \theta_t = \theta_{t-1} - \gamma (g_t + \lambda \theta_{t-1})

    where :math:`\gamma` is ``lr`` and :math:`\lambda` is ``weight_decay``.
    """
    return (theta - gamma * coupled(theta, g, lambda_, maximize),)


def momentum(
    theta: Any,
    g: Any,
    b: Any,
    *,
    first: bool,
    gamma: Any,
    mu: Any,
    tau: Any,
    lambda_: Any,
    nesterov: bool = False,
    maximize: bool = False,
    decoupled: bool = False,
    inside: bool = False,
) -> tuple[Any, Any]:
    r"""Return the parameter and the momentum buffer after one step.

    .. math::
        g_t &\leftarrow g_t + \lambda \theta_{t-1} \\
        b_t &= \mu b_{t-1} + (1 - \tau) g_t \quad\text{and, at a parameter's first gradient, } b_t = g_t \\
        \theta_t &= \theta_{t-1} - \gamma b_t \quad\text{or, with Nesterov's, }
        \theta_{t-1} - \gamma (g_t + \mu b_t)

    where :math:`\gamma` is ``lr``, :math:`\mu` is ``momentum``, :math:`\tau` is ``dampening`` and :math:`\lambda` is
    ``weight_decay``. The learning rate stays outside the buffer, as in torch. With ``inside`` it is in there, as
    Sutskever et al. and Keras have it: :math:`\gamma g_t` takes the place of :math:`g_t` from the buffer on, and
    :math:`\theta_t = \theta_{t-1} - b_t` or :math:`\theta_{t-1} - (\gamma g_t + \mu b_t)`. Decay that is ``decoupled``
    takes :math:`\gamma \lambda \theta_{t-1}` from the parameter and leaves the gradient alone.
    """
    theta, g = decayed(theta, g, gamma, lambda_, decoupled, maximize)
    pull = gamma * g if inside else g
    b = 1 * pull if first else mu * b + (1 - tau) * pull
    direction = pull + mu * b if nesterov else b
    return theta - (direction if inside else gamma * direction), b
