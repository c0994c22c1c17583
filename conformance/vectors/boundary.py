"""The tier ``boundary``: problems in which a decision is close, or both of its sides are equal."""

from collections.abc import Iterator

import numpy as np

from refoptim.conformance.case import Case
from refoptim.conformance.vectors.encoding import DTYPES
from refoptim.conformance.vectors.entry import Recipe
from refoptim.conformance.vectors.options import complete, dyadic
from refoptim.conformance.vectors.problems import Random
from refoptim.conformance.vectors.vector import Group, Step, Trajectory
from refoptim.formulas import radam


def recipes(optimizer: str) -> Iterator[Recipe]:
    """Yield an optimizer's recipes, if it decides anything."""
    for dtype in ("f32", "f64"):
        yield from _MAKERS[optimizer](dtype) if optimizer in _MAKERS else ()


def _recipe(name: str, comment: str, case: Case, problem: Trajectory) -> Recipe:
    identifier = f"{case.optimizer.lower()}.{problem.dtype}.boundary.{name}"
    return Recipe(identifier, comment, "boundary", ("Boundary",), case, problem)


def _problem(case: Case, dtype: str, theta: list[float], grads: list[list[float]]) -> Trajectory:
    options = dyadic(complete(case)) | case.options
    kind = DTYPES[dtype]
    steps = tuple(Step((options["lr"],), {"w": np.array(grad, kind)}) for grad in grads)
    record = frozenset(range(1, len(steps) + 1))
    group = Group(("w",), options)
    return Trajectory(case.optimizer, dtype, {"w": np.array(theta, kind)}, (group,), steps, record)


def _thresholds(dtype: str) -> Iterator[Recipe]:
    """RAdam begins to divide when rho is above 5: with these betas it is just above, or just below, at some step."""
    for name, side in (("rho-just-above-5", 1), ("rho-just-below-5", -1)):
        beta2, t = _close(side)
        case = Case("RAdam", {"betas": (0.875, beta2)})
        random = Random("boundary", name)
        grads = [random.sizes((4,), "f64", -6, 3).tolist() for _ in range(t + 1)]
        yield _recipe(
            name,
            f"rho is {radam.length(beta2, t):.3f} at step {t}",
            case,
            _problem(case, dtype, [1.0, -1.0, 0.5, 2.0], grads),
        )


def _close(side: int) -> tuple[float, int]:
    """Return the beta2, of 256ths, and the step for which rho is nearest to 5 on one side of it."""
    found = [(side * (radam.length(k / 256, t) - 5), k / 256, t) for k in range(180, 255) for t in range(4, 13)]
    _, beta2, t = min(entry for entry in found if entry[0] > 0)
    return beta2, t


def _signs(dtype: str) -> Iterator[Recipe]:
    """Rprop looks at signs alone: of numbers as small as their product allows, and of zeros on either side."""
    case = Case("Rprop", {})
    tiny = 2.0**-60
    grads = [[tiny, tiny, 1.0, 0.0, -0.0, tiny], [-tiny, tiny, 0.0, 1.0, 1.0, 0.0], [-tiny, -tiny, 1.0, 1.0, 1.0, tiny]]
    grads += [[tiny, -tiny, -1.0, -1.0, 0.0, -tiny]]
    yield _recipe(
        "signs", "signs of tiny numbers and of zeros", case, _problem(case, dtype, [0.5, 1, 1, 1, 1, 1], grads)
    )


def _equal_sides(dtype: str) -> Iterator[Recipe]:
    """Both sides of Adamax's maximum are equal at the second step: either is right."""
    case = Case("Adamax", {"betas": (0.875, 0.984375), "eps": 2.0**-20})
    eps, beta2 = case.options["eps"], case.options["betas"][1]
    grads = [[1 - eps, 2 - eps], [beta2 - eps, -(2 * beta2 - eps)], [0.5, 4.0]]
    yield _recipe("equal-sides", "the maximum of equal numbers", case, _problem(case, dtype, [1.0, -1.0], grads))


def _small(dtype: str) -> Iterator[Recipe]:
    """Adafactor divides by no mean that is below eps: these gradients are small, and then they are not."""
    case = Case("Adafactor", {"eps": (0.0078125, 0.5)})
    random = Random("boundary", "small")
    sizes = [(-9, -6), (-9, -5), (-1, 2)]
    steps = tuple(Step((2.0**-7,), {"w": random.sizes((3, 4), dtype, *size)}) for size in sizes)
    group = Group(("w",), dyadic(complete(case)) | case.options)
    params = {"w": random.normal((3, 4), dtype)}
    problem = Trajectory(case.optimizer, dtype, params, (group,), steps, frozenset({1, 2, 3}))
    yield _recipe("small-means", "means below eps", case, problem)


def _never_smaller(dtype: str) -> Iterator[Recipe]:
    """Where the second moment never shrinks, AMSGrad is Adam."""
    case = Case("Adam", {"amsgrad": True})
    grads = [[2.0**t, 1.0, -(2.0**t), 0.0] for t in range(5)]
    yield _recipe(
        "amsgrad-never-smaller", "the largest is the last", case, _problem(case, dtype, [1.0, 1.0, -1.0, 1.0], grads)
    )


_MAKERS = {
    "Adafactor": _small,
    "Adam": _never_smaller,
    "Adamax": _equal_sides,
    "RAdam": _thresholds,
    "Rprop": _signs,
}
