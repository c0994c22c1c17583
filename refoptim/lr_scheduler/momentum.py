"""The momentum that goes up where the learning rate goes down."""

from collections.abc import Sequence
from itertools import repeat
from typing import Any

from ..interrupts import Uninterrupted
from .arguments import for_each_group
from .curves import curves
from .exact import curve
from .rates import commit
from .schedule import Schedule
from .table import Ahead, Both

# Where each group's value comes from, and where it goes.
Ends = tuple[Sequence[float], Sequence[float]]


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
        return curves(steps, lambda epochs: [[*self._both(epoch)[1]] for epoch in epochs])

    def _both(self, epoch: int) -> Both:
        """Return the groups' learning rates at an epoch, and their momentum, if that is cycled."""
        raise NotImplementedError

    def _row(self, epoch: int, inputs: list[Any]) -> Both:
        """Return what ``_both`` does, computed ahead, given what it depends on beside the momentum's bounds."""
        bounds = [self.base_momentums, self.max_momentums] if self.cycle_momentum else []
        return self._ahead.row(epoch, [*inputs, bounds], self._rows)

    def _rows(self, epoch: int, count: int) -> list[Both]:
        """Return what ``_both`` does for some epochs, from this one on."""
        raise NotImplementedError

    def _closed(self, epoch: int) -> list[float]:
        return [*self._both(epoch)[0]]

    def _take_momentums(self, cycle_momentum: bool, base_momentum: Any, max_momentum: Any) -> None:
        """Read the arguments that concern the momentum."""
        self.cycle_momentum = bool(cycle_momentum)
        self._ahead = Ahead()
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
        groups = self.optimizer.param_groups
        if len(momentums) == 1 == len(groups) and type(groups[0]["lr"]) is float:
            # From here on Python does not look for Ctrl-C.
            group = groups[0]
            if self.use_beta1:
                group["betas"] = (momentums[0], *group["betas"][1:])
            else:
                group["momentum"] = momentums[0]
            self._last_lr = [*lrs]
            group["lr"], self.last_epoch = lrs[0], epoch
            self._step_count += 1
            return
        with Uninterrupted():
            commit(self, epoch, [*lrs])
            # In half of the time that zip takes.
            for place, momentum in enumerate(momentums):
                if self.use_beta1:
                    groups[place]["betas"] = (momentum, *groups[place]["betas"][1:])
                else:
                    groups[place]["momentum"] = momentum


def rows(lrs: Ends, momentums: Ends, ns: list[int], d: int) -> list[Both]:
    """Return the learning rates, and the momentums if there are any, n / d of the way between their ends."""
    columns = ([curve(start, end, ns, d) for start, end in zip(*ends)] for ends in (lrs, momentums))
    each_lr, each_momentum = (zip(*groups) if groups else repeat(()) for groups in columns)
    return list(zip(each_lr, each_momentum))
