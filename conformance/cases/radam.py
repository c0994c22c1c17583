"""Cases of RAdam."""

from typing import Any

from refoptim.conformance.case import Case, Meaning, RuleMutant, ScalarMutant
from refoptim.conformance.truth import WideBallError
from refoptim.formulas import radam as formulas

DEFAULTS = {
    "lr": 1e-3,
    "betas": (0.9, 0.999),
    "eps": 1e-8,
    "weight_decay": 0,
    "decoupled_weight_decay": False,
    "maximize": False,
}

CASES = (
    Case("RAdam", {}),
    Case("RAdam", {"maximize": True}),
    Case("RAdam", {"betas": (0.5, 0.75), "eps": 1e-3}),  # rectified from the sixth step too, by 1 / 7 and more
    Case("RAdam", {"betas": (0.0, 0.6)}),  # never rectified
    Case("RAdam", {"weight_decay": 0.1}),
    Case("RAdam", {"weight_decay": 0.1, "maximize": True, "betas": (0.9, 0.99)}),
    Case("RAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    Case("RAdam", {"weight_decay": 0.3, "decoupled_weight_decay": True, "maximize": True, "betas": (0.8, 0.9)}),
)


def meaning(case: Case) -> Meaning:
    """Return the formula of a case and what its symbols stand for."""
    o: dict[str, Any] = DEFAULTS | case.options
    symbols = {
        "gamma": o["lr"],
        "beta1": o["betas"][0],
        "beta2": o["betas"][1],
        "epsilon": o["eps"],
        "lambda_": o["weight_decay"],
        "decoupled": o["decoupled_weight_decay"],
        "maximize": o["maximize"],
    }
    return Meaning(_decided, ("exp_avg", "exp_avg_sq"), lambda t: symbols | {"t": t})


def _decided(*arrays: Any, t: int, beta2: Any, **symbols: Any) -> tuple[Any, ...]:
    """Return what the formula does, once it is certain on which side of 5 the length is: balls that overlap are not."""
    rho = formulas.length(beta2, t)
    if not rho > 5 and not rho <= 5:
        raise WideBallError(f"whether {rho} is above 5 is not decided")
    return formulas.radam(*arrays, t=t, beta2=beta2, **symbols)


RULE_MUTANTS = tuple(
    RuleMutant(name, "radam", right, wrong)
    for name, right, wrong in (
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
        ("always divides", "by_sign(h.rectification", "by_sign(h.beta2"),
        ("never divides", "by_sign(h.rectification", "by_sign(h.rectification * 0"),
        ("divides while it should not", "h.one, sqrt(v) + h.eps", "sqrt(v) + h.eps, h.one"),
        ("rectified twice", "m / by_sign", "h.rectification * m / by_sign"),
        ("eps inside the root", "sqrt(v) + h.eps", "sqrt(v + h.eps)"),
        ("eps squared inside the root", "sqrt(v) + h.eps", "sqrt(fma(h.eps, h.eps, v))"),
        ("eps dropped", "sqrt(v) + h.eps", "sqrt(v)"),
        ("eps as a lower limit", "sqrt(v) + h.eps", "max(sqrt(v), h.eps)"),
        ("root dropped", "sqrt(v) + h.eps", "v + h.eps"),
        ("root with an error of 3e-4", "sqrt(v) + h.eps", "(sqrt(v) + h.eps) * (h.beta2 / h.beta2 + 3e-4)"),
    )
)


def _with(h: Any, o: Any, t: int, **changed: float) -> Any:
    """Return the right scalars but for what is changed, which everything else follows."""
    right = {
        "bias1": 1 - o.beta1**t,
        "bias2": 1 - o.beta2**t,
        "r": formulas.rectification(o.beta2, t),
        "decay": h.decay * h.step_size,
    } | changed
    step_size = o.lr / right["bias1"] * (right["r"] * right["bias2"] ** 0.5 if right["r"] else 1.0)
    return h._replace(rectification=right["r"], step_size=step_size, decay=right["decay"] / step_size)


def _beyond(threshold: float) -> Any:
    """Return what rectifies beyond another length."""

    def change(h: Any, o: Any, t: int) -> Any:
        rho, rho_inf = formulas.length(o.beta2, t), 2 / (1 - o.beta2) - 1
        if rho <= threshold:
            return _with(h, o, t, r=0.0)
        return _with(h, o, t, r=((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)) ** 0.5)

    return change


def _rectified_as(formula: Any) -> Any:
    """Return what rectifies by another formula, of both lengths."""

    def change(h: Any, o: Any, t: int) -> Any:
        r = formula(formulas.length(o.beta2, t), 2 / (1 - o.beta2) - 1) if h.rectification else 0.0
        return _with(h, o, t, r=r)

    return change


def _coarse(x: float) -> float:
    return round(x * 2**24) / 2**24


SCALAR_MUTANTS = tuple(
    ScalarMutant(name, "RAdam", change)
    for name, change in (
        ("rectifies beyond 4, as the paper", _beyond(4.0)),
        ("rectifies beyond 6", _beyond(6.0)),
        ("rectifies beyond 5.1", _beyond(5.1)),
        ("rectified a step late", lambda h, o, t: _with(h, o, t, r=formulas.rectification(o.beta2, max(t - 1, 1)))),
        ("rectified a step early", lambda h, o, t: _with(h, o, t, r=formulas.rectification(o.beta2, t + 1))),
        ("not rectified but divided", lambda h, o, t: _with(h, o, t, r=1.0 if h.rectification else 0.0)),
        ("rectification without root", _rectified_as(lambda r, s: (r - 4) * (r - 2) * s / ((s - 4) * (s - 2) * r))),
        ("rectification without (rho - 2)", _rectified_as(lambda r, s: ((r - 4) * s / ((s - 4) * r)) ** 0.5)),
        (
            "rectification with 3 for 4",
            _rectified_as(lambda r, s: ((r - 3) * (r - 2) * s / ((s - 3) * (s - 2) * r)) ** 0.5),
        ),
        (
            "rectification upside down",
            lambda h, o, t: _with(h, o, t, r=1 / h.rectification if h.rectification else 0.0),
        ),
        (
            "bias corrections off by one",
            lambda h, o, t: _with(h, o, t, bias1=1 - o.beta1 ** (t + 1), bias2=1 - o.beta2 ** (t + 1)),
        ),
        ("first moment's bias not corrected", lambda h, o, t: _with(h, o, t, bias1=1.0)),
        ("second moment's bias not corrected", lambda h, o, t: _with(h, o, t, bias2=1.0)),
        ("second moment's bias corrected without root", lambda h, o, t: _with(h, o, t, bias2=(1 - o.beta2**t) ** 2)),
        ("second moment's power in float32", lambda h, o, t: _with(h, o, t, bias2=1 - _coarse(o.beta2**t))),
        ("1 - beta2 in float32", lambda h, o, t: h._replace(one_minus_beta2=1 - _coarse(o.beta2))),
        ("eps scaled as Adam's", lambda h, o, t: h._replace(eps=o.eps * (1 - o.beta2**t) ** 0.5)),
        ("eps times ten", lambda h, o, t: h._replace(eps=h.eps * 10)),
        ("decay not multiplied by lr", lambda h, o, t: h._replace(decay=h.decay / o.lr)),
        ("L2 and decoupled exchanged", lambda h, o, t: h._replace(weight_decay=h.decay, decay=h.weight_decay)),
        ("decay with the step size", lambda h, o, t: h._replace(decay=h.decay * h.step_size / o.lr)),
        ("lr off in the fifth digit", lambda h, o, t: h._replace(step_size=h.step_size * 1.00001)),
    )
)
