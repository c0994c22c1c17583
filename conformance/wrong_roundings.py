"""Wrong ways to round to 16 bits. Each takes the place of a rule's compiled loops."""

from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import refoptim
from refoptim.conformance.formats import bounded, finfo, is_half, nearest, ulps

Array = NDArray[Any]


class Loops:
    """What the compiled loops of a rule do, in NumPy, and right: mutants override a part."""

    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel  # for arrays of float32 and float64

    def nearest(self, arrays: tuple[Array, ...], scalars: Array) -> None:
        """Step, and round to the nearest numbers."""
        self._step(arrays, scalars, self.round)

    def stochastic(self, arrays: tuple[Array, ...], scalars: Array, draws: Array) -> None:
        """Step, and round to one of the neighbours."""
        chances = np.random.default_rng(draws)
        self._step(arrays, scalars, lambda values, dtype: self.choose(values, dtype, chances.random(values.size)))

    def master(self, arrays: tuple[Array, ...], scalars: Array) -> None:
        """Step the master weights, and round these."""
        theta, master, *others = arrays
        master[...] = self.current(theta, master)
        self._step((master, *others), scalars, self.round)
        theta[...] = self.round(master, theta.dtype)

    def _step(self, arrays: tuple[Array, ...], scalars: Array, rounded: Any) -> None:
        copies = [array.astype(scalars.dtype) for array in arrays]
        self._kernel(*copies, scalars)
        for target, values in zip((arrays[0], *arrays[2:]), (copies[0], *copies[2:]), strict=True):
            target[...] = rounded(values, target.dtype) if is_half(target.dtype) else values

    def round(self, values: Array, dtype: Any) -> Array:
        """Return the results as they are stored."""
        return nearest(values.astype(np.float64), dtype).astype(dtype)

    def choose(self, values: Array, dtype: Any, chances: Array) -> Array:
        """Return one neighbour of each result, given a number from 0 to 1 for each."""
        ulp = ulps(values.astype(np.float64), dtype)
        below = np.floor(values / ulp)
        up = self.goes_up(values / ulp - below, chances, values)
        return bounded((below + up) * ulp, dtype).astype(dtype)

    def goes_up(self, part: Array, chances: Array, values: Array) -> Array:
        """Return whether to take the upper neighbour, given how far from the lower one a result is."""
        return chances < part

    def current(self, theta: Array, master: Array) -> Array:
        """Return what a step with master weights starts from."""
        return np.where(theta == self.round(master, theta.dtype), master, theta.astype(np.float32))


class _TowardsZero(Loops):
    """Rounding: towards zero."""

    def round(self, values: Array, dtype: Any) -> Array:
        ulp = ulps(values.astype(np.float64), dtype)
        return bounded(np.trunc(values / ulp) * ulp, dtype).astype(dtype)


class _TiesAway(Loops):
    """Rounding: ties go away from zero."""

    def round(self, values: Array, dtype: Any) -> Array:
        ulp = ulps(values.astype(np.float64), dtype)
        away = np.copysign(np.floor(np.abs(values) / ulp + 0.5), values)
        return bounded(away * ulp, dtype).astype(dtype)


class _Twice(Loops):
    """Rounding: float64 by way of float32, twice."""

    def round(self, values: Array, dtype: Any) -> Array:
        return super().round(values.astype(np.float32), dtype)


class _NoSubnormals(Loops):
    """Rounding: numbers below the least normal one become zero."""

    def round(self, values: Array, dtype: Any) -> Array:
        rounded = super().round(values, dtype)
        return np.where(np.abs(rounded) < finfo(dtype).smallest_normal, rounded.dtype.type(0), rounded)


class _NoInfinity(Loops):
    """Rounding: what is beyond the largest number becomes that."""

    def round(self, values: Array, dtype: Any) -> Array:
        rounded, largest = super().round(values, dtype), finfo(dtype).max
        return np.where(np.isinf(rounded.astype(np.float64)), np.copysign(largest, rounded), rounded)


class _Nearest(Loops):
    """Stochastic rounding: to the nearest number."""

    def goes_up(self, part: Array, chances: Array, values: Array) -> Array:
        return part > 0.5


class _Coin(Loops):
    """Stochastic rounding: half of all numbers go up."""

    def goes_up(self, part: Array, chances: Array, values: Array) -> Array:
        return (chances < 0.5) & (part > 0)


class _Rarely(Loops):
    """Stochastic rounding: the chance is a sixteenth too small."""

    def goes_up(self, part: Array, chances: Array, values: Array) -> Array:
        return chances < part - 1 / 16


class _MovesExact(Loops):
    """Stochastic rounding: what is exact moves, too."""

    def goes_up(self, part: Array, chances: Array, values: Array) -> Array:
        return chances <= part + 1 / 128


class _WrongSide(Loops):
    """Stochastic rounding: negative numbers have the chances of positive ones."""

    def goes_up(self, part: Array, chances: Array, values: Array) -> Array:
        return np.where(values < 0, (chances < 1 - part) & (part > 0), chances < part)


class _OneDraw(Loops):
    """Stochastic rounding: all numbers have one draw."""

    def goes_up(self, part: Array, chances: Array, values: Array) -> Array:
        return chances[0] < part


class _MasterUnused(Loops):
    """Master weights: they are kept and not used."""

    def current(self, theta: Array, master: Array) -> Array:
        return theta.astype(np.float32)


class _MasterAlways(Loops):
    """Master weights: what is written to the parameters is lost."""

    def current(self, theta: Array, master: Array) -> Array:
        return master


LOOPS = (
    _TowardsZero,
    _TiesAway,
    _Twice,
    _NoSubnormals,
    _NoInfinity,
    _Nearest,
    _Coin,
    _Rarely,
    _MovesExact,
    _WrongSide,
    _OneDraw,
    _MasterUnused,
    _MasterAlways,
)


def wrong_sgd(loops: type[Loops]) -> Any:
    """Return SGD with these loops over parameters of 16 bits."""

    class Wrong(refoptim.SGD):
        def _variant(self, group: dict[str, Any]) -> Any:
            variant = super()._variant(group)
            kernel: Any = SimpleNamespace(half=loops(variant.kernel))
            return variant._replace(kernel=kernel)

    return Wrong
