"""NAdam."""

from math import ldexp
from typing import Any, ClassVar, NamedTuple

from .. import kernels
from ..checks import check_least, check_moments, given
from ..dialect import check_dialect
from ..formulas import nadam as formulas
from ..formulas.power import BITS, ONE, complement, fixed_sqrt
from ..implementations import Variant
from ..optimizer import Optimizer, Params
from ..scalars import number
from ..slots import Host


def _fixed(x: float) -> int:
    """Return a number in the fixed point of the bias corrections."""
    return int(ldexp(x, BITS))


class _Options(NamedTuple):
    lr: float
    eps: float
    weight_decay: float
    momentum_decay: float
    beta1: float
    beta2: float
    decoupled: bool
    sign: float


class NAdam(Optimizer):
    r"""Adam with Nesterov's momentum: the mean gradient looks one step ahead, with a momentum that grows.

    .. math::
        \mu_t &= \beta_1 (1 - \tfrac12\, 0.96^{t \psi}) \\
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t \\
        v_t &= \beta_2 v_{t-1} + (1 - \beta_2) g_t^2 \\
        \hat m_t &= \frac{\mu_{t+1} m_t}{1 - \prod_{i=1}^{t+1} \mu_i}
        + \frac{(1 - \mu_t) g_t}{1 - \prod_{i=1}^t \mu_i} \\
        \theta_t &= \theta_{t-1} - \gamma \frac{\hat m_t}{\sqrt{v_t / (1 - \beta_2^t)} + \epsilon}

    where :math:`m` is the state ``exp_avg``, :math:`v` is ``exp_avg_sq``, :math:`\prod \mu_i` is ``mu_product``, a
    Python float, and :math:`t` is ``step``, which counts the steps in which the parameter had a gradient.

    Args:
        params: parameters, ``(name, parameter)`` pairs, or dicts that define groups.
        lr: learning rate :math:`\gamma`, at least 0; a number or an array of one element (default: 2e-3).
        betas: how much of the old means is kept, :math:`\beta_1, \beta_2` in [0, 1) (default: (0.9, 0.999)).
        eps: :math:`\epsilon`, added to the root, at least 0 (default: 1e-8).
        weight_decay: :math:`\lambda \geq 0`, adds :math:`\lambda \theta_{t-1}` to the gradient (default: 0).
        momentum_decay: :math:`\psi \geq 0`, how fast the momentum grows from half of :math:`\beta_1` to all of it; with
            0 it stays half (default: 4e-3).
        decoupled_weight_decay: take :math:`\gamma \lambda \theta_{t-1}` from the parameter instead of adding to the
            gradient: NAdamW (default: False).
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
        dialect: ``"keras"`` computes Keras's formula, ``"torch"`` and None torch's (default: None).
        master_weights, rounding, seed: for parameters of 16 bits, as in :class:`~refoptim.Optimizer` (default: None).

    Raises:
        ValueError: an argument is out of its range.
        RuntimeError: ``fused`` together with ``foreach`` or ``differentiable``.

    This is the paper's Algorithm 2 with its schedule, like torch; the paper suggests the 0.96 and
    :math:`\psi` = 0.004. Keras has the same schedule with :math:`\psi` = 1. optax has no schedule, :math:`\mu_t =
    \beta_1`. torch keeps ``mu_product`` in float32 for parameters of every type, which makes its float64 steps wrong
    from the eighth digit; a state_dict of torch's brings that number along.

    ``dialect="keras"`` has Keras's :math:`\psi`, whatever ``momentum_decay`` is, and decoupled weight decay. The
    dialect is the optimizer's, not a group's, and not in its state_dict. Defaults stay this class's: Keras has
    ``lr=1e-3, eps=1e-7``. Momenta and steps are counted by parameter, where Keras counts all in one.

    >>> import numpy as np, refoptim as optim
    >>> p = optim.Parameter([1.0, -2.0])
    >>> optimizer = optim.NAdam([p], lr=0.1)
    >>> optimizer.step(grads=[np.array([0.5, -0.5])])
    >>> p.data.round(6)
    array([ 0.894355, -1.894355])

    Dozat, "Incorporating Nesterov Momentum into Adam", 2016; Loshchilov and Hutter, "Decoupled Weight Decay
    Regularization", 2019.

    """

    initial_host: ClassVar[dict[str, Any]] = {"step": 0, "mu_product": 1.0}
    state_arrays: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq")

    def __init__(
        self,
        params: Params,
        lr: Any = 2e-3,
        betas: tuple[Any, Any] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
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
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
        } | given(fused=fused)
        self._check(defaults)
        super().__init__(
            params, defaults, arithmetic=arithmetic, master_weights=master_weights, rounding=rounding, seed=seed
        )

    def _check(self, options: dict[str, Any]) -> None:
        check_moments(options)
        check_least("momentum_decay value", options["momentum_decay"])
        super()._check(options)

    def _variant(self, group: dict[str, Any]) -> Variant:
        return Variant(kernels.nadam.nadam_cpu, formulas.nadam, self.state_arrays)

    def _options(self, group: dict[str, Any]) -> _Options:
        beta1, beta2 = group["betas"]
        return _Options(
            *(number(name, group[name]) for name in ("lr", "eps", "weight_decay")),
            momentum_decay=number("momentum_decay", self._psi(group)),
            beta1=number("betas", beta1),
            beta2=number("betas", beta2),
            decoupled=group["decoupled_weight_decay"] or self.dialect == "keras",
            sign=-1.0 if group["maximize"] else 1.0,
        )

    def _scalars(self, options: _Options, host: Host) -> tuple[float, ...]:
        lr, eps, weight_decay, psi, beta1, beta2, decoupled, sign = options
        host = self.initial_host if host is None else host
        t, before = host["step"] + 1, host["mu_product"]
        # In fixed point: only the power of the schedule, the product that is kept and the scalars are rounded.
        base, product = _fixed(beta1), _fixed(before)
        rest, rest_next = (ONE - base + (base * _fixed(0.5 * 0.96 ** (step * psi)) >> BITS) for step in (t, t + 1))
        bias = ONE - product + (product * rest >> BITS)
        bias_next = bias + ((product * (ONE - rest) >> BITS) * rest_next >> BITS)
        root2 = fixed_sqrt(complement(beta2, t))
        weight = root2 * rest / (bias << BITS)
        return kernels.nadam.Scalars(
            sign,
            0.0 if decoupled else weight_decay,
            weight_decay / weight if decoupled else 0.0,
            beta1,
            1.0 - beta1,
            beta2,
            1.0 - beta2,
            (ONE - rest_next) * bias / (bias_next * rest),
            eps * (root2 / ONE),
            lr * weight,
        )

    def _powers(self, options: _Options) -> None:
        return None  # there are the momentum's schedule

    def _symbols(self, group: dict[str, Any], host: Host) -> dict[str, Any]:
        host = self.initial_host if host is None else host
        beta1, beta2 = group["betas"]
        return {
            "t": host["step"] + 1,
            "mu_product": host["mu_product"],
            "gamma": group["lr"],
            "beta1": beta1,
            "beta2": beta2,
            "epsilon": group["eps"],
            "psi": self._psi(group),
            "lambda_": group["weight_decay"],
            "decoupled": group["decoupled_weight_decay"] or self.dialect == "keras",
            "maximize": group["maximize"],
        }

    def _advance(self, group: dict[str, Any], host: Host) -> dict[str, Any]:
        host = self.initial_host if host is None else host
        t, (beta1, _), psi = host["step"] + 1, group["betas"], self._psi(group)
        if not group["differentiable"]:
            beta1, psi = number("betas", beta1), number("momentum_decay", psi)
        return {"step": t, "mu_product": host["mu_product"] * formulas.momentum(beta1, psi, t)}

    def _psi(self, group: dict[str, Any]) -> Any:
        return 1.0 if self.dialect == "keras" else group["momentum_decay"]
