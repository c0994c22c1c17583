"""The bases of the schedulers that come with a formula."""

from collections.abc import Iterable
from itertools import repeat
from typing import Any
from warnings import warn

from ..interrupts import Uninterrupted
from .base import LRScheduler
from .curves import Rows
from .exact import LEAST, MOST, blend, blended, divided, exact, rounded, scaled
from .rates import Ledger, commit, commit_exact, recalled

# For each group what to multiply by, as a quotient of integers.
Changes = Iterable[tuple[int, int]]


class Schedule(LRScheduler):
    """A scheduler with a closed form, which is computed exactly and rounded once."""

    def get_lr(self) -> list[float]:
        """Return the learning rates of the epoch ``last_epoch``; outside of ``step`` those that the last one set."""
        if not self._within_step:
            warn("To get the last learning rate computed by the scheduler, please use `get_last_lr()`.", stacklevel=2)
            return self.get_last_lr()
        return self._first() if self._is_initial else self._next(self.last_epoch)

    def _closed(self, epoch: int) -> list[float]:
        """Return the closed form: the groups' learning rates at an epoch, if nobody else changes them."""
        raise NotImplementedError

    def _first(self) -> list[float]:
        """Return the learning rates of epoch 0, given those that the groups have."""
        return self._closed(0)

    def _next(self, epoch: int) -> list[float]:
        """Return the learning rates of an epoch, given those of the epoch before."""
        return self._closed(epoch)

    def _commit(self, epoch: int, lrs: list[float]) -> None:
        """Write the learning rates. All that can fail has been computed."""
        commit(self, epoch, lrs)

    def _initial_step(self) -> None:
        if self.last_epoch == -1:
            self._start()
        else:
            self._jump(self.last_epoch + 1)

    def _advance(self) -> None:
        epoch = self.last_epoch + 1
        self._commit(epoch, self._closed(epoch))

    def _jump(self, epoch: Any) -> None:
        self._commit(epoch, self._closed(epoch))

    def _restart(self) -> None:
        self._commit(0, self._closed(0))

    def _start(self) -> None:
        self._commit(0, self._first())

    def _curve(self, epochs: list[int]) -> Rows:
        return [self._closed(epoch) for epoch in epochs]


class Factor(Schedule):
    """A schedule that multiplies the learning rate, or its distance to a floor, by a factor of the epoch.

    Whatever else changes the learning rate, it goes on from there.
    """

    _never_fails = True
    # What the learning rate is where the factor is 0. Groups may differ, if _floors is overridden and this is None.
    eta_min: Any = 0.0

    def _floors(self) -> Iterable[float]:
        return repeat(self.eta_min)

    def _factor(self, epoch: int) -> tuple[int, int]:
        """Return the factor of an epoch, as a quotient of integers."""
        raise NotImplementedError

    def _change(self, epoch: int) -> tuple[int, int] | None:
        """Return the factor of an epoch over that of the epoch before; None if it is 1. It may be the same as n / 0."""
        raise NotImplementedError

    def _closed(self, epoch: int) -> list[float]:
        n, d = self._factor(epoch)
        return [blended(low, base_lr, n, d) for low, base_lr in zip(self._floors(), self.base_lrs)]

    def _first(self) -> list[float]:
        return [known[0] for known in self._multiplied(repeat(self._factor(0)))]

    def _next(self, epoch: int) -> list[float]:
        change = self._change(epoch)
        if change is None:
            return self._rates()
        return [known[0] for known in (self._multiplied(repeat(change)) if change[1] else self._revived(epoch))]

    def _multiplied(self, changes: Changes) -> Ledger:
        """Return the learning rates that the groups have times n / d, for each group's change n, d."""
        present = recalled(self._ledger, [group["lr"] for group in self.optimizer.param_groups])
        return [
            entry if n == d else _times(entry, entry[0], low, n, d)
            for entry, low, (n, d) in zip(present, self._floors(), changes)
        ]

    def _revived(self, epoch: int) -> Ledger:
        """Return the learning rates after a factor of 0, which has left nothing to multiply."""
        return self._exactly(epoch)

    def _exactly(self, epoch: int) -> Ledger:
        """Return the closed form."""
        n, d = self._factor(epoch)
        return [_known(*blend(low, base_lr, n, d)) for low, base_lr in zip(self._floors(), self.base_lrs)]

    def _advance(self) -> None:
        epoch = self.last_epoch + 1
        change = self._change(epoch)
        if change is None:
            self._stay(epoch)
            return
        n, d = change
        if d:
            self._multiply(epoch, n, d)
        else:
            commit_exact(self, epoch, self._revived(epoch))

    def _stay(self, epoch: int) -> None:
        """Leave the learning rates as they are."""
        self._last_lr, self.last_epoch = self._rates(), epoch
        self._step_count += 1

    def _multiply(self, epoch: int, n: int, d: int) -> None:
        """Commit what ``_multiplied`` returns: in half of the time where all learning rates are floats."""
        groups, ledger = self.optimizer.param_groups, self._ledger
        if len(groups) == 1 == len(ledger) and type(now := groups[0]["lr"]) is float:
            # Without loops it takes half of the time again.
            low = self.eta_min
            if low is None:
                (low,) = self._floors()
            known = _times(ledger[0], now, low, n, d)
            # Behind this call Python does not look for Ctrl-C.
            ledger[0] = known
            groups[0]["lr"] = lr = known[0]
            self._last_lr, self.last_epoch = [lr], epoch
            self._step_count += 1
            return
        written: Ledger = []
        lrs: list[float] = []
        before, known = (), (0.0, 0, 0)
        for entry, group, low in zip(ledger, groups, self._floors()):
            now = group["lr"]
            if type(now) is not float:
                break
            # Groups often have the same learning rate.
            present = (entry, now, low)
            if present != before:
                known, before = _times(entry, now, low, n, d), present
            written.append(known)
            lrs.append(known[0])
        if len(written) != len(groups):
            commit_exact(self, epoch, self._multiplied(repeat((n, d))))
            return
        with Uninterrupted():
            ledger[:], self._last_lr, self.last_epoch = written, lrs, epoch
            self._step_count += 1
            for group, lr in zip(groups, lrs):
                group["lr"] = lr

    def _jump(self, epoch: Any) -> None:
        commit_exact(self, epoch, self._exactly(epoch))

    def _restart(self) -> None:
        self._jump(0)

    def _start(self) -> None:
        commit_exact(self, 0, self._multiplied(repeat(self._factor(0))))


def _times(known: tuple[float, int, int], now: float, low: float, n: int, d: int) -> tuple[float, int, int]:
    """Return low + (now - low) * n / d as an entry of the ledger, given the entry that is there."""
    lr, m, x = known
    if lr != now:
        m, x = exact(now)
    if low:
        m, x = scaled(low, m, x, n, d)
    elif LEAST < (quotient := m * n // d) < MOST:
        m = quotient
    else:
        m, x = divided(m, x, n, d)
    return rounded(m, x), m, x


def _known(m: int, x: int) -> tuple[float, int, int]:
    return rounded(m, x), m, x
