"""RMSprop."""

from typing import Any, ClassVar, NamedTuple

from .. import kernels
from ..checks import check_least, check_lr, given
from ..dialect import check_dialect
from ..formulas import rmsprop as formulas
from ..implementations import Variant
from ..optimizer import Optimizer, Params
from ..scalars import number
from ..slots import Host

# Dialects with epsilon inside the root and the learning rate inside the momentum buffer.
_INSIDE = ("keras", "tensorflow", "optax")


class _Options(NamedTuple):
    lr: float
    momentum: float
    alpha: float
    eps: float
    weight_decay: float
    sign: float


class RMSprop(Optimizer):
    r"""Steps along the gradient, divided by the root of the mean squared gradient.

    .. math::
        g_t &\leftarrow g_t + \lambda \theta_{t-1} \\
        v_t &= \alpha v_{t-1} + (1 - \alpha) g_t^2 \\
        \theta_t &= \theta_{t-1} - \gamma \frac{g_t}{\sqrt{v_t} + \epsilon}

    where :math:`v` is the state ``square_avg``. With momentum, state ``momentum_buffer``, it is

    .. math::
        b_t &= \mu b_{t-1} + \frac{g_t}{\sqrt{v_t} + \epsilon} \\
        \theta_t &= \theta_{t-1} - \gamma b_t

    and ``centered``, state ``grad_avg``, the variance takes the place of :math:`v_t` in the root:

    .. math::
        a_t &= \alpha a_{t-1} + (1 - \alpha) g_t \\
        \sigma_t^2 &= \max(v_t - a_t^2, 0)
        = \max(\alpha (v_{t-1} - a_{t-1}^2) + \alpha (1 - \alpha) (g_t - a_{t-1})^2, 0)

    The state ``step`` counts the steps in which the parameter had a gradient; nothing depends on it.

    Args:
        params: parameters, ``(name, parameter)`` pairs, or dicts that define groups.
        lr: learning rate :math:`\gamma`, at least 0; a number or an array of one element (default: 1e-2).
        alpha: how much of the old means is kept, :math:`\alpha \geq 0`; a mean is one up to 1 (default: 0.99).
        eps: :math:`\epsilon`, added to the root, at least 0 (default: 1e-8).
        weight_decay: :math:`\lambda \geq 0` (default: 0).
        momentum: :math:`\mu`, at least 0 (default: 0).
        centered: divide by the root of the variance (default: False).
        capturable: on a GPU, keep the step count and what follows from it there, so that a CUDA graph can repeat the
            step; it has no meaning on a CPU (default: False).
        foreach: True evaluates the formula on the flat arrays of a group, False parameter by parameter; None is one
            kernel for the whole group (default: None).
        maximize: climb instead of descend (default: False).
        differentiable: evaluate the formula on whatever arrays the parameters are, so that derivatives flow through
            the step (default: False).
        fused: True is one kernel for the whole group, whatever ``foreach`` says, False is none. torch has no such
            option here: it becomes one of the groups' only if it is given (default: None).
        arithmetic: ``"float64"`` computes the step of float32 parameters in float64 and rounds once (default: None).
        dialect: whose formula is computed: ``"torch"``, ``"keras"``, ``"tensorflow"`` or ``"optax"``; None is torch's
            (default: None).
        master_weights, rounding, seed: for parameters of 16 bits, as in :class:`~refoptim.Optimizer` (default: None).

    Raises:
        ValueError: an argument is out of its range.
        RuntimeError: ``fused`` together with ``foreach`` or ``differentiable``.
        KeyError: at a step, ``momentum`` or ``centered`` was switched on after the first one.

    There is no paper, only a slide. As in torch, :math:`\epsilon` is outside the root and the learning rate outside the
    momentum buffer; TensorFlow, Keras and optax have both inside. The ``centered`` variant is Graves's, whose
    :math:`\epsilon` is inside too. Their dialects compute, and without momentum with :math:`\mu` = 0,

    .. math::
        b_t &= \mu b_{t-1} + \gamma \frac{g_t}{\sqrt{v_t + \epsilon}} \\
        \theta_t &= \theta_{t-1} - b_t

    where :math:`\sigma_t^2` takes the place of :math:`v_t` as before. Weight decay is decoupled in Keras's, which takes
    :math:`\gamma \lambda \theta_{t-1}` from the parameter; in ``"tensorflow"``, tf.compat.v1's, the mean square starts
    at 1. The dialect is the optimizer's, not a group's, and not in its state_dict. Defaults stay this class's: all
    three have ``alpha=0.9``; :math:`\epsilon` is 1e-7, 1e-10 and 1e-8.

    A variance is not negative, but the difference of a rounded :math:`v` and :math:`a^2` can be: torch then takes the
    root and gets NaN, under constant gradients for instance. The kernel computes the second form of
    :math:`\sigma_t^2`, which loses no digits in this step, and the maximum takes care of what rounding did to the
    state in earlier ones. Where the variance is 0, the step is :math:`\gamma g_t / \epsilon`.

    >>> import numpy as np, refoptim as optim
    >>> p = optim.Parameter([1.0, -2.0])
    >>> optimizer = optim.RMSprop([p], lr=0.1, alpha=0.75)
    >>> optimizer.step(grads=[np.array([40.0, -300.0])])
    >>> p.data
    array([ 0.8, -1.8])

    Tieleman and Hinton, "Lecture 6.5 - RMSprop", Neural Networks for Machine Learning, 2012; Graves, "Generating
    Sequences With Recurrent Neural Networks", 2013, for ``centered``.

    """

    initial_host: ClassVar[dict[str, Any]] = {"step": 0}
    state_arrays: ClassVar[tuple[str, ...]] = ("square_avg", "momentum_buffer", "grad_avg")

    def __init__(
        self,
        params: Params,
        lr: Any = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        *,
        fused: bool | None = None,
        arithmetic: str | None = None,
        dialect: str | None = None,
        master_weights: bool | None = None,
        rounding: str | None = None,
        seed: int | None = None,
    ) -> None:
        check_dialect(dialect, "keras", "tensorflow", "optax")
        self.dialect = dialect
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "alpha": alpha,
            "eps": eps,
            "centered": centered,
            "weight_decay": weight_decay,
            "capturable": capturable,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
        } | given(fused=fused)
        self._check(defaults)
        super().__init__(
            params, defaults, arithmetic=arithmetic, master_weights=master_weights, rounding=rounding, seed=seed
        )

    def _check(self, options: dict[str, Any]) -> None:
        check_lr(options["lr"])
        check_least("epsilon value", options["eps"])
        for name in ("momentum", "weight_decay", "alpha"):
            check_least(f"{name} value", options[name])
        super()._check(options)

    def _variant(self, group: dict[str, Any]) -> Variant:
        square_avg, momentum_buffer, grad_avg = self.state_arrays
        rules, inside = kernels.rmsprop, self.dialect in _INSIDE
        if group["centered"] and group["momentum"] > 0:
            kernel = rules.centered_momentum_inside_cpu if inside else rules.centered_momentum_cpu
            return Variant(kernel, formulas.centered_momentum, self.state_arrays)
        if group["centered"]:
            kernel = rules.centered_inside_cpu if inside else rules.centered_cpu
            return Variant(kernel, formulas.centered, (square_avg, grad_avg))
        if group["momentum"] > 0:
            kernel = rules.momentum_inside_cpu if inside else rules.momentum_cpu
            return Variant(kernel, formulas.momentum, (square_avg, momentum_buffer))
        kernel = rules.rmsprop_inside_cpu if inside else rules.rmsprop_cpu
        return Variant(kernel, formulas.rmsprop, (square_avg,))

    def _initial_values(self, group: dict[str, Any]) -> dict[str, float]:
        return {"square_avg": 1.0} if self.dialect == "tensorflow" else {}

    def _options(self, group: dict[str, Any]) -> _Options:
        names = ("lr", "momentum", "alpha", "eps", "weight_decay")
        return _Options(*(number(name, group[name]) for name in names), sign=-1.0 if group["maximize"] else 1.0)

    def _scalars(self, options: _Options, host: Host) -> tuple[float, ...]:
        lr, momentum, alpha, eps, weight_decay, sign = options
        coupled, decay = (0.0, weight_decay) if self.dialect == "keras" else (weight_decay, 0.0)
        return kernels.rmsprop.Scalars(
            sign,
            coupled,
            lr,
            alpha,
            1.0 - alpha,
            alpha * (1.0 - alpha),
            eps,
            momentum,
            zero=0.0,
            one=1.0,
            decay=lr * decay if momentum > 0 else decay,
        )

    def _symbols(self, group: dict[str, Any], host: Host) -> dict[str, Any]:
        symbols = {
            "gamma": group["lr"],
            "alpha": group["alpha"],
            "epsilon": group["eps"],
            "lambda_": group["weight_decay"],
            "maximize": group["maximize"],
            "decoupled": self.dialect == "keras",
            "inside": self.dialect in _INSIDE,
        }
        return symbols | {"mu": group["momentum"]} if group["momentum"] > 0 else symbols
