"""LRScheduler: the base of all schedulers, and of users' own."""

from collections.abc import Mapping
from typing import Any
from warnings import warn

from ..optimizer import Optimizer
from . import saving
from .arguments import check_optimizer, whole
from .curves import Rows, curves, twin_of
from .order import warn_about_order, watch
from .overrides import overridden
from .rates import Ledger, check_array, commit_exact, ledger_of, rate, recalled, unchanged_on_error, write_floats

EPOCH_DEPRECATION_WARNING = (
    "The epoch parameter in `scheduler.step()` was not necessary and is being deprecated where possible. "
    "Please use `scheduler.step()` to step the scheduler. During the deprecation, if epoch is different from None, "
    "the closed form is used instead of the new chainable form, where available."
)


class LRScheduler:
    """Base class of all schedulers, and of your own: override ``get_lr``.

    ``get_lr`` returns the learning rates of the epoch ``last_epoch``, one for each group; it may compute them from
    those that the groups have now. The constructor calls it for epoch 0, and each ``step()`` for the next one.
    Override it, ``step`` or ``_get_closed_form_lr`` in a class, which may be a mixin: what is assigned to an object, or
    to one of the classes here, need not be what runs.

    Args:
        optimizer: the optimizer whose learning rates are scheduled. A group's ``"initial_lr"`` is set to its learning
            rate, unless it has one; ``base_lrs`` are those.
        last_epoch: with -1 the schedule starts at epoch 0. With n at least 0 it goes on at epoch n + 1, with the
            learning rates of the closed form; the groups must have ``"initial_lr"`` then (default: -1).

    Raises:
        TypeError: optimizer is not one.
        KeyError: last_epoch is given and a group has no ``"initial_lr"``.

    >>> import refoptim as optim
    >>> class Halving(optim.lr_scheduler.LRScheduler):
    ...     def get_lr(self):
    ...         return [base_lr / 2**self.last_epoch for base_lr in self.base_lrs]
    >>> optimizer = optim.SGD([optim.Parameter([1.0])], lr=0.8)
    >>> scheduler = Halving(optimizer)
    >>> for _ in range(2):
    ...     optimizer.step()
    ...     scheduler.step()
    >>> scheduler.get_last_lr()
    [0.2]

    """

    # Attributes that torch's state lacks. The constructor has set them.
    _unknown_to_torch: tuple[str, ...] = ()
    # Whether a step never fails: it calls no function of a user's, and does not come to an end.
    _never_fails = False
    _is_initial = False
    _within_step = False
    _step_count = 0
    optimizer: Optimizer
    base_lrs: list[float]
    last_epoch: int
    _last_lr: list[float]
    _ledger: Ledger

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        check_optimizer(optimizer)
        self.optimizer = optimizer
        self.last_epoch = -1 if last_epoch == -1 else whole("last_epoch", last_epoch, least=0)
        self._check()
        with unchanged_on_error(optimizer):
            self._ledger = ledger_of(optimizer)
            self._claim()
            self.base_lrs = self._bases()
            self._initial_step()
        watch(optimizer)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.__module__.startswith(f"{__package__}."):
            if "_advance" in vars(cls):
                cls._take = vars(cls)["_advance"]
            return
        # What a user overrides is what runs, also where a composite takes the step.
        if overridden(cls, "get_lr"):
            cls._never_fails = False
            for name in ("_initial_step", "_advance", "_take", "_jump", "_restart", "_start", "_curve"):
                setattr(cls, name, getattr(LRScheduler, name))
        if overridden(cls, "_get_closed_form_lr"):
            cls._jump = LRScheduler._jump
        if overridden(cls, "step"):
            cls._take, cls._never_fails = cls.step, False

    def get_lr(self) -> list[Any]:
        """Return the learning rates of the epoch ``last_epoch``, one for each group. Called by ``step``."""
        raise NotImplementedError(f"{type(self).__name__} must override get_lr")

    def get_last_lr(self) -> list[float]:
        """Return the learning rates that the last step set, one for each group."""
        return list(self._last_lr)

    def step(self, epoch: int | None = None) -> None:
        """Go on to the next epoch. Call it after the optimizer's ``step``.

        Args:
            epoch: deprecated: go to this epoch instead, with the learning rates of the closed form (default: None).

        Raises:
            ValueError: the schedule has no such epoch. Nothing is changed then, as after any other error.

        """
        if self._step_count == 1:
            warn_about_order(self.optimizer)
        if epoch is None:
            self._advance()
        else:
            warn(EPOCH_DEPRECATION_WARNING, UserWarning, stacklevel=2)
            self._jump(whole("epoch", epoch, least=0))

    def at(self, steps: Any) -> list[Any]:
        """Return the learning rates after so many steps, if nobody else changes them. Nothing is moved.

        Args:
            steps: epochs, counted from 0: an integer, or a sequence or array of integers.

        Returns:
            A list with one entry for each group, like ``get_last_lr()``: a float, or an array of the shape of steps.

        Raises:
            TypeError: steps are not integers.
            ValueError: steps are negative, or later than the schedule's end.

        >>> import refoptim as optim
        >>> optimizer = optim.SGD([optim.Parameter([1.0])], lr=0.8)
        >>> scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
        >>> (curve,) = scheduler.at(range(6))
        >>> curve
        array([0.8, 0.8, 0.4, 0.4, 0.2, 0.2])
        >>> scheduler.at(4)
        [0.2]

        """
        return curves(steps, self._curve)

    def state_dict(self) -> dict[str, Any]:
        """Return what is needed to go on from here: numbers, strings, lists and dicts, as JSON has them.

        Functions are left out; ``"left_out"`` names them. Save the optimizer's state too.
        """
        return saving.saved(self)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state. The optimizer loads its own, before or after this.

        Args:
            state_dict: one of this class, or of torch's class of this name. What torch keeps elsewhere is taken from
                this scheduler: build it with the same arguments.

        Raises:
            KeyError: something is missing. Nothing is changed then, as after any other error.
            TypeError: the state, or that of a callable object in it, is no dict.
            ValueError: the state belongs to another number of groups, or is out of range.

        """
        saving.load(self, state_dict)

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        watch(self.optimizer)

    def _check(self) -> None:
        """Raise if an argument is out of its range, and turn all of them into plain numbers."""

    def _completed(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return a state of torch's as one of ours."""
        return {name: vars(self)[name] for name in self._unknown_to_torch if name in vars(self)} | dict(state)

    def _claim(self) -> None:
        """Give the groups what the schedule needs to find there."""
        for place, group in enumerate(self.optimizer.param_groups):
            check_array(group["lr"])
            if self.last_epoch >= 0 and "initial_lr" not in group:
                raise KeyError(
                    f"param 'initial_lr' is not specified in param_groups[{place}] when resuming scheduler with "
                    "last_epoch >= 0: load the optimizer's state first, or set it to the learning rate of epoch 0"
                )
            group.setdefault("initial_lr", rate(group["lr"]))

    def _release(self) -> None:
        """Give back the ``initial_lr`` that was there before."""

    def _bases(self) -> list[float]:
        return [rate(group["initial_lr"]) for group in self.optimizer.param_groups]

    def _initial_step(self) -> None:
        self._is_initial = True
        try:
            self._take()
        finally:
            self._is_initial = False
        self._step_count = 1

    def _advance(self) -> None:
        """Go on to the next epoch, from the learning rates that the groups have now."""
        self._follow(self.last_epoch + 1, self.get_lr)

    def _take(self) -> None:
        """Advance as a part of a composite, which has looked after the order of calls."""
        self._advance()

    def _jump(self, epoch: Any) -> None:
        """Go to an epoch, to the learning rates of the closed form."""
        self._follow(epoch, getattr(self, "_get_closed_form_lr", self.get_lr))

    def _restart(self) -> None:
        """Go back to epoch 0, to the learning rates of a schedule that has just begun."""
        with unchanged_on_error(self.optimizer, [self]):
            write_floats(self, list(self.base_lrs))
            self._start()

    def _start(self) -> None:
        """Go back to epoch 0, from the learning rates that the groups have now."""
        with unchanged_on_error(self.optimizer, [self]):
            self.last_epoch, self._step_count = -1, 0
            self._initial_step()

    def _follow(self, epoch: int, get_lr: Any) -> None:
        before = self.last_epoch
        try:
            self.last_epoch, self._within_step = epoch, True
            lrs = list(get_lr())
        finally:
            self.last_epoch, self._within_step = before, False
        commit_exact(self, epoch, recalled(self._ledger, lrs))

    def _rates(self) -> list[float]:
        return [rate(group["lr"]) for group in self.optimizer.param_groups]

    def _curve(self, epochs: list[Any]) -> Rows:
        """Return the learning rates at each of these epochs: those of a copy that is run from the start."""
        twin = twin_of(self)
        twin._restart()
        rows = [twin.get_last_lr()]
        for _ in range(max(epochs, default=0)):
            twin._take()
            rows.append(twin.get_last_lr())
        return [rows[epoch] for epoch in epochs]
