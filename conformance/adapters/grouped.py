"""Libraries whose optimizers have no groups: each group of a problem gets an optimizer of its own."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from refoptim.conformance.runner.adapter import Base, Unsupported
from refoptim.conformance.vectors.vector import Group, Rows, Trajectory, kind_of

Array = NDArray[Any]


class Part(Protocol):
    """A group's parameters and their optimizer."""

    @property
    def names(self) -> Mapping[str, str]:
        """The library's own names of what its state has, by torch's."""
        ...

    def step(self, grads: dict[str, Array | None], lr: float | None) -> None:
        """Take one step, by the learning rate that there was if this one is None."""
        ...

    def params(self) -> dict[str, Array]:
        """Return the parameters' values."""
        ...

    def state(self) -> dict[str, dict[str, Array]]:
        """Return their state, by torch's names, where the library keeps the same quantity."""
        ...

    def write(self, params: dict[str, Array], state: dict[str, dict[str, Array]]) -> None:
        """Overwrite values and state."""
        ...


class Grouped(Base):
    """An adapter made of parts."""

    none_grads = False  # whether gradients may be missing

    def _part(self, problem: Trajectory, group: Group, params: dict[str, Array]) -> Part:
        """Return the part of a group."""
        raise NotImplementedError

    def start(self, problem: Trajectory) -> None:
        """Build a part for each group."""
        grads = [grad for step in problem.steps for grad in step.grads.values()]
        names = [name for group in problem.groups for name in group.params]
        absent = {
            f"dtype:{problem.dtype}": problem.dtype.startswith("c"),
            "feature:sparse": any(isinstance(grad, Rows) for grad in grads),
            "feature:none_grad": not self.none_grads and any(grad is None for grad in grads),
            "feature:param_groups": len(set(names)) < len(names),
        }
        if any(absent.values()):
            raise Unsupported(*(name for name, wanted in absent.items() if wanted))
        self._kind = kind_of(problem.dtype)
        self._parts = [
            self._part(problem, group, {name: problem.params[name] for name in group.params})
            for group in problem.groups
        ]

    def step(self, grads: dict[str, Array | Rows | None], lrs: tuple[float, ...]) -> None:
        """Take one step in every group that has gradients."""
        for part, lr in zip(self._parts, lrs or [None] * len(self._parts), strict=True):
            own: dict[str, Any] = {name: grads[name] for name in part.params()}
            if any(grad is not None for grad in own.values()):
                part.step(own, lr)

    def params(self) -> dict[str, Array]:
        """Return the parameters' values."""
        return {name: value for part in self._parts for name, value in part.params().items()}

    def state(self) -> dict[str, dict[str, Array]]:
        """Return the parameters' state, in their dtype, whatever it is kept in."""
        held = {name: own for part in self._parts for name, own in part.state().items()}
        return {name: {q: array.astype(self._kind) for q, array in own.items()} for name, own in held.items()}

    def load(self, params: dict[str, Array], state: dict[str, dict[str, Array]], steps: dict[str, int]) -> None:
        """Go on from here. What counts steps is brought there by steps with gradients of zero."""
        if any(len({steps[name] for name in part.params()}) > 1 for part in self._parts):
            raise Unsupported("feature:none_grad")  # one count for all parameters
        if any(own.keys() - part.names.keys() for part in self._parts for own in map(state.get, part.params()) if own):
            raise Unsupported("feature:set_state")  # it keeps something else
        for taken in range(max(steps.values(), default=0)):
            self.step({name: np.zeros_like(a) if taken < steps[name] else None for name, a in params.items()}, ())
        for part in self._parts:
            own = {name: params[name] for name in part.params()}
            part.write(own, {name: state.get(name, {}) for name in own})


def renamed(options: Mapping[str, Any], names: Mapping[str, Any]) -> dict[str, Any]:
    """Return options under a library's own names.

    Args:
        options: under torch's names.
        names: the library's, by torch's; a tuple of them for an option of several numbers, a function of the value
            where more is to be said, and "" for what the library's formula does without.

    Raises:
        Unsupported: there are options that the library has not, and they are on.

    """
    if absent := [f"option:{name}" for name, value in options.items() if value and name not in names]:
        raise Unsupported(*absent)
    found: dict[str, Any] = {}
    for name, own in names.items():
        if name not in options or not own:
            continue
        given = options[name]
        if isinstance(own, str):
            found[own] = given
        else:
            found |= dict(zip(own, given, strict=True)) if isinstance(own, tuple) else own(given)
    return found


def by_name(arrays: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Array]]:
    """Return state by parameter, where a library has it by quantity."""
    found: dict[str, dict[str, Array]] = {}
    for quantity, own in arrays.items():
        for name, value in own.items():
            found.setdefault(name, {})[quantity] = np.asarray(value)
    return found
