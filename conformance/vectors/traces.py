"""L-BFGS as vectors: where its closure is called, call after call, when it is told what the vector says.

The closure of a trace is no function: its n-th call has the n-th loss and gradients, wherever the parameters are. So an
error at one call does not spread through the problem, and nobody has to write the problem down in another language.
"""

from collections.abc import Iterator
from functools import reduce
from operator import add
from typing import Any, NamedTuple

import numpy as np
from flint import arb
from numpy.typing import NDArray

from refoptim.conformance import truth
from refoptim.conformance.vectors.encoding import DTYPES, WIDER, encoded_options, to_hex
from refoptim.conformance.vectors.entry import split, wide
from refoptim.conformance.vectors.options import documented
from refoptim.conformance.vectors.vector import content_hash
from refoptim.conformance.vectors.wolfe import Point, search
from refoptim.formulas import lbfgs

Array = NDArray[Any]

LEAST_CURVATURE = arb(1e-10)
# One iteration's vectors are sums over all elements, and every iteration builds on those before it.
CLOSED, PER_CALL = 32.0, 64.0


class Problem(NamedTuple):
    """What is minimized: a function whose values and gradients are sums of products."""

    name: str
    comment: str
    start: tuple[float, ...]
    options: dict[str, Any]
    steps: int
    kind: str  # "parabola" or "valley", Rosenbrock's


_NO_CHANGE = {"tolerance_grad": 0.0, "tolerance_change": 0.0}
_SEARCH = {"line_search_fn": "strong_wolfe", "max_eval": 1000}

_FOUR, _VALLEY = (1.0, -2.0, 0.5, 3.0), (-1.25, 1.0)


def _problem(name: str, comment: str, start: tuple[float, ...], /, steps: int = 2, **options: Any) -> Problem:
    endless = {} if "tolerance_grad" in options else _NO_CHANGE
    searched = _SEARCH if name.endswith("searched") else {}
    return Problem(name, comment, start, endless | searched | options, steps, "parabola" if start[0] > 0 else "valley")


PROBLEMS = (
    _problem("parabola", "no search", _FOUR, lr=0.5, max_iter=5),
    _problem("short-history", "two pairs are kept", _FOUR, history_size=2, max_iter=6),
    _problem("ends-early", "a step ends where it is flat", (0.5, -0.25, 0.125, 0.0), tolerance_grad=0.125),
    _problem("most-evaluations", "a step ends after three", _FOUR, steps=3, lr=0.5, max_eval=3),
    _problem("parabola-searched", "a search on a parabola", _FOUR, max_iter=4),
    _problem("valley-searched", "a search in a curved valley", _VALLEY, max_iter=6),
    _problem("long-steps-searched", "a search that has to come back", _VALLEY * 2, max_iter=4, lr=8.0),
)


def _value(kind: str, x: Array) -> tuple[float, Array]:
    """Return a loss and its gradient, computed by sums and products in one order, which is the same everywhere."""
    if kind == "parabola":
        weights = np.array([1.0, 4.0, 0.5, 2.0])[: x.size]
        neighbours = np.concatenate([x[1:], [0.0]]) * 0.25 + np.concatenate([[0.0], x[:-1]]) * 0.25
        grad = weights * x + neighbours - 1.0
        # Not sum(), which makes up for roundings from Python 3.12 on.
        return float(reduce(add, 0.5 * (grad - 1.0) * x)), grad
    loss, grad = 0.0, np.zeros_like(x)
    for i in range(0, x.size, 2):
        a, b = x[i], x[i + 1]
        inner = b - a * a
        loss += 100 * inner * inner + (1 - a) * (1 - a)
        grad[i], grad[i + 1] = -400 * a * inner - 2 * (1 - a), 200 * inner
    return float(loss), grad


