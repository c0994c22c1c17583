"""What the formulas of Adam's descendants do first: the direction of the gradient and weight decay."""

from typing import Any


def decayed(theta: Any, g: Any, gamma: Any, lambda_: Any, decoupled: bool, maximize: bool) -> tuple[Any, Any]:
    """Return the parameter and the gradient after weight decay, which goes into one of them."""
    if maximize:
        g = -g
    if lambda_ == 0:
        return theta, g
    if decoupled:
        return theta - gamma * lambda_ * theta, g
    return theta, g + lambda_ * theta
