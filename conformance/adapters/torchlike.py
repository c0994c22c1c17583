"""What has torch's interface: torch, and refoptim."""

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refoptim.conformance.adapters.replay import Library, curves, quiet, replayed
from refoptim.conformance.runner.adapter import Base, Calls, Unsupported
from refoptim.conformance.vectors.vector import Rows, Schedule, Trace, Trajectory

Array = NDArray[Any]

# What state has beside arrays: it follows from the steps taken.
_NUMBERS = {"step", "mu_product", "eta", "mu"}


class TorchLike(Base):
    """An adapter for what has torch's interface, in one of its implementations."""

    def __init__(self, library: Library, how: dict[str, Any]) -> None:
        self._library = library
        self._how = how  # options that say how a step is computed, not what

    def _class(self, algorithm: str) -> tuple[Any, set[str]]:
        """Return an optimizer's class and its options, if it has this implementation."""
        made = getattr(self._library.optimizers, algorithm, None)
        known = set(inspect.signature(made).parameters) if made is not None else set()
        if made is None or any(value and name not in known for name, value in self._how.items()):
            raise Unsupported(f"optimizer:{algorithm}")
        return made, known

    def start(self, problem: Trajectory) -> None:
        """Build the parameters, the groups and the optimizer."""
        made, known = self._class(problem.algorithm)
        groups = [_known(group.options, known) for group in problem.groups]
        self._algorithm = problem.algorithm
        self._params = {name: self._library.parameter(array) for name, array in problem.params.items()}
        named = [
            {"params": [self._params[name] for name in group.params], **options}
            for group, options in zip(problem.groups, groups, strict=True)
        ]
        how = {name: value for name, value in self._how.items() if name in known}
        # Some options hold for all groups, whatever a group says.
        self._optimizer = made(named, **groups[0], **how)

    def step(self, grads: dict[str, Array | Rows | None], lrs: tuple[float, ...]) -> None:
        """Take one step."""
        for group, lr in zip(self._optimizer.param_groups, lrs):
            group["lr"] = lr
        with quiet():
            for name, param in self._params.items():
                grad = grads[name]
                param.grad = None if grad is None else self._library.gradient(grad, param)
            self._optimizer.step()

    def params(self) -> dict[str, Array]:
        """Return the parameters' values."""
        return {name: self._library.values(param) for name, param in self._params.items()}

    def state(self) -> dict[str, dict[str, Array]]:
        """Return the arrays of the parameters' state."""
        entries = {name: self._optimizer.state.get(param, {}) for name, param in self._params.items()}
        return {
            name: {key: self._library.values(value) for key, value in entry.items() if key not in _NUMBERS}
            for name, entry in entries.items()
        }

    def load(self, params: dict[str, Array], state: dict[str, dict[str, Array]], steps: dict[str, int]) -> None:
        """Go on from here. Numbers that follow from the steps taken are brought there by steps with gradients of 0."""
        for taken in range(max(steps.values(), default=0)):
            self.step({name: self._zeros(array) if taken < steps[name] else None for name, array in params.items()}, ())
        for name, param in self._params.items():
            param.data = self._library.array(params[name])
            if steps[name]:
                arrays = {key: self._library.array(value) for key, value in state[name].items()}
                self._optimizer.state[param].update(arrays)

    def _zeros(self, like: Array) -> Array | Rows:
        zeros = np.zeros_like(like)
        return Rows(np.arange(len(like)), zeros) if self._algorithm == "SparseAdam" else zeros

    def schedule(self, problem: Schedule) -> list[list[float]]:
        """Follow a scheduler from the first epoch to the last."""
        if any(self._how.values()):
            raise Unsupported(f"scheduler:{problem.algorithm}")  # there is one implementation
        return curves(problem, self._library)

    def trace(self, problem: Trace) -> Calls:
        """Call ``step`` with a closure that says what the problem says."""
        made, _ = self._class(problem.algorithm)
        return replayed(problem, made, self._library)


def _known(options: Mapping[str, Any], known: set[str]) -> dict[str, Any]:
    """Return the options that an optimizer has, if those that it has not are off."""
    if absent := [f"option:{name}" for name, value in options.items() if value and name not in known]:
        raise Unsupported(*absent)
    return {name: value for name, value in options.items() if name in known}
