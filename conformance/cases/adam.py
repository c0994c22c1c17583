"""Cases of Adam and AdamW, with and without AMSGrad."""

import math
from typing import Any

from refoptim.conformance.case import Case, Meaning, RuleMutant, ScalarMutant
from refoptim.formulas import adam as formulas

DEFAULTS = {
    "lr": 1e-3,
    "betas": (0.9, 0.999),
    "eps": 1e-8,
    "weight_decay": 0,
    "amsgrad": False,
    "maximize": False,
    "decoupled_weight_decay": False,
    "dialect": None,
}

CASES = (
    Case("Adam", {}),
    Case("Adam", {"maximize": True}),
    Case("Adam", {"betas": (0.5, 0.75), "eps": 1e-3}),
    Case("Adam", {"weight_decay": 0.1}),
    Case("Adam", {"weight_decay": 0.1, "maximize": True}),
    Case("Adam", {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    Case("Adam", {"amsgrad": True}),
    Case("Adam", {"amsgrad": True, "weight_decay": 0.1}),
    Case("Adam", {"dialect": "keras", "weight_decay": 0.1}),
    Case("Adam", {"dialect": "keras", "amsgrad": True, "betas": (0.5, 0.75), "eps": 1e-3, "maximize": True}),
    Case("Adam", {"dialect": "tensorflow", "weight_decay": 0.1, "eps": 1e-3}),
    Case("Adam", {"dialect": "optax", "weight_decay": 0.1}),
    Case("Adam", {"dialect": "optax", "amsgrad": True, "betas": (0.5, 0.75), "eps": 1e-3, "maximize": True}),
    Case("Adam", {"dialect": "optax", "amsgrad": True, "weight_decay": 0.1}),
    Case("AdamW", {}),
    Case("AdamW", {"weight_decay": 0.3, "maximize": True}),
    Case("AdamW", {"amsgrad": True, "maximize": True}),
    Case("AdamW", {"dialect": "keras", "weight_decay": 0.3}),
    Case("AdamW", {"dialect": "optax", "amsgrad": True}),
    Case("AdamW", {"amsgrad": True, "betas": (0.5, 0.75), "eps": 1e-3}),
)


def meaning(case: Case) -> Meaning:
    """Return the formula of a case and what its symbols stand for."""
    o: dict[str, Any] = DEFAULTS | case.options
    if case.optimizer == "AdamW":
        o = DEFAULTS | {"weight_decay": 1e-2} | case.options | {"decoupled_weight_decay": True}
    symbols = {
        "gamma": o["lr"],
        "beta1": o["betas"][0],
        "beta2": o["betas"][1],
        "epsilon": o["eps"],
        "lambda_": o["weight_decay"],
        "decoupled": o["decoupled_weight_decay"] or o["dialect"] == "keras",
        "maximize": o["maximize"],
    }
    state = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")
    if o["dialect"] in ("keras", "tensorflow"):
        symbols["hat"] = True
    if o["amsgrad"] and o["dialect"] == "optax":
        return Meaning(formulas.amsgrad_corrected, state, lambda t: symbols | {"t": t})
    if o["amsgrad"]:
        return Meaning(formulas.amsgrad, state, lambda t: symbols | {"t": t})
    return Meaning(formulas.adam, state[:2], lambda t: symbols | {"t": t})


_SHARED = (
    ("weight decay dropped", "fma(h.weight_decay, theta, g)", "g"),
    ("weight decay with the wrong sign", "fma(h.weight_decay, theta, g)", "fma(-h.weight_decay, theta, g)"),
    ("decoupled decay dropped", "fma(h.decay, theta, delta)", "delta"),
    ("decoupled decay with the wrong sign", "fma(h.decay, theta, delta)", "fma(-h.decay, theta, delta)"),
    (
        "decay of the stepped parameter",
        "fma(h.decay, theta, delta)",
        "fma(h.decay, theta - h.step_size * delta, delta)",
    ),
    ("maximize ignored", "h.sign * g", "g"),
    ("climbs instead of descending", "fma(-h.step_size", "fma(h.step_size"),
    ("first moment not decayed", "fma(h.beta1, m", "fma(h.beta1 / h.beta1, m"),
    ("first moment keeps its sign", "h.one_minus_beta1 * g", "abs(h.one_minus_beta1 * g)"),
    ("first moment without its weight", "h.one_minus_beta1 * g", "g"),
    ("second moment not decayed", "fma(h.beta2, v", "fma(h.beta2 / h.beta2, v"),
    ("second moment without its weight", "h.one_minus_beta2 * g * g", "g * g"),
    ("second moment of the gradient's size", "h.one_minus_beta2 * g * g", "h.one_minus_beta2 * abs(g)"),
    ("second moment weighted like the first", "h.one_minus_beta2 * g * g", "h.one_minus_beta1 * g * g"),
    ("second moment of the first moment", "h.one_minus_beta2 * g * g", "h.one_minus_beta2 * m * m"),
    ("steps along the gradient", "delta = m /", "delta = g /"),
)

# What is in the root of each rule.
_RULES = {"adam": "v", "amsgrad": "v_max", "amsgrad_corrected": "v_max"}
_CORRECTED = "maximum(v_max, h.correction * v)"

RULE_MUTANTS = (
    *(RuleMutant(name, rule, right, wrong) for rule in _RULES for name, right, wrong in _SHARED),
    *(
        RuleMutant(name, rule, f"(sqrt({v}) + h.eps)", wrong.format(v=v))
        for rule, v in _RULES.items()
        for name, wrong in (
            ("eps inside the root", "sqrt({v} + h.eps)"),
            ("eps squared inside the root", "sqrt(fma(h.eps, h.eps, {v}))"),
            ("eps dropped", "sqrt({v})"),
            ("eps as a lower limit", "max(sqrt({v}), h.eps)"),
            ("root dropped", "({v} + h.eps)"),
            ("root with an error of 3e-4", "((sqrt({v}) + h.eps) * (h.beta2 / h.beta2 + 3e-4))"),
        )
    ),
    RuleMutant("minimum instead of maximum", "amsgrad", "maximum(v_max, v)", "min(v_max, v)"),
    RuleMutant("maximum not used", "amsgrad", "sqrt(v_max)", "sqrt(v)"),
    RuleMutant("maximum not taken", "amsgrad", "maximum(v_max, v)", "v"),
    RuleMutant("maximum kept as the second moment", "amsgrad", "theta), m, v, v_max", "theta), m, v_max, v_max"),
    RuleMutant("minimum instead of maximum", "amsgrad_corrected", "maximum", "min"),
    RuleMutant("maximum of what is not corrected", "amsgrad_corrected", _CORRECTED, "maximum(v_max, v)"),
    RuleMutant("maximum corrected once more", "amsgrad_corrected", _CORRECTED, "h.correction * maximum(v_max, v)"),
    RuleMutant("maximum not taken", "amsgrad_corrected", _CORRECTED, "h.correction * v"),
    RuleMutant("correction dropped", "amsgrad_corrected", "sqrt(v_max)", "sqrt(v)"),
    RuleMutant("correction kept", "amsgrad_corrected", "theta), m, v, v_max", "theta), m, h.correction * v, v_max"),
)


def _scalars(h: Any, lr: float, bias1: float, bias2: float, eps: float, decay: float) -> Any:
    """Return scalars with other bias corrections, given the decay per step."""
    step_size = lr * math.sqrt(bias2) / bias1
    return h._replace(step_size=step_size, eps=eps * math.sqrt(bias2), decay=decay / step_size)


def _with(h: Any, o: Any, t: int, **changed: float) -> Any:
    """Return the right scalars but for what is changed, which everything else follows."""
    beta1, beta2 = o.beta1, o.beta2
    right = {
        "lr": o.lr,
        "bias1": 1 - beta1**t,
        "bias2": 1 - beta2**t,
        "eps": o.eps,
        "decay": h.decay * h.step_size,
    }
    return _scalars(h, **(right | changed))


def _one_step_later(h: Any, o: Any, t: int) -> Any:
    beta1, beta2 = o.beta1, o.beta2
    return _with(h, o, t, bias1=1 - beta1 ** (t + 1), bias2=1 - beta2 ** (t + 1))


def _swapped(h: Any, o: Any, t: int) -> Any:
    return h._replace(
        beta1=h.beta2, one_minus_beta1=h.one_minus_beta2, beta2=h.beta1, one_minus_beta2=h.one_minus_beta1
    )


def _coarse(x: float) -> float:
    return round(x * 2**24) / 2**24


SCALAR_MUTANTS = tuple(
    ScalarMutant(name, optimizer, change)
    for optimizer in ("Adam", "AdamW")
    for name, change in (
        ("bias corrections off by one", _one_step_later),
        ("no bias corrections", lambda h, o, t: _with(h, o, t, bias1=1.0, bias2=1.0)),
        ("first moment's bias not corrected", lambda h, o, t: _with(h, o, t, bias1=1.0)),
        ("second moment's bias not corrected", lambda h, o, t: _with(h, o, t, bias2=1.0)),
        (
            "second moment's bias corrected without root",
            lambda h, o, t: _with(h, o, t, bias2=(1 - o.beta2**t) ** 2),
        ),
        ("eps hat: eps before the correction", lambda h, o, t: h._replace(eps=o.eps)),
        ("betas swapped", _swapped),
        ("powers in float32", lambda h, o, t: _with(h, o, t, bias2=1 - _coarse(o.beta2**t))),
        ("1 - beta2 in float32", lambda h, o, t: h._replace(one_minus_beta2=1 - _coarse(o.beta2))),
        ("decay not multiplied by lr", lambda h, o, t: h._replace(decay=h.decay / o.lr)),
        ("L2 and decoupled exchanged", lambda h, o, t: h._replace(weight_decay=h.decay, decay=h.weight_decay)),
        ("decay with the step size", lambda h, o, t: h._replace(decay=h.decay * h.step_size / o.lr)),
        ("eps hat missing: eps after the correction", lambda h, o, t: h._replace(eps=o.eps * (1 - o.beta2**t) ** 0.5)),
        ("maximum's correction off by one", lambda h, o, t: h._replace(correction=1 / (1 - o.beta2 ** (t + 1)))),
        ("maximum's correction with a root", lambda h, o, t: h._replace(correction=h.correction**0.5)),
        ("eps times ten", lambda h, o, t: h._replace(eps=h.eps * 10)),
        ("lr off in the fifth digit", lambda h, o, t: h._replace(step_size=h.step_size * 1.00001)),
    )
)
