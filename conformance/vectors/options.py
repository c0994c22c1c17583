"""Options of vectors: all of them written out, numbers that are exact in every format, and what they ask for."""

import inspect
import math
from typing import Any

import refoptim
from refoptim.conformance.case import Case

# What says how something is computed, not what.
_HOW = {
    "params",
    "foreach",
    "fused",
    "capturable",
    "differentiable",
    "arithmetic",
    "dialect",
    "master_weights",
    "rounding",
    "seed",
}
# Without these an optimizer is not itself: they are asked of everyone.
_SELF = {"lr", "betas", "eps", "alpha", "rho", "etas", "step_sizes", "lambd", "t0", "beta2_decay", "d", "ns_steps"}
_SELF |= {"ns_coefficients", "momentum_decay"}


# Those of which there is a whole number.
_COUNTS = {"ns_steps", "max_iter", "max_eval", "history_size"}


def documented(optimizer: str) -> dict[str, Any]:
    """Return an optimizer's options with their documented defaults, whole numbers that stand for any as floats."""
    signature = inspect.signature(getattr(refoptim, optimizer))
    defaults = {name: p.default for name, p in signature.parameters.items() if name not in _HOW}
    return {name: _plain(name, value) for name, value in defaults.items()}


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_plain(name, part) for part in value)
    return float(value) if isinstance(value, int) and not isinstance(value, bool) and name not in _COUNTS else value


def complete(case: Case) -> dict[str, Any]:
    """Return all options of a case."""
    return documented(case.optimizer) | {name: _plain(name, value) for name, value in case.options.items()}


def dyadic(options: dict[str, Any]) -> dict[str, Any]:
    """Return options near these that every format can hold: rounding them explains no difference."""
    return {name: value if name == "ns_coefficients" else _dyadic(name, value) for name, value in options.items()}


def _dyadic(name: str, value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_dyadic(name, part) for part in value)
    return _near(name, value) if isinstance(value, float) and not (value * 8).is_integer() else value


def _near(name: str, value: float) -> float:
    """Return a number of few digits near this one."""
    sign, size = math.copysign(1.0, value), abs(value)
    if name == "beta2_decay":
        return round(value * 4) / 4
    if 1 < size < 2:
        return sign * max(9, round(size * 8)) / 8
    if name in ("betas", "alpha", "rho", "momentum", "etas") and 0.5 < size < 1:
        return sign * (1 - 2.0 ** max(round(math.log2(1 - size)), -6))
    power = 2.0 ** round(math.log2(size))
    if name == "weight_decay":
        return 0.75 * power  # not also 1 - beta of some beta
    # A smaller one would not be seen beside gradients of ordinary size.
    return sign * (max(power, 2.0**-20) if name == "eps" else power)


def slug(case: Case, *, values: bool = False) -> str:
    """Return the options that a case sets, for its id."""
    named = {name: value for name, value in case.options.items() if name != "lr"}
    parts = [name if value is True or not values else f"{name}={short(value)}" for name, value in named.items()]
    shape = ["x".join(map(str, case.shape))] if case.shape else []
    return "-".join([*parts, *shape]).replace("_", "-").lower() or "plain"


def short(value: Any) -> str:
    """Return an option's value, for an id: a number with no more digits than it needs, a function by its name."""
    if isinstance(value, (tuple, list)):
        return ",".join(map(short, value))
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{value:g}"
    return getattr(value, "__name__", "").replace("_", "") or str(value)


def asked(optimizer: str, options: dict[str, Any]) -> list[str]:
    """Return the features that options ask for: those that are off by default and on here, or the other way round."""
    usual = documented(optimizer) | {"adjust_lr_fn": "original"}
    options = options | ({"adjust_lr_fn": options["adjust_lr_fn"] or "original"} if "adjust_lr_fn" in options else {})
    return sorted(
        f"option:{name}"
        for name, value in options.items()
        if name not in _SELF and value != usual[name] and (bool(value) != bool(usual[name]) or isinstance(value, str))
    )
