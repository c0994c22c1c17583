"""Cases of Rprop."""

from typing import Any

from refoptim.conformance.case import Case, Meaning, RuleMutant, ScalarMutant
from refoptim.formulas import rprop as formulas

DEFAULTS = {"lr": 1e-2, "etas": (0.5, 1.2), "step_sizes": (1e-6, 50), "maximize": False}

CASES = (
    Case("Rprop", {}),
    Case("Rprop", {"maximize": True}),
    Case("Rprop", {"etas": (0.7, 1.4)}),
    Case("Rprop", {"step_sizes": (1e-2, 0.7)}),
    Case("Rprop", {"lr": 0.3, "etas": (0.9, 1.05), "step_sizes": (0.125, 2.0), "maximize": True}),
)


def meaning(case: Case) -> Meaning:
    """Return the formula of a case and what its symbols stand for."""
    o: dict[str, Any] = DEFAULTS | case.options
    symbols = {
        "gamma": o["lr"],
        "eta_minus": o["etas"][0],
        "eta_plus": o["etas"][1],
        "gamma_min": o["step_sizes"][0],
        "gamma_max": o["step_sizes"][1],
        "maximize": o["maximize"],
    }
    return Meaning(
        _formula,
        ("prev", "step_size"),
        lambda _: symbols,
        initial=lambda lr: {"step_size": lr},
        other={"etas": (0.25, 1.75)},
    )


def _formula(*arrays: Any, gamma: Any, **symbols: Any) -> tuple[Any, ...]:
    """Return a step, which the learning rate does not enter."""
    return formulas.rprop(*arrays, **symbols)


_FACTOR = "by_sign(turn, h.eta_minus, h.one, h.eta_plus)"
_STEP = "limited(step * factor, h.smallest, h.largest)"
_ZEROED = "g = by_sign(turn, h.zero, g, g)"
_MOVE = "by_sign(g, -step, h.zero, step)"

RULE_MUTANTS = tuple(
    RuleMutant(name, "rprop", right, wrong)
    for name, right, wrong in (
        ("maximize ignored", "h.sign * g", "g"),
        ("climbs instead of descending", "fma(-h.one", "fma(h.one"),
        ("signs are not compared: always growing", "turn = by_sign(prev, -g, prev, g)", "turn = h.one"),
        ("signs are not compared: never growing", "turn = by_sign(prev, -g, prev, g)", "turn = h.zero"),
        ("sign of the gradient alone", "turn = by_sign(prev, -g, prev, g)", "turn = g"),
        ("sign of the last gradient alone", "turn = by_sign(prev, -g, prev, g)", "turn = prev"),
        ("comparison turned round", "by_sign(prev, -g, prev, g)", "by_sign(prev, g, prev, -g)"),
        ("negative gradients never agree", "by_sign(prev, -g, prev, g)", "by_sign(prev, g, prev, g)"),
        ("the first step counts as one of the same sign", "by_sign(prev, -g, prev, g)", "by_sign(prev, -g, h.one, g)"),
        ("the first step counts as a change", "by_sign(prev, -g, prev, g)", "by_sign(prev, -g, -h.one, g)"),
        ("etas exchanged", _FACTOR, "by_sign(turn, h.eta_plus, h.one, h.eta_minus)"),
        ("grows after a change too", _FACTOR, "by_sign(turn, h.eta_minus, h.eta_plus, h.eta_plus)"),
        ("shrinks after a change too", _FACTOR, "by_sign(turn, h.eta_minus, h.eta_minus, h.eta_plus)"),
        ("never shrinks", _FACTOR, "by_sign(turn, h.one, h.one, h.eta_plus)"),
        ("never grows", _FACTOR, "by_sign(turn, h.eta_minus, h.one, h.one)"),
        ("shrinks as much as it grows", _FACTOR, "by_sign(turn, h.one / h.eta_plus, h.one, h.eta_plus)"),
        ("no smallest step size", _STEP, "limited(step * factor, h.zero, h.largest)"),
        ("no largest step size", _STEP, "limited(step * factor, h.smallest, h.largest / h.zero)"),
        ("limits exchanged", _STEP, "limited(step * factor, h.largest, h.smallest)"),
        ("limits of the factor", _STEP, "step * limited(factor, h.smallest, h.largest)"),
        ("the smaller step at once: Rprop-", _ZEROED, "g = g"),
        ("the sign is forgotten for a step too long", _ZEROED, "g = by_sign(turn, h.zero, h.zero, g)"),
        ("forgets whenever signs agree", _ZEROED, "g = by_sign(turn, g, g, h.zero)"),
        ("the last gradient is kept after a change", ", g, step", ", by_sign(turn, prev, g, g), step"),
        ("the last gradient is never kept", ", g, step", ", g - g, step"),
        ("the last gradient with the wrong sign", ", g, step", ", -g, step"),
        ("the last gradient's sign alone is kept", ", g, step", ", by_sign(g, -h.one, h.zero, h.one), step"),
        ("steps along the gradient", _MOVE, "step * g"),
        ("moves up only", _MOVE, "by_sign(g, -step, h.zero, h.zero)"),
        ("moves down only", _MOVE, "by_sign(g, h.zero, h.zero, step)"),
        ("a zero gradient moves", _MOVE, "by_sign(g, -step, step, step)"),
        ("moves by the old step size", _MOVE, "by_sign(g, -step, h.zero, step) / factor"),
    )
)

SCALAR_MUTANTS = tuple(
    ScalarMutant(name, "Rprop", change)
    for name, change in (
        ("etas exchanged", lambda h, o, t: h._replace(eta_minus=o.eta_plus, eta_plus=o.eta_minus)),
        ("etas inverted", lambda h, o, t: h._replace(eta_minus=1 / o.eta_plus, eta_plus=1 / o.eta_minus)),
        ("eta- of the default", lambda h, o, t: h._replace(eta_minus=0.5)),
        ("eta+ of the default", lambda h, o, t: h._replace(eta_plus=1.2)),
        ("eta- squared", lambda h, o, t: h._replace(eta_minus=o.eta_minus**2)),
        ("eta+ squared", lambda h, o, t: h._replace(eta_plus=o.eta_plus**2)),
        ("eta- off in the fifth digit", lambda h, o, t: h._replace(eta_minus=o.eta_minus * 1.00001)),
        ("eta+ off in the fifth digit", lambda h, o, t: h._replace(eta_plus=o.eta_plus * 1.00001)),
        ("eta+ in float16", lambda h, o, t: h._replace(eta_plus=round(o.eta_plus * 2**10) / 2**10)),
        ("limits exchanged", lambda h, o, t: h._replace(smallest=o.largest, largest=o.smallest)),
        ("smallest step size of the default", lambda h, o, t: h._replace(smallest=1e-6)),
        ("largest step size of the default", lambda h, o, t: h._replace(largest=50.0)),
        ("smallest step size of 0", lambda h, o, t: h._replace(smallest=0.0)),
        ("smallest off in the fifth digit", lambda h, o, t: h._replace(smallest=o.smallest * 1.00001)),
        ("largest off in the fifth digit", lambda h, o, t: h._replace(largest=o.largest * 1.00001)),
        ("etas grow with the steps", lambda h, o, t: h._replace(eta_plus=o.eta_plus**t)),
    )
)
