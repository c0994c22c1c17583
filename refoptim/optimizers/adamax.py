"""Adamax."""

from typing import Any, ClassVar, NamedTuple

from .. import kernels
from ..checks import check_moments, given
from ..dialect import check_dialect
from ..formulas import adamax as formulas
from ..formulas.power import one_minus_power
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
    sign: float


class Adamax(Optimizer):
    r"""Adam with the infinity norm: steps along the mean gradient, divided by the largest recent gradient.

    .. math::
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t \\
        u_t &= \max(\beta_2 u_{t-1}, |g_t| + \epsilon) \\
        \theta_t &= \theta_{t-1} - \frac{\gamma}{1 - \beta_1^t} \frac{m_t}{u_t}

    where :math:`m` is the state ``exp_avg``, :math:`u` is ``exp_inf`` and :math:`t` is ``step``, which counts the steps
    in which the parameter had a gradient.

    Args:
        params: parameters, ``(name, parameter)`` pairs, or dicts that define groups.
        lr: learning rate :math:`\gamma`, at least 0; a number or an array of one element (default: 2e-3).
        betas: :math:`\beta_1`, how much of the old mean is kept, and :math:`\beta_2`, how slowly the largest gradient
            is forgotten, in [0, 1) (default: (0.9, 0.999)).
        eps: :math:`\epsilon`, added to the gradient's size, at least 0 (default: 1e-8).
        weight_decay: :math:`\lambda \geq 0`, adds :math:`\lambda \theta_{t-1}` to the gradient (default: 0).
        foreach: None computes with one kernel for the whole group, True evaluates the formula on the flat arrays of a
            group, False parameter by parameter (default: None).
        maximize: climb instead of descend (default: False).
        differentiable: evaluate the formula on whatever arrays the parameters are, so that derivatives flow through
            the step (default: False).
        capturable: on a GPU, keep the step count and what follows from it there, so that a CUDA graph can repeat the
            step; it has no meaning on a CPU (default: False).
        fused: True is one kernel for the whole group, whatever ``foreach`` says, False is none. torch has no such
            option here: it becomes one of the groups' only if it is given (default: None).
        arithmetic: ``"float64"`` computes the step of float32 parameters in float64 and rounds once (default: None).
        dialect: ``"keras"`` computes Keras's formula, ``"torch"`` and None torch's (default: None).
        master_weights, rounding, seed: for parameters of 16 bits, as in :class:`~refoptim.Optimizer` (default: None).

    Raises:
        ValueError: an argument is out of its range.
        RuntimeError: ``fused`` together with ``foreach`` or ``differentiable``.

    The paper's Algorithm 2 has no :math:`\epsilon`. As in torch and optax it is inside the maximum, where it lasts:
    :math:`u` is at least :math:`\epsilon`. Keras and MLX add it to :math:`u_t` in the division instead, and MLX leaves
    the bias correction :math:`1 - \beta_1^t` out.

    ``dialect="keras"`` divides by :math:`u_t + \epsilon`, with :math:`u_t = \max(\beta_2 u_{t-1}, |g_t|)`. Its weight
    decay is decoupled: it takes :math:`\gamma \lambda \theta_{t-1}` from the parameter. The dialect is the optimizer's,
    not a group's, and not in its state_dict. Defaults stay this class's: Keras has ``lr=1e-3, eps=1e-7``.

    >>> import numpy as np, refoptim as optim
    >>> p = optim.Parameter([1.0, -2.0])
    >>> optimizer = optim.Adamax([p], lr=0.1)
    >>> p.grad = np.array([0.5, -0.5])
    >>> optimizer.step()
    >>> p.data
    array([ 0.9, -1.9])

    Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015, section 7.1.

    """

    initial_host: ClassVar[dict[str, Any]] = {"step": 0}
    state_arrays: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_inf")

    def __init__(
        self,
        params: Params,
        lr: Any = 2e-3,
        betas: tuple[Any, Any] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
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
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "capturable": capturable,
        } | given(fused=fused)
        self._check(defaults)
        super().__init__(
            params, defaults, arithmetic=arithmetic, master_weights=master_weights, rounding=rounding, seed=seed
        )

    def _check(self, options: dict[str, Any]) -> None:
        check_moments(options)
        super()._check(options)

    def _variant(self, group: dict[str, Any]) -> Variant:
        kernel = kernels.adamax.adamax_outside_cpu if self.dialect == "keras" else kernels.adamax.adamax_cpu
        return Variant(kernel, formulas.adamax, self.state_arrays)

    def _options(self, group: dict[str, Any]) -> _Options:
        beta1, beta2 = group["betas"]
        return _Options(
            *(number(name, group[name]) for name in ("lr", "eps", "weight_decay")),
            beta1=number("betas", beta1),
            beta2=number("betas", beta2),
            sign=-1.0 if group["maximize"] else 1.0,
        )

    def _scalars(self, options: _Options, host: Host) -> tuple[float, ...]:
        lr, eps, weight_decay, beta1, beta2, sign = options
        t = 1 if host is None else host["step"] + 1
        bias = one_minus_power(beta1, t)
        if self.dialect == "keras":
            weight_decay = weight_decay * bias
        return kernels.adamax.Scalars(sign, weight_decay, beta1, 1.0 - beta1, beta2, eps, lr / bias, 1.0)

    def _symbols(self, group: dict[str, Any], host: Host) -> dict[str, Any]:
        beta1, beta2 = group["betas"]
        return {
            "t": 1 if host is None else host["step"] + 1,
            "gamma": group["lr"],
            "beta1": beta1,
            "beta2": beta2,
            "epsilon": group["eps"],
            "lambda_": group["weight_decay"],
            "maximize": group["maximize"],
            "decoupled": self.dialect == "keras",
            "outside": self.dialect == "keras",
        }
