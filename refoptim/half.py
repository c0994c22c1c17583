"""Options for parameters of 16 bits: master weights, and stochastic rounding."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from .arrays import is_half
from .parameter import Parameter

# The state that keeps float32 copies of the parameters.
MASTER = "master_weight"


class Half(NamedTuple):
    """What parameters of float16 and bfloat16 ask for; see :class:`~refoptim.Optimizer`."""

    master_weights: bool = False
    stochastic: bool = False
    seed: int = 0

    def kept(self, state: tuple[str, ...]) -> tuple[str, ...]:
        """Return the names of the state arrays, given those of the algorithm."""
        return (MASTER, *state) if self.master_weights else state

    def counted(self, host: dict[str, Any]) -> dict[str, Any]:
        """Return the host state, given that of the algorithm: random numbers go by the step."""
        return {"step": 0} | host if self.stochastic else host


def checked_half(master_weights: Any, rounding: Any, seed: Any) -> Half:
    """Return the options. Raise unless they are in range and of use together."""
    if rounding not in (None, "nearest", "stochastic"):
        raise ValueError(f"Invalid rounding: {rounding!r}; use None or 'nearest', or 'stochastic'")
    if seed is not None and not (isinstance(seed, int | np.integer) and 0 <= seed < 1 << 64):
        raise ValueError(f"Invalid seed: {seed!r}; use a whole number of at least 0 and less than 2**64")
    half = Half(bool(master_weights), rounding == "stochastic", int(seed or 0))
    if half.master_weights and half.stochastic:
        raise ValueError("stochastic rounding is for parameters without master weights, which round nothing away")
    if seed is not None and not half.stochastic:
        raise ValueError("seed is for rounding='stochastic'")
    return half


def check_use(half: Half, params: Iterable[Parameter]) -> None:
    """Raise if options are given that concern none of the parameters."""
    if (half.master_weights or half.stochastic) and not any(is_half(param.dtype) for param in params):
        asked = "master_weights=True" if half.master_weights else "rounding='stochastic'"
        raise TypeError(f"{asked} is for parameters of float16 or bfloat16, and there are none")
