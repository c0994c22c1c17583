"""RAdam."""

from typing import Any, ClassVar, NamedTuple

from .. import kernels
from ..checks import check_moments, given
from ..formulas import radam as formulas
from ..formulas.power import ONE, complement, fixed_sqrt
from ..implementations import Variant
from ..optimizer import Optimizer, Params
from ..scalars import number
from ..slots import Host


class _Options(NamedTuple):
    lr: float
    eps: float
    weight_decay: float
    beta1: float
    beta2: float
    decoupled: bool
    sign: float


class RAdam(Optimizer):
    r"""Rectified Adam: divides by the root of the mean squared gradient as soon, and as far, as that mean is reliable.

    .. math::
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t, \qquad \hat m_t = m_t / (1 - \beta_1^t) \\
        v_t &= \beta_2 v_{t-1} + (1 - \beta_2) g_t^2, \qquad l_t = \sqrt{1 - \beta_2^t} / (\sqrt{v_t} + \epsilon) \\
        \rho_t &= \rho_\infty - 2 t \beta_2^t / (1 - \beta_2^t), \qquad \rho_\infty = 2 / (1 - \beta_2) - 1 \\
        r_t &= \sqrt{\frac{(\rho_t - 4)(\rho_t - 2) \rho_\infty}{(\rho_\infty - 4)(\rho_\infty - 2) \rho_t}} \\
        \theta_t &= \theta_{t-1} - \gamma \hat m_t r_t l_t \quad\text{or, unless } \rho_t > 5, \quad
        \theta_{t-1} - \gamma \hat m_t

    where :math:`m` is the state ``exp_avg``, :math:`v` is ``exp_avg_sq`` and :math:`t` is ``step``, which counts the
    steps in which the parameter had a gradient.

    Args:
        params: parameters, ``(name, parameter)`` pairs, or dicts that define groups.
        lr: learning rate :math:`\gamma`, at least 0; a number or an array of one element (default: 1e-3).
        betas: how much of the old means is kept, :math:`\beta_1, \beta_2` in [0, 1). With the default the sixth step
            is the first that is rectified; up to :math:`\beta_2 = 2/3` none ever is (default: (0.9, 0.999)).
        eps: :math:`\epsilon`, added to the root, at least 0 (default: 1e-8).
        weight_decay: :math:`\lambda \geq 0`, adds :math:`\lambda \theta_{t-1}` to the gradient (default: 0).
        decoupled_weight_decay: take :math:`\gamma \lambda \theta_{t-1}` from the parameter instead of adding to the
            gradient: RAdamW (default: False).
        foreach: True evaluates the formula on the flat arrays of a group, False parameter by parameter; None runs one
            kernel for the whole group (default: None).
        maximize: climb instead of descend (default: False).
        capturable: on a GPU, keep the step count and what follows from it there, so that a CUDA graph can repeat the
            step; it has no meaning on a CPU (default: False).
        differentiable: evaluate the formula on whatever arrays the parameters are, so that derivatives flow through
            the step (default: False).
        fused: True is one kernel for the whole group, whatever ``foreach`` says, False is none. torch has no such
            option here: it becomes one of the groups' only if it is given (default: None).
        arithmetic: ``"float64"`` computes the step of float32 parameters in float64 and rounds once (default: None).
        master_weights, rounding, seed: for parameters of 16 bits, as in :class:`~refoptim.Optimizer` (default: None).

    Raises:
        ValueError: an argument is out of its range.
        RuntimeError: ``fused`` together with ``foreach`` or ``differentiable``.

    The threshold is that of torch: :math:`\rho_t > 5`. The paper's Algorithm 2 has :math:`\rho_t > 4`, optax has
    :math:`\rho_t \geq 5`. :math:`\epsilon` is outside the root and not scaled by the bias correction, as in torch.

    >>> import numpy as np, refoptim as optim
    >>> p = optim.Parameter([1.0, -2.0])
    >>> optimizer = optim.RAdam([p], lr=0.1)
    >>> optimizer.step(grads=[np.array([0.5, -0.25])])
    >>> p.data
    array([ 0.95 , -1.975])

    Liu et al., "On the Variance of the Adaptive Learning Rate and Beyond", 2020; Loshchilov and Hutter, "Decoupled
    Weight Decay Regularization", 2019.

    """

    initial_host: ClassVar[dict[str, Any]] = {"step": 0}
    state_arrays: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq")

    def __init__(
        self,
        params: Params,
        lr: Any = 1e-3,
        betas: tuple[Any, Any] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        arithmetic: str | None = None,
        master_weights: bool | None = None,
        rounding: str | None = None,
        seed: int | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "decoupled_weight_decay": decoupled_weight_decay,
            "differentiable": differentiable,
        } | given(fused=fused)
        self._check(defaults)
        super().__init__(
            params, defaults, arithmetic=arithmetic, master_weights=master_weights, rounding=rounding, seed=seed
        )

    def _check(self, options: dict[str, Any]) -> None:
        check_moments(options)
        super()._check(options)

    def _variant(self, group: dict[str, Any]) -> Variant:
        return Variant(kernels.radam.radam_cpu, formulas.radam, self.state_arrays)

    def _options(self, group: dict[str, Any]) -> _Options:
        beta1, beta2 = group["betas"]
        return _Options(
            *(number(name, group[name]) for name in ("lr", "eps", "weight_decay")),
            beta1=number("betas", beta1),
            beta2=number("betas", beta2),
            decoupled=group["decoupled_weight_decay"],
            sign=-1.0 if group["maximize"] else 1.0,
        )

    def _scalars(self, options: _Options, host: Host) -> tuple[float, ...]:
        lr, eps, weight_decay, beta1, beta2, decoupled, sign = options
        t = 1 if host is None else host["step"] + 1
        bias1, r = complement(beta1, t), formulas.rectification(beta2, t)
        weight = fixed_sqrt(complement(beta2, t)) / bias1 * r if r else ONE / bias1
        return kernels.radam.Scalars(
            sign,
            0.0 if decoupled else weight_decay,
            weight_decay / weight if decoupled else 0.0,
            beta1,
            1.0 - beta1,
            beta2,
            1.0 - beta2,
            r,
            eps,
            lr * weight,
            1.0,
        )

    def _symbols(self, group: dict[str, Any], host: Host) -> dict[str, Any]:
        beta1, beta2 = group["betas"]
        return {
            "t": 1 if host is None else host["step"] + 1,
            "gamma": group["lr"],
            "beta1": beta1,
            "beta2": beta2,
            "epsilon": group["eps"],
            "lambda_": group["weight_decay"],
            "decoupled": group["decoupled_weight_decay"],
            "maximize": group["maximize"],
        }
