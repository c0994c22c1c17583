"""Adadelta."""

from math import sqrt
from typing import Any, ClassVar, NamedTuple

from .. import kernels
from ..checks import check_least, check_lr, given
from ..formulas import adadelta as formulas
from ..implementations import Variant
from ..optimizer import Optimizer, Params
from ..scalars import number
from ..slots import Host


class _Options(NamedTuple):
    lr: float
    rho: float
    eps: float
    weight_decay: float
    sign: float


class Adadelta(Optimizer):
    r"""Steps along the gradient, as large as recent steps in relation to recent gradients.

    .. math::
        g_t &\leftarrow g_t + \lambda \theta_{t-1} \\
        v_t &= \rho v_{t-1} + (1 - \rho) g_t^2 \\
        \Delta_t &= \frac{\sqrt{u_{t-1} + \epsilon}}{\sqrt{v_t + \epsilon}} g_t \\
        u_t &= \rho u_{t-1} + (1 - \rho) \Delta_t^2 \\
        \theta_t &= \theta_{t-1} - \gamma \Delta_t

    where :math:`v` is the state ``square_avg`` and :math:`u` is ``acc_delta``. The state ``step`` counts the steps in
    which the parameter had a gradient; nothing depends on it.

    Args:
        params: parameters, ``(name, parameter)`` pairs, or dicts that define groups.
        lr: learning rate :math:`\gamma`, at least 0; a number or an array of one element. The paper has none, which is
            1 (default: 1.0).
        rho: how much of the old mean squares is kept, :math:`\rho` in [0, 1] (default: 0.9).
        eps: :math:`\epsilon`, added inside both roots, at least 0 (default: 1e-6).
        weight_decay: :math:`\lambda \geq 0` (default: 0).
        foreach: True evaluates the formula on the flat arrays of a group, False parameter by parameter; None is one
            kernel for the whole group (default: None).
        capturable: on a GPU, keep the step count and what follows from it there, so that a CUDA graph can repeat the
            step; it has no meaning on a CPU (default: False).
        maximize: climb instead of descend (default: False).
        differentiable: evaluate the formula on whatever arrays the parameters are, so that derivatives flow through
            the step (default: False).
        fused: True is one kernel for the whole group, whatever ``foreach`` says, False is none. torch has no such
            option here: it becomes one of the groups' only if it is given (default: None).
        arithmetic: ``"float64"`` computes the step of float32 parameters in float64 and rounds once (default: None).
        master_weights, rounding, seed: for parameters of 16 bits, as in :class:`~refoptim.Optimizer` (default: None).

    Raises:
        ValueError: an argument is out of its range.
        RuntimeError: ``fused`` together with ``foreach`` or ``differentiable``.

    This is the paper's Algorithm 1, with a learning rate, like torch, optax and Keras, whose default rate is 1e-3.

    >>> import numpy as np, refoptim as optim
    >>> p = optim.Parameter([1.0, -2.0])
    >>> optimizer = optim.Adadelta([p])
    >>> for _ in range(2):
    ...     optimizer.step(grads=[np.array([0.5, -3.0])])
    >>> p.data
    array([ 0.99359342, -1.9935933 ])

    Zeiler, "ADADELTA: An Adaptive Learning Rate Method", 2012.

    """

    initial_host: ClassVar[dict[str, Any]] = {"step": 0}
    state_arrays: ClassVar[tuple[str, ...]] = ("square_avg", "acc_delta")

    def __init__(
        self,
        params: Params,
        lr: Any = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        arithmetic: str | None = None,
        master_weights: bool | None = None,
        rounding: str | None = None,
        seed: int | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "rho": rho,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "capturable": capturable,
            "foreach": foreach,
            "differentiable": differentiable,
        } | given(fused=fused)
        self._check(defaults)
        super().__init__(
            params, defaults, arithmetic=arithmetic, master_weights=master_weights, rounding=rounding, seed=seed
        )

    def _check(self, options: dict[str, Any]) -> None:
        check_lr(options["lr"])
        rho = options["rho"]
        if not 0.0 <= rho <= 1.0:
            raise ValueError(f"Invalid rho value: {rho}")
        check_least("epsilon value", options["eps"])
        check_least("weight_decay value", options["weight_decay"])
        super()._check(options)

    def _variant(self, group: dict[str, Any]) -> Variant:
        return Variant(kernels.adadelta.adadelta_cpu, formulas.adadelta, self.state_arrays)

    def _options(self, group: dict[str, Any]) -> _Options:
        names = ("lr", "rho", "eps", "weight_decay")
        return _Options(*(number(name, group[name]) for name in names), sign=-1.0 if group["maximize"] else 1.0)

    def _scalars(self, options: _Options, host: Host) -> tuple[float, ...]:
        lr, rho, eps, weight_decay, sign = options
        scale, share = kernels.adadelta.scale_for(eps), 1.0 - rho
        return kernels.adadelta.Scalars(
            sign, weight_decay, lr / sqrt(scale), rho, share, share / scale, eps, scale, scaled_eps=eps * scale
        )

    def _symbols(self, group: dict[str, Any], host: Host) -> dict[str, Any]:
        return {
            "gamma": group["lr"],
            "rho": group["rho"],
            "epsilon": group["eps"],
            "lambda_": group["weight_decay"],
            "maximize": group["maximize"],
        }
