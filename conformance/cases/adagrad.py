"""Cases of Adagrad."""

from typing import Any

from refoptim.conformance.case import Case, Meaning, RuleMutant, ScalarMutant
from refoptim.formulas import adagrad as formulas

DEFAULTS = {
    "lr": 1e-2,
    "lr_decay": 0,
    "weight_decay": 0,
    "initial_accumulator_value": 0,
    "eps": 1e-10,
    "maximize": False,
    "dialect": None,
}

CASES = (
    Case("Adagrad", {}),
    Case("Adagrad", {"lr": 0.1, "lr_decay": 0.1}),
    Case("Adagrad", {"weight_decay": 0.1}),
    Case("Adagrad", {"weight_decay": 0.1, "maximize": True}),
    Case("Adagrad", {"initial_accumulator_value": 0.7, "eps": 1e-3}),
    Case("Adagrad", {"eps": 0.3}),
    Case("Adagrad", {"dialect": "keras", "eps": 1e-3}),
    Case("Adagrad", {"dialect": "keras", "lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "maximize": True}),
    Case("Adagrad", {"dialect": "optax", "weight_decay": 0.1, "initial_accumulator_value": 0.1, "eps": 0.3}),
    Case("Adagrad", {"dialect": "optax", "lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "maximize": True}),
    Case(
        "Adagrad",
        {"lr": 0.1, "lr_decay": 0.01, "weight_decay": 0.3, "initial_accumulator_value": 0.1, "maximize": True},
    ),
)


def meaning(case: Case) -> Meaning:
    """Return the formula of a case and what its symbols stand for."""
    o: dict[str, Any] = DEFAULTS | case.options
    symbols = {
        "gamma": o["lr"],
        "eta": o["lr_decay"],
        "epsilon": o["eps"],
        "lambda_": o["weight_decay"],
        "maximize": o["maximize"],
        "decoupled": o["dialect"] == "keras",
        "inside": o["dialect"] is not None,
    }
    initial = {"sum": float(o["initial_accumulator_value"])}
    return Meaning(formulas.adagrad, ("sum",), lambda t: symbols | {"t": t}, lambda _: initial)


_DECAY = "fma(h.weight_decay, theta, g)"
_DECOUPLED = "fma(h.decay, theta, delta)"

_SHARED = (
    ("weight decay dropped", _DECAY, "g"),
    ("weight decay with the wrong sign", _DECAY, "fma(-h.weight_decay, theta, g)"),
    ("weight decay not multiplied by the parameter", _DECAY, "fma(h.weight_decay, g, g)"),
    ("maximize ignored", "h.sign * g", "g"),
    ("climbs instead of descending", "fma(-h.step_size", "fma(h.step_size"),
    ("learning rate dropped", "fma(-h.step_size", "fma(-h.sign * h.sign"),
    ("gradient not squared", "fma(g, g, s)", "abs(g) + s"),
    ("sum with the learning rate", "fma(g, g, s)", "fma(h.step_size * g, g, s)"),
    ("sum not kept", "fma(g, g, s)", "g * g"),
    ("sum of before the step", "sqrt(s", "sqrt(s - g * g"),
    ("sum not returned", "theta), s", "theta), s - g * g"),
)

RULE_MUTANTS = (
    *(RuleMutant(name, rule, *change) for rule in ("adagrad", "adagrad_inside") for name, *change in _SHARED),
    *(
        RuleMutant(name, rule, divisor, wrong)
        for rule, divisor, other in (
            ("adagrad", "(sqrt(s) + h.eps)", "sqrt(s + h.eps)"),
            ("adagrad_inside", "sqrt(s + h.eps)", "(sqrt(s) + h.eps)"),
        )
        for name, wrong in (
            ("eps on the root's other side", other),
            ("eps squared inside the root", "sqrt(fma(h.eps, h.eps, s))"),
            ("eps dropped", "sqrt(s)"),
            ("eps as a lower limit", "max(sqrt(s), h.eps)"),
            ("root dropped", "(s + h.eps)"),
            ("steps along the sign", "abs(g)"),
        )
    ),
    RuleMutant("decoupled decay dropped", "adagrad_inside", _DECOUPLED, "delta"),
    RuleMutant("decoupled decay with the wrong sign", "adagrad_inside", _DECOUPLED, "fma(-h.decay, theta, delta)"),
    RuleMutant("decoupled decay of the gradient", "adagrad_inside", _DECOUPLED, "fma(h.decay, g, delta)"),
)


def _with_count(count: Any) -> Any:
    """Return a change to the step size that the decay would have with another count of steps."""
    return lambda h, o, t: h._replace(step_size=o.lr / (1 + count(t) * o.lr_decay))


SCALAR_MUTANTS = tuple(
    ScalarMutant(name, "Adagrad", change)
    for name, change in (
        ("lr decays at once", _with_count(lambda t: t)),
        ("lr decays a step late", _with_count(lambda t: max(t - 2, 0))),
        ("lr does not decay", _with_count(lambda _: 0)),
        ("lr decays once", _with_count(lambda t: min(t - 1, 1))),
        ("lr decays with the root", _with_count(lambda t: (t - 1) ** 0.5)),
        ("lr decays exponentially", lambda h, o, t: h._replace(step_size=o.lr * (1 - o.lr_decay) ** (t - 1))),
        ("lr decays by the square", lambda h, o, t: h._replace(step_size=h.step_size * h.step_size / o.lr)),
        ("decay multiplied by lr", lambda h, o, t: h._replace(weight_decay=h.weight_decay * o.lr)),
        ("decay turned by maximize", lambda h, o, t: h._replace(weight_decay=h.weight_decay * h.sign)),
        ("decoupled decay falls with the rate", lambda h, o, t: h._replace(decay=o.weight_decay * (h.decay != 0))),
        ("L2 and decoupled exchanged", lambda h, o, t: h._replace(weight_decay=h.decay, decay=h.weight_decay)),
        ("eps times ten", lambda h, o, t: h._replace(eps=h.eps * 10)),
        ("eps squared", lambda h, o, t: h._replace(eps=h.eps * h.eps)),
        ("lr off in the fifth digit", lambda h, o, t: h._replace(step_size=h.step_size * 1.00001)),
    )
)
