"""Wrong bookkeeping around a schedule: what makes a wrong scheduler of a right one."""

from collections.abc import Callable
from typing import Any

import numpy as np


def _skips(cls: Any) -> Any:
    """Bookkeeping: the first step is left out."""

    class Skips(cls):
        def step(self, *arguments: Any) -> None:
            self.calls = getattr(self, "calls", 0) + 1
            if self.calls > 1:
                super().step(*arguments)

    return Skips


def _doubles(cls: Any) -> Any:
    """Bookkeeping: the fourth step is taken twice."""

    class Doubles(cls):
        def step(self, *arguments: Any) -> None:
            self.calls = getattr(self, "calls", 0) + 1
            for _ in range(1 + (self.calls == 4)):
                super().step(*arguments)

    return Doubles


def _late(cls: Any) -> Any:
    """Bookkeeping: learning rates are written a step late."""

    class Late(cls):
        def step(self, *arguments: Any) -> None:
            before = [group["lr"] for group in self.optimizer.param_groups]
            super().step(*arguments)
            for group, lr in zip(self.optimizer.param_groups, before, strict=True):
                group["lr"] = lr

    return Late


def _single(cls: Any) -> Any:
    """Precision: learning rates are float32."""

    class Single(cls):
        def step(self, *arguments: Any) -> None:
            super().step(*arguments)
            for group in self.optimizer.param_groups:
                group["lr"] = float(np.float32(group["lr"]))

    return Single


def _one_group(cls: Any) -> Any:
    """Bookkeeping: all groups have the first one's learning rate."""

    class OneGroup(cls):
        def step(self, *arguments: Any) -> None:
            super().step(*arguments)
            for group in self.optimizer.param_groups:
                group["lr"] = self.optimizer.param_groups[0]["lr"]

    return OneGroup


def _late_curve(cls: Any) -> Any:
    """Closed form: at is an epoch late."""

    class LateCurve(cls):
        def at(self, steps: Any) -> Any:
            return super().at([max(step - 1, 0) for step in steps])

    return LateCurve


def _one_curve(cls: Any) -> Any:
    """Closed form: all groups have the first one's curve."""

    class OneCurve(cls):
        def at(self, steps: Any) -> Any:
            first, *others = super().at(steps)
            return [first, *(first for _ in others)]

    return OneCurve


def _momentum_curve(cls: Any) -> Any:
    """Closed form: momentum_at is an epoch late."""

    class MomentumCurve(cls):
        def momentum_at(self, steps: Any) -> Any:
            return super().momentum_at([max(step - 1, 0) for step in steps])

    return MomentumCurve


def _momentum_stays(cls: Any) -> Any:
    """Bookkeeping: the momentum is not written."""

    class MomentumStays(cls):
        def step(self, *arguments: Any) -> None:
            before = [group["momentum"] for group in self.optimizer.param_groups]
            super().step(*arguments)
            for group, momentum in zip(self.optimizer.param_groups, before, strict=True):
                group["momentum"] = momentum

    return MomentumStays


def _forgets(cls: Any) -> Any:
    """Resume: nothing is loaded."""

    class Forgets(cls):
        def load_state_dict(self, state_dict: Any) -> None:
            pass

    return Forgets


def _forgets_epoch(cls: Any) -> Any:
    """Resume: the epoch is loaded one too low."""

    class ForgetsEpoch(cls):
        def load_state_dict(self, state_dict: Any) -> None:
            super().load_state_dict(state_dict | {"last_epoch": max(state_dict["last_epoch"] - 1, 0)})

    return ForgetsEpoch


def _forgets_best(cls: Any) -> Any:
    """Resume: the best metric is not loaded."""

    class ForgetsBest(cls):
        def load_state_dict(self, state_dict: Any) -> None:
            super().load_state_dict(state_dict | {"best": self.best})

    return ForgetsBest


def _forgets_count(cls: Any) -> Any:
    """Resume: the bad epochs and the cooldown are not loaded."""

    class ForgetsCount(cls):
        def load_state_dict(self, state_dict: Any) -> None:
            super().load_state_dict(state_dict | {"num_bad_epochs": 0, "cooldown_counter": 0})

    return ForgetsCount


def _continues_early(cls: Any) -> Any:
    """Resume: last_epoch=n goes on at n."""
    return lambda *given, last_epoch=-1, **options: cls(*given, last_epoch=max(last_epoch - 1, -1), **options)


def _continues_not(cls: Any) -> Any:
    """Resume: last_epoch is ignored."""
    return lambda *given, **options: cls(*given, **options | {"last_epoch": -1})


def _recursion(cls: Any) -> Any:
    """Precision: a recursion of float64."""

    class Recursion(cls):
        def get_lr(self) -> list[float]:
            lrs = [group["lr"] for group in self.optimizer.param_groups]
            if cls.__name__ == "ExponentialLR":
                return [lr * self.gamma for lr in lrs] if self.last_epoch else lrs
            now, before = (1 + np.cos(np.pi * (self.last_epoch - late) / self.T_max) for late in (0, 1))
            starts = self.base_lrs if not self.last_epoch or not before else lrs
            ratio = float(now / 2 if starts is self.base_lrs else now / before)
            return [ratio * (lr - self.eta_min) + self.eta_min for lr in starts]

    return Recursion


def _fewer(cls: Any) -> Any:
    """Composite: the last scheduler is left out."""
    return lambda *given, schedulers, **options: cls(
        *given,
        schedulers=schedulers[:-1],
        **{name: value[:-1] for name, value in options.items() if name == "milestones"},
    )


def _reversed(cls: Any) -> Any:
    """Composite: the schedulers are in reverse order."""
    return lambda *given, schedulers, **options: cls(*given, schedulers=schedulers[::-1], **options)


def _twice(cls: Any) -> Any:
    """Composite: every scheduler is applied twice."""
    return lambda *given, schedulers, **options: cls(*given, schedulers=[*schedulers, *schedulers], **options)


_PLATEAU, _CHAINED, _SEQUENTIAL = "ReduceLROnPlateau", "ChainedScheduler", "SequentialLR"

# What makes a wrong scheduler of a right one, and which schedulers it is for.
BOOKKEEPING: list[tuple[Callable[[Any], Any], Callable[[str], bool]]] = [
    *((make, lambda _: True) for make in (_skips, _doubles, _late, _single, _one_group, _forgets)),
    *((make, lambda name: name != _PLATEAU) for make in (_late_curve, _one_curve)),
    *((make, lambda name: name in ("CyclicLR", "OneCycleLR")) for make in (_momentum_curve, _momentum_stays)),
    # The others go on from what they have now, or count for themselves.
    (_forgets_epoch, lambda name: name not in (_PLATEAU, _CHAINED, "ExponentialLR", "CosineAnnealingWarmRestarts")),
    *((make, lambda name: name == _PLATEAU) for make in (_forgets_best, _forgets_count)),
    *((make, lambda name: name not in (_PLATEAU, _CHAINED)) for make in (_continues_early, _continues_not)),
    (_recursion, lambda name: name in ("ExponentialLR", "CosineAnnealingLR")),
    (_fewer, lambda name: name in (_CHAINED, _SEQUENTIAL)),
    (_reversed, lambda name: name == _SEQUENTIAL),
    (_twice, lambda name: name == _CHAINED),
]
