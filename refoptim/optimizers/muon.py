"""Muon."""

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

from .. import kernels
from ..checks import check_newer_lr, given
from ..formulas import muon as formulas
from ..formulas.bfloat16 import bfloat16
from ..implementations import Variant
from ..optimizer import Optimizer, Params
from ..scalars import integer, number
from ..slots import Host

_ADJUSTMENTS = (None, "original", "match_rms_adamw")
_DIALECTS = (None, "torch")
# Each step costs three products of matrices, and a few reach what more of them do not improve.
_MOST_STEPS = 99


class _Options(NamedTuple):
    lr: float
    momentum: float
    nesterov: bool
    a: float
    b: float
    c: float
    eps: float
    weight_decay: float
    steps: int
    match_rms: bool


class Muon(Optimizer):
    r"""Momentum, made orthogonal: every direction that the momentum of a matrix has counts the same.

    .. math::
        b_t &= \mu b_{t-1} + (1 - \mu) g_t \\
        u_t &= \mu b_t + (1 - \mu) g_t \quad\text{with nesterov, or } b_t \\
        \theta_t &= \theta_{t-1} - \gamma \lambda \theta_{t-1} - \gamma s \operatorname{NS}(u_t)

    where :math:`b` is the state ``momentum_buffer``, which appears at a parameter's first step. Newton and Schulz's
    iteration :math:`\operatorname{NS}` starts from :math:`X = u / \max(\|u\|, \epsilon)` and repeats
    :math:`X \leftarrow a X + (b A + c A^2) X` with :math:`A = X X^\top`. With the default coefficients it brings the
    singular values between 0.7 and 1.2, not to 1. A matrix with more rows than columns is transposed for it.

    Args:
        params: matrices, ``(name, matrix)`` pairs, or dicts that define groups.
        lr: learning rate :math:`\gamma`, at least 0; a number or an array of one element (default: 1e-3).
        weight_decay: :math:`\lambda \geq 0`, decoupled (default: 0.1).
        momentum: :math:`\mu \geq 0` (default: 0.95).
        nesterov: look ahead (default: True).
        ns_coefficients: :math:`(a, b, c)` (default: (3.4445, -4.775, 2.0315)).
        eps: :math:`\epsilon`, the smallest norm to divide by (default: 1e-7).
        ns_steps: how often the iteration is repeated, less than 100; 0 only divides by the norm (default: 5).
        adjust_lr_fn: :math:`s`: ``"original"`` is :math:`\sqrt{\max(1, \text{rows} / \text{columns})}`, and so is None;
            ``"match_rms_adamw"`` is :math:`0.2 \sqrt{\max(\text{rows}, \text{columns})}`, which makes the update as
            large as AdamW's (default: None).
        foreach: evaluate the formula matrix by matrix, with NumPy's products (default: None).
        fused: kernels for every matrix. None is True, unless ``foreach`` is given (default: None).
        arithmetic: ``"float64"`` computes the step of float32 parameters in float64 and rounds once (default: None).
        dialect: ``"torch"`` rounds to bfloat16 after every operation of the iteration, whatever the parameters' type,
            as torch does; None stays in the parameters' own (default: None).
        master_weights, rounding, seed: for parameters of 16 bits, as in :class:`~refoptim.Optimizer` (default: None).

    Raises:
        ValueError: an argument is out of its range, or a parameter is no matrix.
        RuntimeError: ``fused`` together with ``foreach``, or a complex parameter.

    This is torch's version, from its author's code: the momentum is a mean, :math:`\epsilon` a lower limit, and weight
    decay is multiplied with the learning rate before :math:`s`. Optax's adds :math:`\epsilon` to the norm and corrects
    the bias of the momentum. Vectors, embeddings and the like are for another optimizer.

    >>> import numpy as np, refoptim as optim
    >>> p = optim.Parameter(np.eye(2))
    >>> optimizer = optim.Muon([p], lr=0.1, weight_decay=0)
    >>> optimizer.step(grads=[np.array([[3.0, 0.0], [0.0, 4.0]])])
    >>> np.round(p.data, 3)
    array([[0.928, 0.   ],
           [0.   , 0.888]])

    Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024.

    """

    state_arrays: ClassVar[tuple[str, ...]] = ("momentum_buffer",)

    def __init__(
        self,
        params: Params,
        lr: Any = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: Sequence[float] = (3.4445, -4.775, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
        *,
        foreach: bool | None = None,
        fused: bool | None = None,
        arithmetic: str | None = None,
        dialect: str | None = None,
        master_weights: bool | None = None,
        rounding: str | None = None,
        seed: int | None = None,
    ) -> None:
        if dialect not in _DIALECTS:
            raise ValueError(f"Invalid dialect: {dialect!r}; use None (the parameters' own precision) or 'torch'")
        self.dialect = dialect
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "ns_coefficients": ns_coefficients,
            "eps": eps,
            "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn,
        } | given(foreach=foreach, fused=fused)
        self._check(defaults)
        super().__init__(
            params, defaults, arithmetic=arithmetic, master_weights=master_weights, rounding=rounding, seed=seed
        )

    def _check(self, options: dict[str, Any]) -> None:
        check_newer_lr(options["lr"])
        for name in ("momentum", "weight_decay"):
            if not options[name] >= 0:
                raise ValueError(f"{name.replace('_', ' ')} should be >= 0 but is: {options[name]}")
        if len(options["ns_coefficients"]) != 3:
            raise ValueError(f"Coefficients must be a tuple of exactly 3 values, but are {options['ns_coefficients']}")
        if not options["ns_steps"] <= _MOST_STEPS:
            raise ValueError(f"Number of steps must be less than 100, but is {options['ns_steps']}")
        if not integer("ns_steps", options["ns_steps"]) >= 0:
            raise ValueError(f"Number of steps should be >= 0 but is: {options['ns_steps']}")
        if options["adjust_lr_fn"] not in _ADJUSTMENTS:
            raise ValueError(
                f"Adjust learning rate function {options['adjust_lr_fn']} is not supported: use one of {_ADJUSTMENTS}"
            )
        for param in options.get("params", ()):
            if param.dtype.kind == "c":
                raise RuntimeError("Muon does not support complex parameters")
            if len(param.shape) != 2:
                raise ValueError(
                    f"Muon only supports 2D parameters whereas we found a parameter with size: {param.shape}"
                )
        super()._check(options)

    def _variant(self, group: dict[str, Any]) -> Variant:
        muon, state, formula = kernels.muon, self.state_arrays, formulas.muon
        if self.dialect is not None:
            return Variant(muon.muon_bfloat16, formula, state, shaped=True)
        return Variant(muon.muon, formula, state, shaped=True, together=muon.muon_together, short=muon.SHORT)

    def _options(self, group: dict[str, Any]) -> _Options:
        a, b, c = (number("ns_coefficients", coefficient) for coefficient in group["ns_coefficients"])
        return _Options(
            number("lr", group["lr"]),
            number("momentum", group["momentum"]),
            bool(group["nesterov"]),
            a,
            b,
            c,
            number("eps", group["eps"]),
            number("weight_decay", group["weight_decay"]),
            group["ns_steps"],
            group["adjust_lr_fn"] == "match_rms_adamw",
        )

    def _scalars(self, options: _Options, host: Host) -> tuple[float, ...]:
        lr, momentum, nesterov, a, b, c, eps, weight_decay, steps, match_rms = options
        decay = lr * weight_decay
        return kernels.muon.Scalars(nesterov, momentum, 1.0 - momentum, a, b, c, decay, lr, eps, steps, match_rms)

    def _symbols(self, group: dict[str, Any], host: Host) -> dict[str, Any]:
        return {
            "gamma": group["lr"],
            "mu": group["momentum"],
            "nesterov": group["nesterov"],
            "coefficients": tuple(group["ns_coefficients"]),
            "epsilon": group["eps"],
            "steps": group["ns_steps"],
            "lambda_": group["weight_decay"],
            "match_rms": group["adjust_lr_fn"] == "match_rms_adamw",
        } | ({} if self.dialect is None else {"rounded": bfloat16})
