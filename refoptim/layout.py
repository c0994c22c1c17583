"""How a parameter group is laid out: slots in flat buffers, or loose arrays where derivatives must flow through."""

from collections.abc import Iterator
from typing import Any

from .implementations import Algorithm, Launch, Step, choose, differentiate
from .parameter import Parameter
from .slots import Slots


class Layout:
    """One parameter group and where its parameters and their state live."""

    def __init__(self, algorithm: Algorithm, group: dict[str, Any]) -> None:
        self.group = group
        self.params: list[Parameter] = list(group["params"])
        self.differentiable = bool(group.get("differentiable"))
        self.slots: list[Slots] = []
        self.loose: dict[Parameter, dict[Any, Any]] = {}
        unique = list(dict.fromkeys(self.params))
        if self.differentiable:
            for param in unique:
                param.release()
            self.loose = {param: {} for param in unique}
            return
        for dtype in dict.fromkeys(param.dtype for param in unique):
            alike = [param for param in unique if param.dtype == dtype]
            self.slots.append(Slots(alike, algorithm.initial_host, algorithm.state_arrays))

    def fits(self, group: dict[str, Any]) -> bool:
        """Return whether this is still the layout of the group, which a user may have edited."""
        if self.group is not group or self.differentiable != bool(group.get("differentiable")):
            return False
        try:
            # Lists of the same objects compare in C, about 3 ns for each.
            return self.params == group["params"]
        except ValueError:  # from an array in the place of a parameter
            return False

    def members(self) -> Iterator[Parameter]:
        """Yield the parameters, each once."""
        return iter(dict.fromkeys(self.params))

    def entry(self, param: Parameter) -> Any:
        """Return a parameter's state as a mapping, or None if it is not of this group."""
        if param in self.loose:
            return self.loose[param]
        return next((slots.entry(param) for slots in self.slots if param in slots.places), None)

    def plan(self, algorithm: Algorithm) -> Iterator[Launch]:
        """Yield everything that a step calls: what computes, then what counts. Raise before the first call."""
        group = self.group
        variant, implementation = algorithm._variant(group), choose(group)
        for slots in self.slots:
            runs = slots.runs(variant.counts)
            if runs and variant.state:
                slots.prepare(variant.state, algorithm._initial_values(group))
            for run in runs:
                if run.theta.size:
                    yield from implementation(Step(algorithm, group, variant, slots), run)
                if variant.counts:
                    yield slots.set_host, (run.first, run.stop, algorithm._advance(slots.host_of(run.first)))
        for param, entry in self.loose.items():
            if param.grad is not None:
                # Another optimizer may have moved it into a buffer meanwhile.
                param.release()
                data, state = differentiate(algorithm, group, param.data, param.grad, entry)
                param.check_data(data)
                yield setattr, (param, "data", data)
                yield entry.update, (state,)
