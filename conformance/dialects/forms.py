"""The optimizers whose dialects can be computed: their formulas, what options mean to them, and their state."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from refoptim.conformance import cases
from refoptim.conformance.case import Case
from refoptim.conformance.dialects import momenta, moments, squares

Options = Mapping[str, Any]


class Form(NamedTuple):
    """How an optimizer is computed, whatever its dialect."""

    formula: Callable[..., tuple[Any, ...]]
    state: tuple[str, ...]  # by torch's names
    axes: tuple[str, ...]  # the formula's parameters that say which dialect it is
    symbols: Callable[[Options, Any, int], dict[str, Any]]  # the formula's others: of options, dtype and step
    # What state starts with where it is not zero, and the shapes of state that has not the parameter's.
    initial: Callable[[Options, Mapping[str, str], float], dict[str, float]] = lambda *_: {}
    shapes: Callable[[tuple[int, ...]], Mapping[str, tuple[int, ...]]] = lambda _: {}
    # Numbers that go along with the state: at the first step, and after each from all symbols.
    host: Callable[[float], dict[str, Any]] = lambda _: {}
    advance: Callable[..., dict[str, Any]] | None = None
    whole: bool = False  # whether matrices must keep their shape


def _adam(o: Options, _: Any, t: int) -> dict[str, Any]:
    return _betas(o, _, t) | {"largest": o.get("amsgrad", False)}


def _betas(o: Options, _: Any, t: int) -> dict[str, Any]:
    first, second = o["betas"]
    weight_decay = o.get("weight_decay", 0.0)  # SparseAdam has none
    return {"t": t, "beta1": first, "beta2": second, "epsilon": o["eps"], "lambda_": weight_decay}


def _adafactor(o: Options, dtype: Any, t: int) -> dict[str, Any]:
    first, second = o["eps"]
    first = float(np.finfo(dtype).eps) if first is None else first
    # The step as a float, whose root is exact where the formula is.
    common = {"t": float(t), "tau": o["beta2_decay"], "d": o["d"], "lambda_": o["weight_decay"]}
    return common | {"epsilon1": first, "epsilon2": second}


def _factors(shape: tuple[int, ...]) -> Mapping[str, tuple[int, ...]]:
    if len(shape) < 2:
        return {"row_var": (0,), "col_var": (0,)}
    return {"row_var": (*shape[:-1], 1), "col_var": (*shape[:-2], 1, shape[-1]), "variance": (0,)}


_MOMENTS = ("exp_avg", "exp_avg_sq")

_FORMS = {
    "SGD": Form(
        momenta.sgd,
        ("momentum_buffer",),
        ("velocity", "start", "buffer", "ahead", "decay"),
        lambda o, _, t: {
            "t": t,
            "mu": o["momentum"],
            "tau": o["dampening"],
            "lambda_": o["weight_decay"],
            "nesterov": o["nesterov"],
        },
    ),
    "Adam": Form(moments.adam, (*_MOMENTS, "max_exp_avg_sq"), ("eps", "moments", "bias", "amsgrad", "decay"), _adam),
    "Adamax": Form(moments.adamax, ("exp_avg", "exp_inf"), ("eps", "bias", "decay"), _betas),
    "NAdam": Form(
        moments.nadam,
        _MOMENTS,
        ("eps", "mu", "decay"),
        lambda o, _, t: _betas(o, _, t) | {"psi": o["momentum_decay"]},
    ),
    "RAdam": Form(moments.radam, _MOMENTS, ("eps", "threshold", "below", "decay"), _betas),
    "RMSprop": Form(
        squares.rmsprop,
        ("square_avg", "momentum_buffer", "grad_avg"),
        ("eps", "velocity", "bias", "decay"),
        lambda o, _, t: {
            "t": t,
            "alpha": o["alpha"],
            "epsilon": o["eps"],
            "lambda_": o["weight_decay"],
            "mu": o["momentum"],
            "centered": o["centered"],
        },
        initial=lambda _o, axes, _lr: {"square_avg": float(axes["v0"])},
    ),
    "Adagrad": Form(
        squares.adagrad,
        ("sum",),
        ("eps", "decay"),
        lambda o, _, t: {"t": t, "eta": o["lr_decay"], "epsilon": o["eps"], "lambda_": o["weight_decay"]},
        initial=lambda o, _axes, _lr: {"sum": o["initial_accumulator_value"]},
    ),
    "Adadelta": Form(
        squares.adadelta,
        ("square_avg", "acc_delta"),
        ("eps", "stored", "decay"),
        lambda o, *_: {"rho": o["rho"], "epsilon": o["eps"], "lambda_": o["weight_decay"]},
    ),
    "Adafactor": Form(
        squares.adafactor,
        ("row_var", "col_var", "variance"),
        ("eps1", "rate", "factored"),
        _adafactor,
        shapes=_factors,
        whole=True,
    ),
    "Muon": Form(
        momenta.muon,
        ("momentum_buffer",),
        ("buffer", "scale", "decay"),
        lambda o, *_: {
            "mu": o["momentum"],
            "nesterov": o["nesterov"],
            "coefficients": o["ns_coefficients"],
            "epsilon": o["eps"],
            "steps": o["ns_steps"],
            "lambda_": o["weight_decay"],
            "adjusted": o["adjust_lr_fn"] or "original",
        },
        whole=True,
    ),
}
_FORMS["AdamW"] = _FORMS["Adam"]
_FORMS["SparseAdam"] = _FORMS["Adam"]._replace(
    formula=partial(moments.adam, moments="means", bias="both", amsgrad="raw", decay="l2"), axes=("eps",)
)


def known() -> list[str]:
    """Return the optimizers whose trajectories can be computed."""
    return [*_FORMS, *_PUBLISHED]


def of(algorithm: str) -> Form:
    """Return how an optimizer is computed: one without dialects, as its published formula."""
    if algorithm in _FORMS:
        return _FORMS[algorithm]
    module = cases.stems()[_PUBLISHED[algorithm]]
    published = module.meaning(Case(algorithm, {}))

    def formula(theta: Any, g: Any, *state: Any, kept: moments.Kept, **symbols: Any) -> tuple[Any, ...]:
        stepped, *new = published.formula(theta, g, *state, **symbols)
        return stepped, *map(kept, new)

    return Form(
        formula,
        published.state,
        (),
        # The gradient's sign is turned before.
        lambda o, _, t: module.meaning(Case(algorithm, dict(o) | {"maximize": False})).symbols(t),
        lambda _o, _axes, lr: published.initial(lr),
        host=published.host,
        advance=published.advance,
    )


_PUBLISHED = {"ASGD": "asgd", "Rprop": "rprop"}
