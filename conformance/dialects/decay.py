"""What dialects share: weight decay, which some put into the gradient and others take from the parameter."""

from typing import Any


def same(x: Any) -> Any:
    """Return what is given: state that is kept as it is."""
    return x


def decayed(theta: Any, g: Any, gamma: Any, lambda_: Any, decay: str) -> tuple[Any, Any]:
    r"""Return the parameter and the gradient after what weight decay does before the step.

    ``"l2"`` adds :math:`\lambda \theta` to the gradient, ``"decoupled"`` takes :math:`\gamma \lambda \theta` from the
    parameter and ``"unscaled"`` takes :math:`\lambda \theta`. With ``"after"``, nothing happens before the step.
    """
    if lambda_ == 0:
        return theta, g
    if decay == "l2":
        return theta, g + lambda_ * theta
    if decay == "after":
        return theta, g
    return theta - (gamma * lambda_ if decay == "decoupled" else lambda_) * theta, g


def settled(theta: Any, gamma: Any, lambda_: Any, decay: str) -> Any:
    """Return the parameter after what weight decay does to the stepped one."""
    return theta - gamma * lambda_ * theta if decay == "after" and lambda_ != 0 else theta
