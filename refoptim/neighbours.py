"""Parameters that lie one behind the other in one buffer, so that a step takes them as one array."""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

from .buffers import FlatBuffer
from .cpu import Device
from .parameter import Parameter


def gathered(params: Sequence[Parameter], device: Device) -> Callable[[], None]:
    """Copy parameters of one dtype into one buffer of a device, in this order, unless they lie so already.

    Returns what makes the buffer theirs. Until it is called nothing has changed, and it does not fail.
    """
    # One alone stays where it is; several need no buffers of their own.
    home = params[0].buffer if len(params) == 1 else params[0]._buffer
    if home is not None and home.device is device and lie_together(params):
        return lambda: None
    for param in params:
        param.check_plain()
    offsets = list(accumulate((param.size for param in params), initial=0))
    buffer = FlatBuffer(params[0].dtype, offsets.pop(), device)
    arrays = list(buffer.cut(param.shape for param in params))
    for param, (data, grad) in zip(params, arrays, strict=True):
        param.copy_to(device, data, grad)

    def move() -> None:
        for param, offset, (data, grad) in zip(params, offsets, arrays, strict=True):
            param.move_to(buffer, offset, data, grad)

    return move


def gather(params: Sequence[Parameter]) -> None:
    """Make parameters of one dtype and device neighbours in one buffer, in this order, unless they are already."""
    gathered(params, params[0].place)()


def lie_together(params: Sequence[Parameter]) -> bool:
    """Return whether each parameter starts in memory where the one before it ends."""
    buffer, end = params[0].buffer, params[0].offset
    for param in params:
        if param._buffer is not buffer or param.offset != end:
            return False
        end += param._data.size
    return True


def by_home(params: Sequence[Parameter]) -> list[list[Parameter]]:
    """Return the parameters of each dtype and device."""
    homes: dict[Any, list[Parameter]] = {}
    home, dtype, place = [], None, None
    for param in params:
        if param._data.dtype is not dtype or param.place is not place:  # as a rule all are like the first
            dtype, place = param.dtype, param.place
            home = homes.setdefault((dtype, place), [])
        home.append(param)
    return list(homes.values())


def is_neighbour(left: Parameter, right: Parameter) -> bool:
    """Return whether one parameter starts in memory where the other ends."""
    return left._buffer is right._buffer and left.offset + left.size == right.offset
