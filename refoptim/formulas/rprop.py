"""Rprop as torch has it: the variant known as iRprop-."""

from typing import Any

from .namespace import namespace


def rprop(
    theta: Any,
    g: Any,
    prev: Any,
    eta: Any,
    *,
    eta_minus: Any,
    eta_plus: Any,
    gamma_min: Any,
    gamma_max: Any,
    maximize: bool = False,
) -> tuple[Any, Any, Any]:
    r"""Return the parameter, the gradient to compare the next one with, and the step size after one step.

    .. math::
        \eta_t &= \begin{cases}
        \eta_{t-1} \eta_+ & \text{if } g_{t-1} g_t > 0 \\
        \eta_{t-1} \eta_- & \text{if } g_{t-1} g_t < 0 \text{, and then } g_t \leftarrow 0 \\
        \eta_{t-1} & \text{otherwise}
        \end{cases}
        \quad\text{between } \Gamma_{min} \text{ and } \Gamma_{max} \\
        \theta_t &= \theta_{t-1} - \eta_t \operatorname{sign}(g_t)

    where :math:`\eta_-, \eta_+` are ``etas`` and :math:`\Gamma_{min}, \Gamma_{max}` are ``step_sizes``. Every
    :math:`\eta_t` is kept between them, and a gradient that is not a number leaves the parameter, as in torch.
    """
    xp = namespace(theta, g, eta)  # a learning rate that carries derivatives is in eta first
    if maximize:
        g = -g
    # Of the signs: the product of the gradients may underflow.
    turn = xp.sign(g) * xp.sign(prev)
    eta = xp.clip(xp.where(turn > 0, eta * eta_plus, xp.where(turn < 0, eta * eta_minus, eta)), gamma_min, gamma_max)
    g = xp.where(turn < 0, 0, g)
    return theta - xp.where(g > 0, eta, xp.where(g < 0, -eta, 0)), g, eta
