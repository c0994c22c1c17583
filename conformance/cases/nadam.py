"""Cases of NAdam."""

from typing import Any

from refoptim.conformance.case import Case, Meaning, RuleMutant, ScalarMutant
from refoptim.formulas import nadam as formulas

DEFAULTS = {
    "lr": 2e-3,
    "betas": (0.9, 0.999),
    "eps": 1e-8,
    "weight_decay": 0,
    "momentum_decay": 4e-3,
    "decoupled_weight_decay": False,
    "maximize": False,
    "dialect": None,
}

CASES = (
    Case("NAdam", {}),
    Case("NAdam", {"maximize": True}),
    Case("NAdam", {"betas": (0.5, 0.75), "eps": 1e-3}),
    Case("NAdam", {"momentum_decay": 1.0}),
    Case("NAdam", {"betas": (0.0, 0.9), "momentum_decay": 0}),
    Case("NAdam", {"betas": (0.99, 0.9), "momentum_decay": 50.0}),
    Case("NAdam", {"weight_decay": 0.1}),
    Case("NAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    Case("NAdam", {"dialect": "keras", "weight_decay": 0.1}),
    Case("NAdam", {"dialect": "keras", "betas": (0.5, 0.75), "eps": 1e-3, "momentum_decay": 0.5, "maximize": True}),
    Case("NAdam", {"weight_decay": 0.3, "decoupled_weight_decay": True, "maximize": True, "momentum_decay": 0.5}),
)


def meaning(case: Case) -> Meaning:
    """Return the formula of a case and what its symbols stand for."""
    o: dict[str, Any] = DEFAULTS | case.options
    symbols = {
        "gamma": o["lr"],
        "beta1": o["betas"][0],
        "beta2": o["betas"][1],
        "epsilon": o["eps"],
        "psi": 1.0 if o["dialect"] == "keras" else o["momentum_decay"],
        "lambda_": o["weight_decay"],
        "decoupled": o["decoupled_weight_decay"] or o["dialect"] == "keras",
        "maximize": o["maximize"],
    }
    return Meaning(
        formulas.nadam,
        ("exp_avg", "exp_avg_sq"),
        lambda t: symbols | {"t": t},
        host=lambda _: {"mu_product": 1.0},
        advance=_advance,
    )


def _advance(*, t: int, mu_product: Any, beta1: Any, psi: Any, **_: Any) -> dict[str, Any]:
    return {"mu_product": mu_product * formulas.momentum(beta1, psi, t)}


RULE_MUTANTS = tuple(
    RuleMutant(name, "nadam", right, wrong)
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
        ("first moment not decayed", "fma(h.beta1, m", "fma(h.beta1 * h.sign * h.sign + h.one_minus_beta1, m"),
        ("first moment keeps its sign", "h.one_minus_beta1 * g", "abs(h.one_minus_beta1 * g)"),
        ("first moment without its weight", "h.one_minus_beta1 * g", "g"),
        ("first moment decays as the momentum grows", "fma(h.beta1, m", "fma(h.momentum, m"),
        ("second moment not decayed", "fma(h.beta2, v", "fma(h.beta2 / h.beta2, v"),
        ("second moment without its weight", "h.one_minus_beta2 * g * g", "g * g"),
        ("second moment of the gradient's size", "h.one_minus_beta2 * g * g", "h.one_minus_beta2 * abs(g)"),
        ("second moment weighted like the first", "h.one_minus_beta2 * g * g", "h.one_minus_beta1 * g * g"),
        ("second moment of the first moment", "h.one_minus_beta2 * g * g", "h.one_minus_beta2 * m * m"),
        ("does not look ahead", "fma(h.momentum, m, g)", "m"),
        ("steps along the gradient", "fma(h.momentum, m, g)", "g"),
        ("looks ahead with the whole mean", "fma(h.momentum, m, g)", "(m + g)"),
        ("momentum and gradient exchanged", "fma(h.momentum, m, g)", "fma(h.momentum, g, m)"),
        ("looks back", "fma(h.momentum, m, g)", "fma(-h.momentum, m, g)"),
        ("eps inside the root", "(sqrt(v) + h.eps)", "sqrt(v + h.eps)"),
        ("eps squared inside the root", "(sqrt(v) + h.eps)", "sqrt(fma(h.eps, h.eps, v))"),
        ("eps dropped", "(sqrt(v) + h.eps)", "sqrt(v)"),
        ("eps as a lower limit", "(sqrt(v) + h.eps)", "max(sqrt(v), h.eps)"),
        ("root dropped", "(sqrt(v) + h.eps)", "(v + h.eps)"),
        ("root with an error of 3e-4", "(sqrt(v) + h.eps)", "((sqrt(v) + h.eps) * (h.beta2 / h.beta2 + 3e-4))"),
    )
)


