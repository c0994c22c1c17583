"""NAdam with the momentum schedule of its paper, as torch documents it."""

from typing import Any

from .decay import decayed
from .namespace import namespace
from .power import one_minus_power


def momentum(beta1: Any, psi: Any, t: int) -> Any:
    r"""Return the schedule's momentum of step t, :math:`\mu_t = \beta_1 (1 - \frac12 0.96^{t \psi})`."""
    return beta1 * (1 - 0.5 * 0.96 ** (t * psi))


def one_minus_momentum(beta1: Any, psi: Any, t: int) -> Any:
    """Return what is missing from the momentum to 1, as a sum of what is positive: near 1 the difference cancels."""
    return 1 - beta1 + beta1 * (0.5 * 0.96 ** (t * psi))


def nadam(
    theta: Any,
    g: Any,
    m: Any,
    v: Any,
    *,
    t: int,
    mu_product: Any,
    gamma: Any,
    beta1: Any,
    beta2: Any,
    epsilon: Any,
    psi: Any,
    lambda_: Any,
    decoupled: bool = False,
    maximize: bool = False,
) -> tuple[Any, Any, Any]:
    r"""Return the parameter and both moments after step t, given the product of the momenta before it.

    .. math::
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t \\
        v_t &= \beta_2 v_{t-1} + (1 - \beta_2) g_t^2 \\
        \hat m_t &= \frac{\mu_{t+1} m_t}{1 - \prod_{i=1}^{t+1} \mu_i}
        + \frac{(1 - \mu_t) g_t}{1 - \prod_{i=1}^t \mu_i} \\
        \theta_t &= \theta_{t-1} - \gamma \frac{\hat m_t}{\sqrt{v_t / (1 - \beta_2^t)} + \epsilon}

    where :math:`\gamma` is ``lr``, :math:`\beta_1, \beta_2` are ``betas``, :math:`\epsilon` is ``eps``, :math:`\psi`
    is ``momentum_decay`` and :math:`\lambda` is ``weight_decay``, which adds :math:`\lambda \theta_{t-1}` to the
    gradient or, ``decoupled``, takes :math:`\gamma \lambda \theta_{t-1}` from the parameter. What is missing from a
    product to 1 is :math:`1 - \prod_{i<t} \mu_i + (1 - \mu_t) \prod_{i<t} \mu_i`.
    """
    sqrt = namespace(theta).sqrt
    theta, g = decayed(theta, g, gamma, lambda_, decoupled, maximize)
    mu, mu_next = momentum(beta1, psi, t), momentum(beta1, psi, t + 1)
    rest, rest_next = one_minus_momentum(beta1, psi, t), one_minus_momentum(beta1, psi, t + 1)
    bias = 1 - mu_product + mu_product * rest
    bias_next = bias + mu_product * mu * rest_next
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    m_hat = mu_next / bias_next * m + rest / bias * g
    v_hat = v / one_minus_power(beta2, t)
    return theta - gamma * m_hat / (sqrt(v_hat) + epsilon), m, v
