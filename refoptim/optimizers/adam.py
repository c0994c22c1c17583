"""Adam and AdamW."""

from typing import Any, ClassVar, NamedTuple

import numpy as np

from .. import kernels
from ..checks import check_moments
from ..dialect import check_dialect
from ..formulas import adam as formulas
from ..formulas.power import ONE, complement, fixed_sqrt
from ..implementations import Variant
from ..optimizer import Optimizer, Params
from ..scalars import number
from ..slots import Host

# Dialects with "epsilon hat", which is added before the bias is corrected.
_HAT = ("keras", "tensorflow")


class _Options(NamedTuple):
    lr: float
    eps: float
    weight_decay: float
    beta1: float
    beta2: float
    decoupled: bool
    sign: float
    corrected: bool  # the maximum is that of corrected second moments


class Adam(Optimizer):
    r"""Adaptive moment estimation: steps along the mean gradient, divided by the root of the mean squared gradient.

    .. math::
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t \\
        v_t &= \beta_2 v_{t-1} + (1 - \beta_2) g_t^2 \\
        \theta_t &= \theta_{t-1} - \gamma \frac{m_t / (1 - \beta_1^t)}{\sqrt{v_t / (1 - \beta_2^t)} + \epsilon}

    where :math:`m` is the state ``exp_avg``, :math:`v` is ``exp_avg_sq`` and :math:`t` is ``step``, which counts the
    steps in which the parameter had a gradient.

    Args:
        params: parameters, ``(name, parameter)`` pairs, or dicts that define groups.
        lr: learning rate :math:`\gamma`, at least 0; a number or an array of one element (default: 1e-3).
        betas: how much of the old means is kept, :math:`\beta_1, \beta_2` in [0, 1) (default: (0.9, 0.999)).
        eps: :math:`\epsilon`, added to the root, at least 0 (default: 1e-8).
        weight_decay: :math:`\lambda \geq 0`, adds :math:`\lambda \theta_{t-1}` to the gradient (default: 0).
        amsgrad: divide by the root of the largest :math:`v` so far, state ``max_exp_avg_sq``. The maximum is taken
            before the bias is corrected, as torch and Keras do; optax takes it afterwards (default: False).
        foreach: evaluate the formula on the flat arrays of a group (default: None).
        maximize: climb instead of descend (default: False).
        capturable: on a GPU, keep the step count and what follows from it there, so that a CUDA graph can repeat the
            step; it has no meaning on a CPU (default: False).
        differentiable: evaluate the formula on whatever arrays the parameters are, so that derivatives flow through
            the step (default: False).
        fused: one kernel for the whole group. None is True, unless ``foreach`` is given; with ``fused=False`` and
            ``foreach=False`` the formula is evaluated parameter by parameter (default: None).
        decoupled_weight_decay: take :math:`\gamma \lambda \theta_{t-1}` from the parameter instead of adding to the
            gradient: AdamW (default: False).
        arithmetic: ``"float64"`` computes the step of float32 parameters in float64 and rounds once (default: None).
        dialect: whose formula is computed: ``"torch"``, ``"keras"``, ``"tensorflow"`` or ``"optax"``; None is torch's
            (default: None).
        master_weights, rounding, seed: for parameters of 16 bits, as in :class:`~refoptim.Optimizer` (default: None).

    Raises:
        ValueError: an argument is out of its range, or ``betas`` is not two floats.
        RuntimeError: ``fused`` together with ``foreach`` or ``differentiable``.

    This is the paper's Algorithm 1, :math:`\epsilon` outside the root and not scaled by the bias correction, like
    torch, optax and tinygrad. Keras, TensorFlow and ONNX compute the "epsilon hat" of its section 2.

    ``dialect="keras"`` and ``"tensorflow"`` compute epsilon hat,

    .. math::
        \theta_t = \theta_{t-1} - \gamma \frac{\sqrt{1 - \beta_2^t}}{1 - \beta_1^t} \frac{m_t}{\sqrt{v_t} + \epsilon}

    and Keras's weight decay is always decoupled. ``"optax"`` takes the maximum of ``amsgrad`` after the correction. The
    dialect is the optimizer's, not a group's, and not in its state_dict; defaults stay this class's (Keras has
    ``eps=1e-7``), and steps are counted by parameter, where Keras counts all in one.

    >>> import numpy as np, refoptim as optim
    >>> p = optim.Parameter([1.0, -2.0])
    >>> optimizer = optim.Adam([p], lr=0.1)
    >>> p.grad = np.array([0.5, -0.5])
    >>> optimizer.step()
    >>> p.data
    array([ 0.9, -1.9])

    Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015; Reddi, Kale and Kumar, "On the Convergence of
    Adam and Beyond", 2018, for ``amsgrad``.

    """

    initial_host: ClassVar[dict[str, Any]] = {"step": 0}
    state_arrays: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")

    def __init__(
        self,
        params: Params,
        lr: Any = 1e-3,
        betas: tuple[Any, Any] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
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
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
            "fused": fused,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        self._check(defaults)
        defaults["betas"] = tuple(betas)
        super().__init__(
            params, defaults, arithmetic=arithmetic, master_weights=master_weights, rounding=rounding, seed=seed
        )

    def _check(self, options: dict[str, Any]) -> None:
        check_moments(options)
        floats = [isinstance(beta, float) for beta in options["betas"]]
        plain = [isinstance(beta, float | int | np.generic) for beta in options["betas"]]
        if floats[0] != floats[1] or floats != plain:
            raise ValueError(f"betas must be either both floats or both Tensors, but got {options['betas']}")
        super()._check(options)

    def _variant(self, group: dict[str, Any]) -> Variant:
        if group["amsgrad"] and self.dialect == "optax":
            return Variant(kernels.adam.amsgrad_corrected_cpu, formulas.amsgrad_corrected, self.state_arrays)
        if group["amsgrad"]:
            return Variant(kernels.adam.amsgrad_cpu, formulas.amsgrad, self.state_arrays)
        return Variant(kernels.adam.adam_cpu, formulas.adam, self.state_arrays[:2])

    def _options(self, group: dict[str, Any]) -> _Options:
        return _Options(
            *(number(name, group[name]) for name in ("lr", "eps", "weight_decay")),
            *(number("betas", beta) for beta in group["betas"]),
            decoupled=group["decoupled_weight_decay"] or self.dialect == "keras",
            sign=-1.0 if group["maximize"] else 1.0,
            corrected=group["amsgrad"] and self.dialect == "optax",
        )

    def _scalars(self, options: _Options, host: Host) -> tuple[float, ...]:
        lr, eps, weight_decay, beta1, beta2, decoupled, sign, corrected = options
        t = 1 if host is None else host["step"] + 1
        bias1, bias2 = complement(beta1, t), complement(beta2, t)
        # What the rule leaves out of the root.
        root2 = ONE if corrected else fixed_sqrt(bias2)
        # The quotient of two integers is rounded once, whatever their size.
        ratio = root2 / bias1
        return kernels.adam.Scalars(
            sign,
            0.0 if decoupled else weight_decay,
            weight_decay / ratio if decoupled else 0.0,
            beta1,
            1.0 - beta1,
            beta2,
            1.0 - beta2,
            eps if self.dialect in _HAT else eps * (root2 / ONE),
            lr * ratio,
            ONE / bias2 if corrected else 1.0,
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
            "decoupled": group["decoupled_weight_decay"] or self.dialect == "keras",
            "maximize": group["maximize"],
        } | ({"hat": True} if self.dialect in _HAT else {})


class AdamW(Adam):
    r"""Adam with decoupled weight decay: the parameter shrinks by its own rule, outside the moments.

    .. math::
        \theta_t = \theta_{t-1} - \gamma \lambda \theta_{t-1}
        - \gamma \frac{m_t / (1 - \beta_1^t)}{\sqrt{v_t / (1 - \beta_2^t)} + \epsilon}

    with the moments of :class:`Adam`.

    Args:
        params: parameters, ``(name, parameter)`` pairs, or dicts that define groups.
        lr: learning rate :math:`\gamma`, at least 0; a number or an array of one element (default: 1e-3).
        betas: how much of the old means is kept, :math:`\beta_1, \beta_2` in [0, 1) (default: (0.9, 0.999)).
        eps: :math:`\epsilon`, added to the root, at least 0 (default: 1e-8).
        weight_decay: :math:`\lambda \geq 0` (default: 1e-2).
        amsgrad: divide by the root of the largest :math:`v` so far (default: False).
        maximize, foreach, capturable, differentiable, fused, arithmetic, dialect, master_weights,
            rounding, seed: as in :class:`Adam`.

    Raises:
        ValueError: an argument is out of its range, or ``betas`` is not two floats.
        RuntimeError: ``fused`` together with ``foreach`` or ``differentiable``.

    As torch, optax and Keras have it, the decay is multiplied by the learning rate; the paper's schedule multiplier
    alone would leave it out. torch rounds :math:`1 - \gamma\lambda` to the parameter's type first, which makes small
    decays vanish or double: here :math:`\gamma\lambda` is never folded into a number close to 1. Other defaults of
    ``weight_decay`` are 4e-3 in Keras and 1e-4 in optax.

    >>> import numpy as np, refoptim as optim
    >>> p = optim.Parameter([1.0, -2.0])
    >>> optimizer = optim.AdamW([p], lr=0.1, weight_decay=0.5)
    >>> optimizer.step(grads=[np.array([0.0, 0.0])])
    >>> p.data
    array([ 0.95, -1.9 ])

    Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019.

    """

    def __init__(
        self,
        params: Params,
        lr: Any = 1e-3,
        betas: tuple[Any, Any] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        arithmetic: str | None = None,
        dialect: str | None = None,
        master_weights: bool | None = None,
        rounding: str | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=True,
            arithmetic=arithmetic,
            dialect=dialect,
            master_weights=master_weights,
            rounding=rounding,
            seed=seed,
        )

    def _check(self, options: dict[str, Any]) -> None:
        # A checkpoint of before the option existed, or a group that says otherwise, is AdamW's all the same.
        options["decoupled_weight_decay"] = True
        super()._check(options)
