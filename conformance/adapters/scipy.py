"""SciPy's minimizers, which are no subjects of the vectors, and what can be compared: the way to a minimum.

``scipy.optimize.minimize`` takes a function and returns its minimum; it has no step, and its first trial point, its
line search (Moré and Thuente's, with other constants) and its restarts are its own. Where it calls the function next is
no error where it differs from torch's, so nothing that a trace asks can be judged. Both must reach the same minimum.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import refoptim
from refoptim.conformance.runner.adapter import Base, Info

optimize: Any = import_module("scipy.optimize")

Array = NDArray[np.float64]

# Where all of them stop: when no element of the gradient is larger.
STOP = 1e-6
_MOST = 1000  # iterations


class Scipy(Base):
    """SciPy: it has no optimizers to step, which it says."""

    def __init__(self) -> None:
        self.info = Info("SciPy", version("scipy"), homepage="https://scipy.org", optimizers={}, schedulers=[])


class Minimum(NamedTuple):
    """What a minimizer found, and what that took."""

    problem: str
    minimizer: str
    evaluations: int  # of the function and its gradient
    loss: float
    gradient: float  # its largest element


class _Function(NamedTuple):
    name: str
    loss: Callable[[Array], Any]
    gradient: Callable[[Array], Any]
    start: Array


_CURVATURES = np.geomspace(1.0, 100.0, 10)

# All have a minimum of 0.
_FUNCTIONS = (
    _Function(
        "a quadratic, curvatures 1 to 100",
        lambda x: 0.5 * np.sum(_CURVATURES * x**2),
        lambda x: _CURVATURES * x,
        np.ones(10),
    ),
    _Function("Rosenbrock's, of 2", optimize.rosen, optimize.rosen_der, np.array([-1.2, 1.0])),
    _Function("Rosenbrock's, of 10", optimize.rosen, optimize.rosen_der, np.linspace(-1.0, 0.8, 10)),
)


def minima() -> list[Minimum]:
    """Let refoptim's minimizers and SciPy's look for the same minima, from the same points to the same gradients."""
    return [found for function in _FUNCTIONS for found in (*_ours(function), *_theirs(function))]


def _ours(function: _Function) -> list[Minimum]:
    found = []
    for made in (refoptim.LBFGS, refoptim.CG):
        param = refoptim.Parameter(function.start)
        how = {"line_search_fn": "strong_wolfe", "history_size": 10} if made is refoptim.LBFGS else {}
        limits = {"max_iter": _MOST, "max_eval": 10 * _MOST, "tolerance_grad": STOP, "tolerance_change": 0.0}
        calls = [0]
        made([param], **limits, **how).step(_closure(function, param, calls))
        found.append(_minimum(function, f"refoptim.{made.__name__}", calls[0], param.data))
    return found


def _closure(function: _Function, param: refoptim.Parameter, calls: list[int]) -> Callable[[], float]:
    def closure() -> float:
        calls[0] += 1
        param.grad = function.gradient(param.data)
        return float(function.loss(param.data))

    return closure


def _theirs(function: _Function) -> list[Minimum]:
    how: dict[str, dict[str, Any]] = {
        "L-BFGS-B": {"maxcor": 10, "maxiter": _MOST, "ftol": 0.0},
        "CG": {"maxiter": _MOST},
    }
    found = []
    for method, options in how.items():
        with np.errstate(all="ignore"):
            result = optimize.minimize(
                function.loss, function.start, jac=function.gradient, method=method, options=options | {"gtol": STOP}
            )
        found.append(_minimum(function, f"SciPy {method}", result.nfev, result.x))
    return found


def _minimum(function: _Function, minimizer: str, evaluations: int, x: Array) -> Minimum:
    return Minimum(
        function.name, minimizer, evaluations, float(function.loss(x)), float(np.abs(function.gradient(x)).max())
    )
