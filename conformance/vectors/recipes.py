"""Which trajectories there are: for every case of every optimizer, a vector of each tier that suits it."""

from collections.abc import Iterator
from types import ModuleType
from typing import Any

from refoptim.conformance import cases
from refoptim.conformance.case import Case
from refoptim.conformance.dialects import separators
from refoptim.conformance.vectors import problems
from refoptim.conformance.vectors.entry import Recipe
from refoptim.conformance.vectors.options import complete, dyadic, slug
from refoptim.conformance.vectors.vector import Trajectory

# Optimizers whose every element is the function of a hundred others have long runs that end in noise.
_SPARSE = {"SparseAdam": ("plain", "maximize", "betas-eps"), "SGD": ("plain", "maximize"), "Adagrad": ("plain", "eps")}


def optimizers() -> dict[str, tuple[ModuleType, list[Case]]]:
    """Return each optimizer's cases and the file that has them."""
    found: dict[str, tuple[ModuleType, list[Case]]] = {}
    for module in cases.stems().values():
        for case in module.CASES:
            if "dialect" not in case.options:  # vectors are torch's
                found.setdefault(case.optimizer, (module, []))[1].append(case)
    return found


def of(optimizer: str) -> Iterator[Recipe]:
    """Yield an optimizer's recipes."""
    module, own = optimizers()[optimizer]
    names = _names(own)
    only_sparse = optimizer == "SparseAdam"
    seen: set[str] = set()
    for case in own:
        new = str((dyadic(complete(case)), case.shape)) not in seen
        seen.add(str((dyadic(complete(case)), case.shape)))
        for dtype in ("f32", "f64"):
            if not only_sparse:
                yield from _dense(case, module, dtype, names[str(case)], dyadic_too=new)
            if names[str(case)] in _SPARSE.get(optimizer, ()):
                comment = "rows with gradients, one of them twice"
                yield _recipe(case, names[str(case)], "sparse", dtype, ("Dyadic", "Sparse"), comment, problems.sparse)
        if case in (own[0], own[-1]) and not getattr(module, "REAL_ONLY", False):
            for dtype in ("c64", "c128"):
                comment = "complex parameters in two groups"
                yield _recipe(
                    case, names[str(case)], "dyadic", dtype, ("Dyadic", "Complex"), comment, problems.bookkeeping
                )
    if not only_sparse:
        for dtype in ("f32", "f64"):
            comment = "no options at all"
            yield _recipe(own[0], "left-out", "defaults", dtype, ("LeftOut",), comment, problems.left_out)
            yield _recipe(own[0], "plain", "long", dtype, ("Long", "Defaults"), "a long run", problems.long)


def separating(optimizer: str) -> Iterator[Recipe]:
    """Yield the recipes of what tells dialects of an optimizer apart."""
    for dtype in ("f32", "f64"):
        for found in separators.problems(dtype):
            if isinstance(found.problem, Trajectory) and found.algorithm == optimizer:
                case = Case(optimizer, dict(found.problem.groups[0].options))
                comment = f"tells apart: {found.axis.title}"
                yield Recipe(found.id, comment, "separator", ("Dialect",), case, found.problem)


def _dense(case: Case, module: Any, dtype: str, name: str, *, dyadic_too: bool) -> Iterator[Recipe]:
    if dyadic_too:
        comment = "from zero, gradients of all sizes"
        yield _recipe(case, name, "probe", dtype, ("FromZero", "Dyadic"), comment, problems.probe)
        comment = "two groups, missing gradients and gradients of zeros, learning rates that change"
        yield _recipe(case, name, "dyadic", dtype, ("Dyadic",), comment, problems.bookkeeping)
    if dtype == "f32" or module.CASES[0] == case:
        comment = "default hyperparameters but for those of its name"
        yield _recipe(case, name, "defaults", dtype, ("Defaults",), comment, problems.defaults)


def named(own: list[Case]) -> dict[str, Case]:
    """Return an optimizer's cases by their names in ids."""
    names = _names(own)
    return {names[str(case)]: case for case in own}


def _names(own: list[Case]) -> dict[str, str]:
    """Return each case's name in ids: its options, with their values where the options alone name two."""
    short = [slug(case) for case in own]
    return {
        str(case): name if short.count(name) == 1 else slug(case, values=True)
        for case, name in zip(own, short, strict=True)
    }


def _recipe(case: Case, name: str, tier: str, dtype: str, flags: tuple[str, ...], comment: str, make: Any) -> Recipe:
    meaning = optimizers()[case.optimizer][0].meaning(case)
    matrix = ("Matrix",) if meaning.whole else ()
    identifier = f"{case.optimizer.lower()}.{dtype}.{tier}.{name}"
    return Recipe(identifier, comment, tier, (*flags, *matrix), case, make(case, meaning, dtype))
