"""ReduceLROnPlateau."""

from logging import getLogger
from math import inf
from typing import Any
from warnings import warn

from ..interrupts import Uninterrupted
from ..optimizer import Optimizer
from ..scalars import number
from .arguments import check_optimizer, for_each_group, real, whole
from .base import EPOCH_DEPRECATION_WARNING, LRScheduler
from .rates import check_array, ledger_of, rate, write_floats

_log = getLogger("refoptim.lr_scheduler")


class ReduceLROnPlateau(LRScheduler):
    r"""Multiplies the learning rate by a factor when a metric has not improved for some epochs.

    .. math::
        \eta \leftarrow \max(\eta f, \eta_{min}) \quad\text{when more than patience epochs in a row were not better}

    An epoch is better if its metric is less than ``best * (1 - threshold)`` or, where threshold_mode is ``"abs"``,
    than ``best - threshold``; in ``"max"`` mode if it is more than ``best * (1 + threshold)`` or ``best + threshold``.
    A metric that stays the same is not better, and NaN never is.

    Args:
        optimizer: the optimizer whose learning rates are scheduled.
        mode: ``"min"`` if the metric should fall, ``"max"`` if it should rise (default: ``"min"``).
        factor: :math:`f`, at least 0 and below 1 (default: 0.1).
        patience: how many epochs without improvement are let pass (default: 10).
        threshold: how much better counts (default: 1e-4).
        threshold_mode: ``"rel"`` or ``"abs"`` (default: ``"rel"``).
        cooldown: how many epochs after a reduction are not counted (default: 0).
        min_lr: :math:`\eta_{min}`, or a list with one for each group (default: 0).
        eps: reductions that are not larger are left out (default: 1e-8).
        verbose: whether each reduction is logged, to ``refoptim.lr_scheduler`` at level INFO (default: False).

    Raises:
        ValueError: an argument is out of its range.
        TypeError: optimizer is not one.

    The metric decides, so there is no curve: ``at`` raises TypeError.

    >>> import refoptim as optim
    >>> optimizer = optim.SGD([optim.Parameter([1.0])], lr=0.1)
    >>> scheduler = optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1, factor=0.5)
    >>> for loss in (3.0, 2.0, 2.0, 2.0, 1.0):
    ...     optimizer.step()
    ...     scheduler.step(loss)
    >>> scheduler.get_last_lr()
    [0.05]

    """

    _unknown_to_torch = ("verbose",)

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: Any = 0,
        eps: float = 1e-8,
        *,
        verbose: bool = False,
    ) -> None:
        check_optimizer(optimizer)
        for group in optimizer.param_groups:
            check_array(group["lr"])
        self.optimizer = optimizer
        self.mode, self.factor, self.patience = mode, factor, patience
        self.threshold, self.threshold_mode = threshold, threshold_mode
        self.cooldown, self.eps, self.verbose = cooldown, eps, bool(verbose)
        self.default_min_lr = None if isinstance(min_lr, list | tuple) else real("min_lr", min_lr)
        self.min_lrs = for_each_group("min_lr", optimizer, min_lr)
        self._check()
        self.best = self.mode_worse
        self.cooldown_counter = self.num_bad_epochs = self.last_epoch = 0
        self._ledger = ledger_of(optimizer)
        self._last_lr = [rate(group["lr"]) for group in optimizer.param_groups]

    @property
    def in_cooldown(self) -> bool:
        """Whether a reduction was so recent that epochs are not counted."""
        return self.cooldown_counter > 0

    def step(self, metrics: Any, epoch: int | None = None) -> None:  # type: ignore[override]
        """Go on to the next epoch, given this one's metric.

        Args:
            metrics: a number, or an array of one element.
            epoch: deprecated: the number of this epoch (default: None).

        Raises:
            TypeError: the metric or the epoch is not a number. Nothing is changed then.
            ValueError: the epoch is not an integer of at least 0.

        """
        current = metrics if type(metrics) is float else number("metrics", metrics)
        if epoch is not None:
            warn(EPOCH_DEPRECATION_WARNING, UserWarning, stacklevel=2)
        epoch = self.last_epoch + 1 if epoch is None else whole("epoch", epoch, least=0)
        better, cooling = self._is_better(current), self.in_cooldown
        bad = 0 if better or cooling else self.num_bad_epochs + 1
        reduced = bad > self.patience
        best = current if better else self.best
        if reduced:
            with Uninterrupted():
                self._reduce(epoch)
                self._note(epoch, best, 0, self.cooldown)
        else:
            self._note(epoch, best, bad, self.cooldown_counter - cooling)

    def _note(self, epoch: int, best: float, bad: int, cooldown: int) -> None:
        lrs = [rate(group["lr"]) for group in self.optimizer.param_groups]
        # From here on Python does not look for Ctrl-C.
        self._last_lr, self.last_epoch, self.best = lrs, epoch, best
        self.num_bad_epochs, self.cooldown_counter = bad, cooldown

    def at(self, steps: Any) -> list[Any]:
        """Raise TypeError: the learning rate depends on metrics that are not known."""
        raise TypeError("ReduceLROnPlateau has no curve: its learning rate depends on the metrics")

    def _is_better(self, current: float) -> bool:
        change = self.threshold if self.mode == "max" else -self.threshold
        limit = self.best * (1.0 + change) if self.threshold_mode == "rel" else self.best + change
        return current > limit if self.mode == "max" else current < limit

    def _reduce(self, epoch: int) -> None:
        groups = self.optimizer.param_groups
        if len(groups) != len(self.min_lrs):
            if self.default_min_lr is None:
                raise RuntimeError(
                    f"The number of param groups in the `optimizer` ({len(groups)}) differs from when "
                    f"`ReduceLROnPlateau` was initialized ({len(self.min_lrs)}), usually due to a new param group "
                    "being added to the optimizer. Please modify the `min_lrs` field to match the length of the "
                    "`optimizer` param groups."
                )
            self.min_lrs = [self.default_min_lr] * len(groups)
        # All are read before any is written: groups may share an array.
        before = [rate(group["lr"]) for group in groups]
        after = [max(lr * self.factor, least) for lr, least in zip(before, self.min_lrs, strict=True)]
        reduced = [old - new > self.eps for old, new in zip(before, after, strict=True)]
        write_floats(self, [new if less else old for less, new, old in zip(reduced, after, before, strict=True)])
        if self.verbose:
            for place, lr in enumerate(after):
                if reduced[place]:
                    _log.info("Epoch %5d: reducing learning rate of group %d to %.4e.", epoch, place, lr)

    def _check(self) -> None:
        self.factor = real("factor", self.factor)
        if self.factor >= 1.0:
            raise ValueError(f"Factor should be < 1.0, but is {self.factor}")
        if self.factor < 0:
            raise ValueError(f"Factor should be >= 0, but is {self.factor}")
        if self.mode not in ("min", "max"):
            raise ValueError(f"mode {self.mode} is unknown!")
        if self.threshold_mode not in ("rel", "abs"):
            raise ValueError(f"threshold mode {self.threshold_mode} is unknown!")
        for name in ("patience", "threshold", "cooldown", "eps"):
            number(name, getattr(self, name))
        self.mode_worse = inf if self.mode == "min" else -inf
