"""Stochastic gradient descent."""

from typing import Any, ClassVar, NamedTuple

from .. import kernels
from ..checks import check_least, check_lr
from ..dialect import check_dialect
from ..formulas import sgd as formulas
from ..implementations import Variant
from ..optimizer import Optimizer, Params
from ..scalars import number
from ..slots import Host


class _Options(NamedTuple):
    lr: float
    momentum: float
    dampening: float
    weight_decay: float
    sign: float


class SGD(Optimizer):
    r"""Stochastic gradient descent, plain, with momentum or with Nesterov's momentum.

    .. math::
        g_t &\leftarrow g_t + \lambda \theta_{t-1} \\
        b_t &= \mu b_{t-1} + (1 - \tau) g_t \quad\text{and, at a parameter's first gradient, } b_t = g_t \\
        \theta_t &= \theta_{t-1} - \gamma b_t \quad\text{or, with Nesterov's, }
        \theta_{t-1} - \gamma (g_t + \mu b_t)

    where :math:`b` is the state ``momentum_buffer``. Without momentum it is :math:`\theta_{t-1} - \gamma g_t` and there
    is no state.

    Args:
        params: parameters, ``(name, parameter)`` pairs, or dicts that define groups.
        lr: learning rate :math:`\gamma`, at least 0; a number or an array of one element (default: 1e-3).
        momentum: :math:`\mu`, at least 0 (default: 0).
        dampening: :math:`\tau`, how much less than all of a gradient enters the buffer (default: 0).
        weight_decay: :math:`\lambda \geq 0` (default: 0).
        nesterov: look ahead along the momentum; needs momentum and no dampening (default: False).
        maximize: climb instead of descend (default: False).
        foreach: evaluate the formula on the flat arrays of a group (default: None).
        differentiable: evaluate the formula on whatever arrays the parameters are, so that derivatives flow through
            the step (default: False).
        fused: one kernel for the whole group. None is True, unless ``foreach`` is given; with ``fused=False`` and
            ``foreach=False`` the formula is evaluated parameter by parameter (default: None).
        arithmetic: ``"float64"`` computes the step of float32 parameters in float64 and rounds once (default: None).
        dialect: ``"keras"`` computes Keras's formula, ``"torch"`` and None torch's (default: None).
        master_weights, rounding, seed: for parameters of 16 bits, as in :class:`~refoptim.Optimizer` (default: None).

    Raises:
        ValueError: an argument is out of its range, or ``nesterov`` without momentum or with dampening.
        RuntimeError: ``fused`` together with ``foreach`` or ``differentiable``.

    The learning rate is outside the buffer, as in torch and optax: a new one takes effect at once. Keras, TensorFlow
    and Sutskever et al. have it inside, which is the same only while it does not change. ``dialect="keras"`` does so,
    and takes the weight decay from the parameter, not through the gradient:

    .. math::
        b_t &= \mu b_{t-1} + (1 - \tau) \gamma g_t \quad\text{and, at a parameter's first, } b_t = \gamma g_t \\
        \theta_t &= \theta_{t-1} - \gamma \lambda \theta_{t-1} - b_t \quad\text{or, with Nesterov's, }
        \theta_{t-1} - \gamma \lambda \theta_{t-1} - (\gamma g_t + \mu b_t)

    Keras's velocity is :math:`-b`; it has no dampening. The dialect is the optimizer's, not a group's, and not in its
    state_dict. Defaults stay this class's: Keras has ``lr=1e-2``.

    A sparse gradient reads and writes its rows alone, with momentum those of earlier ones too; with weight decay it is
    a ``RuntimeError``.

    >>> import numpy as np, refoptim as optim
    >>> p = optim.Parameter([1.0, -2.0])
    >>> optimizer = optim.SGD([p], lr=0.1, momentum=0.9)
    >>> for _ in range(2):
    ...     optimizer.step(grads=[np.array([1.0, 1.0])])
    >>> p.data
    array([ 0.71, -2.29])

    Robbins and Monro, "A Stochastic Approximation Method", 1951; Sutskever, Martens, Dahl and Hinton, "On the
    Importance of Initialization and Momentum in Deep Learning", 2013.

    """

    state_arrays: ClassVar[tuple[str, ...]] = ("momentum_buffer",)

    def __init__(
        self,
        params: Params,
        lr: Any = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
        arithmetic: str | None = None,
        dialect: str | None = None,
        master_weights: bool | None = None,
        rounding: str | None = None,
        seed: int | None = None,
    ) -> None:
        check_dialect(dialect, "keras")
        self.dialect = dialect
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
            "foreach": foreach,
            "differentiable": differentiable,
            "fused": fused,
        }
        self._check(defaults)
        super().__init__(
            params, defaults, arithmetic=arithmetic, master_weights=master_weights, rounding=rounding, seed=seed
        )

    def _check(self, options: dict[str, Any]) -> None:
        # torch lets NaN pass in this class alone; it is kept because a diverged schedule should not raise here only.
        check_lr(options["lr"], accept_nan=True)
        check_least("momentum value", options["momentum"], accept_nan=True)
        check_least("weight_decay value", options["weight_decay"], accept_nan=True)
        if options["nesterov"] and (options["momentum"] <= 0 or options["dampening"] != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        super()._check(options)

    def _variant(self, group: dict[str, Any]) -> Variant:
        if group["momentum"] == 0:
            return Variant(kernels.sgd.sgd_cpu, formulas.sgd, counts=False, sparse="rows")
        if self.dialect == "keras":
            kernel = kernels.sgd.nesterov_inside_cpu if group["nesterov"] else kernels.sgd.momentum_inside_cpu
        else:
            kernel = kernels.sgd.nesterov_cpu if group["nesterov"] else kernels.sgd.momentum_cpu
        return Variant(kernel, formulas.momentum, self.state_arrays, sparse="history")

    def _options(self, group: dict[str, Any]) -> _Options:
        names = ("lr", "momentum", "dampening", "weight_decay")
        return _Options(*(number(name, group[name]) for name in names), sign=-1.0 if group["maximize"] else 1.0)

    def _scalars(self, options: _Options, host: Host) -> tuple[float, ...]:
        lr, momentum, dampening, weight_decay, sign = options
        share = 1.0 if host is None else 1.0 - dampening
        # Without momentum both ways to decay are one.
        if self.dialect == "keras" and momentum != 0:
            weight_decay = lr * weight_decay
        return kernels.sgd.Scalars(sign, weight_decay, lr, momentum, share)

    def _symbols(self, group: dict[str, Any], host: Host) -> dict[str, Any]:
        symbols = {"gamma": group["lr"], "lambda_": group["weight_decay"], "maximize": group["maximize"]}
        if group["momentum"] == 0:
            return symbols
        return symbols | {
            "first": host is None,
            "mu": group["momentum"],
            "tau": group["dampening"],
            "nesterov": group["nesterov"],
            "decoupled": self.dialect == "keras",
            "inside": self.dialect == "keras",
        }
