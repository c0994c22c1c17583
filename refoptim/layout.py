"""How a parameter group is laid out: slots in flat buffers, or loose arrays where derivatives must flow through."""

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import numpy as np

from .cpu import CPU, Device, Launch
from .half_steps import step_half
from .implementations import Algorithm, Settings, differentiate, settings_of
from .neighbours import by_home
from .parameter import Parameter
from .places import copied
from .rows import plan_rows
from .slots import MovedError, Slots
from .state import Entry
from .tables import begin_step, check_capture, plan_with_table, reads_table


class Layout:
    """One parameter group and where its parameters and their state live: there, once ``occupy`` has been called."""

    def __init__(self, algorithm: Algorithm, group: dict[str, Any]) -> None:
        self.group = group
        self.params: list[Parameter] = list(group["params"])
        self.differentiable = bool(group.get("differentiable"))
        self.slots: list[Slots] = []
        self.loose: dict[Parameter, dict[Any, Any]] = {}
        self._settings: Settings | None = None
        self._seen: list[Any] = []  # the parameters and options that the settings were made from
        unique = list(dict.fromkeys(self.params))
        if self.differentiable:
            for param in unique:
                param.check_release()
            self.loose = {param: {} for param in unique}
        else:
            self.slots = _slots(algorithm, unique)

    def occupy(self) -> None:
        """Move the parameters to where this layout has made room for them."""
        for param in self.loose:
            param.release()
        for slots in self.slots:
            slots.occupy()

    def moved(self, device: Device) -> list[Callable[[], None]]:
        """Copy everything to another device. Until what this returns is called nothing has changed."""
        if self.loose and device is not CPU:
            raise RuntimeError(
                f"differentiable=True computes where the arrays are that were handed over; none moves to {device.name}"
            )
        return [slots.moved(device) for slots in self.slots]

    def fits(self, group: dict[str, Any]) -> bool:
        """Return whether this is still the layout of a group that users may have edited. Forget changed options."""
        if self.group is group and self._settings is not None:
            try:
                # Lists of the same objects compare in C, about 3 ns for each.
                if [*group.values()] == self._seen:
                    return True
            except ValueError:  # from an array in the place of a number, or of a parameter
                pass
        self._settings = None
        if self.group is not group or self.differentiable != bool(group.get("differentiable")):
            return False
        try:
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
        entries = (Entry(slots, slots.places[param]) for slots in self.slots if param in slots.places)
        return next(entries, None)

    def stored(self) -> Iterator[Parameter]:
        """Return the parameters, each once, in the order in which :meth:`saved` has them."""
        return chain(self.loose, *[slots.params for slots in self.slots])

    def saved(self, copy: bool) -> Iterator[dict[Any, Any]]:
        """Return each parameter's state, with copies of its arrays or with the arrays themselves."""
        for slots in self.slots:
            slots.catch_up()
        loose = map(copied if copy else dict, self.loose.values())
        return chain(loose, *[slots.saved(copy) for slots in self.slots])

    def restore(self, param: Parameter, entry: dict[Any, Any]) -> None:
        """Give a parameter without state a copy of this one, which has been checked."""
        if param in self.loose:
            self.loose[param] = copied(entry)
        for slots in self.slots:
            if param in slots.places:
                slots.restore(slots.places[param], entry)

    def plan(self, algorithm: Algorithm) -> list[Launch]:
        """Return everything that a step calls: what computes, then what counts. Raise before the first call.

        The group is known to fit.
        """
        if self.loose:
            return list(self._plan_loose(algorithm))
        settings = self._settings or self._settings_of(algorithm)
        launches: list[Launch] = []
        for slots in self.slots:
            try:
                launches += self._plan_slots(algorithm, settings, slots)
            except MovedError:
                self._follow(algorithm)
                return self.plan(algorithm)
        return launches

    def _plan_slots(self, algorithm: Algorithm, settings: Settings, slots: Slots) -> list[Launch]:
        recorded, ready = slots.device is not CPU and begin_step(settings, slots), slots.ready
        if ready is None or recorded or ready.settings is not settings or not slots.goes_on(settings.variant.counts):
            return self._plan_runs(algorithm, settings, slots, recorded=recorded)
        ready.renew(slots)
        launches = ready.launches if slots.device is CPU else slots.device.launches(ready.launches)
        if not settings.variant.counts:
            return launches
        return launches + self._count(algorithm, settings, slots, 0, len(slots.params))

    def _plan_runs(self, algorithm: Algorithm, settings: Settings, slots: Slots, *, recorded: bool) -> list[Launch]:
        variant = settings.variant
        runs = slots.runs(variant.counts)
        if runs and not variant.dense:
            name = type(algorithm).__name__
            raise RuntimeError(f"{name} does not support dense gradients, please consider Adam instead")
        if recorded:
            check_capture(settings, slots, runs)
        state = settings.state_of(slots)
        if runs and state:
            slots.prepare(state, settings.initial)
        launches: list[Launch] = []
        for run in runs:
            if slots.device is not CPU and reads_table(settings):
                launches += plan_with_table(settings, slots, run, recorded=recorded)
            elif run.theta.size:
                implementation = step_half if slots.is_half else settings.implementation
                planned = implementation(settings, slots, run)
                launches += planned if slots.device is CPU else slots.device.launches(planned)
            if slots.touched:
                launches.append((slots.forget_rows, (run.first, run.stop)))
            if not recorded:  # what is recorded does not run now; each repetition counts itself
                launches += self._count(algorithm, settings, slots, run.first, run.stop)
        if not runs or runs[0].span is not None:  # not all have a gradient in the flat one
            launches += self._plan_rows(algorithm, settings, slots)
        return launches

    def _plan_rows(self, algorithm: Algorithm, settings: Settings, slots: Slots) -> Iterator[Launch]:
        for place in slots.sparse_places():
            yield from slots.device.launches([plan_rows(settings, slots, place)])
            yield from self._count(algorithm, settings, slots, place, place + 1)

    def _follow(self, algorithm: Algorithm) -> None:
        """Move the state to where the parameters are now."""
        slots = _slots(algorithm, list(self.members()))
        for some in slots:
            for param, place in some.places.items():
                Entry(some, place).update(self.entry(param))
        self.slots = slots
        self.occupy()

    def _count(self, algorithm: Algorithm, settings: Settings, slots: Slots, first: int, stop: int) -> list[Launch]:
        if not settings.variant.counts:
            return []
        return [(slots.set_host, (first, stop, algorithm._advance(self.group, slots.host_of(first))))]

    def _settings_of(self, algorithm: Algorithm) -> Settings:
        """Return the settings, made anew."""
        self._settings = settings_of(algorithm, self.group)
        # A learning rate that is an array, or betas that are a list, can change and stay the same object.
        fixed = all(_is_fixed(value) for name, value in self.group.items() if name != "params")
        own = self.group | {"params": self.params}  # a list that no user edits
        self._seen = list(own.values()) if fixed else []
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


def _slots(algorithm: Algorithm, params: list[Parameter]) -> list[Slots]:
    """Return slots for the parameters, by dtype and device."""
    half, shapes_of = algorithm.half, algorithm._state_shapes
    host, names = half.counted(algorithm.initial_host), half.kept(algorithm.state_arrays)
    return [Slots(alike, host, names, shapes_of, half.master_weights) for alike in by_home(params)]


def _is_fixed(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_fixed, value))
    return value is None or isinstance(value, int | float | str | np.generic)
