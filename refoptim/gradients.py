"""Handing over the gradients of many parameters at once."""

from typing import Any

from numpy import ndarray

from . import devices
from .parameter import Parameter


def assign(params: list[Parameter], grads: list[Any]) -> None:
    """Give each parameter its gradient, or none. Raise before the first is assigned."""
    if len(grads) != len(params):
        raise ValueError(f"got {len(grads)} gradients for {len(params)} parameters")
    for param, grad in zip(params, grads, strict=True):
        if grad is not None:
            param.check_grad(grad)
    # A gradient may lie in the flat gradient itself, where an earlier assignment would overwrite it.
    flats = [buffer.grad for buffer in {param.buffer for param in params} if buffer is not None]
    held = [devices.device_of(grad).duplicate(grad) if _may_overlap(grad, flats) else grad for grad in grads]
    for param, grad in zip(params, held, strict=True):
        param.grad = grad


def _may_overlap(grad: Any, flats: list[Any]) -> bool:
    # An array without a base has its memory for itself; the flat ones are views.
    is_own = grad is None or (type(grad) is ndarray and grad.base is None)
    return not is_own and any(devices.may_overlap(grad, flat) for flat in flats)
