"""How a parameter group is laid out: slots in flat buffers, or loose arrays where derivatives must flow through."""

from collections.abc import Iterator
from operator import is_
from typing import Any

import numpy as np

from .implementations import Algorithm, Launch, Settings, differentiate, settings_of
from .parameter import Parameter
from .rows import plan_rows
from .slots import Slots
from .state import Entry


class Layout:
    """One parameter group and where its parameters and their state live."""

    def __init__(self, algorithm: Algorithm, group: dict[str, Any]) -> None:
        self.group = group
        self.params: list[Parameter] = list(group["params"])
        self.differentiable = bool(group.get("differentiable"))
        self.slots: list[Slots] = []
        self.loose: dict[Parameter, dict[Any, Any]] = {}
        self._settings: Settings | None = None
        self._seen: list[Any] = []  # the options that the settings were made from
        unique = list(dict.fromkeys(self.params))
        if self.differentiable:
            for param in unique:
                param.release()
            self.loose = {param: {} for param in unique}
            return
        for dtype in dict.fromkeys(param.dtype for param in unique):
            alike = [param for param in unique if param.dtype == dtype]
            names, shapes_of = algorithm.state_arrays, algorithm._state_shapes
            self.slots.append(Slots(alike, algorithm.initial_host, names, shapes_of))

    def fits(self, group: dict[str, Any]) -> bool:
        """Return whether this is still the layout of the group, which a user may have edited."""
        if self.group is not group or self.differentiable != bool(group.get("differentiable")):
            return False
        try:
            # Lists of the same objects compare in C, about 3 ns for each.
            return self.params == group["params"]
        except ValueError:  # from an array in the place of a parameter
            return False

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_settings": None}

    def members(self) -> Iterator[Parameter]:
        """Yield the parameters, each once."""
        return iter(dict.fromkeys(self.params))

    def entry(self, param: Parameter) -> Any:
        """Return a parameter's state as a mapping, or None if it is not of this group."""
        if param in self.loose:
            return self.loose[param]
        return next((Entry(slots, slots.places[param]) for slots in self.slots if param in slots.places), None)

    def plan(self, algorithm: Algorithm) -> list[Launch]:
        """Return everything that a step calls: what computes, then what counts. Raise before the first call."""
        if self.loose:
            return list(self._plan_loose(algorithm))
        launches: list[Launch] = []
        settings = self._settings_of(algorithm)
        variant = settings.variant
        for slots in self.slots:
            runs = slots.runs(variant.counts)
            if runs and not variant.dense:
                name = type(algorithm).__name__
                raise RuntimeError(f"{name} does not support dense gradients, please consider Adam instead")
            if runs and variant.state:
                slots.prepare(variant.state, settings.initial)
            for run in runs:
                if run.theta.size:
                    launches += settings.implementation(settings, slots, run)
                if slots.touched:
                    launches.append((slots.forget_rows, (run.first, run.stop)))
                launches += self._count(algorithm, settings, slots, run.first, run.stop)
            if not runs or runs[0].span is not None:  # not all have a gradient in the flat one
                for place in slots.sparse_places():
                    launches.append(plan_rows(settings, slots, place))
                    launches += self._count(algorithm, settings, slots, place, place + 1)
        return launches

    def _count(self, algorithm: Algorithm, settings: Settings, slots: Slots, first: int, stop: int) -> list[Launch]:
        if not settings.variant.counts:
            return []
        return [(slots.set_host, (first, stop, algorithm._advance(self.group, slots.host_of(first))))]

    def _settings_of(self, algorithm: Algorithm) -> Settings:
        """Return the settings, made anew if an option is not the object that it was."""
        values = self.group.values()
        if self._settings is None or len(values) != len(self._seen) or not all(map(is_, values, self._seen)):
            self._settings = settings_of(algorithm, self.group)
            # A learning rate that is an array, or betas that are a list, can change and stay the same object.
            fixed = all(_is_fixed(value) for name, value in self.group.items() if name != "params")
            self._seen = list(values) if fixed else []
        return self._settings

    def _plan_loose(self, algorithm: Algorithm) -> Iterator[Launch]:
        for param, entry in self.loose.items():
            if param.has_sparse_grad:
                raise RuntimeError("differentiable=True does not support sparse gradients: write grad.to_dense()")
            if param.grad is not None:
                # Another optimizer may have moved it into a buffer meanwhile.
                param.release()
                data, state = differentiate(algorithm, self.group, param.data, param.grad, entry)
                yield setattr, (param, "data", data)
                yield entry.update, (state,)


def _is_fixed(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_fixed, value))
    return value is None or isinstance(value, int | float | str | np.generic)
