"""Averaged stochastic gradient descent, as torch's foreach implementation computes it: torch documents no formula."""

from typing import Any


def schedule(*, t: int, gamma: Any, lambd: Any, alpha: Any, t0: Any) -> tuple[Any, Any]:
    r"""Return the step size and the weight of the average for the step after step t.

    .. math::
        \eta_{t+1} = \frac{\gamma}{(1 + \lambda' \gamma t)^\alpha}, \qquad \mu_{t+1} = \frac{1}{\max(1, t - t_0)}

    where :math:`\gamma` is ``lr``, :math:`\lambda'` is ``lambd``, :math:`\alpha` is ``alpha`` and :math:`t_0` is
    ``t0``.
    """
    return gamma / (1 + lambd * gamma * t) ** alpha, 1 / max(1, t - t0)


def asgd(
    theta: Any,
    g: Any,
    ax: Any,
    *,
    eta: Any,
    mu: Any,
    lambd: Any,
    lambda_: Any,
    maximize: bool = False,
) -> tuple[Any, Any]:
    r"""Return the parameter and its average after one step.

    .. math::
        \theta_t &= \theta_{t-1} - \eta_t (g_t + (\lambda + \lambda') \theta_{t-1}) \\
        a_t &= a_{t-1} + \mu_t (\theta_t - a_{t-1})

    where :math:`\lambda` is ``weight_decay``, :math:`\lambda'` is ``lambd``, and :math:`\eta_t` and :math:`\mu_t` come
    from :func:`schedule`; at the first step they are :math:`\gamma` and 1.
    """
    if maximize:
        g = -g
    if lambda_ + lambd != 0:
        g = g + (lambda_ + lambd) * theta
    theta = theta - eta * g
    # An average of one parameter is a copy of it, whatever was there before.
    return theta, mu * theta if mu == 1 else ax + mu * (theta - ax)
