"""The learning rates of an optimizer's groups: reading and writing them, and the digits that float64 does not hold."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from math import isfinite
from typing import Any

import numpy as np

from ..interrupts import Uninterrupted
from ..scalars import number
from .exact import exact

# For each group, the learning rate that a scheduler wrote last and the value (m, x) that it was rounded from. The value
# counts for as long as the group has that learning rate. All schedulers of an optimizer share one ledger.
Ledger = list[tuple[float, int, int]]


def ledger_of(optimizer: Any) -> Ledger:
    """Return the optimizer's ledger."""
    return vars(optimizer).setdefault("_lr_ledger", [])


def rate(lr: Any) -> float:
    """Return a learning rate as a float; it may be an array of one element."""
    return lr if type(lr) is float else number("learning rate", lr)


def finite(lr: Any) -> float:
    """Return a learning rate, or a factor of one, as a float. Raise ValueError if it is not finite."""
    number = rate(lr)
    if not isfinite(number):
        raise ValueError(f"a schedule must be finite, but computes {lr}")
    return number


def recalled(ledger: Ledger, lrs: list[Any]) -> Ledger:
    """Return learning rates with the values that they were rounded from, as far as the ledger knows them."""
    known = [*ledger, *[(0.0, 0, 0)] * len(lrs)]
    return [entry if entry[0] == lr else (rate(lr), *exact(rate(lr))) for entry, lr in zip(known, lrs)]


def write_floats(scheduler: Any, lrs: list[float]) -> None:
    """Give each group its learning rate. Arrays are written in place."""
    groups = scheduler.optimizer.param_groups
    if len(lrs) == 1 == len(groups) and type(groups[0]["lr"]) is float:
        groups[0]["lr"] = lrs[0]
    elif len(lrs) == len(groups):
        lrs = _write_each(groups, lrs)
    else:
        raise _other_groups(scheduler, len(lrs))
    scheduler._last_lr = lrs


def commit(scheduler: Any, epoch: int, lrs: list[float], ledger: Ledger | None = None) -> None:
    """Write the learning rates of an epoch and count it: all of that or, where Ctrl-C comes before, nothing."""
    groups = scheduler.optimizer.param_groups
    if len(lrs) == 1 == len(groups) and type(groups[0]["lr"]) is float:
        # Python looks for Ctrl-C behind calls and in loops: not before the end.
        groups[0]["lr"] = lrs[0]
        if ledger is not None:
            scheduler._ledger[:] = ledger
        scheduler._last_lr, scheduler.last_epoch = lrs, epoch
        scheduler._step_count += 1
        return
    with Uninterrupted():
        write_floats(scheduler, lrs)
        if ledger is not None:
            # An array of float32 has rounded again.
            scheduler._ledger[:] = [(lr, m, x) for lr, (_, m, x) in zip(scheduler._last_lr, ledger)]
        scheduler.last_epoch = epoch
        scheduler._step_count += 1


def commit_exact(scheduler: Any, epoch: int, known: Ledger) -> None:
    """Do the same with the values that the learning rates were rounded from, which are noted."""
    commit(scheduler, epoch, [lr for lr, _, _ in known], known)


def check_array(lr: Any) -> None:
    """Raise if a learning rate is an array that cannot hold another one."""
    if isinstance(lr, np.ndarray):
        if lr.dtype.kind != "f":
            raise TypeError(f"a learning rate in an array must be of a floating-point dtype, but is of {lr.dtype}")
        if not lr.flags.writeable:
            raise ValueError("a learning rate in an array cannot be scheduled if the array is read-only")


def _write_each(groups: list[dict[str, Any]], lrs: list[float]) -> list[float]:
    """Write them and return what the groups have then."""
    for group in groups:
        check_array(group["lr"])
    taken: dict[int, float] = {}
    for group, lr in zip(groups, lrs, strict=True):
        array = group["lr"]
        if not isinstance(array, np.ndarray):
            group["lr"] = lr
        elif taken.setdefault(id(array), lr) == lr:
            array[...] = lr
        else:
            # Groups share an array that was the optimizer's default. It cannot hold two learning rates.
            group["lr"] = np.full_like(array, lr)
    return [rate(group["lr"]) for group in groups]


def _other_groups(scheduler: Any, count: int) -> ValueError:
    return ValueError(
        f"{type(scheduler).__name__} has learning rates for {count} groups, but the optimizer has "
        f"{len(scheduler.optimizer.param_groups)}: build the scheduler after add_param_group"
    )


class Snapshot:
    """What a step of schedulers can change, to be restored if it fails."""

    def __init__(self, optimizer: Any, schedulers: Iterable[Any] = ()) -> None:
        self._ledger = ledger_of(optimizer)
        self._entries = self._ledger[:]
        groups = optimizer.param_groups
        self._dicts: list[tuple[Any, Any]] = [(live, live.copy()) for live in (*groups, *map(vars, schedulers))]
        self._arrays = [(group["lr"], group["lr"].copy()) for group in groups if isinstance(group["lr"], np.ndarray)]

    def restore(self) -> None:
        """Undo what has happened since."""
        self._ledger[:] = self._entries
        for live, saved in self._dicts:
            live.clear()
            live.update(saved)
        for array, saved in self._arrays:
            if array.flags.writeable:
                array[...] = saved


@contextmanager
def unchanged_on_error(optimizer: Any, schedulers: Iterable[Any] = ()) -> Iterator[None]:
    """Restore groups and schedulers if an error comes out of the block."""
    snapshot = Snapshot(optimizer, schedulers)
    try:
        yield
    except BaseException:
        snapshot.restore()
        raise
