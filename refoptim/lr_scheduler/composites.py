"""SequentialLR and ChainedScheduler: schedulers made of schedulers."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Any

from ..interrupts import Uninterrupted
from ..optimizer import Optimizer
from .arguments import check_optimizer, increasing, whole
from .base import LRScheduler
from .curves import Rows, members
from .order import warn_about_order, watch
from .plateau import ReduceLROnPlateau
from .rates import Snapshot, ledger_of, unchanged_on_error


class _Composite(LRScheduler):
    """A scheduler that steps others."""

    _schedulers: list[LRScheduler]
    _unknown_to_torch = ("_step_count",)

    def _hold(self, schedulers: Iterable[LRScheduler], optimizer: Any) -> None:
        """Check the parts and keep them."""
        kind = type(self).__name__
        if not isinstance(schedulers, Iterable):
            raise TypeError(f"{kind} expects a list of schedulers, but got {schedulers!r}")
        parts = list(schedulers)
        if not parts:
            raise ValueError(f"{kind} expects at least one scheduler, but got no scheduler.")
        for place, part in enumerate(parts):
            if not isinstance(part, LRScheduler):
                raise TypeError(
                    f"{kind} expects schedulers, but at index {place} got {part!r}, which is no LRScheduler"
                )
            if isinstance(part, ReduceLROnPlateau):
                raise ValueError(  # noqa: TRY004
                    f"{kind} does not support `ReduceLROnPlateau` scheduler as it requires additional kwargs to be "
                    f"specified when calling `step`, but got one at index {place} in the given schedulers sequence."
                )
        self.optimizer = parts[0].optimizer if optimizer is None else optimizer
        for place, part in enumerate(parts):
            if part.optimizer is not self.optimizer:
                raise ValueError(
                    f"{kind} expects all schedulers to belong to the same optimizer, but got scheduler "
                    f"{type(part).__name__} at index {place}, whose optimizer is another one."
                )
        self._schedulers = parts
        self._ledger = ledger_of(self.optimizer)
        self._never_fails = all(part._never_fails for part in parts)
        self._members = [self, *(member for part in parts for member in members(part))]

    def step(self) -> None:  # type: ignore[override]
        """Go on to the next epoch. Call it after the optimizer's ``step``.

        Raises:
            ValueError: one of the schedules has no such epoch. Nothing is changed then, as after any other error.

        """
        if self._step_count == 1:
            warn_about_order(self.optimizer)
        self._advance()

    def get_lr(self) -> list[Any]:
        """Raise NotImplementedError: the parts compute the learning rates."""
        raise NotImplementedError(f"{type(self).__name__} has no get_lr: use get_last_lr()")

    def _refresh(self) -> None:
        self._last_lr = self._rates()
        self._step_count += 1


class SequentialLR(_Composite):
    r"""Runs schedulers one after another.

    .. math::
        \eta_e = \eta^{(i)}_{e - m_{i-1}} \quad\text{for}\quad m_{i-1} \leq e < m_i

    where :math:`\eta^{(i)}` is the schedule of scheduler :math:`i`, :math:`m` are the milestones, :math:`m_{-1} = 0`
    and :math:`e` is ``last_epoch``. At a milestone the next scheduler begins with its own epoch 0 and its own
    ``base_lrs``, whatever the learning rate was before.

    Args:
        optimizer: the optimizer whose learning rates are scheduled.
        schedulers: schedulers of this optimizer, which may be composites; not ReduceLROnPlateau.
        milestones: the epochs at which the next scheduler begins, one less than schedulers, not decreasing.
        last_epoch: the epoch to go on from, with schedulers that are built anew, without it, as at the start; -1 starts
            (default: -1).

    Raises:
        ValueError: the number of milestones does not fit, they decrease, or a scheduler belongs to another optimizer.
        TypeError: one of schedulers is not a scheduler.

    >>> import refoptim as optim
    >>> optimizer = optim.SGD([optim.Parameter([1.0])], lr=0.05)
    >>> warmup = optim.lr_scheduler.ConstantLR(optimizer, factor=0.1, total_iters=20)
    >>> decay = optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.9)
    >>> scheduler = optim.lr_scheduler.SequentialLR(optimizer, [warmup, decay], milestones=[20])
    >>> scheduler.at([0, 19, 20, 21])
    [array([0.005, 0.005, 0.05 , 0.045])]

    """

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int], last_epoch: int = -1
    ) -> None:
        check_optimizer(optimizer)
        self._hold(schedulers, optimizer)
        self._milestones: Any = milestones
        self._check()
        with unchanged_on_error(optimizer, self._members):
            # The next process builds the parts again, and the first of them must find what it finds now.
            for member in reversed(self._members[1:]):
                member._release()
            if last_epoch == -1:
                self._restart()
            else:
                self._jump(whole("last_epoch", last_epoch, least=0) + 1)
        self._step_count = 1
        watch(optimizer)

    def _check(self) -> None:
        self._milestones = increasing("milestones", self._milestones)
        if len(self._milestones) != len(self._schedulers) - 1:
            raise ValueError(
                "Sequential Schedulers expects number of schedulers provided to be one more than the number of "
                f"milestone points, but got number of schedulers {len(self._schedulers)} and the number of milestones "
                f"to be equal to {len(self._milestones)}"
            )

    def _place(self, epoch: int) -> tuple[int, int]:
        """Return which scheduler an epoch belongs to, and its own epoch."""
        place = bisect_right(self._milestones, epoch)
        return place, epoch - self._milestones[place - 1] if place else epoch

    def _advance(self) -> None:
        epoch, milestones = self.last_epoch + 1, self._milestones
        place = bisect_right(milestones, epoch)
        part = self._schedulers[place]
        if place and milestones[place - 1] == epoch:
            with Uninterrupted():
                part._restart()
                self.last_epoch, self._last_lr = epoch, part._last_lr
                self._step_count += 1
            return
        interrupt, count = None, part._step_count
        try:
            part._take()
        except KeyboardInterrupt as raised:
            if part._step_count == count:
                raise
            interrupt = raised  # behind a step that is done
        self.last_epoch, self._last_lr = epoch, part._last_lr
        self._step_count += 1
        if interrupt is not None:
            raise interrupt

    def _jump(self, epoch: Any) -> None:
        place, since = self._place(epoch)
        starts = [0, *self._milestones]
        for part, start, end in zip(self._schedulers, starts, self._milestones[:place]):
            # A part that has been may have left its momentum.
            if start < end:
                part._jump(end - start - 1)
        self._schedulers[place]._jump(since)
        self.last_epoch = epoch
        self._refresh()

    def _restart(self) -> None:
        self._schedulers[self._place(0)[0]]._restart()
        self.last_epoch = 0
        self._refresh()

    def _start(self) -> None:
        self._schedulers[self._place(0)[0]]._start()
        self.last_epoch = 0
        self._refresh()

    def _curve(self, epochs: list[Any]) -> Rows:
        places = [self._place(epoch) for epoch in epochs]
        rows = [
            iter(part._curve([since for place, since in places if place == own]))
            for own, part in enumerate(self._schedulers)
        ]
        return [next(rows[place]) for place, _ in places]


class ChainedScheduler(_Composite):
    r"""Steps several schedulers at once: each changes what the one before has left.

    Schedulers that multiply the learning rate multiply their factors. Those that set it (LambdaLR,
    CosineAnnealingWarmRestarts, CyclicLR and OneCycleLR) forget what those before them did.

    Args:
        schedulers: schedulers of one optimizer, which may be composites; not ReduceLROnPlateau.
        optimizer: the optimizer; None is that of the schedulers (default: None).

    Raises:
        ValueError: there are no schedulers, or one belongs to another optimizer.
        TypeError: one of schedulers is not a scheduler.

    >>> import refoptim as optim
    >>> optimizer = optim.SGD([optim.Parameter([1.0])], lr=0.05)
    >>> warmup = optim.lr_scheduler.ConstantLR(optimizer, factor=0.1, total_iters=20)
    >>> decay = optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.9)
    >>> scheduler = optim.lr_scheduler.ChainedScheduler([warmup, decay])
    >>> scheduler.at([0, 1, 2, 20])
    [array([0.005     , 0.0045    , 0.00405   , 0.00607883])]

    """

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None) -> None:
        self._hold(schedulers, optimizer)
        self._refresh()
        watch(self.optimizer)

    @property
    def last_epoch(self) -> int:  # type: ignore[override]
        """The epoch of the first of the schedulers."""
        return self._schedulers[0].last_epoch

    def _advance(self) -> None:
        # To remember what was before takes as long as a step.
        snapshot = None if self._never_fails else Snapshot(self.optimizer, self._members)
        with Uninterrupted():
            try:
                for part in self._schedulers:
                    part._take()
            except BaseException:
                if snapshot is not None:
                    snapshot.restore()
                raise
            self._last_lr = self._schedulers[-1]._last_lr
            self._step_count += 1

    def _jump(self, epoch: Any) -> None:
        self._restart()
        for _ in range(epoch):
            self._advance()

    def _restart(self) -> None:
        first, *others = self._schedulers
        with unchanged_on_error(self.optimizer, self._members):
            first._restart()
            for part in others:
                part._start()
        self._refresh()

    def _start(self) -> None:
        with unchanged_on_error(self.optimizer, self._members):
            for part in self._schedulers:
                part._start()
        self._refresh()
