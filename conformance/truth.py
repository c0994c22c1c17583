"""Exact values: the formulas in ball arithmetic, numbers with a proven bound on their error."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
from flint import arb, ctx
from numpy.typing import NDArray

from refoptim.conformance.formats import finfo
from refoptim.conformance.tolerances import BALL

Array = NDArray[Any]

PRECISION = 400  # bits; 1,000 steps of Adadelta with weight decay widen a ball by 190 of them


class WideBallError(ArithmeticError):
    """A value is not known well enough to judge by: an error of the case, never a pass."""


@contextmanager
def precision(bits: int = PRECISION) -> Iterator[None]:
    """Compute balls with this many bits."""
    before, ctx.prec = ctx.prec, bits
    try:
        yield
    finally:
        ctx.prec = before


# How narrowly comparisons were decided, relative to the larger side, where somebody wants to know.
_margins: list[float] | None = None


@contextmanager
def margins() -> Iterator[list[float]]:
    """Collect how narrowly the comparisons of balls are decided. Of equal numbers either is right."""
    global _margins  # noqa: PLW0603  arrays have no other way to say it
    before, _margins = _margins, []
    try:
        yield _margins
    finally:
        _margins = before


def _note(left: Any, right: Any) -> None:
    if _margins is not None and not left.overlaps(right):
        _margins.append(float(abs(left - right).mid() / abs(left).max(abs(right)).mid()))


def less(left: Any, right: Any) -> bool:
    """Return whether one number is less than another. Equal ones are not.

    Raises:
        WideBallError: it is not known.

    """
    left, right = arb(left), arb(right)
    if left.overlaps(right) and not left == right:
        raise WideBallError(f"whether {left} is less than {right} is not decided")
    _note(left, right)
    return bool(left < right)


class Balls(np.ndarray):
    """An array of balls, which the formulas can compute with as with any array.

    Comparing balls that overlap raises: which is larger is not known. The maximum does not need to know.
    """

    def __array_namespace__(self, **_: Any) -> Any:
        return _NAMESPACE

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if ufunc in _DECIDED:
            sides = [*inputs, 0] if ufunc is np.sign else inputs
            for left, right in np.broadcast(*(np.asarray(x, object) for x in sides)):
                if arb(left).overlaps(arb(right)) and not arb(left) == arb(right):
                    raise WideBallError(f"{ufunc.__name__} of {left} and {right} is not decided")
                _note(arb(left), arb(right))
        plain = [np.asarray(x) if isinstance(x, Balls) else x for x in inputs]
        result = getattr(ufunc, method)(*plain, **options)
        return result.view(Balls) if isinstance(result, np.ndarray) and result.dtype == object else result


_DECIDED = {np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal, np.sign}


def _elementwise(function: Callable[..., Any], inputs: int) -> Callable[..., Any]:
    apply = np.frompyfunc(function, inputs, 1)
    return lambda *arrays: np.asarray(apply(*(np.asarray(a, object) for a in arrays)), object).view(Balls)


def _maximum(x: Any, y: Any) -> Any:
    _note(arb(x), arb(y))
    return arb(x).max(y)


def _minimum(x: Any, y: Any) -> Any:
    _note(arb(x), arb(y))
    return arb(x).min(y)


_NAMESPACE = SimpleNamespace(
    sqrt=_elementwise(lambda x: x.sqrt(), 1),
    abs=_elementwise(abs, 1),
    maximum=_elementwise(_maximum, 2),
    minimum=_elementwise(_minimum, 2),
    clip=_elementwise(lambda x, least, most: arb(x).max(least).min(most), 3),
    where=_elementwise(lambda chosen, x, y: arb(x) if chosen else arb(y), 3),
    sign=np.sign,
)


def balls(values: Array) -> Balls:
    """Return floating-point numbers as balls of radius 0."""
    exact = np.empty(values.shape, object)
    exact.ravel()[:] = [arb(x) for x in values.ravel().tolist()]
    return exact.view(Balls)


def exact_symbols(symbols: dict[str, Any]) -> dict[str, Any]:
    """Return a formula's symbols with every float as the binary64 number it is."""
    return {name: arb(value) if isinstance(value, float) else value for name, value in symbols.items()}


def errors_in_ulps(got: Array, exact: Balls, before: Array) -> Array:
    """Return how far each number is from the exact one, in ulps of the larger of the exact one and the one before.

    The bound is rigorous, rounded up. A number that is not finite is infinitely far.

    Raises:
        WideBallError: an exact value is not known to a thousandth of an ulp.

    """
    kind, result = got.dtype.type, np.empty(got.size)
    # Of the largest float16 itself NumPy has no spacing.
    largest = float(np.nextafter(kind(finfo(got.dtype).max), kind(0)))
    for i, (value, ball, old) in enumerate(zip(got.ravel(), exact.ravel(), before.ravel(), strict=True)):
        scale = max(abs(float(ball.mid())), abs(float(old)))
        ulp = float(np.spacing(kind(min(scale, largest))))
        if not ball.is_finite() or not float(ball.rad()) < ulp * BALL:
            raise WideBallError(f"the exact value is only known to be {ball}, with an ulp of {ulp}")
        result[i] = float((arb(float(value)) - ball).abs_upper()) / ulp if np.isfinite(value) else np.inf
    return result
