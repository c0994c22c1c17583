"""SparseAdam."""

from typing import Any, ClassVar, NamedTuple

from .. import kernels
from ..checks import check_betas, check_lr, given
from ..formulas import sparse_adam as formulas
from ..formulas.power import complement, fixed_sqrt
from ..implementations import Variant
from ..optimizer import Optimizer, Params
from ..scalars import number
from ..slots import Host


class _Options(NamedTuple):
    lr: float
    eps: float
    beta1: float
    beta2: float
    sign: float


class SparseAdam(Optimizer):
    r"""Adam for parameters of which few rows have a gradient: rows without one, and their moments, stay as they are.

    .. math::
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t \\
        v_t &= \beta_2 v_{t-1} + (1 - \beta_2) g_t^2 \\
        \theta_t &= \theta_{t-1} - \gamma \frac{\sqrt{1 - \beta_2^t}}{1 - \beta_1^t} \frac{m_t}{\sqrt{v_t} + \epsilon}

    for the rows of the gradient, where :math:`m` is the state ``exp_avg``, :math:`v` is ``exp_avg_sq`` and :math:`t` is
    ``step``, which counts the steps in which the parameter had a gradient, even one without rows. It is the same for
    all rows: one that appears late is corrected for a bias that it does not have, as in torch.

    Args:
        params: parameters, ``(name, parameter)`` pairs, or dicts that define groups. Their gradients are
            :class:`refoptim.SparseGrad` or sparse matrices of SciPy's.
        lr: learning rate :math:`\gamma`, above 0; a number or an array of one element (default: 1e-3).
        betas: how much of the old means is kept, :math:`\beta_1, \beta_2` in [0, 1) (default: (0.9, 0.999)).
        eps: :math:`\epsilon`, added to the root, above 0 (default: 1e-8).
        maximize: climb instead of descend (default: False).
        foreach: evaluate the formula on the rows (default: None).
        fused: one kernel for the rows of a parameter. None is True, unless ``foreach`` is given (default: None).
        arithmetic: ``"float64"`` computes the step of float32 parameters in float64 and rounds once (default: None).
        master_weights, rounding, seed: for parameters of 16 bits, as in :class:`~refoptim.Optimizer` (default: None).

    Raises:
        ValueError: an argument is out of its range, or a parameter is complex.
        RuntimeError: ``fused`` together with ``foreach``; in a step, a gradient that is not sparse.

    This is not Adam with a mask: :math:`\epsilon` is not scaled by the bias correction, which makes first steps along
    gradients of its size smaller (-0.76 instead of -0.99 for a gradient of 1e-6). TensorFlow's LazyAdam is alike; optax
    has no counterpart.

    >>> import numpy as np, refoptim as optim
    >>> p = optim.Parameter(np.ones((3, 2)))
    >>> optimizer = optim.SparseAdam([p], lr=0.1)
    >>> p.grad = optim.SparseGrad([2], [[0.5, -0.5]], p.shape)
    >>> optimizer.step()
    >>> np.round(p.data, 6)
    array([[1. , 1. ],
           [1. , 1. ],
           [0.9, 1.1]])

    Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015; the sparse variant is torch's.

    """

    initial_host: ClassVar[dict[str, Any]] = {"step": 0}
    state_arrays: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq")

    def __init__(
        self,
        params: Params,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        maximize: bool = False,
        *,
        foreach: bool | None = None,
        fused: bool | None = None,
        arithmetic: str | None = None,
        master_weights: bool | None = None,
        rounding: str | None = None,
        seed: int | None = None,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "maximize": maximize}
        defaults |= given(foreach=foreach, fused=fused)
        self._check(defaults)
        super().__init__(
            params, defaults, arithmetic=arithmetic, master_weights=master_weights, rounding=rounding, seed=seed
        )

    def _check(self, options: dict[str, Any]) -> None:
        check_lr(options["lr"])
        for what, name in (("learning rate", "lr"), ("epsilon value", "eps")):
            if not options[name] > 0.0:
                raise ValueError(f"Invalid {what}: {options[name]}")
        check_betas(options["betas"])
        super()._check(options)

    def _checked_group(self, group: Any, others: list[dict[str, Any]]) -> dict[str, Any]:
        full = super()._checked_group(group, others)
        places = [[len(others), i] for i, param in enumerate(full["params"]) if "complex" in str(param.dtype)]
        if places:
            raise ValueError(f"Complex params at indices {places}: SparseAdam does not support complex parameters")
        return full

    def _variant(self, group: dict[str, Any]) -> Variant:
        kernel, formula = kernels.sparse_adam.sparse_adam_cpu, formulas.sparse_adam
        return Variant(kernel, formula, self.state_arrays, dense=False, sparse="rows")

    def _options(self, group: dict[str, Any]) -> _Options:
        return _Options(
            *(number(name, group[name]) for name in ("lr", "eps")),
            *(number("betas", beta) for beta in group["betas"]),
            sign=-1.0 if group["maximize"] else 1.0,
        )

    def _scalars(self, options: _Options, host: Host) -> tuple[float, ...]:
        lr, eps, beta1, beta2, sign = options
        t = 1 if host is None else host["step"] + 1
        # The quotient of two integers is rounded once, whatever their size.
        ratio = fixed_sqrt(complement(beta2, t)) / complement(beta1, t)
        return kernels.sparse_adam.Scalars(sign, beta1, 1.0 - beta1, beta2, 1.0 - beta2, eps, lr * ratio)

    def _symbols(self, group: dict[str, Any], host: Host) -> dict[str, Any]:
        beta1, beta2 = group["betas"]
        return {
            "t": 1 if host is None else host["step"] + 1,
            "gamma": group["lr"],
            "beta1": beta1,
            "beta2": beta2,
            "epsilon": group["eps"],
            "maximize": group["maximize"],
        }
