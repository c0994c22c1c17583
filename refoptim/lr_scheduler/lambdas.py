"""LambdaLR and MultiplicativeLR: schedules by a user's function."""

from collections.abc import Callable, Sequence
from typing import Any

from ..optimizer import Optimizer
from .arguments import check_optimizer
from .curves import Rows
from .exact import exact, product, rounded
from .rates import Ledger, commit_exact, finite, rate
from .schedule import Factor, Schedule

Factors = Callable[[int], float] | Sequence[Callable[[int], float]]


class _ByFunction(Schedule):
    def __init__(self, optimizer: Optimizer, lr_lambda: Factors, last_epoch: int) -> None:
        check_optimizer(optimizer)
        groups = len(optimizer.param_groups)
        functions: Any = lr_lambda if isinstance(lr_lambda, list | tuple) else [lr_lambda] * groups
        self.lr_lambdas: list[Callable[[int], Any]] = list(functions)
        if len(self.lr_lambdas) != groups:
            raise ValueError(f"Expected {groups} lr_lambdas, but got {len(self.lr_lambdas)}")
        for function in self.lr_lambdas:
            if not callable(function):
                raise TypeError(f"lr_lambda should be a function, but got {type(function).__name__}")
        super().__init__(optimizer, last_epoch)


class LambdaLR(_ByFunction):
    r"""Sets the learning rate to the initial one times a given function of the epoch.

    .. math::
        \eta_e = \eta_0 \lambda(e)

    where :math:`e` is ``last_epoch`` and :math:`\eta_0` is ``initial_lr``.

    Args:
        optimizer: the optimizer whose learning rates are scheduled.
        lr_lambda: :math:`\lambda`, or a list with one function for each group.
        last_epoch: the epoch to go on from; -1 starts (default: -1).

    Raises:
        TypeError: lr_lambda is not callable.
        ValueError: there are more or fewer functions than groups.

    Functions are not saved: ``state_dict`` holds the attributes of callable objects only, and names what it left out.

    >>> import refoptim as optim
    >>> optimizer = optim.SGD([optim.Parameter([1.0])], lr=0.1)
    >>> scheduler = optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1 / (1 + epoch))
    >>> scheduler.at(range(5))
    [array([0.1       , 0.05      , 0.03333333, 0.025     , 0.02      ])]

    """

    def __init__(self, optimizer: Optimizer, lr_lambda: Factors, last_epoch: int = -1) -> None:
        super().__init__(optimizer, lr_lambda, last_epoch)

    def _closed(self, epoch: int) -> list[float]:
        return [finite(base_lr * function(epoch)) for base_lr, function in zip(self.base_lrs, self.lr_lambdas)]


class MultiplicativeLR(_ByFunction, Factor):
    r"""Multiplies the learning rate by a given function of the epoch, every epoch.

    .. math::
        \eta_e = \eta_0 \prod_{k=1}^{e} \lambda(k)

    where :math:`e` is ``last_epoch`` and :math:`\eta_0` is ``initial_lr``.

    Args:
        optimizer: the optimizer whose learning rates are scheduled.
        lr_lambda: :math:`\lambda`, or a list with one function for each group.
        last_epoch: the epoch to go on from; -1 starts (default: -1).

    Raises:
        TypeError: lr_lambda is not callable.
        ValueError: there are more or fewer functions than groups.

    Functions are not saved: ``state_dict`` holds the attributes of callable objects only, and names what it left out.

    >>> import refoptim as optim
    >>> optimizer = optim.SGD([optim.Parameter([1.0])], lr=0.1)
    >>> scheduler = optim.lr_scheduler.MultiplicativeLR(optimizer, lambda epoch: 0.5)
    >>> scheduler.at(range(4))
    [array([0.1   , 0.05  , 0.025 , 0.0125])]

    """

    def __init__(self, optimizer: Optimizer, lr_lambda: Factors, last_epoch: int = -1) -> None:
        super().__init__(optimizer, lr_lambda, last_epoch)

    _never_fails = False

    def _factors(self, epoch: int) -> list[tuple[int, int]]:
        return [finite(function(epoch)).as_integer_ratio() for function in self.lr_lambdas]

    def _first(self) -> list[float]:
        return self._rates()

    def _next(self, epoch: int) -> list[float]:
        return [known[0] for known in self._multiplied(self._factors(epoch))]

    def _products(self, epochs: list[int]) -> list[Ledger]:
        """Return the closed form at each of these epochs."""
        rows = [[(base_lr, *exact(base_lr)) for base_lr in self.base_lrs]]
        for epoch in range(1, max(epochs, default=0) + 1):
            values = [product(m, x, *exact(rate(f(epoch)))) for (_, m, x), f in zip(rows[-1], self.lr_lambdas)]
            rows.append([(rounded(m, x), m, x) for m, x in values])
        return [rows[epoch] for epoch in epochs]

    def _exactly(self, epoch: int) -> Ledger:
        return self._products([epoch])[0]

    def _curve(self, epochs: list[int]) -> Rows:
        return [[known[0] for known in row] for row in self._products(epochs)]

    def _advance(self) -> None:
        epoch = self.last_epoch + 1
        factors = self._factors(epoch)
        if len(factors) == 1 == len(self.optimizer.param_groups):
            self._multiply(epoch, *factors[0])
        else:
            commit_exact(self, epoch, self._multiplied(factors))

    def _start(self) -> None:
        self._stay(0)
