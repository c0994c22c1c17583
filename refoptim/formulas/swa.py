"""Averages of a model's weights along its training, equal and exponential, as published."""

from typing import Any


def ema(theta: Any, g: Any, *, decay: Any) -> Any:
    r"""Return the exponential average after one more value.

    .. math::
        \bar\theta_t = \beta \bar\theta_{t-1} + (1 - \beta) \theta_t

    where :math:`\bar\theta` is ``theta``, :math:`\theta` is ``g``, the model's weights, and :math:`\beta` is ``decay``.
    """
    return decay * theta + (1 - decay) * g


def swa(theta: Any, g: Any, *, n: Any) -> Any:
    r"""Return the mean of n + 1 values, given the mean of the first n and the last one.

    .. math::
        \bar\theta_{n+1} = \bar\theta_n + \frac{\theta_{n+1} - \bar\theta_n}{n + 1}

    where :math:`\bar\theta` is ``theta`` and :math:`\theta` is ``g``, the model's weights.
    """
    return theta + (g - theta) / (n + 1)
