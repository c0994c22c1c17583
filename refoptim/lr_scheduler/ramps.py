"""ConstantLR, LinearLR and PolynomialLR: schedules that lead to a value in some iterations, and stay there."""

from math import remainder

from ..optimizer import Optimizer
from .arguments import real, whole
from .exact import common
from .schedule import Factor
from .table import Table


class _Ramp(Factor):
    """A factor that changes for ``total_iters`` epochs."""

    total_iters: int

    def __init__(self, optimizer: Optimizer, total_iters: int, last_epoch: int) -> None:
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def _check(self) -> None:
        self.total_iters = whole("total_iters", self.total_iters)

    def _change(self, epoch: int) -> tuple[int, int] | None:
        if epoch > self.total_iters:
            return None
        (n, d), (before, below) = self._factor(epoch), self._factor(epoch - 1)
        return n * below, d * before


class ConstantLR(_Ramp):
    r"""Multiplies the learning rate by a factor, for some iterations.

    .. math::
        \eta_e = \eta_0 \cdot \begin{cases} f & e < T \\ 1 & e \geq T \end{cases}

    where :math:`e` is ``last_epoch`` and :math:`\eta_0` is ``initial_lr``.

    Args:
        optimizer: the optimizer whose learning rates are scheduled.
        factor: :math:`f`, from 0 to 1. After 0 the learning rate becomes ``initial_lr``, whoever else has changed it
            (default: 1/3).
        total_iters: :math:`T`, a positive integer (default: 5).
        last_epoch: the epoch to go on from; -1 starts (default: -1).

    Raises:
        ValueError: an argument is out of its range.

    >>> import refoptim as optim
    >>> optimizer = optim.SGD([optim.Parameter([1.0])], lr=0.05)
    >>> scheduler = optim.lr_scheduler.ConstantLR(optimizer, factor=0.5, total_iters=4)
    >>> scheduler.at(range(6))
    [array([0.025, 0.025, 0.025, 0.025, 0.05 , 0.05 ])]

    """

    def __init__(
        self, optimizer: Optimizer, factor: float = 1.0 / 3, total_iters: int = 5, last_epoch: int = -1
    ) -> None:
        self.factor = factor
        super().__init__(optimizer, total_iters, last_epoch)

    def _check(self) -> None:
        self.factor = real("factor", self.factor)
        if not 0 <= self.factor <= 1:
            raise ValueError(f"Constant multiplicative factor expected to be between 0 and 1, but got {self.factor}")
        super()._check()

    def _factor(self, epoch: int) -> tuple[int, int]:
        return self.factor.as_integer_ratio() if epoch < self.total_iters else (1, 1)

    def _change(self, epoch: int) -> tuple[int, int] | None:
        return super()._change(epoch) if epoch == self.total_iters else None


class LinearLR(_Ramp):
    r"""Multiplies the learning rate by a factor that changes linearly, for some iterations.

    .. math::
        \eta_e = \eta_0 \left(s + (f - s) \frac{\min(e, T)}{T}\right)

    where :math:`e` is ``last_epoch`` and :math:`\eta_0` is ``initial_lr``.

    Args:
        optimizer: the optimizer whose learning rates are scheduled.
        start_factor: :math:`s`, above 0 and at most 1 (default: 1/3).
        end_factor: :math:`f`, from 0 to 1 (default: 1.0).
        total_iters: :math:`T`, a positive integer (default: 5).
        last_epoch: the epoch to go on from; -1 starts (default: -1).

    Raises:
        ValueError: an argument is out of its range.

    >>> import refoptim as optim
    >>> optimizer = optim.SGD([optim.Parameter([1.0])], lr=0.05)
    >>> scheduler = optim.lr_scheduler.LinearLR(optimizer, start_factor=0.5, total_iters=4)
    >>> scheduler.at(range(6))
    [array([0.025  , 0.03125, 0.0375 , 0.04375, 0.05   , 0.05   ])]

    """

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        self.start_factor, self.end_factor = start_factor, end_factor
        super().__init__(optimizer, total_iters, last_epoch)

    def _check(self) -> None:
        self.start_factor = real("start_factor", self.start_factor)
        self.end_factor = real("end_factor", self.end_factor)
        if not 0 < self.start_factor <= 1:
            raise ValueError(
                "Starting multiplicative factor expected to be greater than 0 and less or equal to 1, "
                f"but got {self.start_factor}"
            )
        if not 0 <= self.end_factor <= 1:
            raise ValueError(f"Ending multiplicative factor expected to be between 0 and 1, but got {self.end_factor}")
        super()._check()

    def _factor(self, epoch: int) -> tuple[int, int]:
        start, end, one = common(self.start_factor, self.end_factor)
        total = self.total_iters
        return start * total + (end - start) * min(epoch, total), one * total

    def _change(self, epoch: int) -> tuple[int, int] | None:
        total = self.total_iters
        if epoch > total:
            return None
        start, end, _ = common(self.start_factor, self.end_factor)
        n = start * total + (end - start) * epoch
        return n, n - (end - start)


