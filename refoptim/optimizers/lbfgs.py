"""L-BFGS."""

from typing import TYPE_CHECKING, Any, ClassVar

from .. import kernels
from ..arrays import Array
from ..minimizer import Memory, Minimizer, steepest_t
from ..optimizer import Params
from ..scalars import integer

if TYPE_CHECKING:  # it imports Numba
    from ..kernels.measures import Measured

# A pair with less curvature says nothing that the next direction could use.
_LEAST_CURVATURE = 1e-10


class LBFGS(Minimizer):
    r"""L-BFGS: steps along minus the gradient, times an inverse Hessian that is made of the last steps.

    .. math::
        s_k &= \theta_k - \theta_{k-1}, \quad y_k = g_k - g_{k-1}, \quad \rho_k = 1 / y_k^\top s_k \\
        H_k &= (I - \rho_k s_k y_k^\top) H_{k-1} (I - \rho_k y_k s_k^\top) + \rho_k s_k s_k^\top,
            \quad \text{from } \frac{y_k^\top s_k}{y_k^\top y_k} I \\
        \theta_{k+1} &= \theta_k - t_k H_k g_k

    over the last ``history_size`` pairs of :math:`s` and :math:`y`, computed without the matrix by the two-loop
    recursion. Its products are sums of those of the pairs, which are kept, so that an iteration reads the pairs twice;
    their arrays are read-only. A pair with :math:`y^\top s \leq 10^{-10}` is left out. Where :math:`t` is not searched
    for it is the learning rate; in the first iteration it starts from :math:`\gamma \min(1, 1/\|g\|_1)`.

    One step is up to ``max_iter`` iterations. It ends early when ``max_eval`` or a tolerance is reached, and the next
    one goes on where it ended. All parameters, one group of them, are one vector, complex numbers pairs of reals in it;
    a parameter without a gradient has one of zeros. Sums are float64, in an order that depends on nothing but the
    number of elements.

    A step needs room for two vectors for each pair that it makes, and 7 more; the optimizer keeps it for the next.

    Args:
        params: parameters, or ``(name, parameter)`` pairs.
        lr: learning rate :math:`\gamma`, at least 0; a number or an array of one element (default: 1).
        max_iter: most iterations of a step; 0 or less evaluates and stays (default: 20).
        max_eval: most evaluations of a step, also in its last search. The first always takes place; with 1, a search
            has none left and nothing moves (default: None, which is ``max_iter * 5 // 4``, at least 2).
        tolerance_grad: a step ends where no element of the gradient is larger (default: 1e-7).
        tolerance_change: a step ends where no element of a move is larger, or the loss changes by less, or would
            (default: 1e-9).
        history_size: most pairs that are kept, at least 1 (default: 100).
        line_search_fn: ``"strong_wolfe"`` or None (default: None).
        arithmetic: ``"float64"`` computes the vectors of float32 parameters in float64 (default: None).

    Raises:
        ValueError: an argument is out of its range, or there is more than one group.
        RuntimeError: another search is asked for.

    These are torch's variant and decisions, which are minFunc's. In float64 they lead to torch's iterates, for as long
    as the problem does not enlarge rounding errors. torch's searches take one evaluation more than ``max_eval``. It
    needs ``2 * history_size`` vectors, a direction, a gradient and two points.

    >>> import numpy as np, refoptim as optim
    >>> p = optim.Parameter([-1.2, 1.0])
    >>> optimizer = optim.LBFGS([p], max_iter=100, tolerance_change=0, line_search_fn="strong_wolfe")
    >>> def closure():
    ...     x, y = p.data
    ...     p.grad = np.array([-400 * x * (y - x * x) - 2 * (1 - x), 200 * (y - x * x)])
    ...     return 100 * (y - x * x) ** 2 + (1 - x) ** 2
    >>> optimizer.step(closure)
    np.float64(24.199999999999996)
    >>> np.round(p.data, 6)
    array([1., 1.])

    Liu and Nocedal, "On the limited memory BFGS method for large scale optimization", 1989.

    """

    vector_lists: ClassVar[tuple[str, ...]] = ("old_dirs", "old_stps")
    numbers: ClassVar[tuple[str, ...]] = ("t", "H_diag", "prev_loss")
    number_lists: ClassVar[tuple[str, ...]] = ("ro",)

    def __init__(
        self,
        params: Params,
        lr: Any = 1,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
        *,
        arithmetic: str | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "max_iter": max_iter,
            "max_eval": max(2, integer("max_iter", max_iter) * 5 // 4) if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad,
            "tolerance_change": tolerance_change,
            "history_size": history_size,
            "line_search_fn": line_search_fn,
        }
        self._check(defaults)
        self._history = kernels.lbfgs.History()
        super().__init__(params, defaults, arithmetic=arithmetic)

    def _check(self, options: dict[str, Any]) -> None:
        super()._check(options)
        if integer("history_size", options["history_size"]) < 1:
            raise ValueError(f"Invalid history_size: {options['history_size']}; it must be at least 1")

    def _direction(self, group: dict[str, Any], memory: Memory, grad: "Measured", free: bool) -> "Measured":
        if memory["n_iter"] == 1:
            memory |= {"old_dirs": [], "old_stps": [], "ro": [], "H_diag": 1}
            return self._steepest(grad)
        self._remember(group["history_size"], memory, grad.vector, free)
        ys, steps, rho = memory["old_dirs"], memory["old_stps"], memory["ro"]
        d, alpha = self._history.direction(grad.vector, ys, steps, rho, memory["H_diag"], self._vectors.empty)
        memory["al"] = [*alpha, *[None] * (group["history_size"] - len(alpha))]
        return d

    def _first_t(self, memory: Memory, loss: float, grad: Array, slope: float) -> float:
        return steepest_t(grad) if memory["n_iter"] == 1 else 1.0

    def _remember(self, most: int, memory: Memory, grad: Array, free: bool) -> None:
        """Keep what the last step says about the Hessian, if it says enough."""
        before, d, t = memory["prev_flat_grad"], memory["d"], memory["t"]
        y, s = (before, d) if free else (self._vectors.empty(grad.size, grad.dtype, grad) for _ in range(2))
        ys, steps = [*memory["old_dirs"], y][-most:], [*memory["old_stps"], s][-most:]
        curvature, square = self._history.extend(grad, before, d, t, ys, steps)
        if curvature > _LEAST_CURVATURE:
            rho = [*memory["ro"], 1.0 / curvature][-most:]
            memory |= {"old_dirs": ys, "old_stps": steps, "ro": rho, "H_diag": curvature / square}
