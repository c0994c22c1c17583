"""A line search for the strong Wolfe conditions: low enough, and flat enough."""

from collections.abc import Callable
from math import inf, isfinite, nan
from typing import Any, NamedTuple

import numpy as np

# A bracket that moves no element by as much is not searched any further.
_SMALLEST_MOVE = 1e-9


class Trial(NamedTuple):
    """What is known of one point on the line."""

    t: float  # how far along the direction
    loss: float
    slope: float  # the derivative of the loss along the direction
    grad: Any


def strong_wolfe(
    evaluate: Callable[[float], Trial],
    start: Trial,
    t: float,
    size: float,
    *,
    max_eval: int,
    c1: float = 1e-4,
    c2: float = 0.9,
) -> Trial:
    r"""Return a point on a line that goes down, low enough and flat enough, or the best found by ``max_eval`` trials.

    .. math::
        f(t) \leq f(0) + c_1 t f'(0), \qquad |f'(t)| \leq c_2 |f'(0)|

    The first points grow until one is accepted or there must be one behind it; then the interval between two points is
    narrowed. Each next point is the minimum of the cubic through values and slopes of two others.

    Args:
        evaluate: what is known of the point at t.
        start: the point at 0, where the slope is negative.
        t: the first point to try.
        size: the largest magnitude of an element of the direction.
        max_eval: how often ``evaluate`` may be called, at least once.
        c1: how much of the decrease that the slope promises there must be, between 0 and c2 (default: 1e-4).
        c2: how much of the slope may be left, between c1 and 1 (default: 0.9).

    The decisions are those of torch's search, and of the minFunc and Lua Torch codes before it, but for two. It stops
    at ``max_eval`` exactly, with the lowest of what it has; torch tries one point more. And where loss or slope is not
    finite, a point counts as too high, and the middle is tried next; torch interpolates with what is not a number, and
    what it finds is none.

    Moré and Thuente, "Line search algorithms with guaranteed sufficient decrease", 1994; Nocedal and Wright,
    "Numerical Optimization", 2006, algorithms 3.5 and 3.6.

    """
    line = _Line(evaluate, start, max_eval, c1, c2)
    ends = _bracket(line, t)
    return ends[0] if len(ends) == 1 else _zoom(line, ends, size)


class _Line:
    """What can be asked about points on the line, and how often."""

    def __init__(self, evaluate: Callable[[float], Trial], start: Trial, max_eval: int, c1: float, c2: float) -> None:
        self.start = start
        self.left = max_eval
        self.trials = 0
        self._evaluate = evaluate
        self._c1, self._c2 = c1, c2

    def at(self, t: float) -> Trial:
        """Return what is known of the point at t; the loss is infinite where it or the slope is not finite."""
        self.left -= 1
        self.trials += 1
        found = self._evaluate(t)
        finite = isfinite(found.loss) and isfinite(found.slope)
        return found if finite else Trial(t, inf, nan, found.grad)

    def is_high(self, trial: Trial) -> bool:
        return not trial.loss <= self.start.loss + self._c1 * trial.t * self.start.slope

    def is_flat(self, trial: Trial) -> bool:
        return abs(trial.slope) <= -self._c2 * self.start.slope


def _bracket(line: _Line, t: float) -> list[Trial]:
    """Return two points with an acceptable one between them, or one: acceptable, or the lowest when none is left."""
    last, new = line.start, line.at(t)
    # As in torch, the second point may be higher than the first.
    while not line.is_high(new) and not (line.trials > 2 and new.loss >= last.loss):
        if line.is_flat(new):
            return [new]
        if new.slope >= 0:
            break
        if line.left <= 0:
            return [new]
        last, new = new, line.at(_cubic_minimum(last, new, new.t + 0.01 * (new.t - last.t), 10 * new.t))
    return [last, new]


def _zoom(line: _Line, ends: list[Trial], size: float) -> Trial:
    """Narrow the interval until a point is accepted. Return that or the lower end."""
    # Each end keeps its place: of two that are equally low, the first one is taken.
    low, is_near = _lower(ends), False
    while line.left > 0 and abs(ends[1].t - ends[0].t) * size >= _SMALLEST_MOVE:
        left, right = sorted(ends)
        t, is_near = _inside(left, right, is_near)
        new = line.at(t)
        if line.is_high(new) or new.loss >= ends[low].loss:
            ends[1 - low] = new
            low = _lower(ends)
            continue
        if line.is_flat(new):
            return new
        if new.slope * (ends[1 - low].t - ends[low].t) >= 0:
            ends[1 - low] = ends[low]
        ends[low] = new
    return ends[low]


def _lower(ends: list[Trial]) -> int:
    return 0 if ends[0].loss <= ends[1].loss else 1


def _inside(left: Trial, right: Trial, was_near: bool) -> tuple[float, bool]:
    """Return the next point between two, and whether it is near one of them: a second time it is moved inwards."""
    t = _cubic_minimum(left, right, left.t, right.t)
    margin = 0.1 * (right.t - left.t)
    if min(right.t - t, t - left.t) >= margin:
        return t, False
    if not was_near and left.t < t < right.t:
        return t, True
    return (right.t - margin if abs(t - right.t) < abs(t - left.t) else left.t + margin), False


def _cubic_minimum(left: Trial, right: Trial, least: float, most: float) -> float:
    """Return where the cubic through two points has its minimum, or the middle if it has none, within bounds."""
    with np.errstate(all="ignore"):
        f1, g1, f2, g2 = np.array([left.loss, left.slope, right.loss, right.slope])
        d1 = g1 + g2 - 3 * (f1 - f2) / (left.t - right.t)
        d2 = np.sqrt(d1 * d1 - g1 * g2)
        # A straight line has its minimum at infinity, which is the farther bound.
        t = float(right.t - (right.t - left.t) * ((g2 + d2 - d1) / (g2 - g1 + 2 * d2)))
    return min(max(t, least), most) if t == t else 0.5 * (least + most)
