"""Functions to minimize, with their gradients: what LBFGS and CG are tested on beside torch and SciPy."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Problem(NamedTuple):
    """A smooth function and where to start."""

    start: Array
    loss: Callable[[Array], Any]
    grad: Callable[[Array], Array]


class Closure:
    """Sets a parameter's gradient, returns the loss, and counts how often."""

    def __init__(self, problem: Problem, param: Any) -> None:
        self.problem, self.param, self.calls = problem, param, 0

    def __call__(self) -> Any:
        """Return the loss."""
        self.calls += 1
        x = self.param.data.astype(float)
        self.param.grad = self.problem.grad(x).astype(self.param.dtype)
        return self.problem.loss(x)


def rosenbrock(n: int) -> Problem:
    """Return a curved valley, n - 1 times."""

    def loss(x: Array) -> Any:
        return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

    def grad(x: Array) -> Array:
        g, inner = np.zeros_like(x), x[1:] - x[:-1] ** 2
        g[:-1] = -400 * x[:-1] * inner - 2 * (1 - x[:-1])
        g[1:] += 200 * inner
        return g

    return Problem(np.tile([-1.2, 1.0], n)[:n], loss, grad)


def quadratic(n: int, condition: float, seed: int) -> Problem:
    """Return a parabola whose Hessian has this condition number."""
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.standard_normal((n, n)))
    a, b = basis * np.geomspace(1, condition, n) @ basis.T, rng.standard_normal(n)
    return Problem(rng.standard_normal(n), lambda x: 0.5 * x @ (a @ x) - b @ x, lambda x: a @ x - b)


def squares(start: Any, residuals: Callable[[Array], Array], jacobian: Callable[[Array], Array]) -> Problem:
    """Return half the sum of the squares of some residuals."""
    start = np.array(start, float)
    return Problem(start, lambda x: 0.5 * np.sum(residuals(x) ** 2), lambda x: jacobian(x).T @ residuals(x))


def beale() -> Problem:
    """Return Beale's function."""
    powers, values = np.array([1, 2, 3]), np.array([1.5, 2.25, 2.625])

    def jacobian(x: Array) -> Array:
        return np.stack([x[1] ** powers - 1, x[0] * powers * x[1] ** (powers - 1)], axis=1)

    return squares([1.0, 0.8], lambda x: values - x[0] + x[0] * x[1] ** powers, jacobian)


def booth() -> Problem:
    """Return Booth's function."""
    a, b = np.array([[1.0, 2.0], [2.0, 1.0]]), np.array([7.0, 5.0])
    return squares([10.0, -8.0], lambda x: a @ x - b, lambda _: a)


def powell() -> Problem:
    """Return Powell's function, whose Hessian is singular where it is least."""

    def residuals(x: Array) -> Array:
        inner, outer = x[1] - 2 * x[2], x[0] - x[3]
        return np.array([x[0] + 10 * x[1], 5**0.5 * (x[2] - x[3]), inner**2, 10**0.5 * outer**2])

    def jacobian(x: Array) -> Array:
        inner, outer = 2 * (x[1] - 2 * x[2]), 2 * 10**0.5 * (x[0] - x[3])
        return np.array([[1, 10, 0, 0], [0, 0, 5**0.5, -(5**0.5)], [0, inner, -2 * inner, 0], [outer, 0, 0, -outer]])

    return squares([3.0, -1.0, 0.0, 1.0], residuals, jacobian)


def wood() -> Problem:
    """Return Wood's function: two valleys, coupled."""
    a, b = 90**0.5, 10**0.5

    def residuals(x: Array) -> Array:
        valleys = [10 * (x[1] - x[0] ** 2), 1 - x[0], a * (x[3] - x[2] ** 2), 1 - x[2]]
        return np.array([*valleys, b * (x[1] + x[3] - 2), (x[1] - x[3]) / b])

    def jacobian(x: Array) -> Array:
        j = np.zeros((6, 4))
        j[0, :2], j[2, 2:] = (-20 * x[0], 10), (-2 * a * x[2], a)
        j[1, 0] = j[3, 2] = -1
        j[4, 1], j[4, 3], j[5, 1], j[5, 3] = b, b, 1 / b, -1 / b
        return j

    return squares([-3.0, -1.0, -3.0, -1.0], residuals, jacobian)


def broyden(n: int) -> Problem:
    """Return Broyden's tridiagonal function."""

    def residuals(x: Array) -> Array:
        padded = np.concatenate([[0.0], x, [0.0]])
        return (3 - 2 * x) * x - padded[:-2] - 2 * padded[2:] + 1

    def jacobian(x: Array) -> Array:
        return np.diag(3 - 4 * x) - np.diag(np.ones(n - 1), -1) - 2 * np.diag(np.ones(n - 1), 1)

    return squares(-np.ones(n), residuals, jacobian)


def logistic(n: int, m: int, seed: int) -> Problem:
    """Return a logistic regression on m random points."""
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((m, n)), rng.choice([-1.0, 1.0], m)

    def loss(w: Array) -> Any:
        return np.mean(np.logaddexp(0, -y * (x @ w))) + 1e-3 * w @ w

    def grad(w: Array) -> Array:
        return x.T @ (-y / (1 + np.exp(y * (x @ w)))) / m + 2e-3 * w

    return Problem(np.zeros(n), loss, grad)


def trigonometric(n: int) -> Problem:
    """Return Spedicato's trigonometric function."""
    numbers = np.arange(1, n + 1)

    def residuals(x: Array) -> Array:
        return n - np.sum(np.cos(x)) + numbers * (1 - np.cos(x)) - np.sin(x)

    def jacobian(x: Array) -> Array:
        return np.sin(x)[None, :] + np.diag(numbers * np.sin(x) - np.cos(x))

    return squares(np.full(n, 1 / n), residuals, jacobian)


def quartic(n: int, seed: int) -> Problem:
    """Return a bowl that is steep far out."""
    start, weights = np.random.default_rng(seed).standard_normal(n), np.geomspace(1, 100, n)
    return Problem(start, lambda x: np.sum(weights * x**4) + x @ x, lambda x: 4 * weights * x**3 + 2 * x)


PROBLEMS = {
    "rosenbrock-2": rosenbrock(2),
    "rosenbrock-4": rosenbrock(4),
    "rosenbrock-10": rosenbrock(10),
    "beale": beale(),
    "booth": booth(),
    "powell": powell(),
    "wood": wood(),
    "broyden-10": broyden(10),
    "broyden-30": broyden(30),
    "logistic-5": logistic(5, 40, 1),
    "logistic-20": logistic(20, 100, 2),
    "trigonometric-5": trigonometric(5),
    "trigonometric-10": trigonometric(10),
    "quartic-8": quartic(8, 3),
    "quartic-30": quartic(30, 4),
    "quadratic-1e1": quadratic(10, 1e1, 5),
    "quadratic-1e2": quadratic(10, 1e2, 6),
    "quadratic-1e4": quadratic(20, 1e4, 7),
    "quadratic-1e6": quadratic(8, 1e6, 8),
    "quadratic-1e8": quadratic(6, 1e8, 9),
}
