"""Adagrad."""

from math import isfinite
from typing import Any, ClassVar, NamedTuple

from .. import kernels
from ..checks import check_least, check_lr
from ..dialect import check_dialect
from ..formulas import adagrad as formulas
from ..implementations import Variant
from ..optimizer import Optimizer, Params
from ..scalars import number
from ..slots import Host

# Dialects with epsilon inside the root.
_INSIDE = ("keras", "optax")


class _Options(NamedTuple):
    lr: float
    lr_decay: float
    eps: float
    weight_decay: float
    sign: float


class Adagrad(Optimizer):
    r"""Adaptive subgradient method: steps along the gradient, divided by the root of the sum of all squared gradients.

    .. math::
        g_t &\leftarrow g_t + \lambda \theta_{t-1} \\
        s_t &= s_{t-1} + g_t^2 \\
        \theta_t &= \theta_{t-1} - \frac{\gamma}{1 + (t - 1) \eta} \frac{g_t}{\sqrt{s_t} + \epsilon}

    where :math:`s` is the state ``sum`` and :math:`t` is ``step``, which counts the steps in which the parameter had a
    gradient. Both appear at a parameter's first step.

    Args:
        params: parameters, ``(name, parameter)`` pairs, or dicts that define groups.
        lr: learning rate :math:`\gamma`, at least 0; a number or an array of one element (default: 1e-2).
        lr_decay: :math:`\eta \geq 0`, how fast the learning rate falls (default: 0).
        weight_decay: :math:`\lambda \geq 0` (default: 0).
        initial_accumulator_value: :math:`s_0 \geq 0`, for both parts of a complex number. Each group may have its own,
            as documented; torch ignores all but the constructor's (default: 0).
        eps: :math:`\epsilon`, added to the root, at least 0 (default: 1e-10).
        foreach: evaluate the formula on the flat arrays of a group (default: None).
        maximize: climb instead of descend (default: False).
        differentiable: evaluate the formula on whatever arrays the parameters are, so that derivatives flow through
            the step (default: False).
        fused: one kernel for the whole group. None is True, unless ``foreach`` is given; with ``fused=False`` and
            ``foreach=False`` the formula is evaluated parameter by parameter (default: None).
        arithmetic: ``"float64"`` computes the step of float32 parameters in float64 and rounds once (default: None).
        dialect: whose formula is computed: ``"torch"``, ``"keras"`` or ``"optax"``; None is torch's (default: None).
        master_weights, rounding, seed: for parameters of 16 bits, as in :class:`~refoptim.Optimizer` (default: None).

    Raises:
        ValueError: an argument is out of its range.
        RuntimeError: ``fused`` together with ``foreach`` or ``differentiable``.

    This is the paper's diagonal version with its :math:`\delta` outside the root, and no projection, like torch.
    A sparse gradient reads and writes its rows alone; with weight decay it is a ``RuntimeError``.
    Keras and optax put :math:`\epsilon` inside the root and start the sum at 0.1. The decay of the learning rate is
    that of Lua Torch.

    ``dialect="keras"`` and ``"optax"`` divide by :math:`\sqrt{s_t + \epsilon}`, and Keras's weight decay is decoupled:
    it takes :math:`\gamma \lambda \theta_{t-1}` from the parameter. The dialect is the optimizer's, not a group's, and
    not in its state_dict. Defaults stay this class's: for theirs pass ``initial_accumulator_value=0.1, eps=1e-7``.

    >>> import numpy as np, refoptim as optim
    >>> p = optim.Parameter([1.0, -2.0])
    >>> optimizer = optim.Adagrad([p], lr=0.1)
    >>> for _ in range(2):
    ...     optimizer.step(grads=[np.array([0.5, -3.0])])
    >>> p.data
    array([ 0.82928932, -1.82928932])

    Duchi, Hazan and Singer, "Adaptive Subgradient Methods for Online Learning and Stochastic Optimization", 2011.

    """

    initial_host: ClassVar[dict[str, Any]] = {"step": 0}
    state_arrays: ClassVar[tuple[str, ...]] = ("sum",)

    def __init__(
        self,
        params: Params,
        lr: Any = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        arithmetic: str | None = None,
        dialect: str | None = None,
        master_weights: bool | None = None,
        rounding: str | None = None,
        seed: int | None = None,
    ) -> None:
        check_dialect(dialect, "keras", "optax")
        self.dialect = dialect
        defaults = {
            "lr": lr,
            "lr_decay": lr_decay,
            "eps": eps,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "fused": fused,
        }
        self._check(defaults)
        super().__init__(
            params, defaults, arithmetic=arithmetic, master_weights=master_weights, rounding=rounding, seed=seed
        )

    def _check(self, options: dict[str, Any]) -> None:
        check_lr(options["lr"])
        for name in ("lr_decay", "weight_decay", "initial_accumulator_value"):
            check_least(f"{name} value", options[name])
        check_least("epsilon value", options["eps"])
        super()._check(options)

    def _variant(self, group: dict[str, Any]) -> Variant:
        kernel = kernels.adagrad.adagrad_inside_cpu if self.dialect in _INSIDE else kernels.adagrad.adagrad_cpu
        return Variant(kernel, formulas.adagrad, self.state_arrays, sparse="rows")

    def _initial_values(self, group: dict[str, Any]) -> dict[str, float]:
        return {"sum": number("initial_accumulator_value", group["initial_accumulator_value"])}

    def _options(self, group: dict[str, Any]) -> _Options:
        names = ("lr", "lr_decay", "eps", "weight_decay")
        return _Options(*(number(name, group[name]) for name in names), sign=-1.0 if group["maximize"] else 1.0)

    def _scalars(self, options: _Options, host: Host) -> tuple[float, ...]:
        lr, lr_decay, eps, weight_decay, sign = options
        taken = 0 if host is None else host["step"]
        apart = self.dialect == "keras"
        coupled, decay = (0.0, weight_decay * (1 + taken * lr_decay)) if apart else (weight_decay, 0.0)
        return kernels.adagrad.Scalars(sign, coupled, _decayed(lr, lr_decay, taken), eps, decay)

    def _powers(self, options: _Options) -> tuple[str, ...] | None:
        return () if options.lr_decay == 0 else None

    def _symbols(self, group: dict[str, Any], host: Host) -> dict[str, Any]:
        return {
            "t": 1 if host is None else host["step"] + 1,
            "gamma": group["lr"],
            "eta": group["lr_decay"],
            "epsilon": group["eps"],
            "lambda_": group["weight_decay"],
            "maximize": group["maximize"],
            "decoupled": self.dialect == "keras",
            "inside": self.dialect in _INSIDE,
        }


def _decayed(lr: float, lr_decay: float, taken: int) -> float:
    """Return lr / (1 + taken * lr_decay), rounded once."""
    if not lr_decay or not isfinite(lr) or not isfinite(lr_decay):
        return lr / (1 + taken * lr_decay)
    (a, b), (c, d) = lr.as_integer_ratio(), lr_decay.as_integer_ratio()
    # The quotient of two integers is rounded once, whatever their size.
    return a * d / (b * (d + int(taken) * c))
