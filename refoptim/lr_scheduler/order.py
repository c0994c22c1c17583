"""The warning about the order of calls: the optimizer steps first."""

from typing import Any
from warnings import warn

_ADVICE = "Please call `optimizer.step()` before `lr_scheduler.step()`"


def watch(optimizer: Any) -> None:
    """Note on the optimizer when it steps for the first time. From then on nothing runs beside its steps."""
    if getattr(optimizer, "_opt_called", False):
        return

    def called(stepping: Any, *_: Any) -> None:
        stepping._opt_called = True
        handle.remove()

    optimizer._opt_called = False
    optimizer._watched_step = vars(optimizer).get("step")
    handle = optimizer.register_step_pre_hook(called)


def warn_about_order(optimizer: Any) -> None:
    """Warn if the optimizer has not stepped yet, or may have without being seen. Called by a scheduler's ``step``."""
    if vars(optimizer).get("step") is not getattr(optimizer, "_watched_step", None):
        warn(
            "Seems like `optimizer.step()` has been overridden after learning rate scheduler initialization. "
            + _ADVICE,
            UserWarning,
            stacklevel=3,
        )
    elif not getattr(optimizer, "_opt_called", False):
        warn(
            "Detected call of `lr_scheduler.step()` before `optimizer.step()`: the first value of the learning rate "
            "schedule is skipped. " + _ADVICE,
            UserWarning,
            stacklevel=3,
        )
