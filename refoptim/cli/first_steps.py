"""What ``refoptim compile`` does in each of its processes: first steps of every kind, as later processes take them."""

from collections.abc import Callable
from itertools import islice, product
from typing import Any, NamedTuple

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
TOOLS = ("utils", "swa_utils")
HALVES = ("bfloat16", "float16")
DTYPES = ("float32", "float64", *HALVES)
# Parameters of 16 bits have a kernel for each.
_ROUNDINGS: tuple[dict[str, Any], ...] = ({}, {"master_weights": True}, {"rounding": "stochastic"})
_MINIMIZERS = ("LBFGS", "CG")
# Who takes sparse gradients, along which rows are stepped by loops of their own; and who takes no others.
_SPARSE, _SPARSE_ALONE = ("SGD", "Adagrad", "SparseAdam"), ("SparseAdam",)
# Arrays of these sizes take all ways there are: on one thread and on several, and longer and shorter sums.
_SHAPES = (((4, 3), (5,)), ((100, 100), (9_000,)), ((400, 400), (600_000,)))


class Work(NamedTuple):
    """What one process compiles at a time."""

    name: str
    dtype: str
    arithmetic: str | None

    def __str__(self) -> str:
        return f"{self.name}, {self.dtype}" + (f", arithmetic={self.arithmetic}" if self.arithmetic else "")

    @property
    def is_possible(self) -> bool:
        """Whether there are such parameters for this optimizer: minimizers need more digits than 16 bits have."""
        return not (self.name in _MINIMIZERS and self.dtype in HALVES)


def optimizers() -> dict[str, Any]:
    """Return all optimizers by name."""
    import refoptim

    return {
        name: kind
        for name, kind in vars(refoptim).items()
        if isinstance(kind, type) and issubclass(kind, refoptim.Optimizer) and kind is not refoptim.Optimizer
    }


def compile_now(work: Work) -> list[Any]:
    """Do in small what a later process will do, and return the kernels that were needed."""
    from refoptim.kernels.caching import uses

    before = len(uses)
    if work.name in TOOLS:
        {"utils": _clip, "swa_utils": _average}[work.name](work)
    else:
        roundings = _ROUNDINGS if work.dtype in HALVES else ({},)
        for options, rounding, shapes in product(_OPTIONS.get(work.name, ({},)), roundings, _SHAPES):
            _step(work, options | rounding, shapes)
    return list(islice(uses, before, None))


def _params(work: Work, shapes: Any) -> list[Any]:
    import numpy as np

    import refoptim

    if work.dtype == "bfloat16":
        import ml_dtypes

        dtype: Any = ml_dtypes.bfloat16
    else:
        dtype = work.dtype
    params = [refoptim.Parameter(np.linspace(1, 2, int(np.prod(s))).astype(dtype).reshape(s)) for s in shapes]
    for param in params:
        param.grad = param.data
    return params


def _step(work: Work, options: dict[str, Any], shapes: Any) -> None:
    import numpy as np

    if work.name == "Muon":
        shapes = [shape for shape in shapes if len(shape) == 2]
    params = _params(work, shapes)
    optimizer = optimizers()[work.name](params, arithmetic=work.arithmetic, **options)

    def closure() -> float:
        for scale, param in enumerate(params, 1):
            param.grad = param.data * param.dtype.type(scale)
        return sum(float(np.vdot(param.data, param.grad)) / 2 for param in params)

    needs_closure: Callable[[], float] | None = closure if work.name in _MINIMIZERS else None
    for _ in range(0 if work.name in _SPARSE_ALONE else 2):
        optimizer.step(needs_closure)
    if work.name in _SPARSE and not options.keys() & {"master_weights", "rounding"}:
        optimizer.step(grads=map(_as_sparse, params))


def _as_sparse(param: Any) -> Any:
    import numpy as np

    import refoptim

    rows = np.arange(len(param), dtype=np.int64)
    return refoptim.SparseGrad(rows[None], np.array(param.data), param.shape)


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
