"""Charts of curves: where everything goes in a picture of fixed size, which a page then draws."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from refoptim.conformance.reports.curves import Curve
from refoptim.conformance.reports.summary import ulps

# A pane and the frame of its curves, in units that are pixels on a phone.
WIDTH, HEIGHT = 340, 192
LEFT, RIGHT, TOP, BOTTOM = 54, 332, 16, 164
MARGIN = 8
# Powers of ten that the axis of errors shows at least, and at most below them: where 0 is, there is no more to see.
LEAST, LOWEST = (-1, 2), -2
TICKS = 5

Point = tuple[float, float]


class Tick(NamedTuple):
    """A mark at an axis."""

    at: float
    label: str


class Dot(NamedTuple):
    """A number of an answer."""

    x: float
    y: float
    words: str  # for who points at it
    over: bool  # over budget
    outside: bool  # no number, or not finite: drawn at the edge


class Pane(NamedTuple):
    """A chart of one quantity over the steps."""

    title: str
    xs: list[Tick]
    ys: list[Tick]
    line: str  # through what is expected, or through the errors
    dots: list[Dot]
    budget: Tick | None  # the line that errors should stay below
    first: Tick | None  # the step that first did not


def panes(curve: Curve) -> list[Pane]:
    """Return the panes of a curve: values, errors, and the errors of each kind of state."""
    errors = [_errors(f"{curve.quantity}: error", curve.steps, curve.sulp, curve.budget, curve.first)]
    for state in curve.states:
        over = (k for k, error in zip(state.steps, state.sulp, strict=True) if not error <= state.budget)
        title = f"{state.quantity}: largest error"
        errors.append(_errors(title, state.steps, state.sulp, state.budget, next(over, None)))
    return [_values(curve), *errors]


def _values(curve: Curve) -> Pane:
    low, high, ys = _linear([x for x in (*curve.expected, *curve.got) if math.isfinite(x)])
    x = _across(curve.steps)
    known = ((k, value) for k, value in zip(curve.steps, curve.expected, strict=True) if math.isfinite(value))
    expected = [(x(k), _up(value, low, high)) for k, value in known]
    dots = []
    for step, wanted, value, error in zip(curve.steps, curve.expected, curve.got, curve.sulp, strict=True):
        words = f"step {step}: got {value!r}, expected {wanted!r}, {ulps(error)} ulp off"
        y = _up(value, low, high) if math.isfinite(value) else float(BOTTOM if value < 0 else TOP)
        dots.append(Dot(x(step), y, words, not error <= curve.budget, not math.isfinite(value)))
    title = f"{curve.quantity}: expected, and got"
    first = None if curve.first is None else Tick(x(curve.first), f"step {curve.first}")
    return Pane(title, _steps(curve.steps), ys, _line(expected), dots, None, first)


def _errors(title: str, steps: Sequence[int], errors: Sequence[float], budget: float, first: int | None) -> Pane:
    finite = [error for error in (*errors, budget) if math.isfinite(error)]
    bottom = max(LOWEST, min(LEAST[0], *(math.floor(math.log10(x)) for x in finite if x > 0)))
    top = max(LEAST[1], *(math.ceil(math.log10(x)) for x in finite if x > 0)) + (len(finite) <= len(errors))
    x = _across(steps)

    def up(error: float) -> float:
        known = max(error, 10.0**bottom) if math.isfinite(error) else 10.0**top
        return _up(math.log10(known), bottom, top)

    dots = [
        Dot(x(k), up(e), f"step {k}: {e:.4g} ulp, budget {budget:g}", not e <= budget, not math.isfinite(e))
        for k, e in zip(steps, errors, strict=True)
    ]
    each = -(-(top - bottom) // TICKS)
    ys = [Tick(_up(power, bottom, top), _power(power)) for power in range(bottom, top + 1, each)]
    ys[0] = Tick(ys[0].at, f"≤{ys[0].label}")
    return Pane(
        f"{title} in ulps",
        _steps(steps),
        ys,
        _line([(dot.x, dot.y) for dot in dots]),
        dots,
        Tick(up(budget), f"budget {budget:.3g}"),
        None if first is None else Tick(x(first), f"step {first}"),
    )


def _linear(values: Sequence[float]) -> tuple[float, float, list[Tick]]:
    """Return where an axis begins and ends, and its ticks at round numbers."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    # Halves, since the largest numbers are too far apart for a difference.
    if (half := high / 2 - low / 2) <= max(abs(low), abs(high)) * 1e-12:
        low, high = (low - abs(low) / 2, high + abs(high) / 2) if high else (-1.0, 1.0)
        low, high = max(low, -_LARGEST), min(high, _LARGEST)
        half = high / 2 - low / 2
    power = max(math.floor(math.log10(max(half / 2, _SMALLEST))), -300)
    step = next(10.0**power * m for m in (1, 2, 5, 10) if 10.0**power * m * TICKS >= 2 * half)
    digits = math.floor(math.log10(max(abs(low), abs(high)))) - power + 1
    numbers = range(math.ceil(low / step - _NEAR), math.floor(high / step + _NEAR) + 1)
    return low, high, [Tick(_up(i * step, low, high), f"{i * step:.{max(digits, 1)}g}") for i in numbers]


_SMALLEST, _LARGEST, _NEAR = 1e-300, 1.7e308, 1e-9


def _up(value: float, low: float, high: float) -> float:
    share = (value / 2 - low / 2) / (high / 2 - low / 2)
    return round(BOTTOM - min(max(share, 0.0), 1.0) * (BOTTOM - TOP), 2)


def _across(steps: Sequence[int]) -> Callable[[int], float]:
    """Return where a step is, a little inside the frame."""
    first, last = steps[0], steps[-1]
    if first == last:
        return lambda _: (LEFT + RIGHT) / 2
    return lambda step: round(LEFT + MARGIN + (step - first) / (last - first) * (RIGHT - LEFT - 2 * MARGIN), 2)


def _steps(steps: Sequence[int]) -> list[Tick]:
    x, count = _across(steps), min(len(steps), TICKS)
    chosen = dict.fromkeys(steps[round(i * (len(steps) - 1) / max(count - 1, 1))] for i in range(count))
    return [Tick(x(step), str(step)) for step in chosen]


def _line(points: Iterable[Point]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)


def _power(power: int) -> str:
    if -2 <= power <= 2:
        return f"{10.0**power:g}"
    return "10" + str(power).translate(_SUPERSCRIPT)


_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
