"""What can be judged: refoptim in each of its implementations, and torch as a witness, behind one small interface."""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

import refoptim
from refoptim.conformance.scenario import Scenario
from refoptim.conformance.vectors.vector import Rows

Array = NDArray[Any]

# The ways refoptim computes, by the name the report gives them.
IMPLEMENTATIONS: dict[str, dict[str, Any]] = {
    "fused": {},
    "foreach": {"foreach": True},
    "for-loop": {"foreach": False, "fused": False},
    "float64": {"arithmetic": "float64"},
}


def places(shape: tuple[int, ...]) -> Array:
    """Return where the elements of an array are, as the indices of a sparse gradient."""
    return np.indices(shape).reshape(len(shape), prod(shape))


def as_sparse(grad: Array) -> refoptim.SparseGrad:
    """Return a gradient as a sparse one that names every element."""
    return refoptim.SparseGrad(places(grad.shape), grad.ravel(), grad.shape)


class Run(Protocol):
    """One optimizer over the parameters of a scenario."""

    def step(self, grads: list[Array | None], lrs: list[float]) -> None:
        """Take one step with these gradients, by parameter, and these learning rates, by group."""
        ...

    def theta(self, index: int) -> Array:
        """Return a parameter's values now."""
        ...

    def state(self, index: int) -> dict[str, Array]:
        """Return a parameter's state arrays now, by torch's names."""
        ...


Subject = Callable[[str, Scenario], Run]


class RefoptimRun:
    """refoptim over a scenario."""

    def __init__(self, optimizer_class: Any, scenario: Scenario, options: dict[str, Any]) -> None:
        self._params = [refoptim.Parameter(start.theta) for start in scenario.starts]
        groups = [
            {"params": [p for p, owner in zip(self._params, scenario.group_of, strict=True) if owner == i], **group}
            for i, group in enumerate(scenario.groups)
        ]
        # A dialect is an optimizer's, not a group's.
        dialects = [group.pop("dialect") for group in groups if "dialect" in group]
        dialect = {"dialect": dialects[0]} if dialects else {}
        self._optimizer = optimizer_class(groups, **options, **dialect)
        for param, start in zip(self._params, scenario.starts, strict=True):
            if start.taken:
                entry = self._optimizer.state[param]
                entry.update(start.state)
                entry.update(start.host | ({"step": start.taken} if "step" in self._optimizer.initial_host else {}))

    def step(self, grads: list[Array | None], lrs: list[float]) -> None:
        """Take one step."""
        for group, lr in zip(self._optimizer.param_groups, lrs, strict=bool(lrs)):
            group["lr"] = lr
        only_sparse = isinstance(self._optimizer, refoptim.SparseAdam)
        for param, grad in zip(self._params, grads, strict=True):
            if isinstance(grad, Rows):
                param.grad = refoptim.SparseGrad(grad.indices, grad.values, param.shape)
            else:
                param.grad = as_sparse(grad) if only_sparse and grad is not None else grad
        self._optimizer.step()

    def theta(self, index: int) -> Array:
        """Return a parameter's values."""
        return self._params[index].data

    def state(self, index: int) -> dict[str, Array]:
        """Return a parameter's state arrays."""
        entry = self._optimizer.state[self._params[index]]
        return {name: value for name, value in entry.items() if isinstance(value, np.ndarray)}


class MasterRun(RefoptimRun):
    """refoptim with master weights: the state in the parameters' dtype, which is what the exact one is rounded to."""

    def __init__(self, optimizer_class: Any, scenario: Scenario, options: dict[str, Any]) -> None:
        super().__init__(optimizer_class, scenario, options | {"master_weights": True})
        self._dtype = scenario.starts[0].theta.dtype

    def state(self, index: int) -> dict[str, Array]:
        """Return a parameter's state arrays, without the master weights."""
        arrays = super().state(index)
        return {name: array.astype(self._dtype) for name, array in arrays.items() if name != "master_weight"}


def refoptim_subject(implementation: str) -> Subject:
    """Return refoptim, computing in this way: one of those above, or with master weights."""
    if implementation == "master":
        return lambda optimizer, scenario: MasterRun(getattr(refoptim, optimizer), scenario, {})
    options = IMPLEMENTATIONS[implementation]
    return lambda optimizer, scenario: RefoptimRun(getattr(refoptim, optimizer), scenario, options)


class TorchRun:
    """torch over a scenario."""

    def __init__(self, optimizer: str, scenario: Scenario) -> None:
        torch: Any = import_module("torch")
        self._torch = torch
        self._numbers = getattr(refoptim, optimizer).initial_host
        self._dtype = scenario.starts[0].theta.dtype
        self._params = [torch.nn.Parameter(self._tensor(start.theta)) for start in scenario.starts]
        groups = [
            {"params": [p for p, owner in zip(self._params, scenario.group_of, strict=True) if owner == i], **group}
            for i, group in enumerate(scenario.groups)
        ]
        # Some defaults hold for all groups, whatever a group says.
        self._optimizer = getattr(torch.optim, optimizer)(groups, **scenario.groups[0])
        for param, start in zip(self._params, scenario.starts, strict=True):
            if start.taken:
                state = {name: self._tensor(array) for name, array in start.state.items()}
                host = start.host | ({"step": float(start.taken)} if "step" in self._numbers else {})
                numbers = {name: torch.tensor(value) for name, value in host.items()}
                if optimizer == "SparseAdam":
                    numbers["step"] = start.taken
                self._optimizer.state[param] = numbers | state

    def step(self, grads: list[Array | None], lrs: list[float]) -> None:
        """Take one step."""
        for group, lr in zip(self._optimizer.param_groups, lrs, strict=True):
            group["lr"] = lr
        only_sparse = isinstance(self._optimizer, self._torch.optim.SparseAdam)
        with self._torch.sparse.check_sparse_tensor_invariants():  # it warns unless asked
            for param, grad in zip(self._params, grads, strict=True):
                tensor = None if grad is None else self._tensor(grad)
                param.grad = tensor if tensor is None or not only_sparse else self._as_sparse(tensor)
            self._optimizer.step()

    def _as_sparse(self, tensor: Any) -> Any:
        everywhere = self._torch.tensor(places(tuple(tensor.shape)))
        return self._torch.sparse_coo_tensor(everywhere, tensor.flatten(), tensor.shape)

    def theta(self, index: int) -> Array:
        """Return a parameter's values."""
        return self._array(self._params[index].detach())

    def state(self, index: int) -> dict[str, Array]:
        """Return a parameter's state arrays."""
        entry = self._optimizer.state[self._params[index]]
        arrays = {name: value for name, value in entry.items() if name not in self._numbers}
        return {name: self._array(value) for name, value in arrays.items() if self._torch.is_tensor(value)}

    # torch has no arrays of bfloat16, nor NumPy tensors: what goes over are the bits.
    def _tensor(self, array: Array) -> Any:
        if array.dtype.name != "bfloat16":
            return self._torch.tensor(array)
        return self._torch.tensor(array.view(np.int16)).view(self._torch.bfloat16)

    def _array(self, tensor: Any) -> Array:
        if tensor.dtype != self._torch.bfloat16:
            return tensor.numpy()
        return tensor.view(self._torch.int16).numpy().view(self._dtype)


def torch_subject() -> Subject | None:
    """Return torch's default implementation, or None where torch is not installed."""
    return None if find_spec("torch") is None else TorchRun
