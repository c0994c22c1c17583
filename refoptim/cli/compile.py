"""``refoptim compile``: kernels compiled before they are needed, such as when an image is built."""

import argparse
import sys
from collections.abc import Callable, Iterator
from itertools import islice, product
from typing import Any, NamedTuple

from refoptim.cli import jobs

# The options that choose kernels: a step with each of them compiles all that an optimizer has.
_OPTIONS: dict[str, tuple[dict[str, Any], ...]] = {
    "SGD": tuple(
        {"momentum": 0.9 * (m or n), "nesterov": n} | d
        for m, n, d in product((False, True), (False, True), ({}, {"dialect": "keras"}))
    ),
    "Adam": ({}, {"amsgrad": True}, {"dialect": "keras"}, {"amsgrad": True, "dialect": "optax"}),
    "AdamW": ({}, {"amsgrad": True}, {"dialect": "keras"}, {"amsgrad": True, "dialect": "optax"}),
    "Adamax": ({}, {"dialect": "keras"}),
    "Adagrad": ({}, {"dialect": "optax"}),
    "RMSprop": tuple(
        {"momentum": m, "centered": c} | d for m, c, d in product((0, 0.9), (False, True), ({}, {"dialect": "keras"}))
    ),
    "LBFGS": ({"max_iter": 4}, {"max_iter": 4, "line_search_fn": "strong_wolfe"}),
    "CG": ({"max_iter": 4},),
    "Muon": ({}, {"dialect": "torch"}),
}
_TOOLS = ("utils", "swa_utils")
_DTYPES = ("float32", "float64")
# Arrays of these sizes take all ways there are: on one thread and on several, and longer and shorter sums.
_SHAPES = (((4, 3), (5,)), ((100, 100), (9_000,)), ((300, 300), (600_000,)))


