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
    "dialect": None,
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
    Case("RMSprop", {"dialect": "keras", "weight_decay": 0.1}),
    Case("RMSprop", {"dialect": "keras", "alpha": 0.75, "eps": 1e-3, "maximize": True}),
    Case("RMSprop", {"dialect": "tensorflow", "weight_decay": 0.1, "eps": 1e-3}),
    Case("RMSprop", {"dialect": "optax", "alpha": 0.9, "eps": 1e-3, "weight_decay": 0.1, "maximize": True}),
    Case("RMSprop", {"dialect": "keras", "momentum": 0.9, "weight_decay": 0.1}),
    Case("RMSprop", {"dialect": "optax", "momentum": 0.5, "eps": 1e-3, "maximize": True}),
    Case("RMSprop", {"dialect": "keras", "centered": True, "eps": 1e-3, "weight_decay": 0.1}),
    Case("RMSprop", {"dialect": "optax", "centered": True, "maximize": True}),
    Case("RMSprop", {"dialect": "keras", "centered": True, "momentum": 0.9, "eps": 1e-4, "maximize": True}),
    Case("RMSprop", {"dialect": "tensorflow", "centered": True, "momentum": 0.5, "eps": 1e-3}),
    Case("RMSprop", {"dialect": "optax", "centered": True, "momentum": 0.5, "eps": 1e-3, "weight_decay": 0.1}),
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
        "decoupled": o["dialect"] == "keras",
        "inside": o["dialect"] is not None,
    }
    if o["momentum"]:
        symbols["mu"] = o["momentum"]
    formula, state = {
        (False, False): (formulas.rmsprop, ("square_avg",)),
        (False, True): (formulas.momentum, ("square_avg", "momentum_buffer")),
        (True, False): (formulas.centered, ("square_avg", "grad_avg")),
        (True, True): (formulas.centered_momentum, ("square_avg", "momentum_buffer", "grad_avg")),
    }[o["centered"], o["momentum"] > 0]
    initial = {"square_avg": 1.0} if o["dialect"] == "tensorflow" else {}
    return Meaning(formula, state, lambda _: symbols, lambda _: initial)


_DECAY = "fma(h.weight_decay, theta, g)"
_SQUARES = "fma(h.alpha, v, h.one_minus_alpha * g * g)"

