"""What most formulas do first: the direction of the gradient, and weight decay."""

from typing import Any


def coupled(theta: Any, g: Any, lambda_: Any, maximize: bool) -> Any:
    """Return the gradient with its sign, after weight decay has gone into it."""
    if maximize:
        g = -g
    return g if lambda_ == 0 else g + lambda_ * theta


def decayed(theta: Any, g: Any, gamma: Any, lambda_: Any, decoupled: bool, maximize: bool) -> tuple[Any, Any]:
    """Return the parameter and the gradient after weight decay, which has gone into one of them."""
    if decoupled and lambda_ != 0:
        return theta - gamma * lambda_ * theta, -g if maximize else g
    return theta, coupled(theta, g, lambda_, maximize)
