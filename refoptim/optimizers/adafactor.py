"""Adafactor."""

from math import expm1, log
from typing import Any, ClassVar, NamedTuple

import numpy as np

from .. import kernels
from ..arrays import finfo
from ..checks import check_newer_lr, check_pair, given
from ..formulas import adafactor as formulas
from ..implementations import Variant
from ..optimizer import Optimizer, Params
from ..scalars import number
from ..slots import Host


class _Options(NamedTuple):
    lr: float
    beta2_decay: float
    eps: float
    eps_of_size: float
    d: float
    weight_decay: float
    sign: float


class Adafactor(Optimizer):
    r"""Adam without momentum, which keeps a number per row and one per column in the place of one per element.

    .. math::
        w_t &= t^\tau, \qquad \rho_t = \min(\gamma, 1 / \sqrt t), \qquad
        \alpha_t = \max(\epsilon_2, \operatorname{RMS}(\theta_{t-1})) \rho_t \\
        r_t &= (1 - w_t) r_{t-1} + w_t \operatorname{mean}_{columns}(g_t^2) \\
        c_t &= (1 - w_t) c_{t-1} + w_t \operatorname{mean}_{rows}(g_t^2) \\
        \hat v_t &= r_t c_t / \max(\operatorname{mean}(r_t), \epsilon_1) \\
        u_t &= g_t / \sqrt{\max(\hat v_t, \epsilon_1^2)} \\
        \theta_t &= \theta_{t-1} - \gamma \lambda \theta_{t-1}
            - \alpha_t u_t / \max(1, \operatorname{RMS}(u_t) / d)

    where :math:`r, c` are the states ``row_var`` and ``col_var``, :math:`\operatorname{RMS}(x)` is the root of the mean
    of the squares, and :math:`t` is ``step``, which counts the steps in which the parameter had a gradient. Vectors and
    single numbers have no rows and columns: they have the state ``variance``, which is
    :math:`\hat v_t = (1 - w_t) \hat v_{t-1} + w_t g_t^2`. An array of more than two dimensions is many matrices, of its
    last two. All state appears at a parameter's first step.

    Args:
        params: parameters, ``(name, parameter)`` pairs, or dicts that define groups.
        lr: :math:`\gamma`, the largest step relative to the parameter's size, at least 0; a number or an array of one
            element (default: 1e-2).
        beta2_decay: :math:`\tau \leq 0`, how fast the newest gradient's weight falls (default: -0.8).
        eps: :math:`(\epsilon_1, \epsilon_2)`: the smallest mean square to divide by, None for the distance from 1 to
            the next number of the parameter's type; the smallest size of a parameter. Both at least 0 (default:
            (None, 1e-3)).
        d: :math:`d \geq 1`, the root mean square that an update may have (default: 1.0).
        weight_decay: :math:`\lambda \geq 0`, decoupled (default: 0.0).
        foreach: evaluate the formula parameter by parameter (default: None).
        maximize: climb instead of descend (default: False).
        fused: kernels for every parameter. None is True, unless ``foreach`` is given (default: None).
        arithmetic: ``"float64"`` computes the step of float32 parameters in float64 and rounds once (default: None).
        master_weights, rounding, seed: for parameters of 16 bits, as in :class:`~refoptim.Optimizer` (default: None).

    Raises:
        ValueError: an argument is out of its range.
        RuntimeError: ``fused`` together with ``foreach``, or a complex parameter.

    This is torch's version. The paper's adds :math:`\epsilon_1` to the squares, and has a momentum and a warmup as
    options; Optax and Hugging Face compute these. Optax factors the two largest dimensions, from 128 on.

    >>> import numpy as np, refoptim as optim
    >>> p = optim.Parameter([[1.0, -2.0], [3.0, 4.0]])
    >>> optimizer = optim.Adafactor([p], lr=0.1)
    >>> optimizer.step(grads=[np.array([[0.5, -3.0], [1.0, 2.0]])])
    >>> np.round(p.data, 4)
    array([[ 0.8572, -1.7343],
           [ 2.6115,  3.7591]])

    Shazeer and Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", 2018.

    """

    initial_host: ClassVar[dict[str, Any]] = {"step": 0}
    state_arrays: ClassVar[tuple[str, ...]] = ("row_var", "col_var", "variance")

    def __init__(
        self,
        params: Params,
        lr: Any = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        fused: bool | None = None,
        arithmetic: str | None = None,
        master_weights: bool | None = None,
        rounding: str | None = None,
        seed: int | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "beta2_decay": beta2_decay,
            "eps": eps,
            "d": d,
            "weight_decay": weight_decay,
            "foreach": foreach,
            "maximize": maximize,
        } | given(fused=fused)
        self._check(defaults)
        super().__init__(
            params, defaults, arithmetic=arithmetic, master_weights=master_weights, rounding=rounding, seed=seed
        )

    def _check(self, options: dict[str, Any]) -> None:
        check_newer_lr(options["lr"])
        eps = options["eps"]
        for what, value, fits in (
            ("beta2_decay should be <= 0", options["beta2_decay"], options["beta2_decay"] <= 0),
            ("epsilon1 should be >= 0", eps[0], eps[0] is None or eps[0] >= 0),
            ("epsilon2 should be >= 0", eps[1], 0.0 <= eps[1]),  # noqa: SIM300
            ("Clipping threshold d should be >= 1", options["d"], options["d"] >= 1),
            ("weight_decay should be >= 0", options["weight_decay"], options["weight_decay"] >= 0),
        ):
            if not fits:
                raise ValueError(f"{what} but is: {value}")
        check_pair("eps", eps)
        for param in options.get("params", ()):
            if param.dtype.kind == "c":
                raise RuntimeError("Adafactor does not support complex parameters")
        super()._check(options)

    def _state_shapes(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...] | None]:
        if len(shape) < 2:
            return {"row_var": None, "col_var": None, "variance": shape}
        return {"row_var": (*shape[:-1], 1), "col_var": (*shape[:-2], 1, shape[-1]), "variance": None}

    def _variant(self, group: dict[str, Any]) -> Variant:
        kernel, together = kernels.adafactor.adafactor, kernels.adafactor.adafactor_together
        short = kernels.adafactor.SHORT

        def typed(real: np.dtype[Any]) -> dict[str, Any]:
            return {"epsilon1": float(finfo(real).eps)} if group["eps"][0] is None else {}

        state, formula = self.state_arrays, formulas.adafactor
        return Variant(kernel, formula, state, shaped=True, typed=typed, together=together, short=short)

    def _options(self, group: dict[str, Any]) -> _Options:
        eps, eps_of_size = group["eps"]
        return _Options(
            number("lr", group["lr"]),
            number("beta2_decay", group["beta2_decay"]),
            -1.0 if eps is None else number("eps", eps),
            number("eps", eps_of_size),
            number("d", group["d"]),
            number("weight_decay", group["weight_decay"]),
            sign=-1.0 if group["maximize"] else 1.0,
        )

    def _scalars(self, options: _Options, host: Host) -> tuple[float, ...]:
        lr, beta2_decay, eps, eps_of_size, d, weight_decay, sign = options
        t = 1 if host is None else host["step"] + 1
        # An infinite lr means 1 / sqrt(t), and an infinite beta2_decay the first gradient: 0 times infinity is not 0.
        kept = -expm1(beta2_decay * log(t)) if t > 1 else 0.0
        decay = lr * weight_decay if weight_decay else 0.0
        return kernels.adafactor.Scalars(sign, kept, t**beta2_decay, min(lr, t**-0.5), eps, eps_of_size, d, decay)

    def _powers(self, options: _Options) -> None:
        """Return None: the share of the old means is a power of the step count itself."""

    def _symbols(self, group: dict[str, Any], host: Host) -> dict[str, Any]:
        epsilon1, epsilon2 = group["eps"]
        return {
            "t": 1 if host is None else host["step"] + 1,
            "gamma": group["lr"],
            "tau": group["beta2_decay"],
            "epsilon1": epsilon1,
            "epsilon2": epsilon2,
            "d": group["d"],
            "lambda_": group["weight_decay"],
            "maximize": group["maximize"],
        }
