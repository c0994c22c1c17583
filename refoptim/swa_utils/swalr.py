"""SWALR: from the learning rate there is to the one that weights are averaged at."""

from typing import Any

from ..lr_scheduler.arguments import check_optimizer, for_each_group, whole
from ..lr_scheduler.cosines import annealing
from ..lr_scheduler.rates import rate, unchanged_on_error
from ..lr_scheduler.schedule import Factor
from ..lr_scheduler.table import Table
from ..optimizer import Optimizer

_STRATEGIES = ("cos", "linear")


class SWALR(Factor):
    r"""Anneals each group's learning rate to a fixed value, and keeps it there.

    .. math::
        \gamma_t = \gamma_{swa} + (\gamma_0 - \gamma_{swa}) (1 - a(t / E)), \quad
        a(u) = \frac{1 - \cos \pi u}{2} \text{ or } u, \text{ with } u \leq 1

    where :math:`E` is ``anneal_epochs`` and :math:`\gamma_0` the learning rate of epoch 0: a step goes on from the
    learning rate that the group has, which another scheduler may have brought there in the meantime. Behind the last
    epoch, and with :math:`E = 0` from the constructor on, it is :math:`\gamma_{swa}`.

    Args:
        optimizer: the optimizer whose groups are scheduled.
        swa_lr: :math:`\gamma_{swa}`, one for all groups or a list; it becomes the groups' option ``"swa_lr"``.
        anneal_epochs: :math:`E`, at least 0 (default: 10).
        anneal_strategy: ``"cos"`` or ``"linear"`` (default: "cos").
        last_epoch: where to go on. With n at least 0 the schedule starts at epoch n + 1, from the groups'
            ``"initial_lr"`` (default: -1).

    Raises:
        TypeError: optimizer is not one.
        ValueError: an argument is out of its range, or swa_lr has another length than there are groups.
        KeyError: last_epoch is given and a group has no ``"initial_lr"``.

    These are the names of torch's arguments; its docstring has others (``swa_lrs``, ``annealing_epochs``,
    ``annealing_strategy``).

    >>> import refoptim as optim
    >>> optimizer = optim.SGD([optim.Parameter([1.0])], lr=0.5)
    >>> scheduler = optim.swa_utils.SWALR(optimizer, swa_lr=0.1, anneal_epochs=4, anneal_strategy="linear")
    >>> scheduler.at(range(6))
    [array([0.5, 0.4, 0.3, 0.2, 0.1, 0.1])]

    Izmailov, Podoprikhin, Garipov, Vetrov and Wilson, "Averaging Weights Leads to Wider Optima and Better
    Generalization", 2018.

    """

    eta_min = None

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: Any,
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ) -> None:
        check_optimizer(optimizer)
        swa_lrs = for_each_group("swa_lr", optimizer, swa_lr)
        self.anneal_epochs = anneal_epochs
        self._anneal_strategy = anneal_strategy
        self._table = Table()
        with unchanged_on_error(optimizer):
            for group, value in zip(optimizer.param_groups, swa_lrs, strict=True):
                group["swa_lr"] = value
            super().__init__(optimizer, last_epoch)

    def _check(self) -> None:
        if self._anneal_strategy not in _STRATEGIES:
            raise ValueError(f"anneal_strategy must be one of 'cos' or 'linear', instead got {self._anneal_strategy!r}")
        self.anneal_epochs = whole("anneal_epochs", self.anneal_epochs, least=0)

    def _floors(self) -> list[float]:
        try:
            return [rate(group["swa_lr"]) for group in self.optimizer.param_groups]
        except KeyError:
            raise KeyError("a parameter group has no 'swa_lr': build SWALR after add_param_group") from None

    def _factor(self, epoch: int) -> tuple[int, int]:
        """Return how much of the way is left."""
        end = self.anneal_epochs
        if epoch >= end:
            return 0, 1
        if self._anneal_strategy == "linear":
            return end - epoch, end
        return self._table.factor(epoch, (end,), _annealed)

    def _change(self, epoch: int) -> tuple[int, int]:
        end = self.anneal_epochs
        if epoch >= end:
            return 0, 1
        if self._anneal_strategy == "linear":
            return end - epoch, end - epoch + 1
        return self._table.change(epoch, (end,), _annealed)


def _annealed(end: int, epoch: int, count: int) -> tuple[list[int], int]:
    return annealing(epoch, end, 1, min(count, end + 2))
