"""Averaged stochastic gradient descent."""

from typing import Any, ClassVar, NamedTuple

from .. import kernels
from ..checks import check_least, check_lr, given
from ..formulas import asgd as formulas
from ..implementations import Variant
from ..optimizer import Optimizer, Params
from ..scalars import number
from ..slots import Host


class _Options(NamedTuple):
    lr: float
    lambd: float
    weight_decay: float
    sign: float


class ASGD(Optimizer):
    r"""Stochastic gradient descent with steps that shrink, and beside it the average of the parameters it passes.

    .. math::
        \theta_t &= \theta_{t-1} - \eta_t (g_t + (\lambda + \lambda') \theta_{t-1}) \\
        a_t &= a_{t-1} + \mu_t (\theta_t - a_{t-1}) \\
        \eta_{t+1} &= \gamma / (1 + \lambda' \gamma t)^\alpha, \qquad \eta_1 = \gamma \\
        \mu_{t+1} &= 1 / \max(1, t - t_0), \qquad \mu_1 = 1

    where :math:`a` is the state ``ax``, which the steps do not use: it is there to be read. :math:`\eta` and
    :math:`\mu` are the state's Python floats ``eta`` and ``mu``, and :math:`t` is ``step``, which counts the steps in
    which the parameter had a gradient.

    Args:
        params: parameters, ``(name, parameter)`` pairs, or dicts that define groups.
        lr: learning rate :math:`\gamma`, at least 0; a number or an array of one element. A new one takes effect a step
            late, but for a parameter's first step (default: 1e-2).
        lambd: :math:`\lambda'`, how fast the steps shrink, and a weight decay besides; any number (default: 1e-4).
        alpha: :math:`\alpha`, the power of the shrinking; any number (default: 0.75).
        t0: :math:`t_0`, how many steps pass before averaging; any number (default: 1e6).
        weight_decay: :math:`\lambda \geq 0` (default: 0).
        foreach: True evaluates the formula on the flat arrays of a group, False parameter by parameter; None runs one
            kernel for the whole group (default: None).
        maximize: climb instead of descend (default: False).
        differentiable: evaluate the formula on whatever arrays the parameters are, so that derivatives flow through
            the step (default: False).
        capturable: on a GPU, keep the step count and what follows from it there, so that a CUDA graph can repeat the
            step; it has no meaning on a CPU (default: False).
        fused: True is one kernel for the whole group, whatever ``foreach`` says, False is none. torch has no such
            option here: it becomes one of the groups' only if it is given (default: None).
        arithmetic: ``"float64"`` computes the step of float32 parameters in float64 and rounds once (default: None).
        master_weights, rounding, seed: for parameters of 16 bits, as in :class:`~refoptim.Optimizer` (default: None).

    Raises:
        ValueError: an argument is out of its range, or, in a step, a negative ``lambd`` has made
            :math:`1 + \lambda' \gamma t` negative or 0.
        RuntimeError: ``fused`` together with ``foreach`` or ``differentiable``.

    This is torch's algorithm, in the order of operations of its foreach implementation. torch keeps ``eta`` and ``mu``
    in float32 for parameters of every type, which makes its float64 steps wrong from the eighth digit; a state_dict of
    torch's brings those numbers along. Bottou's SGD, where the schedule comes from, starts averaging in the same way.
    Keras and optax have no such class: Polyak averaging there is a wrapper around any optimizer.

    >>> import numpy as np, refoptim as optim
    >>> p = optim.Parameter([1.0, -2.0])
    >>> optimizer = optim.ASGD([p], lr=0.5, lambd=0.0, t0=0)
    >>> for _ in range(3):
    ...     optimizer.step(grads=[np.array([1.0, 1.0])])
    >>> p.data, optimizer.state[p]["ax"]
    (array([-0.5, -3.5]), array([-0.25, -3.25]))

    Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992.

    """

    # At step 0 eta is the learning rate.
    initial_host: ClassVar[dict[str, Any]] = {"step": 0, "eta": 0.0, "mu": 1.0}
    state_arrays: ClassVar[tuple[str, ...]] = ("ax",)

    def __init__(
        self,
        params: Params,
        lr: Any = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
        *,
        fused: bool | None = None,
        arithmetic: str | None = None,
        master_weights: bool | None = None,
        rounding: str | None = None,
        seed: int | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "lambd": lambd,
            "alpha": alpha,
            "t0": t0,
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
        check_lr(options["lr"])
        check_least("weight_decay value", options["weight_decay"])
        super()._check(options)

    def _variant(self, group: dict[str, Any]) -> Variant:
        return Variant(kernels.asgd.asgd_cpu, formulas.asgd, self.state_arrays)

    def _options(self, group: dict[str, Any]) -> _Options:
        names = ("lr", "lambd", "weight_decay")
        return _Options(*(number(name, group[name]) for name in names), sign=-1.0 if group["maximize"] else 1.0)

    def _scalars(self, options: _Options, host: Host) -> tuple[float, ...]:
        lr, lambd, weight_decay, sign = options
        eta, mu = _weights(lr, host)
        return kernels.asgd.Scalars(sign, weight_decay + lambd, eta, mu, 1.0 - mu)

    def _powers(self, options: _Options) -> None:
        return None  # there are the schedules of eta and mu

    def _symbols(self, group: dict[str, Any], host: Host) -> dict[str, Any]:
        eta, mu = _weights(group["lr"], host)
        return {
            "eta": eta,
            "mu": mu,
            "lambd": group["lambd"],
            "lambda_": group["weight_decay"],
            "maximize": group["maximize"],
        }

    def _advance(self, group: dict[str, Any], host: Host) -> dict[str, Any]:
        t = 1 if host is None else host["step"] + 1
        lr, lambd, alpha, t0 = group["lr"], group["lambd"], group["alpha"], group["t0"]
        if not group["differentiable"]:
            lr, lambd = number("lr", lr), number("lambd", lambd)
            alpha, t0 = number("alpha", alpha), number("t0", t0)
        shrunk = 1 + lambd * lr * t
        if shrunk <= 0:
            raise ValueError(f"1 + lambd * lr * step must be above 0, but is {shrunk}")
        eta, mu = formulas.schedule(t=t, gamma=lr, lambd=lambd, alpha=alpha, t0=t0)
        return {"step": t, "eta": eta, "mu": mu}


def _weights(lr: Any, host: Host) -> tuple[Any, float]:
    """Return the step size and the weight of the average for the step that comes."""
    return (lr, 1.0) if host is None or host["step"] == 0 else (host["eta"], host["mu"])
