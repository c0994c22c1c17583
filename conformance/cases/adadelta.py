"""Cases of Adadelta."""

from typing import Any

from refoptim.conformance.case import Case, Meaning, RuleMutant, ScalarMutant
from refoptim.formulas import adadelta as formulas

DEFAULTS = {
    "lr": 1.0,
    "rho": 0.9,
    "eps": 1e-6,
    "weight_decay": 0,
    "maximize": False,
}

CASES = (
    Case("Adadelta", {"lr": 1.0}),
    Case("Adadelta", {"lr": 0.1, "rho": 0.5, "eps": 1e-3}),
    Case("Adadelta", {"lr": 1.0, "rho": 0.99, "maximize": True}),
    Case("Adadelta", {"lr": 1.0, "weight_decay": 0.1}),
    Case("Adadelta", {"lr": 0.01, "eps": 0.3, "rho": 0.75}),
    Case("Adadelta", {"lr": 0.5, "weight_decay": 0.3, "maximize": True}),
)


def meaning(case: Case) -> Meaning:
    """Return the formula of a case and what its symbols stand for."""
    o: dict[str, Any] = DEFAULTS | case.options
    symbols = {
        "gamma": o["lr"],
        "rho": o["rho"],
        "epsilon": o["eps"],
        "lambda_": o["weight_decay"],
        "maximize": o["maximize"],
    }
    return Meaning(formulas.adadelta, ("square_avg", "acc_delta"), lambda _: symbols)


_DECAY = "fma(h.weight_decay, theta, g)"
_GRADIENTS = "fma(h.rho, v, h.one_minus_rho * g * g)"
_UPDATES = "fma(h.rho, u, h.share * g * (g * quotient))"
_ABOVE, _BELOW = "fma(h.scale, u, h.scaled_eps)", "(v + h.eps)"

RULE_MUTANTS = tuple(
    RuleMutant(name, "adadelta", right, wrong)
    for name, right, wrong in (
        ("weight decay dropped", _DECAY, "g"),
        ("weight decay with the wrong sign", _DECAY, "fma(-h.weight_decay, theta, g)"),
        ("weight decay not multiplied by the parameter", _DECAY, "fma(h.weight_decay, g, g)"),
        ("maximize ignored", "h.sign * g", "g"),
        ("climbs instead of descending", "fma(-h.step_size", "fma(h.step_size"),
        ("learning rate dropped", "fma(-h.step_size", "fma(-1 / sqrt(h.scale)"),
        ("squared gradients not decayed", _GRADIENTS, "v + h.one_minus_rho * g * g"),
        ("squared gradients without their weight", _GRADIENTS, "fma(h.rho, v, g * g)"),
        ("mean of the gradients' sizes", _GRADIENTS, "fma(h.rho, v, h.one_minus_rho * abs(g))"),
        ("squared updates not decayed", _UPDATES, "u + h.share * g * (g * quotient)"),
        ("squared updates without their weight", _UPDATES, "fma(h.rho, u, g / h.scale * (g * quotient))"),
        ("mean of the updates' sizes", "g * (g * quotient)", "abs(g) * sqrt(quotient * h.scale)"),
        ("squared updates with the learning rate", "h.share * g", "h.one_minus_rho * h.step_size * h.step_size * g"),
        ("squared updates of the gradient", "h.share * g * (g * quotient)", "h.one_minus_rho * g * g"),
        ("eps of the gradients outside the root", _BELOW, "(sqrt(v) + h.eps) ** 2"),
        ("eps of the gradients dropped", _BELOW, "v"),
        ("eps of the updates outside the root", _ABOVE, "h.scale * (sqrt(u) + h.eps) ** 2"),
        ("eps of the updates dropped", _ABOVE, "h.scale * u"),
        ("eps squared", _BELOW, "fma(h.eps, h.eps, v)"),
        ("no root", "step_size, sqrt(quotient)", "step_size / sqrt(h.scale), quotient"),
        ("no root above", "sqrt(quotient)", "quotient * sqrt(v + h.eps) / sqrt(h.scale)"),
        ("no root below", "sqrt(quotient)", "sqrt(quotient) / sqrt(v + h.eps)"),
        ("quotient upside down", f"{_ABOVE} / {_BELOW}", "h.scale * (v + h.eps) / (u + h.eps)"),
        ("quotient not scaled back", "-h.step_size", "-h.step_size * sqrt(h.scale)"),
        ("updates of this step in the quotient", _ABOVE, "h.scale * (fma(h.rho, u, h.one_minus_rho * g * g) + h.eps)"),
        ("means exchanged", "theta), v, u", "theta), u, v"),
        ("eps kept in the mean", "theta), v, u", "theta), v + h.eps, u"),
        ("eps kept in the updates' mean", "theta), v, u", "theta), v, u + h.eps"),
    )
)


def _share(h: Any, share: float) -> Any:
    return h._replace(one_minus_rho=share, share=share / h.scale)


def _eps(h: Any, eps: float) -> Any:
    return h._replace(eps=eps, scaled_eps=eps * h.scale)


SCALAR_MUTANTS = tuple(
    ScalarMutant(name, "Adadelta", change)
    for name, change in (
        ("rho is 1 - rho", lambda h, o, t: _share(h, h.rho)._replace(rho=h.one_minus_rho)),
        ("rho in half precision", lambda h, o, t: h._replace(rho=round(h.rho * 2048) / 2048)),
        ("1 - rho in half precision", lambda h, o, t: _share(h, round(h.one_minus_rho * 2048) / 2048)),
        ("bias corrected", lambda h, o, t: _share(h, (1 - o.rho) / (1 - o.rho**t))),
        ("first gradient in full", lambda h, o, t: _share(h, 1.0) if t == 1 else h),
        ("eps squared", lambda h, o, t: _eps(h, h.eps * h.eps)),
        ("eps times ten", lambda h, o, t: _eps(h, h.eps * 10)),
        ("eps of Adam", lambda h, o, t: _eps(h, 1e-8)),
        ("decay multiplied by lr", lambda h, o, t: h._replace(weight_decay=h.weight_decay * o.lr)),
        ("decay turned by maximize", lambda h, o, t: h._replace(weight_decay=h.weight_decay * h.sign)),
        ("lr of Keras", lambda h, o, t: h._replace(step_size=1e-3 / h.scale**0.5)),
        ("lr off in the fifth digit", lambda h, o, t: h._replace(step_size=h.step_size * 1.00001)),
    )
)
