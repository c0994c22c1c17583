"""Rprop."""

from typing import Any, ClassVar, NamedTuple

import numpy as np

from .. import kernels
from ..checks import check_lr, check_pair, given
from ..formulas import rprop as formulas
from ..implementations import Variant
from ..optimizer import Optimizer, Params
from ..scalars import number
from ..slots import Host


class _Options(NamedTuple):
    lr: float  # read for its errors: it is in the state
    eta_minus: float
    eta_plus: float
    smallest: float
    largest: float
    sign: float


class Rprop(Optimizer):
    r"""Resilient backpropagation: every element has its own step size, and only the signs of its gradients count.

    .. math::
        \eta_t &= \begin{cases}
        \eta_{t-1} \eta_+ & \text{if } g_{t-1} g_t > 0 \\
        \eta_{t-1} \eta_- & \text{if } g_{t-1} g_t < 0 \text{, and then } g_t \leftarrow 0 \\
        \eta_{t-1} & \text{otherwise}
        \end{cases}
        \quad\text{between } \Gamma_{min} \text{ and } \Gamma_{max} \\
        \theta_t &= \theta_{t-1} - \eta_t \operatorname{sign}(g_t)

    where :math:`\eta` is the state ``step_size``, which starts with ``lr``, :math:`g_{t-1}` is ``prev``, which starts
    with 0, and ``step`` counts the steps in which the parameter had a gradient.

    Args:
        params: parameters, ``(name, parameter)`` pairs, or dicts that define groups.
        lr: the step size :math:`\eta_0` before a parameter's first step, at least 0; a number or an array of one
            element. A new one does not matter later (default: 1e-2).
        etas: :math:`\eta_-` in (0, 1), by which a step size shrinks when the gradient has changed its sign, and
            :math:`\eta_+` above 1, by which it grows when it has not (default: (0.5, 1.2)).
        step_sizes: :math:`\Gamma_{min}, \Gamma_{max}`, the smallest and the largest step size (default: (1e-6, 50)).
        capturable: on a GPU, keep the step count and what follows from it there, so that a CUDA graph can repeat the
            step; it has no meaning on a CPU (default: False).
        foreach: None computes with one kernel for the whole group, True evaluates the formula on the flat arrays of a
            group, False parameter by parameter (default: None).
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

    This is the variant that Igel and Hüsken call iRprop-, as in torch: after a change of sign the parameter stays where
    it is, and the next step is one of unchanged size. Rprop- would go on with the smaller step at once, and Rprop+,
    the original paper's, takes the last step back. Step sizes are kept in their limits at every step, the first
    included. The sign of the product :math:`g_{t-1} g_t` is that of its factors here; torch multiplies, and gradients
    below 1e-23 in float32 count as 0.

    >>> import numpy as np, refoptim as optim
    >>> p = optim.Parameter([1.0, -2.0])
    >>> optimizer = optim.Rprop([p], lr=0.1)
    >>> for gradient in ([0.5, -0.5], [0.25, 0.5]):
    ...     optimizer.step(grads=[np.array(gradient)])
    >>> p.data
    array([ 0.78, -1.9 ])

    Riedmiller and Braun, "A Direct Adaptive Method for Faster Backpropagation Learning: The RPROP Algorithm", 1993;
    Igel and Hüsken, "Improving the Rprop Learning Algorithm", 2000.

    """

    initial_host: ClassVar[dict[str, Any]] = {"step": 0}
    state_arrays: ClassVar[tuple[str, ...]] = ("prev", "step_size")

    def __init__(
        self,
        params: Params,
        lr: Any = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        *,
        capturable: bool = False,
        foreach: bool | None = None,
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
            "etas": etas,
            "step_sizes": step_sizes,
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
        check_lr(options["lr"])
        etas = options["etas"]
        if not 0.0 < etas[0] < 1.0 < etas[1]:
            raise ValueError(f"Invalid eta values: {etas[0]}, {etas[1]}")
        for name in ("etas", "step_sizes"):
            check_pair(name, options[name])
        super()._check(options)

    def _variant(self, group: dict[str, Any]) -> Variant:
        return Variant(kernels.rprop.rprop_cpu, formulas.rprop, self.state_arrays)

    def _initial_values(self, group: dict[str, Any]) -> dict[str, Any]:
        lr = group["lr"]
        if isinstance(lr, np.ndarray | np.generic):
            return {"step_size": lr.item()}
        return {"step_size": lr.reshape(()) if getattr(lr, "ndim", 0) else lr}

    def _options(self, group: dict[str, Any]) -> _Options:
        eta_minus, eta_plus = group["etas"]
        smallest, largest = group["step_sizes"]
        return _Options(
            number("lr", group["lr"]),
            number("etas", eta_minus),
            number("etas", eta_plus),
            number("step_sizes", smallest),
            number("step_sizes", largest),
            sign=-1.0 if group["maximize"] else 1.0,
        )

    def _scalars(self, options: _Options, host: Host) -> tuple[float, ...]:
        _, eta_minus, eta_plus, smallest, largest, sign = options
        return kernels.rprop.Scalars(sign, eta_minus, eta_plus, smallest, largest, 0.0, 1.0)

    def _symbols(self, group: dict[str, Any], host: Host) -> dict[str, Any]:
        eta_minus, eta_plus = group["etas"]
        gamma_min, gamma_max = group["step_sizes"]
        return {
            "eta_minus": eta_minus,
            "eta_plus": eta_plus,
            "gamma_min": gamma_min,
            "gamma_max": gamma_max,
            "maximize": group["maximize"],
        }
