"""scikit-learn: the optimizers inside its neural networks, which are no public interface."""

from importlib import import_module
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refoptim.conformance.adapters.grouped import Grouped, Part, by_name, renamed
from refoptim.conformance.runner.adapter import Info, Unsupported
from refoptim.conformance.vectors.vector import Group, Trajectory

optimizers: Any = import_module("sklearn.neural_network._stochastic_optimizers")

Array = NDArray[Any]

# By torch's name: the class, its options by torch's names, and its state. Velocities have the learning rate in them,
# and are no momentum buffers.
_OPTIMIZERS: dict[str, tuple[Any, dict[str, Any], dict[str, str]]] = {
    "Adam": (
        optimizers.AdamOptimizer,
        {"lr": "learning_rate_init", "betas": ("beta_1", "beta_2"), "eps": "epsilon"},
        {"exp_avg": "ms", "exp_avg_sq": "vs"},
    ),
    "SGD": (
        optimizers.SGDOptimizer,
        {"lr": "learning_rate_init", "momentum": "momentum", "nesterov": "nesterov"},
        {},
    ),
}


class Sklearn(Grouped):
    """scikit-learn."""

    def __init__(self) -> None:
        self.info = Info("scikit-learn", version("scikit-learn"), homepage="https://scikit-learn.org")

    def _part(self, problem: Trajectory, group: Group, params: dict[str, Array]) -> Part:
        if problem.algorithm not in _OPTIMIZERS:
            raise Unsupported(f"optimizer:{problem.algorithm}")
        return _Part(problem.algorithm, group.options, params)


class _Part:
    def __init__(self, algorithm: str, options: dict[str, Any], params: dict[str, Array]) -> None:
        made, names, self.names = _OPTIMIZERS[algorithm]
        self._params = {name: array.copy() for name, array in params.items()}
        self._optimizer = made(self._arrays(), **renamed(options, names))

    def _arrays(self) -> list[Array]:
        return list(self._params.values())

    def step(self, grads: dict[str, Array | None], lr: float | None) -> None:
        if lr is not None:  # Adam computes the other one from the first
            self._optimizer.learning_rate_init = self._optimizer.learning_rate = lr
        with np.errstate(all="ignore"):
            self._optimizer.update_params(self._arrays(), [grads[name] for name in self._params])

    def params(self) -> dict[str, Array]:
        return self._params

    def state(self) -> dict[str, dict[str, Array]]:
        held = {quantity: getattr(self._optimizer, own) for quantity, own in self.names.items()}
        return by_name({name: dict(zip(self._params, arrays, strict=True)) for name, arrays in held.items()})

    def write(self, params: dict[str, Array], state: dict[str, dict[str, Array]]) -> None:
        for name, values in params.items():
            self._params[name][...] = values
        for quantity, own in self.names.items():
            setattr(self._optimizer, own, [np.array(state[name][quantity]) for name in self._params])
