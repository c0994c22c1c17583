"""OneCycleLR."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from ..optimizer import Optimizer
from .arguments import check_optimizer, for_each_group, positive, real, whole
from .cosines import annealing
from .exact import common
from .momentum import Ends, WithMomentum, rows
from .table import Both


class OneCycleLR(WithMomentum):
    r"""Moves the learning rate from low to high and then to much lower, once.

    .. math::
        \eta_e = \eta_{end} + (\eta_{start} - \eta_{end}) \frac{1 + \cos(\pi p)}{2}
        \quad\text{or, linear, }\quad
        \eta_e = \eta_{end} + (\eta_{start} - \eta_{end}) (1 - p)

    where :math:`p` goes from 0 to 1 in each phase and :math:`e` is ``last_epoch``. With ``total_steps`` :math:`N` and
    ``pct_start`` :math:`\rho`, the first phase goes from ``max_lr / div_factor`` at epoch 0 to ``max_lr`` at
    :math:`\rho N - 1`, the last one to ``max_lr / div_factor / final_div_factor`` at :math:`N - 1`; with three phases
    the second one goes down to where the first began, at :math:`2 \rho N - 2`. The momentum is at ``max_momentum``
    where the learning rate is low and at ``base_momentum`` where it is ``max_lr``; in a third phase it does not change.

    Args:
        optimizer: the optimizer whose learning rates are scheduled. Those that the groups have are overwritten.
        max_lr: the highest learning rate, or a list with one for each group.
        total_steps: :math:`N`, a positive integer; None is ``epochs * steps_per_epoch`` (default: None).
        epochs: a positive integer (default: None).
        steps_per_epoch: a positive integer (default: None).
        pct_start: :math:`\rho`, a number from 0 to 1, such that no phase is empty: :math:`\rho N > 1` and
            :math:`\rho < 1`; with three phases :math:`2 \rho N - 2 < N - 1` (default: 0.3).
        anneal_strategy: ``"cos"`` or ``"linear"`` (default: ``"cos"``).
        cycle_momentum: whether ``momentum``, or the first of ``betas``, is cycled too (default: True).
        base_momentum: the lowest momentum, or a list with one for each group (default: 0.85).
        max_momentum: the highest momentum, or a list with one for each group (default: 0.95).
        div_factor: how much lower than ``max_lr`` the first learning rate is, above 0 (default: 25.0).
        final_div_factor: how much lower than the first learning rate the last one is, above 0 (default: 1e4).
        three_phase: whether the learning rate goes down as it went up before it goes further (default: False).
        last_epoch: the epoch to go on from; -1 starts (default: -1).

    Raises:
        ValueError: an argument is out of its range, or there is no momentum to cycle. ``step`` raises it after epoch
            :math:`N`, which is there for loops that call it after every optimizer step; the learning rate is that of
            :math:`N - 1`.

    >>> import refoptim as optim
    >>> optimizer = optim.SGD([optim.Parameter([1.0])], lr=0.1, momentum=0.9)
    >>> scheduler = optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=10, anneal_strategy="linear")
    >>> scheduler.at([0, 1, 2, 9])
    [array([4.0e-02, 5.2e-01, 1.0e+00, 4.0e-06])]
    >>> scheduler.momentum_at([0, 1, 2, 9])
    [array([0.95, 0.9 , 0.85, 0.95])]

    Smith and Topin, "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates", 2017.

    """

    # torch keeps them in the groups, where other schedulers may overwrite them.
    _unknown_to_torch = ("max_lrs", "min_lrs", "base_momentums", "max_momentums", "div_factor", "final_div_factor")

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: Any,
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: Any = 0.85,
        max_momentum: Any = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        check_optimizer(optimizer)
        self.optimizer = optimizer
        self.total_steps = _total_steps(total_steps, epochs, steps_per_epoch)
        self._anneal_func_type = anneal_strategy
        self._schedule_phases = _phases(self.total_steps, real("pct_start", pct_start), three_phase)
        self.max_lrs = for_each_group("max_lr", optimizer, max_lr)
        self.div_factor, self.final_div_factor = div_factor, final_div_factor
        self._take_momentums(cycle_momentum, base_momentum, max_momentum)
        super().__init__(optimizer, last_epoch)

    def _check(self) -> None:
        self.div_factor = positive("div_factor", self.div_factor)
        self.final_div_factor = positive("final_div_factor", self.final_div_factor)
        if self._anneal_func_type not in ("cos", "linear"):
            raise ValueError(
                f"anneal_strategy must be one of 'cos' or 'linear', instead got {self._anneal_func_type!r}"
            )

    def _completed(self, state: Mapping[str, Any]) -> dict[str, Any]:
        for name in ("base_lrs", "cycle_momentum"):
            if name in state and state[name] != vars(self)[name]:
                raise ValueError(
                    f"torch's state of OneCycleLR lacks what goes with its {name}={state[name]!r}, and here it is "
                    f"{vars(self)[name]!r}: build the scheduler with the arguments that torch's was built with"
                )
        return super()._completed(state)

    def _claim(self) -> None:
        groups = self.optimizer.param_groups
        self._claimed = [group.get("initial_lr") for group in groups]
        first = [most / self.div_factor for most in self.max_lrs]
        self.min_lrs = [lr / self.final_div_factor for lr in first]
        if self.last_epoch == -1:
            for group, initial_lr, most, least in zip(groups, first, self.max_lrs, self.min_lrs, strict=True):
                group["initial_lr"], group["max_lr"], group["min_lr"] = initial_lr, most, least
        super()._claim()

    def _bases(self) -> list[float]:
        return [most / self.div_factor for most in self.max_lrs]

    def _release(self) -> None:
        for group, initial_lr in zip(self.optimizer.param_groups, self._claimed):
            if initial_lr is not None:
                group["initial_lr"] = initial_lr

    def _both(self, epoch: int) -> Both:
        if epoch > self.total_steps:
            raise ValueError(f"Tried to step {epoch} times. The specified number of total steps is {self.total_steps}")
        if epoch == self.total_steps:
            epoch -= 1
        return self._row(epoch, [self.base_lrs, self.max_lrs, self.min_lrs, self._schedule_phases])

    def _rows(self, epoch: int, count: int) -> list[Both]:
        lrs, momentums, start, end = self._phase(epoch)
        first, last, one = common(start, end)
        count = min(count, int(end) + 1 - epoch)
        if self._anneal_func_type == "cos":
            return rows(lrs, momentums, *annealing(epoch * one - first, last - first, one, count))
        return rows(lrs, momentums, [last - place * one for place in range(epoch, epoch + count)], last - first)

    def _phase(self, epoch: int) -> tuple[Ends, Ends, float, float]:
        """Return what an epoch lies between: where it is going, where it comes from, and the epochs of both."""
        start = end = 0.0
        for place, phase in enumerate(self._schedule_phases):  # noqa: B007
            start, end = end, phase["end_step"]
            if epoch <= end:
                break
        else:
            raise ValueError(f"epoch {epoch} is in none of the phases")
        # As the phases describe it. The groups have it too, but a later scheduler may have overwritten that.
        base, most = self.base_lrs, self.max_lrs
        lrs = (base, most, base, self.min_lrs) if len(self._schedule_phases) == 3 else (base, most, self.min_lrs)
        if not self.cycle_momentum:
            return (lrs[place + 1], lrs[place]), ((), ()), start, end
        momentums = self.max_momentums, self.base_momentums, self.max_momentums, self.max_momentums
        return (lrs[place + 1], lrs[place]), (momentums[place + 1], momentums[place]), start, end


def _total_steps(total_steps: Any, epochs: Any, steps_per_epoch: Any) -> int:
    if total_steps is not None:
        return whole("total_steps", total_steps)
    if epochs is None or steps_per_epoch is None:
        raise ValueError("You must define either total_steps OR (epochs AND steps_per_epoch)")
    return whole("epochs", epochs) * whole("steps_per_epoch", steps_per_epoch)


def _phases(total: int, pct_start: float, three_phase: bool) -> list[dict[str, Any]]:
    """Return torch's description of the phases."""
    if not 0 <= pct_start <= 1:
        raise ValueError(f"Expected float between 0 and 1 pct_start, but got {pct_start!r}")
    ends = [pct_start * total - 1, float(total - 1)]
    rates = ["initial_lr", "max_lr", "min_lr"]
    if three_phase:
        ends.insert(1, 2 * pct_start * total - 2)
        rates.insert(2, "initial_lr")
    if not all(start < end for start, end in pairwise([0.0, *ends])):
        raise ValueError(
            f"pct_start={pct_start} of {total} steps makes the phases end at {', '.join(map(str, ends))}: "
            "each must end later than the one before, and the first after 0"
        )
    momentums = ["max_momentum", "base_momentum", "max_momentum", "max_momentum"]
    return [
        {"end_step": end, "start_lr": start_lr, "end_lr": end_lr, "start_momentum": highest, "end_momentum": lowest}
        for end, (start_lr, end_lr), (highest, lowest) in zip(ends, pairwise(rates), pairwise(momentums))
    ]
