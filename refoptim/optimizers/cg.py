"""Nonlinear conjugate gradients."""

from math import inf
from typing import TYPE_CHECKING, Any, ClassVar

from .. import kernels
from ..arrays import Array
from ..minimizer import Memory, Minimizer, steepest_t
from ..optimizer import Params
from ..scalars import integer

if TYPE_CHECKING:  # it imports Numba
    from ..kernels.measures import Measured

# How many of the products that there are a method needs.
_NEEDED = {"polak_ribiere": 3, "hager_zhang": 7}
# How far below 0 Hager and Zhang let beta go, and how much of the steepest slope a direction must have.
_ETA, _LEAST_DESCENT = 0.01, 0.01


class CG(Minimizer):
    r"""Nonlinear conjugate gradients: steps along minus the gradient and a part of the last direction.

    .. math::
        d_k &= -g_k + \beta_k d_{k-1}, \qquad \theta_{k+1} = \theta_k + t_k d_k \\
        \beta_k &= \max\left(0, \frac{g_k^\top y_k}{g_{k-1}^\top g_{k-1}}\right)
            && \text{Polak and Ribière} \\
        \beta_k &= \max\left(\frac{1}{d_{k-1}^\top y_k} \left(y_k - 2 d_{k-1}
            \frac{y_k^\top y_k}{d_{k-1}^\top y_k}\right)^\top g_k,
            \frac{-1}{\|d_{k-1}\| \min(0.01, \|g_{k-1}\|)}\right) && \text{Hager and Zhang}

    where :math:`y_k = g_k - g_{k-1}` and :math:`t` is found by a search for the strong Wolfe conditions with
    :math:`c_1 = 10^{-4}` and :math:`c_2 = 0.1`, which begins at :math:`2.02 (f_k - f_{k-1}) / g_k^\top d_k`. Where
    :math:`-g^\top d < 0.01\, g^\top g`, the direction is :math:`-g` instead.

    Steps, evaluations, tolerances and what counts as one vector are those of :class:`LBFGS`. It keeps two vectors.

    Args:
        params: parameters, or ``(name, parameter)`` pairs.
        lr: what the first point of each search is multiplied by, at least 0; a number or an array of one element
            (default: 1).
        max_iter: most iterations of a step; 0 or less evaluates and stays (default: 20).
        max_eval: most evaluations of a step, also in its last search. The first always takes place; with 1, a search
            has none left and nothing moves (default: None, which is ``max_iter * 5 // 2``, at least 2).
        tolerance_grad: a step ends where no element of the gradient is larger (default: 1e-7).
        tolerance_change: a step ends where no element of a move is larger, or the loss changes by less, or would
            (default: 1e-9).
        method: ``"polak_ribiere"`` or ``"hager_zhang"`` (default: ``"polak_ribiere"``).
        line_search_fn: ``"strong_wolfe"``, without which directions are not conjugate (default: ``"strong_wolfe"``).
        arithmetic: ``"float64"`` computes the vectors of float32 parameters in float64 (default: None).

    Raises:
        ValueError: an argument is out of its range, or there is more than one group.
        RuntimeError: another search is asked for.

    torch has no such optimizer. SciPy's is Polak and Ribière's with another search and :math:`c_2 = 0.4`; Hager and
    Zhang's own program has a search of its own.

    >>> import numpy as np, refoptim as optim
    >>> p = optim.Parameter([3.0, -4.0])
    >>> optimizer = optim.CG([p])
    >>> def closure():
    ...     p.grad = np.array([1.0, 10.0]) * p.data
    ...     return 0.5 * np.sum(p.grad * p.data)
    >>> optimizer.step(closure)
    np.float64(84.5)
    >>> bool(np.abs(p.data).max() < 1e-6)
    True

    Polak and Ribière, "Note sur la convergence de méthodes de directions conjuguées", 1969; Hager and Zhang, "A New
    Conjugate Gradient Method with Guaranteed Descent and an Efficient Line Search", 2005; the first point is from
    Nocedal and Wright, "Numerical Optimization", 2006, equation 3.60.

    """

    curvature: ClassVar[float] = 0.1

    def __init__(
        self,
        params: Params,
        lr: Any = 1,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        method: str = "polak_ribiere",
        line_search_fn: str = "strong_wolfe",
        *,
        arithmetic: str | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "max_iter": max_iter,
            "max_eval": max(2, integer("max_iter", max_iter) * 5 // 2) if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad,
            "tolerance_change": tolerance_change,
            "method": method,
            "line_search_fn": line_search_fn,
        }
        self._check(defaults)
        super().__init__(params, defaults, arithmetic=arithmetic)

    def _check(self, options: dict[str, Any]) -> None:
        super()._check(options)
        if options["method"] not in _NEEDED:
            raise ValueError(f"Invalid method: {options['method']!r}; use one of {', '.join(_NEEDED)}")
        if options["line_search_fn"] is None:
            raise RuntimeError("CG needs line_search_fn='strong_wolfe': without it directions are not conjugate")

    def _direction(self, group: dict[str, Any], memory: Memory, grad: "Measured", free: bool) -> "Measured":
        if memory["n_iter"] == 1:
            return self._steepest(grad)
        g, before, d = grad.vector, memory["prev_flat_grad"], memory["d"]
        products = grad.products or kernels.cg.products(g, before, d, _NEEDED[group["method"]])
        if group["method"] == "polak_ribiere":
            beta = kernels.cg.polak_ribiere(products)
        else:
            beta = kernels.cg.hager_zhang(products, _ETA)
        new = kernels.cg.direction(d if free else self._vectors.empty(g.size, g.dtype, g), g, d, beta)
        return new if -new.product >= _LEAST_DESCENT * products.gg else self._steepest(grad)

    def _measured(self, group: dict[str, Any], memory: Memory, d: Array | None, z: Array, x: Array) -> "Measured":
        if memory["n_iter"] == 0 or not kernels.measures.is_long(z):
            return super()._measured(group, memory, d, z, x)
        return kernels.cg.gradient(z, x, memory["prev_flat_grad"], memory["d"], _NEEDED[group["method"]])

    def _first_t(self, memory: Memory, loss: float, grad: Array, slope: float) -> float:
        if memory["n_iter"] > 1 and slope < 0:
            # Where the loss is a parabola, this step gains a little more than the last one did.
            t = 2.02 * (loss - memory["prev_loss"]) / slope
            if 0 < t < inf:
                return t
        return steepest_t(grad)
