"""L-BFGS: the rule of a step, and the direction, which is made of steps and changes by dot products and sums."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from refoptim.kernels.arithmetic import fma, unpack, widen
from refoptim.kernels.jit import cpu_kernel, cpu_loop, cpu_rule
from refoptim.kernels.measures import Measured, Sums, is_long, measured
from refoptim.kernels.memory import assign, empty, on_gpu
from refoptim.kernels.products import addresses, chain_cpu, products, recursion_cpu
from refoptim.kernels.reductions import TURN
from refoptim.kernels.strips import gpu_elementwise
from refoptim.kernels.vectors import add, negative


class Scalars(NamedTuple):
    """What a step needs beside the arrays: computed on the host in float64, rounded once to the vectors' type."""

    t: float  # how long the step is, as a multiple of its direction


def lbfgs_step(s, h):
    """Return the step, given its direction."""
    return h.t * s


_lbfgs_step_cpu, lbfgs_step_gpu = cpu_rule(lbfgs_step), gpu_elementwise(lbfgs_step)


@cpu_kernel
def lbfgs_step_cpu(s, scalars):
    h = Scalars(*unpack(Scalars, scalars))
    for i in range(s.size):
        s[i] = _lbfgs_step_cpu(widen(s[i], h), h)


def pair(y: Any, s: Any, g: Any, before: Any, d: Any, t: float) -> None:
    """Write the change of the gradient and the step, which may lie where the last gradient and direction do."""
    add(y, g, before, -1.0)
    if s is not d:
        assign(s, d)
    _scale(s, t)


def factors(sy, yy, sg, yg, rho, scale):
    """Return alpha, and alpha - beta, by which the two loops multiply: the products in them are sums of known ones."""
    alpha, rest = np.zeros(rho.size), np.zeros(rho.size)
    for i in range(rho.size - 1, -1, -1):
        product = -sg[i]
        for j in range(rho.size - 1, i, -1):
            product = fma(-alpha[j], sy[i, j], product)
        alpha[i] = rho[i] * product
    for i in range(rho.size):
        product = -yg[i]
        for j in range(rho.size - 1, -1, -1):
            product = fma(-alpha[j], yy[i, j], product)
        product = scale * product
        for j in range(i):
            product = fma(rest[j], sy[j, i], product)
        rest[i] = fma(-rho[i], product, alpha[i])
    return alpha, rest


factors_cpu = cpu_loop(factors)


class History:
    """The products of the vectors of the last pairs, which the next directions need too.

    A vector whose products are kept is known again by its identity, and read-only from then on.
    """

    def __init__(self) -> None:
        self._pairs: list[tuple[Any, Any]] = []  # of a step and a change
        self._sy = self._yy = np.empty((0, 0))
        self._ahead: tuple[Any, ...] = None, None, None  # changes, steps, and their products with what is new

    def __reduce__(self) -> tuple[Any, ...]:
        # The vectors of a copy are other ones.
        return History, ()

    def extend(
        self, g: Any, before: Any, d: Any, t: float, ys: Sequence[Any], steps: Sequence[Any]
    ) -> tuple[float, float]:
        """Write the newest of these changes and steps. Return the product of the two, and the change's with itself.

        A direction from these very lists finds the other products computed, in the same pass.
        """
        newest = ys[-1], steps[-1]
        if is_long(g):
            found = self._products(g, ys, steps, (*newest, before, d), _in_type((t,), g.dtype))
        else:
            pair(*newest, g, before, d, t)
            found = self._products(g, ys, steps)
        self._ahead = ys, steps, found
        return found[len(ys) - 1, -1], found[-1, -1]

    def direction(
        self,
        g: Any,
        ys: Sequence[Any],
        steps: Sequence[Any],
        rho: Sequence[float],
        scale: float,
        empty: Callable[..., Any] = empty,
    ) -> tuple[Measured, list[float]]:
        """Return minus the approximate inverse Hessian times the gradient, and the factors of the first loop.

        Changes of the gradient, steps and the reciprocals of their products go from the oldest to the newest.
        """
        known, count = self._known(ys, steps), len(rho)
        (*lists, found), self._ahead = self._ahead, (None, None, None)
        if lists[0] is not ys or lists[1] is not steps:
            found = self._products(g, ys, steps)
        sy, yy = np.empty((2, count, count))
        for new, old, columns in ((sy, self._sy, found[:count, 1:]), (yy, self._yy, found[count:, 1:])):
            new[:known, :known] = old[len(old) - known :, len(old) - known :]
            new[:, known:] = columns
        yy[known:, :known] = yy[:known, known:].T
        self._keep(ys, steps, sy, yy, known)
        # A copy has one layout, whether there is one column or more: Numba compiles for each.
        sg, yg = found[:count, 0].copy(), found[count:, 0].copy()
        alpha, rest = factors_cpu.serial(sy, yy, sg, yg, np.array(rho), float(scale))
        return _sum(g, ys, steps, alpha, scale, rest, empty), alpha.tolist()

    def _products(self, g: Any, ys: Sequence[Any], steps: Sequence[Any], *pair: Any) -> Any:
        """Return the products of steps and changes with the gradient and with changes that are new."""
        return products([*steps, *ys], [g, *ys[self._known(ys, steps) :]], *pair)

    def _known(self, ys: Sequence[Any], steps: Sequence[Any]) -> int:
        """Return how many of the oldest pairs are the newest that are kept."""
        pairs = list(zip(map(id, steps), map(id, ys), strict=True))
        kept = [(id(s), id(y)) for s, y in self._pairs]
        known = len(kept) - kept.index(pairs[0]) if pairs and pairs[0] in kept else 0
        return known if pairs[:known] == kept[len(kept) - known :] else 0

    def _keep(self, ys: Sequence[Any], steps: Sequence[Any], sy: Any, yy: Any, known: int) -> None:
        for vector in (*steps[known:], *ys[known:]):
            if not on_gpu(vector):
                vector.flags.writeable = False
        self._pairs, self._sy, self._yy = list(zip(steps, ys, strict=True)), sy, yy


def _sum(
    g: Any,
    ys: Sequence[Any],
    steps: Sequence[Any],
    alpha: Any,
    scale: float,
    rest: Any,
    empty: Callable[..., Any] = empty,
) -> Measured:
    """Return the vector that the two loops lead to, given their factors."""
    if is_long(g):
        d, sums, rows = empty(g.size, g.dtype, g), Sums(g.size), addresses([*reversed(ys), *steps])
        multiples = _in_type([*-alpha[::-1], *rest, scale], g.dtype)
        recursion_cpu.run(sums.chunks, TURN, rows.size * d.nbytes, d, g, rows, multiples, *sums.arrays)
        return sums.measured(d)
    d = negative(g)
    _add_all(d, ys[::-1], -alpha[::-1])
    _scale(d, scale)
    _add_all(d, steps, rest)
    return measured(d, g)


def _add_all(d: Any, vectors: Sequence[Any], factors: Any) -> None:
    if not on_gpu(d) and len(vectors):
        chain_cpu.serial(d, np.array(vectors), _in_type(factors, d.dtype))
        return
    for vector, factor in zip(vectors, factors, strict=True):
        add(d, d, vector, factor)


def _in_type(numbers: Sequence[float], dtype: Any) -> Any:
    with np.errstate(over="ignore"):
        return np.array(numbers).astype(dtype)


def _scale(s: Any, t: float) -> None:
    lbfgs_step_cpu(s, _in_type((t,), s.dtype))
