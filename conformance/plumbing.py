"""Wrong bookkeeping and wrong precision around optimizers that are right."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from refoptim.conformance.scenario import Scenario
from refoptim.conformance.subjects import RefoptimRun
from refoptim.conformance.vectors.vector import Rows, is_zero


class _Plumbing(RefoptimRun):
    of_counts = False  # whether it only shows where the number of a step matters

    def __init__(self, optimizer_class: Any, scenario: Scenario, options: dict[str, Any]) -> None:
        super().__init__(optimizer_class, scenario, options)
        self._taken = 0
        self._last: list[Any] = [None] * len(self._params)
        self._last_lrs: list[float] | None = None

    def _arrays(self) -> Iterator[Any]:
        for index in range(len(self._params)):
            yield from self.state(index).values()


class _Skips(_Plumbing):
    """Bookkeeping: every fourth step is skipped."""

    def step(self, grads: list[Any], lrs: list[float]) -> None:
        self._taken += 1
        if self._taken % 4:
            super().step(grads, lrs)


class _Doubles(_Plumbing):
    """Bookkeeping: the last parameter is stepped twice."""

    def step(self, grads: list[Any], lrs: list[float]) -> None:
        super().step(grads, lrs)
        super().step([*(None for _ in grads[:-1]), grads[-1]], lrs)


class _NoneIsZero(_Plumbing):
    """Bookkeeping: no gradient is a gradient of zero."""

    def step(self, grads: list[Any], lrs: list[float]) -> None:
        zeros = [np.zeros_like(param.data) for param in self._params]
        super().step([zero if grad is None else grad for grad, zero in zip(grads, zeros, strict=True)], lrs)


class _NoneIsLast(_Plumbing):
    """Bookkeeping: no gradient is the gradient of the step before."""

    def step(self, grads: list[Any], lrs: list[float]) -> None:
        self._last = [old if grad is None else grad for grad, old in zip(grads, self._last, strict=True)]
        super().step(self._last, lrs)


class _ZeroIsNone(_Plumbing):
    """Bookkeeping: a gradient of zeros is no gradient."""

    def step(self, grads: list[Any], lrs: list[float]) -> None:
        super().step([None if is_zero(grad) else grad for grad in grads], lrs)


class _Lazy(_Plumbing):
    """Bookkeeping: elements whose gradient is zero keep their value and state."""

    def step(self, grads: list[Any], lrs: list[float]) -> None:
        before = [{name: array.copy() for name, array in self._named(i).items()} for i in range(len(grads))]
        super().step(grads, lrs)
        for i, grad in enumerate(grads):
            if grad is not None:
                still = (grad.dense(self.theta(i)) if isinstance(grad, Rows) else grad) == 0
                for name, array in self._named(i).items():
                    if name in before[i] and array.shape == still.shape:
                        array[still] = before[i][name][still]

    def _named(self, index: int) -> dict[str, Any]:
        return self.state(index) | {"theta": self.theta(index)}


class _LateLr(_Plumbing):
    """Bookkeeping: a new learning rate takes effect a step late."""

    def step(self, grads: list[Any], lrs: list[float]) -> None:
        late, self._last_lrs = self._last_lrs or lrs, lrs
        super().step(grads, late)


class _FirstGroup(_Plumbing):
    """Bookkeeping: all groups have the first one's options."""

    def step(self, grads: list[Any], lrs: list[float]) -> None:
        first, *others = self._optimizer.param_groups
        for group in others:
            group.update({name: value for name, value in first.items() if name != "params"})
        super().step(grads, lrs)


class _SharedCount(_Plumbing):
    """Bookkeeping: all parameters share one step count."""

    of_counts = True

    def step(self, grads: list[Any], lrs: list[float]) -> None:
        super().step(grads, lrs)
        entries = [self._optimizer.state[param] for param in self._params]
        most = max(entry.get("step", 0) for entry in entries)
        for entry in entries:
            if len(entry):
                entry["step"] = most


class _Forgets(_Plumbing):
    """Bookkeeping: the state is lost between steps."""

    def step(self, grads: list[Any], lrs: list[float]) -> None:
        for array in self._arrays():
            array[...] = 0
        super().step(grads, lrs)


class _HalfState(_Plumbing):
    """Precision: the state is stored in float16."""

    def step(self, grads: list[Any], lrs: list[float]) -> None:
        super().step(grads, lrs)
        for array in self._arrays():
            real = array.view(array.real.dtype)
            real[...] = real.astype(np.float16)


class _BfloatState(_Plumbing):
    """Precision: the state is stored in bfloat16."""

    def step(self, grads: list[Any], lrs: list[float]) -> None:
        super().step(grads, lrs)
        for array in self._arrays():
            real = array.view(array.real.dtype)
            mantissa, exponent = np.frexp(real)
            real[...] = np.ldexp(np.round(mantissa * 256) / 256, exponent)


class _HalfGradient(_Plumbing):
    """Precision: the gradient passes through float16."""

    def step(self, grads: list[Any], lrs: list[float]) -> None:
        def half(grad: Any) -> Any:
            flat = np.ascontiguousarray(grad).reshape(-1).view(grad.real.dtype)
            return flat.astype(np.float16).astype(flat.dtype).view(grad.dtype).reshape(grad.shape)

        super().step([None if grad is None else half(grad) for grad in grads], lrs)


# The state of a 16-bit format in the other one.
OTHER_FORMAT = {"bfloat16": _HalfState, "float16": _BfloatState}

PLUMBING = (
    _Skips,
    _Doubles,
    _NoneIsZero,
    _NoneIsLast,
    _ZeroIsNone,
    _Lazy,
    _LateLr,
    _FirstGroup,
    _SharedCount,
    _Forgets,
    _HalfState,
    _BfloatState,
    _HalfGradient,
)
