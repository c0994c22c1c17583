"""CosineAnnealingLR and CosineAnnealingWarmRestarts."""

from math import floor, isfinite
from typing import Any

from ..optimizer import Optimizer
from ..scalars import number
from .arguments import positive, real, whole
from .cosines import annealing
from .curves import curves
from .exact import blend, blended, common, exact, plus, rounded
from .rates import Ledger, commit, recalled
from .schedule import Factor, Schedule
from .table import Table


class CosineAnnealingLR(Factor):
    r"""Moves the learning rate along a cosine, down to ``eta_min`` in ``T_max`` epochs and up again in as many.

    .. math::
        \eta_e = \eta_{min} + (\eta_0 - \eta_{min}) \frac{1 + \cos(\pi e / T_{max})}{2}

    where :math:`e` is ``last_epoch`` and :math:`\eta_0` is ``initial_lr``. If somebody else has changed the learning
    rate, its distance to :math:`\eta_{min}` is multiplied by what the formula's is multiplied by; after
    :math:`\eta_{min}`, where that is no number, what the formula adds is added.

    Args:
        optimizer: the optimizer whose learning rates are scheduled.
        T_max: :math:`T_{max}`, a positive number.
        eta_min: :math:`\eta_{min}` (default: 0.0).
        last_epoch: the epoch to go on from; -1 starts (default: -1).

    Raises:
        ValueError: an argument is out of its range.

    >>> import refoptim as optim
    >>> optimizer = optim.SGD([optim.Parameter([1.0])], lr=0.1)
    >>> scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=4)
    >>> scheduler.at(range(6))
    [array([0.1       , 0.08535534, 0.05      , 0.01464466, 0.        , 0.01464466])]

    Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2016, without the restarts.

    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:  # noqa: N803
        self.T_max, self.eta_min = T_max, eta_min
        self._table = Table()
        super().__init__(optimizer, last_epoch)

    def _check(self) -> None:
        self.T_max, self.eta_min = positive("T_max", self.T_max), real("eta_min", self.eta_min)
        if self.T_max.is_integer():
            self.T_max = int(self.T_max)

    def _factor(self, epoch: int) -> tuple[int, int]:
        period = self.T_max
        return self._table.factor(epoch % (2 * period) if type(period) is int else epoch, (period,), _annealed)

    def _change(self, epoch: int) -> tuple[int, int]:
        period = self.T_max
        return self._table.change(epoch % (2 * period) if type(period) is int else epoch, (period,), _annealed)

    def _revived(self, epoch: int) -> Ledger:
        """Return the learning rates after eta_min: the closed form's rise above it is added."""
        n, d = self._factor(epoch)
        a, y = exact(-self.eta_min)
        present = recalled(self._ledger, [group["lr"] for group in self.optimizer.param_groups])
        result: Ledger = []
        for (_, m, x), base_lr in zip(present, self.base_lrs):
            rise = plus(*blend(self.eta_min, base_lr, n, d), a, y)
            value = plus(m, x, *rise)
            result.append((rounded(*value), *value))
        return result


class CosineAnnealingWarmRestarts(Schedule):
    r"""Moves the learning rate down along a cosine, and back to its start: after ``T_0`` epochs, then later and later.

    .. math::
        \eta_e = \eta_{min} + (\eta_0 - \eta_{min}) \frac{1 + \cos(\pi T_{cur} / T_i)}{2}

    where :math:`T_{cur}` is the number of epochs since the last restart, :math:`T_i` that between the last and the
    next, :math:`e` is ``last_epoch`` and :math:`\eta_0` is ``initial_lr``. At a restart :math:`T_i` is multiplied by
    ``T_mult``. The epoch before it is the last: :math:`\eta_{min}` itself is not reached.

    Args:
        optimizer: the optimizer whose learning rates are scheduled.
        T_0: the first :math:`T_i`, a positive integer.
        T_mult: a positive integer (default: 1).
        eta_min: :math:`\eta_{min}` (default: 0.0).
        last_epoch: the epoch to go on from; -1 starts (default: -1).

    Raises:
        ValueError: an argument is out of its range.

    ``step(epoch)`` is not deprecated here, and takes fractions of an epoch: ``step(epoch + batch / batches)``.

    >>> import refoptim as optim
    >>> optimizer = optim.SGD([optim.Parameter([1.0])], lr=0.1)
    >>> scheduler = optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=2, T_mult=2)
    >>> scheduler.at(range(7))
    [array([0.1       , 0.05      , 0.1       , 0.08535534, 0.05      , 0.01464466, 0.1       ])]

    Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2016.

    """

    _never_fails = True

    def __init__(
        self,
        optimizer: Optimizer,
        T_0: int,  # noqa: N803
        T_mult: int = 1,  # noqa: N803
        eta_min: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        self.T_0, self.T_mult, self.eta_min = T_0, T_mult, eta_min
        self.T_i, self.T_cur = T_0, last_epoch
        self._table = Table()
        super().__init__(optimizer, last_epoch)

    def _check(self) -> None:
        self.T_0, self.T_mult = whole("T_0", self.T_0), whole("T_mult", self.T_mult)
        self.eta_min = real("eta_min", self.eta_min)

    def step(self, epoch: float | None = None) -> None:
        """Go on to the next epoch, or to a given one, which may be a fraction.

        Args:
            epoch: at least 0; None is one more than before (default: None).

        Raises:
            ValueError: epoch is negative. Nothing is changed then.

        """
        if epoch is None:
            self._advance()
            return
        epoch = number("epoch", epoch) if not isinstance(epoch, int) else epoch
        if not isfinite(epoch) or epoch < 0:
            raise ValueError(f"Expected non-negative epoch, but got {epoch}")
        self._jump(epoch)

    def at(self, steps: Any) -> list[Any]:
        """Return the learning rates at these epochs, which may be fractions. As ``LRScheduler.at``."""
        return curves(steps, self._curve, fractions=True)

    def _closed(self, epoch: float) -> list[float]:
        return self._within(*self._place(epoch))

    def _within(self, since: float, between: int) -> list[float]:
        if type(since) is int:
            n, d = self._table.factor(since, (between,), _annealed)
        else:
            p, one = common(since)
            (n,), d = annealing(p, between * one, one, 1)
        return [blended(self.eta_min, base_lr, n, d) for base_lr in self.base_lrs]

    def _place(self, epoch: float) -> tuple[float, int]:
        """Return T_cur and T_i."""
        if self.T_mult == 1:
            return epoch % self.T_0, self.T_0
        since, between = epoch, self.T_0
        while since >= between:
            since, between = since - between, between * self.T_mult
        return since, between

    def _advance(self) -> None:
        since, between = self.T_cur + 1, self.T_i
        if since >= between:
            since, between = since - between, between * self.T_mult
        self._settle(self.last_epoch + 1, self._within(since, between), since, between)

    def _commit(self, epoch: float, lrs: list[float]) -> None:
        self._settle(floor(epoch), lrs, *self._place(epoch))

    def _settle(self, epoch: int, lrs: list[float], since: float, between: int) -> None:
        before, count = (self.T_cur, self.T_i), self._step_count
        try:
            self.T_cur, self.T_i = since, between
            commit(self, epoch, lrs)
        except BaseException:
            if self._step_count == count:  # Ctrl-C may come behind what is done
                self.T_cur, self.T_i = before
            raise


def _annealed(period: float, epoch: int, count: int) -> tuple[list[int], int]:
    """Return the factors of some epochs in a row."""
    q, one = common(period)
    return annealing(epoch * one, q, one, min(count, int(2 * period) + 2))
