"""What a formula is computed with: exact numbers, or rounded ones that show how far correct implementations may part.

A budget must leave room for every order of operations and every fused product. So the formulas are run on arrays that
move each result by one ulp up, down or not at all, and, for who keeps hyperparameters in the parameters' own precision,
with scalars that round after every operation and build their powers factor by factor.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from flint import arb
from numpy.typing import NDArray

from refoptim.conformance import truth
from refoptim.conformance.scenario import reals

Array = NDArray[Any]


class Numbers(NamedTuple):
    """A kind of numbers: how arrays and a formula's symbols become such."""

    array: Callable[[Array], Any]
    symbols: Callable[[dict[str, Any]], dict[str, Any]]
    stored: Callable[[Any], Any] = lambda value: value  # what is left of a result when the next step reads it


def _flat(array: Array) -> Array:
    """Return an array's real numbers, of matrices in their shape."""
    return array if array.ndim > 1 and array.dtype.kind == "f" else reals(array)


EXACT = Numbers(lambda array: truth.balls(_flat(array)), truth.exact_symbols)


def rounded(noise: "Noise | None" = None) -> Numbers:
    """Return numbers of the parameters' dtype beside hyperparameters in float64: with noise, in any order."""
    return Numbers(lambda array: _rounded(array, noise), lambda symbols: symbols)


def coarse(dtype: Any, noise: "Noise | None" = None) -> Numbers:
    """Return numbers of a dtype, the hyperparameters and all that is made of them too."""
    kind = np.zeros(0, dtype).real.dtype.type

    def symbols(given: dict[str, Any]) -> dict[str, Any]:
        return {name: _coarse(value, kind) for name, value in given.items()}

    return Numbers(lambda array: _rounded(array, noise), symbols)


def wide(dtype: Any) -> Numbers:
    """Return numbers in float64 that are rounded to a dtype once a step."""
    kind = np.zeros(0, dtype).real.dtype

    def stored(value: Any) -> Any:
        return np.asarray(value, np.float64).astype(kind).astype(np.float64).view(Rounded)

    return Numbers(lambda array: _rounded(_flat(array).astype(np.float64), None), lambda symbols: symbols, stored)


def _coarse(value: Any, kind: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_coarse(part, kind) for part in value)
    return Coarse(value, kind) if isinstance(value, float) else value


def _rounded(array: Array, noise: "Noise | None") -> "Rounded":
    found = _flat(array).copy().view(Rounded)
    found.noise = noise
    return found


class Bias:
    """Noise that always goes one way, as the error of a hyperparameter does that was rounded once and for all."""

    def __init__(self, way: int) -> None:
        self._way = way

    def randint(self, _: int, __: int, shape: tuple[int, ...]) -> Array:
        """Return the same way for all."""
        return np.full(shape, self._way)


Noise = np.random.RandomState | Bias

# Their results are exact.
_EXACT_UFUNCS = {
    np.negative,
    np.absolute,
    np.sign,
    np.maximum,
    np.minimum,
    np.positive,
    np.less,
    np.less_equal,
    np.greater,
    np.greater_equal,
    np.equal,
    np.not_equal,
}


class Rounded(np.ndarray):
    """An array whose operations are rounded to its dtype, and then moved by at most an ulp where there is noise."""

    noise: "Noise | None" = None

    def __array_finalize__(self, source: Any) -> None:
        self.noise = getattr(source, "noise", None)

    def __array_namespace__(self, **_: Any) -> Any:
        return _NAMESPACE

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        plain = [np.asarray(x) if isinstance(x, Rounded) else x.value if isinstance(x, Coarse) else x for x in inputs]
        options.pop("out", None)
        result = np.asarray(getattr(ufunc, method)(*plain, **options))
        if self.noise is not None and result.dtype.kind == "f" and ufunc not in _EXACT_UFUNCS:
            ways = self.noise.randint(-1, 2, result.shape)
            target = np.where(ways > 0, np.inf, -np.inf).astype(result.dtype)
            # Zero is exact: a difference of what is equal, or a product with zero. So is infinity.
            exact = (ways == 0) | (result == 0) | ~np.isfinite(result)
            result = np.where(exact, result, np.nextafter(result, target))
        found = result.view(Rounded)
        found.noise = self.noise
        return found


def _where(chosen: Any, x: Any, y: Any) -> Any:
    like = next(value for value in (x, y, chosen) if isinstance(value, Rounded))
    kind = next((value.dtype for value in (x, y) if isinstance(value, Rounded)), np.float64)
    found = np.where(*(np.asarray(v.value if isinstance(v, Coarse) else v) for v in (chosen, x, y)))
    found = found.astype(kind).view(Rounded)
    found.noise = like.noise
    return found


_NAMESPACE = SimpleNamespace(
    sqrt=np.sqrt,
    abs=np.abs,
    maximum=np.maximum,
    minimum=np.minimum,
    sign=np.sign,
    clip=lambda x, least, most: np.minimum(np.maximum(x, least), most),
    where=_where,
)


class Coarse:
    """A hyperparameter in the parameters' precision. Whole powers are running products, others are rounded once."""

    def __init__(self, value: Any, kind: Any) -> None:
        self.kind = kind
        self.value = kind(value)

    def _with(self, other: Any, operation: Callable[[Any, Any], Any]) -> Any:
        if isinstance(other, np.ndarray):
            return NotImplemented
        value = other.value if isinstance(other, Coarse) else self.kind(other)
        with np.errstate(all="ignore"):
            return Coarse(operation(self.value, value), self.kind)

    def __add__(self, other: Any) -> Any:
        return self._with(other, lambda x, y: x + y)

    def __radd__(self, other: Any) -> Any:
        return self._with(other, lambda x, y: y + x)

    def __sub__(self, other: Any) -> Any:
        return self._with(other, lambda x, y: x - y)

    def __rsub__(self, other: Any) -> Any:
        return self._with(other, lambda x, y: y - x)

    def __mul__(self, other: Any) -> Any:
        return self._with(other, lambda x, y: x * y)

    def __rmul__(self, other: Any) -> Any:
        return self._with(other, lambda x, y: y * x)

    def __truediv__(self, other: Any) -> Any:
        return self._with(other, lambda x, y: x / y)

    def __rtruediv__(self, other: Any) -> Any:
        return self._with(other, lambda x, y: y / x)

    def __neg__(self) -> "Coarse":
        return Coarse(-self.value, self.kind)

    def __pow__(self, exponent: Any) -> "Coarse":
        if isinstance(exponent, int):
            product = self.kind(1)
            for _ in range(exponent):
                product = product * self.value
            return Coarse(product, self.kind)
        return self._power(self.value, exponent.value if isinstance(exponent, Coarse) else exponent)

    def __rpow__(self, base: Any) -> "Coarse":
        return self._power(self.kind(base), self.value)

    def _power(self, base: Any, exponent: Any) -> "Coarse":
        # Not the library's pow: its last bit is not the same everywhere.
        with truth.precision():
            power = float((arb(float(base)) ** arb(float(exponent))).mid()) if base > 0 else float(base**exponent)
        return Coarse(power, self.kind)

    def __float__(self) -> float:
        return float(self.value)

    def __lt__(self, other: Any) -> bool:
        return float(self) < float(other)

    def __le__(self, other: Any) -> bool:
        return float(self) <= float(other)

    def __gt__(self, other: Any) -> bool:
        return float(self) > float(other)

    def __ge__(self, other: Any) -> bool:
        return float(self) >= float(other)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (Coarse, float, int, np.floating)) and float(self) == float(other)

    def __hash__(self) -> int:
        return hash(float(self))
