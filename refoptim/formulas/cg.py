"""Nonlinear conjugate gradients as published: two choices of beta, and the direction."""

from typing import Any

from .namespace import namespace


def polak_ribiere(g: Any, before: Any) -> Any:
    r"""Return Polak and Ribière's beta, at least 0.

    .. math:: \beta = \max\left(0, \frac{g_t^\top (g_t - g_{t-1})}{g_{t-1}^\top g_{t-1}}\right)
    """
    return _larger(_dot(g, g - before) / _dot(before, before), 0)


def hager_zhang(g: Any, before: Any, d: Any, *, eta: Any) -> Any:
    r"""Return Hager and Zhang's beta, at least a bound below 0.

    .. math::
        \beta = \max\left(\frac{1}{d^\top y} \left(y - 2 d \frac{y^\top y}{d^\top y}\right)^\top g_t,
            \frac{-1}{\|d\| \min(\eta, \|g_{t-1}\|)}\right), \quad y = g_t - g_{t-1}
    """
    sqrt = namespace(g).sqrt
    y = g - before
    curvature = _dot(d, y)
    beta = _dot(y - 2 * (_dot(y, y) / curvature) * d, g) / curvature
    steepness = sqrt(_dot(before, before))
    return _larger(beta, -1 / (sqrt(_dot(d, d)) * (eta if steepness > eta else steepness)))


def direction(g: Any, d: Any, beta: Any) -> Any:
    r"""Return the next direction, :math:`\beta d - g`."""
    return beta * d - g


def _dot(x: Any, y: Any) -> Any:
    return (x * y).sum()


def _larger(x: Any, y: Any) -> Any:
    return x if x > y else y
