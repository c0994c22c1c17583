"""Which flat arrays an update goes through: as few as the places of the parameters in memory allow."""

from collections.abc import Iterator
from operator import is_
from typing import Any, NamedTuple

import numpy as np

from ..buffers import REAL_TYPE, Array, FlatBuffer
from ..neighbours import by_home, gather, is_neighbour
from ..parameter import Parameter
from .protocol import listed_parameters, named_parameters

Pair = tuple[Array, Array]  # an average, and the value that enters it


class Plan(NamedTuple):
    """The averages of some parameters and what enters them, as flat real arrays, for as long as none of them moves."""

    own: list[Parameter]
    params: list[Parameter]
    runs: list[Pair]
    homes: list[tuple[FlatBuffer, int]]  # where they lie, and how many had left when this was made
    listed: tuple[list[Any], list[Any]]  # what the models named

    def fits(self, own: list[Any], params: list[Any]) -> bool:
        """Return whether this is still the plan for models that name these parameters."""
        unmoved = bool(self.homes) and all(buffer.moves == moves for buffer, moves in self.homes)
        return unmoved and all(map(_same, self.listed, (own, params)))


def plan_of(averaged: Any, model: Any) -> Plan:
    """Return the plan for two models. Raise unless their parameters agree in number, shape and dtype."""
    own, params = (list(named_parameters(one).values()) for one in (averaged, model))
    check_alike("parameters", own, params)
    if any(param.buffer is None for param in own):
        # An optimizer with differentiable=True has taken them out.
        settle(own)
    runs: list[Pair] = []
    for home in dict.fromkeys((param.dtype, param.place) for param in own):
        run: list[tuple[Parameter, Parameter]] = []
        for pair in zip(own, params, strict=True):
            if (pair[0].dtype, pair[0].place) == home:
                if run and not all(map(_touch, run[-1], pair)):
                    runs += _flat(run)
                    run = []
                run.append(pair)
        runs += _flat(run)
    buffers = {id(param.buffer): param.buffer for param in own + params}
    # A parameter without a buffer has a new array after every step.
    homes = [] if None in buffers.values() else [(b, b.moves) for b in buffers.values() if b is not None]
    return Plan(own, params, runs, homes, (listed_parameters(averaged), listed_parameters(model)))


def settle(own: list[Parameter]) -> None:
    """Make the parameters of each dtype and device neighbours in one flat buffer."""
    for alike in by_home(own):
        gather(alike)


def check_alike(what: str, own: list[Any], others: list[Any]) -> None:
    """Raise unless the averages and the model agree in number, shapes and dtypes."""
    if len(own) != len(others):
        raise ValueError(f"the averaged model has {len(own)} {what}, but the model has {len(others)}")
    for place, (left, right) in enumerate(zip(own, others, strict=True)):
        if tuple(left.shape) != tuple(right.shape) or left.dtype != right.dtype:
            raise ValueError(
                f"{what} {place}: the averaged model has shape {left.shape} and dtype {left.dtype}, "
                f"but the model has shape {right.shape} and dtype {right.dtype}"
            )


def _same(left: list[Any], right: list[Any]) -> bool:
    return len(left) == len(right) and all(map(is_, left, right))


def _touch(left: Parameter, right: Parameter) -> bool:
    return left.buffer is not None and is_neighbour(left, right)


def _flat(run: list[tuple[Parameter, Parameter]]) -> Iterator[Pair]:
    """Yield a run of neighbours as one pair of flat arrays, unless it is empty."""
    size = sum(own.size for own, _ in run)
    if size:
        yield _reals(run[0][0], size), _reals(run[0][1], size)


def _reals(first: Parameter, size: int) -> Array:
    """Return this many elements from a parameter on, as real numbers."""
    real = REAL_TYPE[np.dtype(first.dtype)]
    if first.buffer is None:
        first.check_plain()
        return np.ascontiguousarray(first.data).reshape(-1).view(real)
    width = first.buffer.dtype.itemsize // real.itemsize
    return first.buffer.theta[width * first.offset : width * (first.offset + size)]
