"""The momentum that goes up where the learning rate goes down."""

from typing import Any

from .arguments import for_each_group
from .curves import curves
from .rates import write_floats
from .schedule import Schedule


class WithMomentum(Schedule):
    """A schedule that may cycle ``momentum``, or the first of the ``betas``, too."""

    cycle_momentum: bool
    use_beta1: bool
    base_momentums: list[float]
    max_momentums: list[float]

    def momentum_at(self, steps: Any) -> list[Any]:
        """Return the momentum after so many steps, or beta1. Nothing is moved. Arguments and result as of ``at``.

        Raises:
            ValueError: the scheduler leaves the momentum alone, or as ``at``.

        """
        if not self.cycle_momentum:
            raise ValueError(f"this {type(self).__name__} has no momentum to show: cycle_momentum is False")
        return curves(steps, lambda epochs: [self._both(epoch)[1] for epoch in epochs])

    def _both(self, epoch: int) -> tuple[list[float], list[float]]:
        """Return the groups' learning rates at an epoch, and their momentum, if that is cycled."""
        raise NotImplementedError

    def _closed(self, epoch: int) -> list[float]:
        return self._both(epoch)[0]

    def _take_momentums(self, cycle_momentum: bool, base_momentum: Any, max_momentum: Any) -> None:
        """Read the arguments that concern the momentum."""
        self.cycle_momentum = bool(cycle_momentum)
        defaults = self.optimizer.defaults
        if not self.cycle_momentum:
            return
        if "momentum" not in defaults and "betas" not in defaults:
            raise ValueError("optimizer must support momentum or beta1 with `cycle_momentum` option enabled")
        self.use_beta1 = "betas" in defaults
        self.base_momentums = for_each_group("base_momentum", self.optimizer, base_momentum)
        self.max_momentums = for_each_group("max_momentum", self.optimizer, max_momentum)

    def _claim(self) -> None:
        if self.cycle_momentum and self.last_epoch == -1:
            for group, most, least in zip(
                self.optimizer.param_groups, self.max_momentums, self.base_momentums, strict=True
            ):
                group["max_momentum"], group["base_momentum"] = most, least
        super()._claim()

    def _advance(self) -> None:
        self._jump(self.last_epoch + 1)

    def _restart(self) -> None:
        self._jump(0)

    def _start(self) -> None:
        self._jump(0)

    def _jump(self, epoch: Any) -> None:
        lrs, momentums = self._both(epoch)
        write_floats(self, lrs)
        groups = self.optimizer.param_groups
        # In half of the time that zip takes.
        for place, momentum in enumerate(momentums):
            if self.use_beta1:
                groups[place]["betas"] = (momentum, *groups[place]["betas"][1:])
            else:
                groups[place]["momentum"] = momentum
        self.last_epoch = epoch
        self._step_count += 1
