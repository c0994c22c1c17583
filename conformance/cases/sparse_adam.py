"""Cases of SparseAdam. Every element has a gradient: what rows without one do is in the library's own tests."""

import math
from typing import Any

from refoptim.conformance.case import Case, Meaning, RuleMutant, ScalarMutant
from refoptim.formulas import sparse_adam as formulas

REAL_ONLY = True

DEFAULTS = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "maximize": False}

CASES = (
    Case("SparseAdam", {}),
    Case("SparseAdam", {"maximize": True}),
    Case("SparseAdam", {"betas": (0.5, 0.75), "eps": 1e-3}),
)


def meaning(case: Case) -> Meaning:
    """Return the formula of a case and what its symbols stand for."""
    o: dict[str, Any] = DEFAULTS | case.options
    symbols = {
        "gamma": o["lr"],
        "beta1": o["betas"][0],
        "beta2": o["betas"][1],
        "epsilon": o["eps"],
        "maximize": o["maximize"],
    }
    state = ("exp_avg", "exp_avg_sq")
    return Meaning(formulas.sparse_adam, state, lambda t: symbols | {"t": t}, other={"eps": 1e-4})


RULE_MUTANTS = tuple(
    RuleMutant(name, "sparse_adam", right, wrong)
    for name, right, wrong in (
        ("maximize ignored", "h.sign * g", "g"),
        ("climbs instead of descending", "fma(-h.step_size", "fma(h.step_size"),
        ("first moment not decayed", "fma(h.beta1, m", "fma(h.beta1 / h.beta1, m"),
        ("first moment without its weight", "h.one_minus_beta1 * g", "g"),
        ("second moment not decayed", "fma(h.beta2, v", "fma(h.beta2 / h.beta2, v"),
        ("second moment without its weight", "h.one_minus_beta2 * g * g", "g * g"),
        ("second moment of the gradient's size", "h.one_minus_beta2 * g * g", "h.one_minus_beta2 * abs(g)"),
        ("second moment of the first moment", "h.one_minus_beta2 * g * g", "h.one_minus_beta2 * m * m"),
        ("steps along the gradient", "m / (sqrt", "g / (sqrt"),
        ("eps inside the root", "(sqrt(v) + h.eps)", "sqrt(v + h.eps)"),
        ("eps dropped", "(sqrt(v) + h.eps)", "sqrt(v)"),
        ("eps as a lower limit", "(sqrt(v) + h.eps)", "max(sqrt(v), h.eps)"),
        ("root dropped", "(sqrt(v) + h.eps)", "(v + h.eps)"),
        ("moments not kept", "theta), m, v", "theta), m - m, v"),
    )
)


def _bias2(o: Any, t: int) -> float:
    return math.sqrt(1 - o.beta2**t)


SCALAR_MUTANTS = tuple(
    ScalarMutant(name, "SparseAdam", change)
    for name, change in (
        ("eps scaled like Adam's", lambda h, o, t: h._replace(eps=h.eps * _bias2(o, t))),
        ("no bias corrections", lambda h, o, t: h._replace(step_size=o.lr)),
        ("first moment's bias not corrected", lambda h, o, t: h._replace(step_size=o.lr * _bias2(o, t))),
        ("second moment's bias not corrected", lambda h, o, t: h._replace(step_size=o.lr / (1 - o.beta1**t))),
        (
            "bias corrections off by one",
            lambda h, o, t: h._replace(step_size=o.lr * _bias2(o, t + 1) / (1 - o.beta1 ** (t + 1))),
        ),
        ("betas swapped", lambda h, o, t: h._replace(beta1=h.beta2, beta2=h.beta1)),
        ("eps times ten", lambda h, o, t: h._replace(eps=h.eps * 10)),
        ("lr off in the fifth digit", lambda h, o, t: h._replace(step_size=h.step_size * 1.00001)),
    )
)
