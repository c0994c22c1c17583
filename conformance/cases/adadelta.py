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
_UPDATES = "fma(h.rho, u, h.one_minus_rho * g * change)"
_MEANS = "above, below = u + h.eps, v + h.eps"

RULE_MUTANTS = tuple(
    RuleMutant(name, "adadelta", right, wrong)
    for name, right, wrong in (
        ("weight decay dropped", _DECAY, "g"),
        ("weight decay with the wrong sign", _DECAY, "fma(-h.weight_decay, theta, g)"),
        ("weight decay not multiplied by the parameter", _DECAY, "fma(h.weight_decay, g, g)"),
        ("maximize ignored", "h.sign * g", "g"),
        ("climbs instead of descending", "fma(-h.lr", "fma(h.lr"),
        ("learning rate dropped", "fma(-h.lr", "fma(-h.sign * h.sign"),
        ("squared gradients not decayed", _GRADIENTS, "v + h.one_minus_rho * g * g"),
        ("squared gradients without their weight", _GRADIENTS, "fma(h.rho, v, g * g)"),
        ("mean of the gradients' sizes", _GRADIENTS, "fma(h.rho, v, h.one_minus_rho * abs(g))"),
        ("squared updates not decayed", _UPDATES, "u + h.one_minus_rho * g * change"),
        ("squared updates without their weight", _UPDATES, "fma(h.rho, u, g * change)"),
        ("mean of the updates' sizes", _UPDATES, "fma(h.rho, u, h.one_minus_rho * abs(g) * sqrt(above / below))"),
        ("squared updates with the learning rate", "g * change", "h.lr * h.lr * g * change"),
        ("squared updates of the gradient", _UPDATES, "fma(h.rho, u, h.one_minus_rho * g * g)"),
        ("eps of the gradients outside the root", _MEANS, "above, below = u + h.eps, (sqrt(v) + h.eps) ** 2"),
        ("eps of the gradients dropped", "v + h.eps", "v"),
        ("eps of the updates outside the root", _MEANS, "above, below = (sqrt(u) + h.eps) ** 2, v + h.eps"),
        ("eps of the updates dropped", "= u + h.eps", "= u"),
        ("eps squared", "v + h.eps", "fma(h.eps, h.eps, v)"),
        ("no root above", "sqrt(above)", "above"),
        ("no root below", "sqrt(below)", "below"),
        ("no root", "sqrt(quotient)", "quotient"),
        ("quotient upside down", "sqrt(above) / sqrt(below)", "sqrt(below) / sqrt(above)"),
        ("quotient of float64 upside down", "above / below\n", "below / above\n"),
        ("squared updates of the gradient in float64", "g * quotient", "g"),
        (
            "updates of this step in the quotient",
            _MEANS,
            "above, below = fma(h.rho, u, h.one_minus_rho * g * g) + h.eps, v + h.eps",
        ),
        ("means exchanged", "theta), v, u", "theta), u, v"),
        ("eps kept in the mean", "theta), v, u", "theta), below, u"),
        ("eps kept in the updates' mean", "theta), v, u", "theta), v, u + h.eps"),
    )
)

SCALAR_MUTANTS = tuple(
    ScalarMutant(name, "Adadelta", change)
    for name, change in (
        ("rho is 1 - rho", lambda h, o, t: h._replace(rho=h.one_minus_rho, one_minus_rho=h.rho)),
        ("rho in half precision", lambda h, o, t: h._replace(rho=round(h.rho * 2048) / 2048)),
        ("1 - rho in half precision", lambda h, o, t: h._replace(one_minus_rho=round(h.one_minus_rho * 2048) / 2048)),
        ("bias corrected", lambda h, o, t: h._replace(one_minus_rho=(1 - o.rho) / (1 - o.rho**t))),
        ("first gradient in full", lambda h, o, t: h._replace(one_minus_rho=1.0) if t == 1 else h),
        ("eps squared", lambda h, o, t: h._replace(eps=h.eps * h.eps)),
        ("eps times ten", lambda h, o, t: h._replace(eps=h.eps * 10)),
        ("eps of Adam", lambda h, o, t: h._replace(eps=1e-8)),
        ("decay multiplied by lr", lambda h, o, t: h._replace(weight_decay=h.weight_decay * h.lr)),
        ("decay turned by maximize", lambda h, o, t: h._replace(weight_decay=h.weight_decay * h.sign)),
        ("lr of Keras", lambda h, o, t: h._replace(lr=1e-3)),
        ("lr off in the fifth digit", lambda h, o, t: h._replace(lr=h.lr * 1.00001)),
    )
)
