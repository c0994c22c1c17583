"""Cases of RMSprop, with and without momentum, centered or not."""

from typing import Any

from refoptim.conformance.case import Case, Meaning, RuleMutant, ScalarMutant
from refoptim.formulas import rmsprop as formulas

DEFAULTS = {
    "lr": 1e-2,
    "alpha": 0.99,
    "eps": 1e-8,
    "weight_decay": 0,
    "momentum": 0,
    "centered": False,
    "maximize": False,
}

CASES = (
    Case("RMSprop", {}),
    Case("RMSprop", {"alpha": 0.75, "eps": 1e-3, "maximize": True}),
    Case("RMSprop", {"weight_decay": 0.1}),
    Case("RMSprop", {"weight_decay": 0.1, "maximize": True}),
    Case("RMSprop", {"momentum": 0.9}),
    Case("RMSprop", {"momentum": 0.5, "alpha": 0.9, "eps": 1e-3, "weight_decay": 0.1, "maximize": True}),
    Case("RMSprop", {"centered": True}),
    # Of a smaller alpha, the formulas in the parameters' own precision lose the variance. The kernels do not.
    Case("RMSprop", {"centered": True, "alpha": 0.995}),
    Case("RMSprop", {"centered": True, "eps": 1e-3, "weight_decay": 0.1, "maximize": True}),
    Case("RMSprop", {"centered": True, "momentum": 0.9}),
    Case("RMSprop", {"centered": True, "momentum": 0.5, "eps": 1e-3, "weight_decay": 0.1, "maximize": True}),
)


def meaning(case: Case) -> Meaning:
    """Return the formula of a case and what its symbols stand for."""
    o: dict[str, Any] = DEFAULTS | case.options
    symbols = {
        "gamma": o["lr"],
        "alpha": o["alpha"],
        "epsilon": o["eps"],
        "lambda_": o["weight_decay"],
        "maximize": o["maximize"],
    }
    if o["momentum"]:
        symbols["mu"] = o["momentum"]
    formula, state = {
        (False, False): (formulas.rmsprop, ("square_avg",)),
        (False, True): (formulas.momentum, ("square_avg", "momentum_buffer")),
        (True, False): (formulas.centered, ("square_avg", "grad_avg")),
        (True, True): (formulas.centered_momentum, ("square_avg", "momentum_buffer", "grad_avg")),
    }[o["centered"], o["momentum"] > 0]
    return Meaning(formula, state, lambda _: symbols)


_DECAY = "fma(h.weight_decay, theta, g)"
_SQUARES = "fma(h.alpha, v, h.one_minus_alpha * g * g)"

_ALL = (
    ("weight decay dropped", _DECAY, "g"),
    ("weight decay with the wrong sign", _DECAY, "fma(-h.weight_decay, theta, g)"),
    ("weight decay not multiplied by the parameter", _DECAY, "fma(h.weight_decay, g, g)"),
    ("maximize ignored", "h.sign * g", "g"),
    ("climbs instead of descending", "fma(-h.lr", "fma(h.lr"),
    ("learning rate dropped", "fma(-h.lr", "fma(-h.one"),
    ("mean square not decayed", _SQUARES, "fma(h.one, v, h.one_minus_alpha * g * g)"),
    ("mean square without its weight", _SQUARES, "fma(h.alpha, v, g * g)"),
    ("mean square of the gradient's size", _SQUARES, "fma(h.alpha, v, h.one_minus_alpha * abs(g))"),
    ("mean square with the wrong weight", _SQUARES, "fma(h.alpha, v, h.spread * g * g)"),
)
_MOMENTUM = (
    ("momentum sign", "fma(h.momentum, b", "fma(-h.momentum, b"),
    ("momentum as a mean", "fma(h.momentum, b, g", "fma(h.momentum, b, (h.one - h.momentum) * g"),
    ("learning rate inside the buffer", "fma(h.momentum, b, g /", "fma(h.momentum, b, h.lr * g /"),
    ("steps along the momentum of before", "fma(-h.lr, b, theta)", "fma(-h.lr, b - g, theta)"),
    ("looks ahead", "fma(-h.lr, b, theta)", "fma(-h.lr, h.momentum * b + g, theta)"),
    ("buffer not kept", "theta), v, b", "theta), v, h.momentum * b"),
)
_CENTERED = (
    ("mean not decayed", "fma(h.alpha, a, h", "fma(h.one, a, h"),
    ("mean without its weight", "fma(h.alpha, a, h.one_minus_alpha * g)", "fma(h.alpha, a, g)"),
    ("mean of the gradient's size", "fma(h.alpha, a, h.one_minus_alpha * g)", "fma(h.alpha, a, abs(g))"),
    ("not centered", "sqrt(variance)", "sqrt(v)"),
    ("mean added", "fma(-a, a, v)", "fma(a, a, v)"),
    ("mean not squared", "fma(-a, a, v)", "v - a"),
    ("old variance dropped", "fma(h.alpha, fma(-a, a, v), h.spread * distance * distance)", "h.spread * distance**2"),
    ("old variance not decayed", "fma(h.alpha, fma(-a, a, v), h", "fma(h.one, fma(-a, a, v), h"),
    ("distance with the wrong weight", "h.spread * distance", "h.one_minus_alpha * distance"),
    ("distance from 0", "fma(h.one, g, -a)", "g"),
    ("the gradient centered too", "g / (sqrt(variance)", "distance / (sqrt(variance)"),
    ("distance from the other side", "fma(h.one, g, -a)", "fma(h.one, g, a)"),
    ("variance at least 1", "h.zero)", "h.one)"),
)