def _momenta(o: Any, t: int) -> tuple[float, float, float]:
    """Return the momentum of a step and of the next, and the product up to this one."""
    product = 1.0
    for step in range(1, t + 1):
        product *= formulas.momentum(o.beta1, o.momentum_decay, step)
    return formulas.momentum(o.beta1, o.momentum_decay, t), formulas.momentum(o.beta1, o.momentum_decay, t + 1), product


def _with(h: Any, o: Any, t: int, **changed: float) -> Any:
    """Return the right scalars but for what is changed, which everything else follows."""
    mu, mu_next, product = _momenta(o, t)
    right = {"mu": mu, "mu_next": mu_next, "product": product, "bias2": 1 - o.beta2**t} | changed
    right = {"product_next": right["product"] * right["mu_next"]} | right
    weight = (1 - right["mu"]) / (1 - right["product"])
    step_size = o.lr * right["bias2"] ** 0.5 * weight
    return h._replace(
        momentum=right["mu_next"] / (1 - right["product_next"]) / weight,
        eps=o.eps * right["bias2"] ** 0.5,
        step_size=step_size,
        decay=h.decay * h.step_size / step_size,
    )


def _no_schedule(h: Any, o: Any, t: int) -> Any:
    return _with(h, o, t, mu=o.beta1, mu_next=o.beta1, product=o.beta1**t)


def _schedule_late(h: Any, o: Any, t: int) -> Any:
    mu, _, _ = _momenta(o, t)
    return _with(h, o, t, mu_next=mu)


def _schedule_early(h: Any, o: Any, t: int) -> Any:
    mu, mu_next, product = _momenta(o, t + 1)
    return _with(h, o, t, mu=mu, mu_next=mu_next, product=product)


def _product_of_the_step_before(h: Any, o: Any, t: int) -> Any:
    _, _, product = _momenta(o, t)
    return _with(h, o, t, product_next=product)


def _coarse(x: float) -> float:
    return round(x * 2**20) / 2**20


SCALAR_MUTANTS = tuple(
    ScalarMutant(name, "NAdam", change)
    for name, change in (
        ("no schedule", _no_schedule),
        ("next momentum is this one's", _schedule_late),
        ("schedule a step early", _schedule_early),
        ("schedule with another base", lambda h, o, t: _with(h, o._replace(momentum_decay=o.momentum_decay * 1.02), t)),
        ("product without the next momentum", _product_of_the_step_before),
        ("product not corrected", lambda h, o, t: _with(h, o, t, product=0.0)),
        ("product of one step", lambda h, o, t: _with(h, o, t, product=_momenta(o, t)[0])),
        ("product in 20 bits", lambda h, o, t: _with(h, o, t, product=_coarse(_momenta(o, t)[2]))),
        ("Adam's bias correction", lambda h, o, t: _with(h, o, t, product=o.beta1**t)),
        ("second moment's bias not corrected", lambda h, o, t: _with(h, o, t, bias2=1.0)),
        ("second moment's bias off by one", lambda h, o, t: _with(h, o, t, bias2=1 - o.beta2 ** (t + 1))),
        ("second moment's bias corrected without root", lambda h, o, t: _with(h, o, t, bias2=(1 - o.beta2**t) ** 2)),
        ("eps hat: eps before the correction", lambda h, o, t: h._replace(eps=o.eps)),
        ("1 - beta2 in float32", lambda h, o, t: h._replace(one_minus_beta2=1 - _coarse(o.beta2))),
        ("decay not multiplied by lr", lambda h, o, t: h._replace(decay=h.decay / o.lr)),
        ("L2 and decoupled exchanged", lambda h, o, t: h._replace(weight_decay=h.decay, decay=h.weight_decay)),
        ("decay with the step size", lambda h, o, t: h._replace(decay=h.decay * h.step_size / o.lr)),
        ("eps times ten", lambda h, o, t: h._replace(eps=h.eps * 10)),
        ("lr off in the fifth digit", lambda h, o, t: h._replace(step_size=h.step_size * 1.00001)),
    )
)
