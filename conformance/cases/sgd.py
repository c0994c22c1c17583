"""Cases of stochastic gradient descent."""

from typing import Any

from refoptim.conformance.case import Case, Meaning, RuleMutant, ScalarMutant
from refoptim.formulas import sgd as formulas

DEFAULTS = {
    "lr": 1e-3,
    "momentum": 0,
    "dampening": 0,
    "weight_decay": 0,
    "nesterov": False,
    "maximize": False,
    "dialect": None,
}

CASES = (
    Case("SGD", {}),
    Case("SGD", {"weight_decay": 0.1}),
    Case("SGD", {"weight_decay": 0.1, "maximize": True}),
    Case("SGD", {"momentum": 0.9}),
    Case("SGD", {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
    Case("SGD", {"momentum": 0.9, "maximize": True}),
    Case("SGD", {"momentum": 0.9, "nesterov": True}),
    Case("SGD", {"dialect": "keras", "weight_decay": 0.1}),
    Case("SGD", {"dialect": "keras", "momentum": 0.9, "dampening": 0.3}),
    Case("SGD", {"dialect": "keras", "momentum": 0.9, "weight_decay": 0.1, "maximize": True}),
    Case("SGD", {"dialect": "keras", "momentum": 0.9, "nesterov": True}),
    Case("SGD", {"dialect": "keras", "momentum": 0.5, "nesterov": True, "weight_decay": 0.1, "maximize": True}),
    Case("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1, "maximize": True}),
)


def meaning(case: Case) -> Meaning:
    """Return the formula of a case and what its symbols stand for."""
    o: dict[str, Any] = DEFAULTS | case.options
    common = {"gamma": o["lr"], "lambda_": o["weight_decay"], "maximize": o["maximize"]}
    if o["momentum"] == 0:
        return Meaning(formulas.sgd, (), lambda _: common)
    momentum = common | {"mu": o["momentum"], "tau": o["dampening"], "nesterov": o["nesterov"]}
    if o["dialect"] == "keras":
        momentum |= {"inside": True, "decoupled": True}
    return Meaning(formulas.momentum, ("momentum_buffer",), lambda t: momentum | {"first": t == 1})


_DECAY = "fma(h.weight_decay, theta, g)"
_AHEAD = "fma(-h.lr, fma(h.momentum, b, g)"

RULE_MUTANTS = (
    *(
        RuleMutant(name, rule, right, wrong)
        for rule in ("sgd", "momentum", "nesterov")
        for name, right, wrong in (
            ("weight decay dropped", _DECAY, "g"),
            ("weight decay with the wrong sign", _DECAY, "fma(-h.weight_decay, theta, g)"),
            ("weight decay not multiplied by the parameter", _DECAY, "fma(h.weight_decay, g, g)"),
            ("climbs instead of descending", "fma(-h.lr", "fma(h.lr"),
            ("learning rate dropped", "fma(-h.lr", "fma(-h.sign * h.sign"),
        )
    ),
    RuleMutant("maximize ignored", "sgd", "g = -g", "g = g"),
    *(RuleMutant("maximize ignored", rule, "h.sign * g", "g") for rule in ("momentum", "nesterov")),
    RuleMutant("maximize turns the decay too", "sgd", "fma(-h.lr, g, theta)", "fma(-h.lr * h.sign, g, theta)"),
    *(
        RuleMutant(name, rule, f"b = fma(h.momentum, b, {g})", wrong.format(g=g))
        for rule, g in (("momentum", "h.one_minus_dampening * g"), ("nesterov", "g"))
        for name, wrong in (
            ("momentum sign", "b = fma(-h.momentum, b, {g})"),
            ("momentum dropped", "b = {g}"),
            ("learning rate inside the buffer", "b = fma(h.momentum, b, h.lr * g)"),
        )
    ),
    *(RuleMutant("buffer not kept", rule, "theta), b", "theta), h.momentum * b") for rule in ("momentum", "nesterov")),
    RuleMutant("dampening dropped", "momentum", "h.one_minus_dampening * g", "g"),
    RuleMutant("dampening on the buffer", "momentum", "h.one_minus_dampening * g)", "g) * h.one_minus_dampening"),
    RuleMutant("steps along the gradient alone", "momentum", "fma(-h.lr, b, theta)", "fma(-h.lr, g, theta)"),
    RuleMutant("looks ahead twice", "nesterov", _AHEAD, "fma(-h.lr, fma(h.momentum, fma(h.momentum, b, g), g)"),
    RuleMutant("does not look ahead", "nesterov", _AHEAD, "fma(-h.lr, b"),
    RuleMutant("adds the whole buffer", "nesterov", _AHEAD, "fma(-h.lr, (b + g)"),
    *(
        RuleMutant(name, rule, right, wrong)
        for rule in ("momentum_inside", "nesterov_inside")
        for name, right, wrong in (
            ("weight decay dropped", "fma(h.weight_decay, theta, delta)", "delta"),
            ("weight decay with the wrong sign", "fma(h.weight_decay", "fma(-h.weight_decay"),
            ("weight decay without the learning rate", "fma(h.weight_decay", "fma(h.weight_decay / h.lr"),
            ("weight decay of the gradient", "fma(h.weight_decay, theta", "fma(h.weight_decay, g"),
            ("maximize ignored", "h.sign * g", "g"),
            ("climbs instead of descending", "theta - delta", "theta + delta"),
            ("learning rate outside the buffer", "h.lr * g", "g"),
            ("learning rate in and outside", "theta - delta", "theta - h.lr * delta"),
            ("momentum sign", "b = fma(h.momentum", "b = fma(-h.momentum"),
            ("buffer not kept", "delta, b", "delta, h.momentum * b"),
            ("decay kept in the buffer", "theta - delta, b", "theta - delta, delta"),
        )
    ),
    RuleMutant("dampening dropped", "momentum_inside", "h.one_minus_dampening * (h.lr * g)", "h.lr * g"),
    RuleMutant("does not look ahead", "nesterov_inside", "delta = fma(h.momentum, b, pull)", "delta = b"),
    RuleMutant("looks ahead alone", "nesterov_inside", "delta = fma(h.momentum, b, pull)", "delta = h.momentum * b"),
    RuleMutant("adds the whole buffer", "nesterov_inside", "delta = fma(h.momentum, b, pull)", "delta = b + pull"),
)


def _dampens_at_once(h: Any, o: Any, t: int) -> Any:
    return h._replace(one_minus_dampening=1.0 - o.dampening) if t == 1 else h


def _never_dampens(h: Any, o: Any, t: int) -> Any:
    return h._replace(one_minus_dampening=1.0)


SCALAR_MUTANTS = (
    ScalarMutant("dampens the first gradient", "SGD", _dampens_at_once),
    ScalarMutant("never dampens", "SGD", _never_dampens),
    ScalarMutant("decay never multiplied by lr", "SGD", lambda h, o, t: h._replace(weight_decay=o.weight_decay)),
    ScalarMutant("decay by half", "SGD", lambda h, o, t: h._replace(weight_decay=h.weight_decay / 2)),
    ScalarMutant("decay multiplied by lr twice", "SGD", lambda h, o, t: h._replace(weight_decay=h.weight_decay * h.lr)),
    ScalarMutant("lr off by one in the third digit", "SGD", lambda h, o, t: h._replace(lr=h.lr * 1.001)),
    ScalarMutant("momentum is 1 - momentum", "SGD", lambda h, o, t: h._replace(momentum=1.0 - h.momentum)),
    ScalarMutant(
        "momentum in half precision", "SGD", lambda h, o, t: h._replace(momentum=round(h.momentum * 2048) / 2048)
    ),
)