RULE_MUTANTS = (
    *(
        RuleMutant(name, rule, right, wrong)
        for rule, wanted in (
            ("rmsprop", _ALL),
            ("momentum", _ALL + _MOMENTUM),
            ("centered", _ALL + _CENTERED),
            ("centered_momentum", _ALL + _MOMENTUM + _CENTERED),
        )
        for name, right, wrong in wanted
    ),
    *(
        RuleMutant(name, rule, f"(sqrt({square}) + h.eps)", wrong.format(square))
        for rule, square in (
            ("rmsprop", "v"),
            ("momentum", "v"),
            ("centered", "variance"),
            ("centered_momentum", "variance"),
        )
        for name, wrong in (
            ("eps inside the root", "sqrt({} + h.eps)"),
            ("eps squared inside the root", "sqrt(fma(h.eps, h.eps, {}))"),
            ("eps dropped", "sqrt({})"),
            ("eps as a lower limit", "max(sqrt({}), h.eps)"),
            ("root dropped", "({} + h.eps)"),
        )
    ),
)


SCALAR_MUTANTS = tuple(
    ScalarMutant(name, "RMSprop", change)
    for name, change in (
        ("alpha is 1 - alpha", lambda h, o, t: h._replace(alpha=h.one_minus_alpha, one_minus_alpha=h.alpha)),
        ("alpha in half precision", lambda h, o, t: h._replace(alpha=round(h.alpha * 2048) / 2048)),
        (
            "1 - alpha in half precision",
            lambda h, o, t: h._replace(one_minus_alpha=round(2048 - 2048 * o.alpha) / 2048),
        ),
        ("spread in half precision", lambda h, o, t: h._replace(spread=round(h.spread * 2048) / 2048)),
        ("bias corrected", lambda h, o, t: h._replace(one_minus_alpha=(1 - o.alpha) / (1 - o.alpha**t))),
        ("first gradient in full", lambda h, o, t: h._replace(one_minus_alpha=1.0) if t == 1 else h),
        ("no momentum at first", lambda h, o, t: h._replace(momentum=0.0) if t == 2 else h),
        ("momentum in half precision", lambda h, o, t: h._replace(momentum=round(h.momentum * 2048) / 2048)),
        ("momentum is alpha", lambda h, o, t: h._replace(momentum=h.alpha)),
        ("eps times ten", lambda h, o, t: h._replace(eps=h.eps * 10)),
        ("eps squared", lambda h, o, t: h._replace(eps=h.eps * h.eps)),
        ("eps of Adagrad", lambda h, o, t: h._replace(eps=1e-10)),
        ("decay multiplied by lr", lambda h, o, t: h._replace(weight_decay=h.weight_decay * h.lr)),
        ("decay turned by maximize", lambda h, o, t: h._replace(weight_decay=h.weight_decay * h.sign)),
        ("lr off in the fifth digit", lambda h, o, t: h._replace(lr=h.lr * 1.00001)),
    )
)
