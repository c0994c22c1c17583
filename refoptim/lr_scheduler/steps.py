"""StepLR, MultiStepLR and ExponentialLR: schedules that multiply by gamma now and then."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from ..optimizer import Optimizer
from .arguments import increasing, real, whole
from .exact import powers
from .schedule import Factor
from .table import Table


class _Decay(Factor):
    """A factor that is a power of gamma."""

    gamma: float

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int) -> None:
        self.gamma = gamma
        self._table = Table()
        super().__init__(optimizer, last_epoch)

    def _check(self) -> None:
        self.gamma = real("gamma", self.gamma)

    def _count(self, epoch: int) -> int:
        """Return how often the learning rate has been multiplied."""
        raise NotImplementedError

    def _factor(self, epoch: int) -> tuple[int, int]:
        return self._table.factor(self._count(epoch), (self.gamma,), powers)


class StepLR(_Decay):
    r"""Multiplies the learning rate by gamma every ``step_size`` epochs.

    .. math::
        \eta_e = \eta_0 \gamma^{\lfloor e / s \rfloor}

    where :math:`e` is ``last_epoch`` and :math:`\eta_0` is ``initial_lr``.

    Args:
        optimizer: the optimizer whose learning rates are scheduled.
        step_size: :math:`s`, a positive integer.
        gamma: :math:`\gamma` (default: 0.1).
        last_epoch: the epoch to go on from; -1 starts (default: -1).

    Raises:
        ValueError: an argument is out of its range.

    >>> import refoptim as optim
    >>> optimizer = optim.SGD([optim.Parameter([1.0])], lr=0.05)
    >>> scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=30)
    >>> scheduler.at([0, 29, 30, 59, 60])
    [array([0.05  , 0.05  , 0.005 , 0.005 , 0.0005])]

    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        self.step_size = step_size
        super().__init__(optimizer, gamma, last_epoch)

    def _check(self) -> None:
        self.step_size = whole("step_size", self.step_size)
        super()._check()

    def _count(self, epoch: int) -> int:
        return epoch // self.step_size

    def _change(self, epoch: int) -> tuple[int, int] | None:
        return None if epoch % self.step_size else self.gamma.as_integer_ratio()


class MultiStepLR(_Decay):
    r"""Multiplies the learning rate by gamma at each milestone.

    .. math::
        \eta_e = \eta_0 \gamma^n

    where :math:`n` is the number of milestones :math:`m \leq e`, :math:`e` is ``last_epoch`` and :math:`\eta_0` is
    ``initial_lr``.

    Args:
        optimizer: the optimizer whose learning rates are scheduled.
        milestones: epochs, at least 0, that do not decrease. One that comes twice counts twice.
        gamma: :math:`\gamma` (default: 0.1).
        last_epoch: the epoch to go on from; -1 starts (default: -1).

    Raises:
        ValueError: the milestones decrease, or an argument is out of its range.

    >>> import refoptim as optim
    >>> optimizer = optim.SGD([optim.Parameter([1.0])], lr=0.05)
    >>> scheduler = optim.lr_scheduler.MultiStepLR(optimizer, milestones=[30, 80])
    >>> scheduler.at([0, 29, 30, 79, 80])
    [array([0.05  , 0.05  , 0.005 , 0.005 , 0.0005])]

    """

    def __init__(
        self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.milestones: Any = milestones
        super().__init__(optimizer, gamma, last_epoch)

    def _check(self) -> None:
        # torch saves how often each one comes.
        given = self.milestones
        counted = sorted(Counter(given).elements()) if isinstance(given, Mapping) else given
        self.milestones = increasing("milestones", counted)
        super()._check()

    def _count(self, epoch: int) -> int:
        return bisect_right(self.milestones, epoch)

    def _change(self, epoch: int) -> tuple[int, int] | None:
        times = self.milestones.count(epoch)
        n, d = self.gamma.as_integer_ratio()
        return (n**times, d**times) if times else None


class ExponentialLR(_Decay):
    r"""Multiplies the learning rate by gamma every epoch.

    .. math::
        \eta_e = \eta_0 \gamma^e

    where :math:`e` is ``last_epoch`` and :math:`\eta_0` is ``initial_lr``.

    Args:
        optimizer: the optimizer whose learning rates are scheduled.
        gamma: :math:`\gamma`.
        last_epoch: the epoch to go on from; -1 starts (default: -1).

    Raises:
        ValueError: gamma is not finite.

    >>> import refoptim as optim
    >>> optimizer = optim.SGD([optim.Parameter([1.0])], lr=0.1)
    >>> scheduler = optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
    >>> scheduler.at(range(4))
    [array([0.1   , 0.05  , 0.025 , 0.0125])]

    """

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        super().__init__(optimizer, gamma, last_epoch)

    def _count(self, epoch: int) -> int:
        return epoch

    def _change(self, epoch: int) -> tuple[int, int] | None:
        return self.gamma.as_integer_ratio()
