"""What an average is: how much one more value weighs, the published formula, and the flat kernel that computes it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .. import kernels
from ..arrays import Array, is_half
from ..buffers import REAL_TYPE
from ..devices import device_of, on_gpu, to_host
from ..formulas import swa as formulas
from ..places import brought, duplicate, flat, is_flat, put
from ..scalars import number, packed

AvgFn = Callable[[Any, Any, int], Any]
MultiAvgFn = Callable[[list[Any], list[Any], int], None]


class Average(Protocol):
    """A running average: how it moves when n values are in it and one more comes."""

    def weights(self, n: int) -> tuple[float, float]:
        """Return how much of the average is kept, and how much the new value weighs."""
        ...

    def formula(self, averaged: Any, current: Any, n: int) -> Any:
        """Return the average after the new value, by the published formula, on any array type."""
        ...


@dataclass(frozen=True)
class Equal:
    """All values weigh the same: stochastic weight averaging."""

    def weights(self, n: int) -> tuple[float, float]:
        """Return n / (n + 1) and 1 / (n + 1)."""
        return n / (n + 1), 1 / (n + 1)

    def formula(self, averaged: Any, current: Any, n: int) -> Any:
        """Return the mean of n + 1 values."""
        return formulas.swa(averaged, current, n=n)


@dataclass(frozen=True)
class Exponential:
    """A value weighs less the older it is."""

    decay: float

    def __post_init__(self) -> None:
        if not 0.0 <= number("decay", self.decay) <= 1.0:
            raise ValueError(f"Invalid decay value {self.decay} provided. Please provide a value in [0,1] range.")

    def weights(self, n: int) -> tuple[float, float]:
        """Return decay and 1 - decay, whatever n is."""
        return float(self.decay), 1 - float(self.decay)

    def formula(self, averaged: Any, current: Any, n: int) -> Any:
        """Return the average with the new value."""
        return formulas.ema(averaged, current, decay=self.decay)


@dataclass(frozen=True)
class AverageOfOne:
    """An ``avg_fn`` of this library: returns the new average of one parameter. It can be pickled and compared."""

    average: Average

    def __call__(self, averaged: Any, current: Any, num_averaged: int) -> Any:
        """Return the average of ``num_averaged`` values and the current one, as a new array."""
        if (isinstance(averaged, np.ndarray) or on_gpu(averaged)) and averaged.dtype in REAL_TYPE:
            check_pair(averaged, current)
            new = duplicate(averaged)
            self.update(new, current, num_averaged)
            return new
        return self.average.formula(averaged, current, num_averaged)

    def update(self, averaged: Array, current: Any, num_averaged: int, arithmetic: str | None = None) -> None:
        """Change an average in place. Integers are averaged in float64 and cut off, as torch does."""
        place = device_of(averaged)
        current = brought(current if on_gpu(current) else np.asarray(current), place)
        if averaged.dtype in REAL_TYPE and averaged.dtype == current.dtype:
            real = REAL_TYPE[averaged.dtype]
            new = flat(averaged)
            with place.here():
                move(new.view(real), flat(current).view(real), self.average.weights(num_averaged), arithmetic)
            if is_flat(averaged):
                return
            new = new.reshape(tuple(averaged.shape))
        else:
            wide = np.result_type(averaged.dtype, current.dtype, np.float64)
            new = self.average.formula(to_host(averaged).astype(wide), to_host(current).astype(wide), num_averaged)
        put(averaged, np.asarray(new).astype(averaged.dtype) if not on_gpu(new) else new)


@dataclass(frozen=True)
class AverageOfMany:
    """A ``multi_avg_fn`` of this library: changes the averages of several parameters in place."""

    average: Average

    def __call__(self, averaged: Sequence[Array], current: Sequence[Any], num_averaged: int) -> None:
        """Move every average of ``num_averaged`` values to the current value beside it, in place."""
        if len(averaged) != len(current):
            raise ValueError(f"got {len(averaged)} averages, but {len(current)} current values")
        for one, other in zip(averaged, current, strict=True):
            check_pair(one, other)
            if isinstance(one, np.ndarray) and not one.flags.writeable:
                raise ValueError(f"an average of shape {one.shape} is read-only and cannot be changed in place")
        for one, other in zip(averaged, current, strict=True):
            AverageOfOne(self.average).update(one, other, num_averaged)


def check_pair(averaged: Any, current: Any) -> None:
    """Raise unless both are arrays of one shape."""
    if not isinstance(averaged, np.ndarray) and not on_gpu(averaged):
        raise TypeError(f"an average must be a NumPy array, or on a GPU, but is a {type(averaged).__name__}")
    shape, other = tuple(averaged.shape), tuple(current.shape if on_gpu(current) else np.shape(current))
    if shape != other:
        raise ValueError(f"the average has shape {shape}, but the current value has {other}")


def move(averaged: Array, current: Array, weights: tuple[float, float], arithmetic: str | None = None) -> None:
    """Move flat real averages to the current values, given how much of both counts.

    Without ``arithmetic`` it is computed in the arrays' own dtype, in float32 if that has 16 bits.
    """
    keep, weight = weights
    if keep == 0:
        kernels.memory.assign(averaged, current)
    elif weight != 0:
        scalars = kernels.swa.Scalars(weight, keep if keep <= weight else 0.0)
        own = np.dtype(np.float32) if is_half(averaged.dtype) else averaged.dtype
        wide = own if arithmetic is None else np.dtype(arithmetic)
        kernels.swa.average_cpu(averaged, current, packed(scalars, wide))


def get_ema_avg_fn(decay: float = 0.999) -> AverageOfOne:
    r"""Return the ``avg_fn`` of an exponential moving average.

    .. math::
        \bar\theta_t = \beta \bar\theta_{t-1} + (1 - \beta) \theta_t

    Args:
        decay: :math:`\beta \in [0, 1]`, how much of the average is kept (default: 0.999).

    Raises:
        ValueError: decay is out of its range.

    It computes :math:`\bar\theta + (1 - \beta)(\theta - \bar\theta)`, as torch's ``get_ema_multi_avg_fn`` does and
    torch's ``get_ema_avg_fn`` does not: an average of equal values stays what it is.

    >>> import numpy as np
    >>> get_ema_avg_fn(0.75)(np.array([4.0]), np.array([8.0]), 1)
    array([5.])

    """
    return AverageOfOne(Exponential(decay))


def get_swa_avg_fn() -> AverageOfOne:
    r"""Return the ``avg_fn`` of an average in which all values weigh the same.

    .. math::
        \bar\theta_{n+1} = \bar\theta_n + \frac{\theta_{n+1} - \bar\theta_n}{n + 1}

    >>> import numpy as np
    >>> get_swa_avg_fn()(np.array([4.0]), np.array([8.0]), 3)
    array([5.])

    """
    return AverageOfOne(Equal())


def get_ema_multi_avg_fn(decay: float = 0.999) -> AverageOfMany:
    """Return ``get_ema_avg_fn`` for several parameters, as a ``multi_avg_fn``: the same numbers, in place.

    Args:
        decay: how much of the average is kept, in [0, 1] (default: 0.999).

    Raises:
        ValueError: decay is out of its range.

    """
    return AverageOfMany(Exponential(decay))


def get_swa_multi_avg_fn() -> AverageOfMany:
    """Return ``get_swa_avg_fn`` for several parameters, as a ``multi_avg_fn``: the same numbers, in place."""
    return AverageOfMany(Equal())
