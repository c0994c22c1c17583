"""What a minimizer is judged by: one iteration, what came before it, and what it should lead to."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from refoptim.conformance.truth import Balls, balls

Array = NDArray[Any]

# Of the vectors of one iteration, and of the run.
SIZE, RUN_SIZE, ITERATIONS = 40, 12, 10


class Situation(NamedTuple):
    """Where a minimizer is, what it has kept, and what the closure says there."""

    name: str
    optimizer: str
    options: dict[str, Any]
    theta: Array
    grad: Callable[[Array], Array]
    loss: float
    state: dict[str, Any]  # by torch's names; empty before the first iteration


class Exact(NamedTuple):
    """What one iteration leads to."""

    d: Balls
    t: Any  # None where it cannot be known from a direction that is rounded; then the parameters cannot either
    theta: Balls | None
    pairs: list[tuple[Balls, Balls]] | None  # None where a minimizer keeps none


class FunctionMutant(NamedTuple):
    """A minimizer with one expression replaced in the source of a function, of a kernels' file or of its class."""

    name: str
    function: str
    right: str
    wrong: str


def constant(grad: Array) -> Callable[[Array], Array]:
    """Return what has this gradient everywhere."""
    return lambda _: grad


def hessian(rng: np.random.Generator, size: int, condition: float) -> Array:
    """Return a symmetric matrix with eigenvalues from 1 to the condition number."""
    basis, _ = np.linalg.qr(rng.standard_normal((size, size)))
    return basis * np.geomspace(1, condition, size) @ basis.T


def dot(x: Array, y: Array) -> float:
    """Return a dot product, rounded once."""
    return float((balls(x) * balls(y)).sum().mid())
