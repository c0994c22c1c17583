"""CyclicLR."""

from collections.abc import Callable, Mapping
from math import lcm
from typing import Any

from ..optimizer import Optimizer
from .arguments import check_optimizer, for_each_group, positive, real
from .exact import common, powers
from .momentum import WithMomentum, rows
from .rates import finite, write_floats
from .table import Both

_MODES = {"triangular": "cycle", "triangular2": "cycle", "exp_range": "iterations"}


class CyclicLR(WithMomentum):
    r"""Moves the learning rate up and down between two bounds, linearly.

    .. math::
        \eta_e = \eta_{base} + (\eta_{max} - \eta_{base}) \, k_e \, s

    where :math:`k_e` goes from 0 to 1 in ``step_size_up`` epochs and back in ``step_size_down``, :math:`e` is
    ``last_epoch``, and :math:`s` is 1 for ``"triangular"``, :math:`2^{1 - c}` in cycle :math:`c = 1, 2, \ldots` for
    ``"triangular2"`` and :math:`\gamma^e` for ``"exp_range"``. The momentum goes the other way:
    :math:`\mu_e = \mu_{max} - (\mu_{max} - \mu_{base}) \, k_e \, s`.

    Args:
        optimizer: the optimizer whose learning rates are scheduled.
        base_lr: :math:`\eta_{base}`, or a list with one for each group. The learning rates that the groups have are
            overwritten.
        max_lr: :math:`\eta_{max}`, or a list with one for each group.
        step_size_up: epochs from base to max, above 0 (default: 2000).
        step_size_down: epochs from max to base, at least 0; None is as many as up (default: None).
        mode: ``"triangular"``, ``"triangular2"`` or ``"exp_range"``; not used if scale_fn is given
            (default: ``"triangular"``).
        gamma: :math:`\gamma` (default: 1.0).
        scale_fn: computes :math:`s` (default: None).
        scale_mode: what scale_fn is given: ``"cycle"`` the number of the cycle, from 1 on, ``"iterations"`` the epoch,
            counted from the start of the schedule as in torch, whose text says of the cycle (default: ``"cycle"``).
        cycle_momentum: whether ``momentum``, or the first of ``betas``, is cycled too (default: True).
        base_momentum: :math:`\mu_{base}`, or a list with one for each group (default: 0.8).
        max_momentum: :math:`\mu_{max}`, or a list with one for each group (default: 0.9).
        last_epoch: the epoch to go on from; -1 starts (default: -1).

    Raises:
        ValueError: an argument is out of its range, or there is no momentum to cycle.

    A scale_fn is not saved: ``state_dict`` holds the attributes of a callable object only, and names what it left out.

    >>> import refoptim as optim
    >>> optimizer = optim.SGD([optim.Parameter([1.0])], lr=0.1, momentum=0.9)
    >>> scheduler = optim.lr_scheduler.CyclicLR(optimizer, base_lr=0.1, max_lr=0.5, step_size_up=2)
    >>> scheduler.at(range(6))
    [array([0.1, 0.3, 0.5, 0.3, 0.1, 0.3])]
    >>> scheduler.momentum_at(range(6))
    [array([0.9 , 0.85, 0.8 , 0.85, 0.9 , 0.85])]

    Smith, "Cyclical Learning Rates for Training Neural Networks", 2015.

    """

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: Any,
        max_lr: Any,
        step_size_up: float = 2000,
        step_size_down: float | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: Any = 0.8,
        max_momentum: Any = 0.9,
        last_epoch: int = -1,
    ) -> None:
        check_optimizer(optimizer)
        self.optimizer = optimizer
        self.base_lrs = for_each_group("base_lr", optimizer, base_lr)
        self.max_lrs = for_each_group("max_lr", optimizer, max_lr)
        self.step_size_up = step_size_up
        self.step_size_down = step_size_up if step_size_down is None else step_size_down
        self.mode, self.gamma = mode, gamma
        self.scale_mode = scale_mode if scale_fn is not None else _MODES.get(mode, scale_mode)
        self._scale_fn_custom = scale_fn
        self._take_momentums(cycle_momentum, base_momentum, max_momentum)
        super().__init__(optimizer, last_epoch)

    def scale_fn(self, x: float) -> float:
        """Return the scale of a cycle or, where scale_mode is ``"iterations"``, of an epoch."""
        if self._scale_fn_custom is not None:
            return self._scale_fn_custom(x)
        if self.mode == "exp_range":
            return self.gamma**x
        return 1.0 if self.mode == "triangular" else 2.0 ** (1 - x)

    def _check(self) -> None:
        self.step_size_up = positive("step_size_up", self.step_size_up)
        self.step_size_down = real("step_size_down", self.step_size_down)
        if self.step_size_down < 0:
            raise ValueError(f"Expected non-negative step_size_down, but got {self.step_size_down}")
        self.gamma = real("gamma", self.gamma)
        if self._scale_fn_custom is not None and not callable(self._scale_fn_custom):
            raise TypeError(f"scale_fn must be a function or None, but is {self._scale_fn_custom!r}")
        if self._scale_fn_custom is None and self.mode not in _MODES:
            raise ValueError(f"mode is invalid and scale_fn is None: {self.mode!r} is none of {', '.join(_MODES)}")
        if self.scale_mode not in ("cycle", "iterations"):
            raise ValueError(f"scale_mode must be 'cycle' or 'iterations', but is {self.scale_mode!r}")

    def _completed(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return a state of torch's, which has the sizes' sum and a quotient, as one of ours."""
        completed = super()._completed(state)
        if "total_size" in completed and "step_ratio" in completed:
            both, ratio = (real(name, completed.pop(name)) for name in ("total_size", "step_ratio"))
            up = round(both * ratio)
            # A quotient of whole numbers is rounded, and its product may be beside the number.
            up = up if up / both == ratio else both * ratio
            completed |= {"step_size_up": up, "step_size_down": both - up}
        return completed

    def _claim(self) -> None:
        if self.last_epoch == -1:
            write_floats(self, list(self.base_lrs))
        super()._claim()

    def _bases(self) -> list[float]:
        return self.base_lrs

    def _both(self, epoch: int) -> Both:
        if self._scale_fn_custom is not None:
            # Asked once for each epoch, when it comes.
            return self._rows(epoch, 1)[0]
        sizes = [self.step_size_up, self.step_size_down, self.mode, self.gamma]
        return self._row(epoch, [self.base_lrs, self.max_lrs, *sizes])

    def _rows(self, epoch: int, count: int) -> list[Both]:
        momentums = (self.max_momentums, self.base_momentums) if self.cycle_momentum else ((), ())
        return rows((self.base_lrs, self.max_lrs), momentums, *self._heights(epoch, count))

    def _heights(self, epoch: int, count: int) -> tuple[list[int], int]:
        """Return how far up it is from base to max, for some epochs from this one on, as integers and a denominator."""
        up, down, one = common(self.step_size_up, self.step_size_down)
        places = [divmod(place * one, up + down) for place in range(epoch, epoch + count)]
        # A cycle may have no way down.
        height = lcm(up, down or 1)
        rise, fall = height // up, height // (down or 1)
        ns = [since * rise if since <= up else (up + down - since) * fall for _, since in places]
        if self._scale_fn_custom is not None:
            x = places[0][0] + 1 if self.scale_mode == "cycle" else epoch
            p, q = finite(self._scale_fn_custom(x)).as_integer_ratio()
            return [n * p for n in ns], height * q
        if self.mode == "exp_range":
            # Cut off, as the powers are, behind more digits than count.
            factors, q = powers(self.gamma, epoch, count)
            return [n * p // height for n, p in zip(ns, factors)], q
        if self.mode == "triangular2":
            most = places[-1][0]
            return [n << most - cycles for n, (cycles, _) in zip(ns, places)], height << most
        return ns, height
