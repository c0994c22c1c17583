"""tinygrad, as it comes: its CPU device where clang is installed, and its interpreter in Python otherwise."""

import os
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from shutil import which
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refoptim.conformance.adapters.grouped import Grouped, Part, by_name, renamed
from refoptim.conformance.runner.adapter import Info, Unsupported
from refoptim.conformance.vectors.vector import Group, Trajectory

os.environ.setdefault("DEV", "CPU" if which(os.environ.get("CC", "clang")) else "PYTHON")
tinygrad: Any = import_module("tinygrad")  # it reads the environment
optim: Any = import_module("tinygrad.nn.optim")

Array = NDArray[Any]

_ADAM = {"lr": "lr", "betas": ("b1", "b2"), "eps": "eps"}
_MOMENTUM = {"lr": "lr", "momentum": "momentum", "nesterov": "nesterov", "weight_decay": "weight_decay"}
_MOMENTS = {"exp_avg": "m", "exp_avg_sq": "v"}

# By torch's name: the function, its options by torch's names, and its state. Muon has no eps and no scale.
_OPTIMIZERS: dict[str, tuple[Callable[..., Any], dict[str, Any], dict[str, str]]] = {
    "SGD": (optim.SGD, _MOMENTUM, {"momentum_buffer": "b"}),
    "Adam": (optim.Adam, _ADAM, _MOMENTS),
    "AdamW": (optim.AdamW, {**_ADAM, "weight_decay": "weight_decay", "decoupled_weight_decay": ""}, _MOMENTS),
    "Muon": (
        optim.Muon,
        _MOMENTUM | {"ns_steps": "ns_steps", "ns_coefficients": "ns_coefficients", "eps": "", "adjust_lr_fn": ""},
        {"momentum_buffer": "b"},
    ),
}


class Tinygrad(Grouped):
    """tinygrad."""

    def __init__(self) -> None:
        self.info = Info(
            "tinygrad", f"{version('tinygrad')} ({tinygrad.Device.DEFAULT})", homepage="https://tinygrad.org"
        )

    def _part(self, problem: Trajectory, group: Group, params: dict[str, Array]) -> Part:
        if problem.algorithm not in _OPTIMIZERS:
            raise Unsupported(f"optimizer:{problem.algorithm}")
        return _Part(problem.algorithm, group.options, params)


class _Part:
    def __init__(self, algorithm: str, options: dict[str, Any], params: dict[str, Array]) -> None:
        made, names, self.names = _OPTIMIZERS[algorithm]
        self._params = {name: tinygrad.Tensor(array) for name, array in params.items()}
        for tensor in self._params.values():
            tensor.is_param_()
        self._optimizer = made(list(self._params.values()), **renamed(options, names))

    def step(self, grads: dict[str, Array | None], lr: float | None) -> None:
        if lr is not None:
            self._optimizer.lr.assign(tinygrad.Tensor([lr], dtype=self._optimizer.lr.dtype)).realize()
        for name, tensor in self._params.items():
            tensor.grad = tinygrad.Tensor(grads[name])
        with tinygrad.Context(TRAINING=1):
            self._optimizer.step()

    def params(self) -> dict[str, Array]:
        return {name: np.asarray(tensor.numpy()) for name, tensor in self._params.items()}

    def state(self) -> dict[str, dict[str, Array]]:
        held = {quantity: getattr(self._optimizer, own) for quantity, own in self.names.items()}
        kept = {quantity: dict(zip(self._params, own, strict=True)) for quantity, own in held.items() if own}
        return by_name({q: {name: tensor.numpy() for name, tensor in own.items()} for q, own in kept.items()})

    def write(self, params: dict[str, Array], state: dict[str, dict[str, Array]]) -> None:
        for at, (name, tensor) in enumerate(self._params.items()):
            tensor.assign(tinygrad.Tensor(params[name])).realize()
            for quantity, values in state[name].items():
                held = getattr(self._optimizer, self.names[quantity])[at]
                held.assign(tinygrad.Tensor(values, dtype=held.dtype)).realize()
