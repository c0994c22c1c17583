"""Count how often CG evaluates a loss, beside SciPy's. Run ``python benchmarks/evaluations.py``; it prints a table."""

import numpy as np
from scipy.optimize import minimize

import refoptim as optim
from refoptim.conformance.problems import PROBLEMS, Closure

METHODS = ("polak_ribiere", "hager_zhang")
# No element of the gradient is larger in the end.
TOLERANCE = 1e-5
# Where the loss is known to 1e-16, neither library can follow so steep a valley to the tolerance.
REACHED = [name for name in PROBLEMS if name not in ("quadratic-1e6", "quadratic-1e8")]


def ours(name: str, method: str, *, most: int = 10_000) -> int:
    """Return how many evaluations CG needs."""
    param = optim.Parameter(PROBLEMS[name].start)
    closure = Closure(PROBLEMS[name], param)
    limits = {"max_iter": most, "max_eval": most, "tolerance_grad": TOLERANCE, "tolerance_change": 0}
    optimizer = optim.CG([param], method=method, **limits)
    # A step ends where a search finds nothing lower; the next begins along the gradient.
    while np.abs(PROBLEMS[name].grad(param.data)).max() > TOLERANCE:
        optimizer.step(closure)
        if closure.calls > most:
            raise RuntimeError(f"{name}: the gradient is still {param.grad} after {most} evaluations")
    return closure.calls


def scipys(name: str, *, most: int = 10_000) -> int:
    """Return how many evaluations SciPy's CG needs."""
    start, loss, grad = PROBLEMS[name]
    found = minimize(loss, start, jac=grad, method="CG", options={"gtol": TOLERANCE, "maxiter": most})
    if not found.success:
        raise RuntimeError(f"{name}: {found.message}")
    return found.nfev


def main() -> None:
    """Print the table."""
    counts = {name: [scipys(name), *(ours(name, method) for method in METHODS)] for name in REACHED}
    counts["sum"] = np.sum(list(counts.values()), axis=0).tolist()
    print("| problem | SciPy | Polak-Ribière | Hager-Zhang |\n|---|---|---|---|")
    for name, row in counts.items():
        print(f"| {name} | {' | '.join(map(str, row))} |")


if __name__ == "__main__":
    main()
