"""The search for a step size under the strong Wolfe conditions, once more, in exact numbers: what traces expect."""

from collections.abc import Callable
from typing import Any, NamedTuple

from flint import arb

from refoptim.conformance import truth

# What torch's search has without asking.
C1, C2, SMALLEST_MOVE = arb("0.0001"), arb("0.9"), arb(1e-9)


class Point(NamedTuple):
    """What is known of a point on the line."""

    t: Any
    loss: Any
    slope: Any
    grad: Any


def search(evaluate: Callable[[Any], Point], start: Point, t: Any, size: Any) -> Point:
    """Return a point that is low and flat enough: growing steps until one is behind it, then ever smaller brackets.

    Args:
        evaluate: returns the point at a step size.
        start: the point at 0.
        t: the first step size.
        size: the largest element of the direction.

    Raises:
        truth.WideBallError: a decision is too close.

    """

    def high(point: Point) -> bool:
        return truth.less(start.loss + C1 * point.t * start.slope, point.loss)

    def flat(point: Point) -> bool:
        return not truth.less(-C2 * start.slope, abs(point.slope))

    last, new, trials = start, evaluate(t), 1
    while not (high(new) or (trials > 2 and not truth.less(new.loss, last.loss))):
        if flat(new):
            return new
        if not truth.less(new.slope, arb(0)):
            break
        further = _minimum(last, new, new.t + (new.t - last.t) / 100, 10 * new.t)
        last, new, trials = new, evaluate(further), trials + 1
    return _narrowed(evaluate, [last, new], size, high, flat)


def _narrowed(
    evaluate: Callable[[Any], Point], ends: list[Point], size: Any, high: Callable[..., bool], flat: Callable[..., bool]
) -> Point:
    best, near = _best(ends), False
    while not truth.less(abs(ends[1].t - ends[0].t) * size, SMALLEST_MOVE):
        t, near = _between(ends, near)
        new = evaluate(t)
        if high(new) or not truth.less(new.loss, ends[best].loss):
            ends[1 - best] = new
            best = _best(ends)
            continue
        if flat(new):
            return new
        if not truth.less(new.slope * (ends[1 - best].t - ends[best].t), arb(0)):
            ends[1 - best] = ends[best]
        ends[best] = new
    return ends[best]


def _best(ends: list[Point]) -> int:
    return 1 if truth.less(ends[1].loss, ends[0].loss) else 0


def _between(ends: list[Point], was_near: bool) -> tuple[Any, bool]:
    """Return the next step size, and whether it is close to an end: then, the second time, it is moved inwards."""
    left, right = ends if truth.less(ends[0].t, ends[1].t) else ends[::-1]
    t = _minimum(left, right, left.t, right.t)
    margin = (right.t - left.t) / 10
    to_left, to_right = t - left.t, right.t - t
    if not truth.less(to_right.min(to_left), margin):
        return t, False
    inside = not t == left.t and not t == right.t  # noqa: SIM201  of balls, != says that they are certainly apart
    if not was_near and inside:
        return t, True
    return (right.t - margin if truth.less(to_right, to_left) else left.t + margin), False


def _minimum(one: Point, other: Point, least: Any, most: Any) -> Any:
    """Return where the cubic through two points has its minimum, between bounds; the middle where it has none."""
    left, right = (one, other) if truth.less(one.t, other.t) else (other, one)
    d1 = left.slope + right.slope - 3 * (left.loss - right.loss) / (left.t - right.t)
    square = d1 * d1 - left.slope * right.slope
    if truth.less(square, arb(0)):
        return (least + most) / 2
    d2 = square.sqrt()
    t = right.t - (right.t - left.t) * ((right.slope + d2 - d1) / (right.slope - left.slope + 2 * d2))
    return least if truth.less(t, least) else most if truth.less(most, t) else t