class PolynomialLR(_Ramp):
    r"""Decays the learning rate to 0 by a polynomial, in some iterations.

    .. math::
        \eta_e = \eta_0 \left(1 - \frac{\min(e, T)}{T}\right)^p

    where :math:`e` is ``last_epoch`` and :math:`\eta_0` is ``initial_lr``.

    Args:
        optimizer: the optimizer whose learning rates are scheduled.
        total_iters: :math:`T`, a positive integer (default: 5).
        power: :math:`p`, at least 0 (default: 1.0).
        last_epoch: the epoch to go on from; -1 starts (default: -1).

    Raises:
        ValueError: an argument is out of its range.

    >>> import refoptim as optim
    >>> optimizer = optim.SGD([optim.Parameter([1.0])], lr=0.05)
    >>> scheduler = optim.lr_scheduler.PolynomialLR(optimizer, total_iters=4)
    >>> scheduler.at(range(6))
    [array([0.05  , 0.0375, 0.025 , 0.0125, 0.    , 0.    ])]

    """

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1) -> None:
        self.power = power
        self._table = Table()
        super().__init__(optimizer, total_iters, last_epoch)

    def _check(self) -> None:
        self.power = real("power", self.power)
        if self.power < 0:
            raise ValueError(f"Expected non-negative power, but got {self.power}")
        super()._check()

    def _factor(self, epoch: int) -> tuple[int, int]:
        total, power = self.total_iters, self.power
        if power.is_integer() and power <= _LONGEST:
            return max(total - epoch, 0) ** int(power), total ** int(power)
        return self._table.factor(epoch, (total, power), _fractional_powers) if epoch < total else (0, 1)

    def _change(self, epoch: int) -> tuple[int, int] | None:
        total, power = self.total_iters, self.power
        left = total - epoch
        if left < 0:
            return None
        if power == 1:
            return left, left + 1
        if power.is_integer() and power <= _LONGEST:
            return left ** int(power), (left + 1) ** int(power)
        return self._table.change(epoch, (total, power), _fractional_powers)


def _fractional_powers(total: int, power: float, epoch: int, count: int) -> tuple[list[int], int]:
    """Return ((total - e) / total)**power for some epochs e in a row, as integers and their denominator.

    Each is right to an ulp of the library's pow, whose argument is rounded: what that lost is put back. Below epoch 0
    there is none.
    """
    # Of a larger power nothing is left that could be put right.
    slope = min(power, 2.0**100) * _ONE
    ratios = []
    for left in range(total - max(epoch, 0), max(total - epoch - count, 0), -1):
        quotient = left / total
        # That is left - quotient * total, and exact, for totals below 2**52.
        lost = remainder(left, quotient)
        n, d = (quotient**power).as_integer_ratio()
        ratios.append((n * (_ONE + int(slope * (lost / left))), d))
    if epoch + count > total:
        ratios.append((0, 1))
    one = max([d for _, d in ratios])
    return [0] * (epoch < 0) + [n if d == one else n * (one // d) for n, d in ratios], one * _ONE


_ONE = 1 << 64
# Of larger powers integers would be long.
_LONGEST = 32