class Tracer:
    """torch's L-BFGS in exact numbers, which tells its closure where it calls it."""

    def __init__(self, problem: Problem, dtype: str) -> None:
        self._problem, self._kind = problem, DTYPES[dtype]
        self._options = documented("LBFGS") | problem.options
        self.theta = truth.balls(np.array(problem.start, self._kind))
        self.points: list[Any] = []
        self.losses: list[float] = []
        self.grads: list[Array] = []
        self.per_step: list[int] = []
        self._pairs: list[Any] = []
        self._iterations = 0
        self._d: Any = None
        self._t: Any = None
        self._before: Any = None

    def _closure(self) -> tuple[Any, Any]:
        # The function where the parameters are, rounded; what is told is told to everyone.
        x = np.array([float(ball.mid()) for ball in self.theta]).astype(self._kind).astype(np.float64)
        loss, grad = _value(self._problem.kind, x)
        self.points.append(self.theta)
        self.losses.append(float(self._kind(loss)))
        self.grads.append(grad.astype(self._kind))
        return arb(self.losses[-1]), truth.balls(self.grads[-1])

    def step(self) -> None:
        """Take a step: iterations until one of torch's reasons to end it."""
        o, calls = self._options, len(self.points)
        loss, grad = self._closure()
        if self._is_over(grad):
            self.per_step.append(1)
            return
        for iteration in range(1, o["max_iter"] + 1):
            self._iterations += 1
            d = self._direction(grad)
            self._before, previous = grad, loss
            lr = arb(o["lr"])
            t = lbfgs.first_step(grad, lr) if self._iterations == 1 else lr
            slope = (grad * d).sum()
            if truth.less(-arb(o["tolerance_change"]), slope):
                break
            if o["line_search_fn"]:
                loss, grad, t = self._search(loss, grad, slope, d, t)
            self._d, self._t = d, t
            self.theta = self.theta + t * d if not o["line_search_fn"] else self.theta
            if not o["line_search_fn"] and iteration != o["max_iter"]:
                loss, grad = self._closure()
            used = len(self.points) - calls
            if iteration == o["max_iter"] or used >= self._most() or self._is_over(grad):
                break
            small = arb(o["tolerance_change"])
            if not truth.less(small, _largest(d * t)) or truth.less(abs(loss - previous), small):
                break
        self.per_step.append(len(self.points) - calls)

    def _most(self) -> int:
        most = self._options["max_eval"]
        return self._options["max_iter"] * 5 // 4 if most is None else most

    def _is_over(self, grad: Any) -> bool:
        return not truth.less(arb(self._options["tolerance_grad"]), _largest(grad))

    def _direction(self, grad: Any) -> Any:
        if self._iterations == 1:
            return -grad
        s, y = self._d * self._t, grad - self._before
        most = self._options["history_size"]
        self._pairs = lbfgs.remembered(self._pairs, s, y, m=most, least=LEAST_CURVATURE)
        return lbfgs.direction(grad, self._pairs)

    def _search(self, loss: Any, grad: Any, slope: Any, d: Any, t: Any) -> tuple[Any, Any, Any]:
        origin = self.theta

        def evaluate(t: Any) -> Point:
            self.theta = origin + t * d
            there, new = self._closure()
            return Point(t, there, (new * d).sum(), new)

        found = search(evaluate, Point(arb(0), loss, slope, grad), t, _largest(d))
        self.theta = origin + found.t * d
        return found.loss, found.grad, found.t


def _largest(values: Any) -> Any:
    found = arb(0)
    for value in values:
        found = found.max(abs(value))
    return found


def entries() -> Iterator[dict[str, Any]]:
    """Yield the entries of L-BFGS."""
    for problem in PROBLEMS:
        for dtype in ("f32", "f64"):
            yield _entry(problem, dtype)


def _entry(problem: Problem, dtype: str) -> dict[str, Any]:
    with truth.precision(), truth.margins() as margins:
        tracer = Tracer(problem, dtype)
        for _ in range(problem.steps):
            tracer.step()
        calls = [{"w": wide(split(point), dtype)} for point in tracer.points]
        after = {"w": wide(split(tracer.theta), dtype)}
    start = np.array(problem.start, DTYPES[dtype])
    limit = CLOSED + PER_CALL * len(calls)
    asked = ["option:line_search_fn"] if problem.options.get("line_search_fn") else []
    entry = {
        "id": f"lbfgs.{dtype}.trace.{problem.name}",
        "comment": problem.comment,
        "tier": "trace",
        "flags": ["LineSearch", "Trace"] if asked else ["Trace"],
        "requires": [f"dtype:{dtype}", "feature:closure", *asked],
        "result": "valid",
        "problem": {
            "algorithm": "LBFGS",
            "dtype": dtype,
            "params": [{"name": "w", "shape": [len(start)], "init": to_hex(start)}],
            "options": encoded_options(documented("LBFGS") | problem.options),
            "steps": problem.steps,
            "calls": [
                {"loss": to_hex(np.array([loss])), "grads": {"w": to_hex(grad)}}
                for loss, grad in zip(tracer.losses, tracer.grads, strict=True)
            ],
        },
        "expect": {
            "encoding": WIDER[dtype],
            "scale": "tensor",
            "calls": calls,
            "per_step": tracer.per_step,
            "after": after,
        },
        "budget": {"theta": {"A": limit, "B": limit}},
        "margin": float(f"{min(margins):.2g}") if margins else None,
        "witness": {},
    }
    return entry | {"sha256": content_hash(entry)}
