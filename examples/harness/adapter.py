"""An adapter in Python: all of SGD in NumPy. Try it here by ``refoptim check --adapter adapter:Sgd --filter sgd``."""

from typing import Any

from refoptim.conformance.runner.adapter import Array, Base, Info, Rejected, Unsupported
from refoptim.conformance.vectors.vector import Rows, Trajectory

DEFAULTS = {"lr": 1e-3, "momentum": 0.0, "dampening": 0.0, "weight_decay": 0.0, "nesterov": False, "maximize": False}


class Sgd(Base):
    """What is not written here is unsupported: other optimizers, schedulers and minimizers."""

    info = Info("my SGD", "1.0")

    def start(self, problem: Trajectory) -> None:
        """Take what is known, and refuse what makes no sense."""
        if problem.algorithm != "SGD":
            raise Unsupported(f"optimizer:{problem.algorithm}")
        self.values, self.buffers = dict(problem.params), {}
        self.groups: list[tuple[tuple[str, ...], dict[str, Any]]] = []
        for group in problem.groups:
            options = DEFAULTS | group.options
            if unknown := [name for name in options if name not in DEFAULTS and options[name]]:
                raise Unsupported(*(f"option:{name}" for name in unknown))
            if min(options["lr"], options["momentum"], options["weight_decay"]) < 0:
                raise Rejected("lr, momentum and weight_decay must not be negative")
            if options["nesterov"] and (options["momentum"] <= 0 or options["dampening"] != 0):
                raise Rejected("nesterov needs momentum, and no dampening")
            self.groups.append((group.params, options))
        if sum(len(names) for names, _ in self.groups) > len(self.values):
            raise Rejected("a parameter is in two groups")

    def step(self, grads: dict[str, Array | Rows | None], lrs: tuple[float, ...]) -> None:
        """Step what has a gradient. There are no learning rates where all options are left out: then defaults hold."""
        for (names, options), lr in zip(self.groups, lrs or [DEFAULTS["lr"]] * len(self.groups), strict=True):
            for name in names:
                if isinstance(grad := grads[name], Rows):
                    raise Unsupported("feature:sparse")
                if grad is not None:
                    self.values[name] = self.values[name] - lr * self.direction(name, grad, options)

    def direction(self, name: str, grad: Array, options: dict[str, Any]) -> Array:
        """Return where a parameter goes. An option that is off must not touch the numbers, some of which are NaN."""
        grad = -grad if options["maximize"] else grad
        grad = grad + options["weight_decay"] * self.values[name] if options["weight_decay"] else grad
        if not options["momentum"]:
            return grad
        old = self.buffers.get(name)
        new = grad if old is None else options["momentum"] * old + (1 - options["dampening"]) * grad
        self.buffers[name] = new
        return grad + options["momentum"] * new if options["nesterov"] else new

    def params(self) -> dict[str, Array]:
        """Return the values now."""
        return self.values

    def state(self) -> dict[str, dict[str, Array]]:
        """Return what is kept from step to step, by torch's names. It may be left out, and so may ``load``."""
        return {name: {"momentum_buffer": buffer} for name, buffer in self.buffers.items()}

    def load(self, params: dict[str, Array], state: dict[str, dict[str, Array]], steps: dict[str, int]) -> None:
        """Go on from here: the report then tells a wrong step from errors that add up."""
        self.values = params
        self.buffers = {name: own["momentum_buffer"] for name, own in state.items() if "momentum_buffer" in own}
