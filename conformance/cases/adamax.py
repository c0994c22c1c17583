"""Cases of Adamax."""

from typing import Any

from refoptim.conformance.case import Case, Meaning, RuleMutant, ScalarMutant
from refoptim.formulas import adamax as formulas

DEFAULTS = {"lr": 2e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0, "maximize": False, "dialect": None}

CASES = (
    Case("Adamax", {}),
    Case("Adamax", {"maximize": True}),
    Case("Adamax", {"betas": (0.5, 0.75), "eps": 1e-3}),
    Case("Adamax", {"betas": (0.0, 0.9)}),
    Case("Adamax", {"weight_decay": 0.1}),
    Case("Adamax", {"dialect": "keras", "eps": 1e-3}),
    Case("Adamax", {"dialect": "keras", "betas": (0.5, 0.75), "weight_decay": 0.1, "maximize": True}),
    Case("Adamax", {"weight_decay": 0.1, "maximize": True}),
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
        "maximize": o["maximize"],
        "decoupled": o["dialect"] == "keras",
        "outside": o["dialect"] == "keras",
    }
    return Meaning(formulas.adamax, ("exp_avg", "exp_inf"), lambda t: symbols | {"t": t})


_NORM = "maximum(h.beta2 * u, absolute(g) + h.eps)"
_NORM_ALONE = "maximum(h.beta2 * u, absolute(g))"
_DECOUPLED = "fma(h.weight_decay, theta, delta)"

_SHARED = (
    ("maximize ignored", "h.sign * g", "g"),
    ("climbs instead of descending", "fma(-h.step_size", "fma(h.step_size"),
    ("first moment not decayed", "fma(h.beta1, m", "fma(h.one_minus_beta1 + h.beta1, m"),
    ("first moment keeps its sign", "h.one_minus_beta1 * g", "abs(h.one_minus_beta1 * g)"),
    ("first moment without its weight", "h.one_minus_beta1 * g", "g"),
    ("norm not decayed", "h.beta2 * u", "u"),
    ("norm decayed like the first moment", "h.beta2 * u", "h.beta1 * u"),
    ("norm of the first moment", "absolute(g)", "absolute(m)"),
    ("norm keeps the gradient's sign", "absolute(g)", "g"),
    ("norm of the squared gradient", "absolute(g)", "(g * g)"),
    ("minimum instead of maximum", "maximum(", "min("),
    ("steps along the gradient", "m / ", "g / "),
)

RULE_MUTANTS = (
    *(RuleMutant(name, rule, *change) for rule in ("adamax", "adamax_outside") for name, *change in _SHARED),
    *(
        RuleMutant(name, "adamax", right, wrong)
        for name, right, wrong in (
            ("weight decay dropped", "fma(h.weight_decay, theta, g)", "g"),
            ("weight decay with the wrong sign", "fma(h.weight_decay, theta, g)", "fma(-h.weight_decay, theta, g)"),
            (
                "decoupled weight decay",
                "return fma(-h.step_size, m / u, theta)",
                "return fma(-h.step_size, fma(h.weight_decay, theta, m / u), theta)",
            ),
            ("mean instead of maximum", _NORM, "h.beta2 * u + (h.beta2 / h.beta2 - h.beta2) * absolute(g) + h.eps"),
            ("sum instead of maximum", _NORM, "h.beta2 * u + absolute(g) + h.eps"),
            ("norm forgets at once", _NORM, "absolute(g) + h.eps"),
            ("eps dropped", "absolute(g) + h.eps", "absolute(g)"),
            ("eps as a lower limit", "absolute(g) + h.eps", "max(absolute(g), h.eps)"),
            ("eps in the division", "absolute(g) + h.eps", "absolute(g)) + (h.eps"),
            ("eps in the division too", "m / u", "m / (u + h.eps)"),
            ("eps inside a root", "absolute(g) + h.eps", "(g * g + h.eps * h.eps) ** (h.beta2 / (h.beta2 + h.beta2))"),
            ("root of the norm", "m / u", "m / u ** (h.beta2 / (h.beta2 + h.beta2))"),
        )
    ),
    *(
        RuleMutant(name, "adamax_outside", right, wrong)
        for name, right, wrong in (
            ("decoupled decay dropped", _DECOUPLED, "delta"),
            ("decoupled decay with the wrong sign", _DECOUPLED, "fma(-h.weight_decay, theta, delta)"),
            ("decay in the gradient", "g = h.sign * g", "g = h.sign * g + h.weight_decay * theta"),
            ("sum instead of maximum", _NORM_ALONE, "h.beta2 * u + absolute(g)"),
            ("norm forgets at once", _NORM_ALONE, "absolute(g)"),
            ("eps dropped", "fma(h.one, u, h.eps)", "u"),
            ("eps as a lower limit", "fma(h.one, u, h.eps)", "max(u, h.eps)"),
            ("eps in the maximum", "absolute(g))", "absolute(g) + h.eps)"),
            ("eps in the norm", _NORM_ALONE, f"{_NORM_ALONE} + h.eps"),
            ("root of the norm", "fma(h.one, u", "fma(h.one, u ** (h.beta2 / (h.beta2 + h.beta2))"),
        )
    ),
)


def _corrected(h: Any, o: Any, bias: float) -> Any:
    return h._replace(step_size=o.lr / bias)


SCALAR_MUTANTS = tuple(
    ScalarMutant(name, "Adamax", change)
    for name, change in (
        ("bias correction off by one", lambda h, o, t: _corrected(h, o, 1 - o.beta1 ** (t + 1))),
        ("no bias correction", lambda h, o, t: h._replace(step_size=o.lr)),
        ("bias corrected twice", lambda h, o, t: _corrected(h, o, (1 - o.beta1**t) ** 2)),
        ("bias corrected by a root", lambda h, o, t: _corrected(h, o, (1 - o.beta1**t) ** 0.5)),
        ("second bias corrected instead", lambda h, o, t: _corrected(h, o, 1 - o.beta2**t)),
        (
            "second bias corrected too",
            lambda h, o, t: h._replace(step_size=h.step_size * (1 - o.beta2**t)),
        ),
        ("bias correction multiplied", lambda h, o, t: h._replace(step_size=o.lr * (1 - o.beta1**t))),
        (
            "betas swapped",
            lambda h, o, t: h._replace(beta1=h.beta2, one_minus_beta1=1 - h.beta2, beta2=h.beta1),
        ),
        ("1 - beta1 in bfloat16", lambda h, o, t: h._replace(one_minus_beta1=round(h.one_minus_beta1 * 2**8) / 2**8)),
        ("beta2 in float16", lambda h, o, t: h._replace(beta2=round(o.beta2 * 2**11) / 2**11)),
        ("eps times ten", lambda h, o, t: h._replace(eps=h.eps * 10)),
        ("eps corrected like the moment", lambda h, o, t: h._replace(eps=h.eps * (1 - o.beta1**t))),
        ("weight decay times lr", lambda h, o, t: h._replace(weight_decay=h.weight_decay * o.lr)),
        ("weight decay doubled", lambda h, o, t: h._replace(weight_decay=o.weight_decay * 2)),
        ("decoupled decay with the step size", lambda h, o, t: h._replace(weight_decay=o.weight_decay)),
        ("lr off in the fifth digit", lambda h, o, t: h._replace(step_size=h.step_size * 1.00001)),
    )
)