_ALL = (
    ("weight decay dropped", _DECAY, "g"),
    ("weight decay with the wrong sign", _DECAY, "fma(-h.weight_decay, theta, g)"),
    ("weight decay not multiplied by the parameter", _DECAY, "fma(h.weight_decay, g, g)"),
    ("maximize ignored", "h.sign * g", "g"),
    ("mean square not decayed", _SQUARES, "fma(h.one, v, h.one_minus_alpha * g * g)"),
    ("mean square without its weight", _SQUARES, "fma(h.alpha, v, g * g)"),
    ("mean square of the gradient's size", _SQUARES, "fma(h.alpha, v, h.one_minus_alpha * abs(g))"),
    ("mean square with the wrong weight", _SQUARES, "fma(h.alpha, v, h.spread * g * g)"),
)
_STEP = (
    ("climbs instead of descending", "fma(-h.lr", "fma(h.lr"),
    ("learning rate dropped", "fma(-h.lr", "fma(-h.one"),
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
    ("not centered", "sqrt(variance", "sqrt(v"),
    ("mean added", "fma(-a, a, v)", "fma(a, a, v)"),
    ("mean not squared", "fma(-a, a, v)", "v - a"),
    ("old variance dropped", "fma(h.alpha, fma(-a, a, v), h.spread * distance * distance)", "h.spread * distance**2"),
    ("old variance not decayed", "fma(h.alpha, fma(-a, a, v), h", "fma(h.one, fma(-a, a, v), h"),
    ("distance with the wrong weight", "h.spread * distance", "h.one_minus_alpha * distance"),
    ("distance from 0", "fma(h.one, g, -a)", "g"),
    ("distance from the other side", "fma(h.one, g, -a)", "fma(h.one, g, a)"),
    ("variance at least 1", "h.zero)", "h.one)"),
)
_DECOUPLED = (
    ("decoupled decay dropped", "fma(h.decay, theta, delta)", "delta"),
    ("decoupled decay with the wrong sign", "fma(h.decay, theta, delta)", "fma(-h.decay, theta, delta)"),
    ("decoupled decay of the gradient", "fma(h.decay, theta, delta)", "fma(h.decay, g, delta)"),
)
_INSIDE = (
    ("momentum sign", "fma(h.momentum, b", "fma(-h.momentum, b"),
    ("learning rate outside the buffer", "h.lr * (g / sqrt", "(g / sqrt"),
    ("climbs instead of descending", "theta - delta", "theta + delta"),
    ("climbs but for the decay", "delta = b", "delta = -b"),
    ("steps along the gradient alone", "delta = b", "delta = b - h.momentum * b"),
    ("looks ahead", "delta = b", "delta = h.momentum * b"),
    ("buffer not kept", "delta, v, b", "delta, v, h.momentum * b"),
    ("decay kept in the buffer", "delta, v, b", "delta, v, delta"),
    *_DECOUPLED,
)
# By rule: what is in its root, and what may be wrong with it.
_WANTED = {
    "rmsprop": ("v", _ALL + _STEP),
    "momentum": ("v", _ALL + _STEP + _MOMENTUM),
    "centered": ("variance", _ALL + _STEP + _CENTERED),
    "centered_momentum": ("variance", _ALL + _STEP + _MOMENTUM + _CENTERED),
    "rmsprop_inside": ("v", _ALL + _STEP + _DECOUPLED),
    "momentum_inside": ("v", _ALL + _INSIDE),
    "centered_inside": ("variance", _ALL + _STEP + _CENTERED + _DECOUPLED),
    "centered_momentum_inside": ("variance", _ALL + _CENTERED + _INSIDE),
}
_OUTSIDE_THE_ROOT = (
    ("eps inside the root", "sqrt({} + h.eps)"),
    ("eps squared inside the root", "sqrt(fma(h.eps, h.eps, {}))"),
    ("eps dropped", "sqrt({})"),
    ("eps as a lower limit", "max(sqrt({}), h.eps)"),
    ("root dropped", "({} + h.eps)"),
)
_INSIDE_THE_ROOT = (
    ("eps outside the root", "(sqrt({}) + h.eps)"),
    ("eps squared inside the root", "sqrt(fma(h.eps, h.eps, {}))"),
    ("eps dropped", "sqrt({})"),
    ("eps as a lower limit", "sqrt(max({}, h.eps))"),
    ("root dropped", "({} + h.eps)"),
)

RULE_MUTANTS = (
    *(RuleMutant(name, rule, *change) for rule, (_, wanted) in _WANTED.items() for name, *change in wanted),
    *(
        RuleMutant(name, rule, right.format(square), wrong.format(square))
        for rule, (square, _) in _WANTED.items()
        for right, wanted in [
            ("sqrt({} + h.eps)", _INSIDE_THE_ROOT) if "inside" in rule else ("(sqrt({}) + h.eps)", _OUTSIDE_THE_ROOT)
        ]
        for name, wrong in wanted
    ),
    *(
        RuleMutant("the gradient centered too", rule, "g / ", "distance / ")
        for rule, (square, _) in _WANTED.items()
        if square == "variance"
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
        ("decoupled decay by half", lambda h, o, t: h._replace(decay=h.decay / 2)),
        ("decoupled decay not multiplied by lr", lambda h, o, t: h._replace(decay=o.weight_decay * (h.decay != 0))),
        ("L2 and decoupled exchanged", lambda h, o, t: h._replace(weight_decay=h.decay, decay=h.weight_decay)),
        ("lr off in the fifth digit", lambda h, o, t: h._replace(lr=h.lr * 1.00001)),
    )
)