class Work(NamedTuple):
    """What one process compiles at a time."""

    name: str
    dtype: str
    arithmetic: str | None

    def __str__(self) -> str:
        return f"{self.name}, {self.dtype}" + (f", arithmetic={self.arithmetic}" if self.arithmetic else "")


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "compile",
        help="compile kernels now, so that no later process has to",
        description="Compile all kernels of these optimizers and keep them where later processes look: in "
        "NUMBA_CACHE_DIR, else beside the package, else in the user's cache folder. What is there already is left as "
        "it is. The exit code is 1 if compiled code cannot be kept.",
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="Adam, SGD ...; utils (norms and clipping), swa_utils (averages); not needed with --all",
    )
    parser.add_argument("--all", action="store_true", help="all of them, in every dtype and arithmetic not given")
    parser.add_argument(
        "--dtype",
        action="append",
        choices=_DTYPES,
        help="of the parameters; complex ones use the kernels of their parts (default: float32; may be repeated)",
    )
    parser.add_argument("--arithmetic", choices=("float64",), help="for optimizers that are built with this option")
    jobs.add(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress bar, and only the last line")


def run(options: argparse.Namespace) -> int:
    """Compile and say what was compiled, what was there and where it lies."""
    known = [*_optimizers(), *_TOOLS]
    unknown = [name for name in options.names if name not in known]
    if unknown or bool(options.names) == options.all:
        why = f"there is no {unknown[0]}" if unknown else "give either names or --all"
        print(f"refoptim compile: {why}; names are {', '.join(known)}", file=sys.stderr)
        return 2
    dtypes = options.dtype or (_DTYPES if options.all else _DTYPES[:1])
    arithmetics = [None, "float64"] if options.all and not options.arithmetic else [options.arithmetic]
    works = [
        Work(*parts)
        for parts in product(dict.fromkeys(options.names) or known, dict.fromkeys(dtypes), arithmetics)
        # In float64 it is the default, and has the same kernels.
        if parts[1:] != ("float64", "float64") or len(arithmetics) == 1
    ]
    there = made = lost = 0
    files = set()
    with jobs.each(options.jobs) as each:
        for work, uses in _with_progress(works, each(compile_now, works), quiet=options.quiet):
            found = [use.was_there for use in uses]
            there, made = there + sum(found), made + len(found) - sum(found)
            lost += sum(use.file is None for use in uses)
            files.update(use.file for use in uses if use.file)
            if not options.quiet:
                done = f"{len(found) - sum(found)} compiled, {sum(found)} there already"
                print(f"{work}: {done if found else 'the same kernels'}")
    size = sum(file.stat().st_size for file in files if file.exists())
    folders = ", ".join(sorted({str(file.parent) for file in files}))
    print(f"{made} compiled, {there} there already" + (f": {size / 1e6:.1f} MB in {folders}" if files else ""))
    if lost:
        print(f"refoptim compile: {lost} could not be kept: set NUMBA_CACHE_DIR to another folder", file=sys.stderr)
    return 1 if lost else 0


def _optimizers() -> dict[str, Any]:
    import refoptim

    return {
        name: kind
        for name, kind in vars(refoptim).items()
        if isinstance(kind, type) and issubclass(kind, refoptim.Optimizer) and kind is not refoptim.Optimizer
    }


def _with_progress(works: list[Work], results: Iterator[Any], *, quiet: bool) -> Iterator[tuple[Work, Any]]:
    """Yield each work with its result, and show how far it is where tqdm is installed."""
    pairs = zip(works, results, strict=True)
    if not quiet:
        try:
            from tqdm import tqdm
        except ModuleNotFoundError:
            pass
        else:
            pairs = iter(tqdm(pairs, total=len(works), unit="optimizer", leave=False))
    yield from pairs


def compile_now(work: Work) -> list[Any]:
    """Do in small what a later process will do, and return the kernels that were needed."""
    from refoptim.kernels.caching import uses

    before = len(uses)
    if work.name in _TOOLS:
        {"utils": _clip, "swa_utils": _average}[work.name](work)
    else:
        for options, shapes in product(_OPTIONS.get(work.name, ({},)), _SHAPES):
            _step(work, options, shapes)
    return list(islice(uses, before, None))


def _params(work: Work, shapes: Any) -> list[Any]:
    import numpy as np

    import refoptim

    params = [refoptim.Parameter(np.linspace(1, 2, int(np.prod(s)), dtype=work.dtype).reshape(s)) for s in shapes]
    for param in params:
        param.grad = param.data
    return params


def _step(work: Work, options: dict[str, Any], shapes: Any) -> None:
    import numpy as np

    import refoptim

    kind = _optimizers()[work.name]
    options = options | {"arithmetic": work.arithmetic}
    if work.name == "Muon":
        shapes = [shape for shape in shapes if len(shape) == 2]
    params = _params(work, shapes)
    if work.name == "SparseAdam":
        for param in params:
            rows = np.arange(len(param), dtype=np.int64)
            param.grad = refoptim.SparseGrad(rows[None], np.array(param.data), param.shape)
    optimizer = kind(params, **options)

    def closure() -> float:
        for scale, param in enumerate(params, 1):
            param.grad = param.data * param.dtype.type(scale)
        return sum(float(np.vdot(param.data, param.grad)) / 2 for param in params)

    needs_closure: Callable[[], float] | None = closure if work.name in ("LBFGS", "CG") else None
    for _ in range(2):
        optimizer.step(needs_closure)


def _clip(work: Work) -> None:
    from refoptim import utils

    for shapes, norm in product(_SHAPES, (2.0, 1.0, 0.0, float("inf"))):
        utils.clip_grad_norm_(_params(work, shapes), 0.5, norm)
    for shapes in _SHAPES:
        utils.clip_grad_value_(_params(work, shapes), 0.5)


def _average(work: Work) -> None:
    from refoptim import swa_utils

    for shapes in _SHAPES:
        params = _params(work, shapes)
        for average in (None, swa_utils.get_ema_avg_fn(0.5)):
            averaged = swa_utils.AveragedModel(params, avg_fn=average, arithmetic=work.arithmetic)
            for _ in range(2):
                averaged.update_parameters(params)
