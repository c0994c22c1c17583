"""Cases of Adafactor: vectors, matrices, and arrays of three dimensions."""

from typing import Any

from refoptim.conformance.case import Case, Meaning, RuleMutant, ScalarMutant
from refoptim.conformance.formats import finfo
from refoptim.formulas import adafactor as formulas

REAL_ONLY = True
ELEMENTWISE = False

DEFAULTS = {
    "lr": 1e-2,
    "beta2_decay": -0.8,
    "eps": (None, 1e-3),
    "d": 1.0,
    "weight_decay": 0.0,
    "maximize": False,
}

CASES = (
    Case("Adafactor", {}),
    Case("Adafactor", {}, (8, 15)),
    Case("Adafactor", {"lr": 0.01, "d": 1.5, "weight_decay": 0.1}, (5, 3, 6)),
    Case("Adafactor", {"eps": (1.2, 2.0), "maximize": True}, (9, 4)),
    Case("Adafactor", {"eps": (0.01, 0.5), "beta2_decay": -0.3, "weight_decay": 0.2}),
    Case("Adafactor", {"beta2_decay": -2, "d": 3.0, "weight_decay": 0.1, "maximize": True}, (4, 16)),
    Case("Adafactor", {"lr": 0.02, "beta2_decay": -0.5, "d": 2.0, "maximize": True}),
)


def meaning(case: Case) -> Meaning:
    """Return the formula of a case and what its symbols stand for."""
    o: dict[str, Any] = DEFAULTS | case.options
    symbols = {
        "gamma": o["lr"],
        "tau": o["beta2_decay"],
        "epsilon1": o["eps"][0],
        "epsilon2": o["eps"][1],
        "d": o["d"],
        "lambda_": o["weight_decay"],
        "maximize": o["maximize"],
    }
    return Meaning(
        formulas.adafactor,
        ("row_var", "col_var", "variance"),
        # As a float, whose root is exact where the formula is.
        lambda t: symbols | {"t": float(t)},
        typed=lambda dtype: {"epsilon1": float(finfo(dtype).eps)} if o["eps"][0] is None else {},
        shapes=((2, 3), (), (4,), (2, 3, 2)),
        state_shapes=_state_shapes,
        decoupled=True,
    )


def _state_shapes(shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    if len(shape) < 2:
        return {"row_var": (0,), "col_var": (0,)}
    return {"row_var": (*shape[:-1], 1), "col_var": (*shape[:-2], 1, shape[-1]), "variance": (0,)}


RULE_MUTANTS = tuple(
    RuleMutant(name, rule, right, wrong)
    for name, rule, right, wrong in (
        ("second moment not decayed", "adafactor_direction", "fma(h.kept, v,", "fma(h.fresh / h.fresh, v,"),
        ("second moment without its weight", "adafactor_direction", "h.fresh * g * g", "g * g"),
        ("second moment of the size", "adafactor_direction", "h.fresh * g * g", "h.fresh * abs(g)"),
        ("second moment of before", "adafactor_direction", "return u, v", "return u, v - h.fresh * g * g"),
        ("root dropped", "adafactor_direction", "sqrt(v)", "v"),
        ("eps added", "adafactor_direction", "maximum(sqrt(v), h.eps)", "(sqrt(v) + h.eps)"),
        ("eps not squared", "adafactor_direction", "maximum(sqrt(v), h.eps)", "sqrt(maximum(v, h.eps))"),
        ("eps dropped", "adafactor_direction", "maximum(sqrt(v), h.eps)", "sqrt(v)"),
        ("climbs instead of descending", "adafactor_update", "fma(-h.step_size", "fma(h.step_size"),
        ("climbs with decay", "adafactor_update", "h.step_size * u", "-h.step_size * u"),
        ("decay dropped", "adafactor_update", "h.decay != 0", "h.decay < 0"),
        ("decay with the wrong sign", "adafactor_update", "fma(h.decay", "fma(-h.decay"),
    )
)

PROGRAM_MUTANTS = tuple(
    RuleMutant(name, program, right, wrong)
    for name, program, right, wrong in (
        ("parameter's size ignored", "squared_step_size", "parameter / size", "1.0"),
        ("sum in the place of the mean", "squared_step_size", "parameter / size", "parameter"),
        ("sum of the update", "squared_step_size", "update / (size * (d * d))", "update / (d * d)"),
        ("least size not squared", "squared_step_size", "eps_of_size * eps_of_size", "eps_of_size"),
        ("least size added", "squared_step_size", ", eps_of_size * eps_of_size)", " + eps_of_size**2, 0.0)"),
        ("d not squared", "squared_step_size", "(d * d)", "d"),
        ("d multiplies", "squared_step_size", "update / (size * (d * d))", "update * (d * d) / size"),
        ("updates always as large as d", "squared_step_size", ", 1.0)", ", 2.0**-100)"),
        ("updates never limited", "squared_step_size", "mean / maximum", "mean * 1.0 or maximum"),
        ("step size not squared", "squared_step_size", "rho * rho", "rho"),
        ("step size of a vector squared", "_step_vector", "math.sqrt(squared)", "squared"),
        ("a vector always descends", "_step_vector", "h.sign * math", "math"),
        ("a matrix always descends", "_step_matrix", "StepScalars(h.sign,", "StepScalars(1.0,"),
        ("a matrix does not decay", "_step_matrix", ", h.decay)", ", 0.0)"),
        ("moments not kept", "_step_matrix", "row_var[...], col_var[...] = moments", "pass"),
        ("moments exchanged", "_step_matrix", "h.kept, h.fresh", "h.fresh, h.kept"),
        ("moments without eps", "_step_matrix", "h.kept, h.fresh, h.eps", "h.kept, h.fresh, 0.0"),
        ("no least second moment", "_most", "1 / h.eps if h.eps else math.inf", "math.inf"),
        ("least second moment not squared", "_most", "1 / h.eps if", "h.eps**-0.5 if"),
        (
            "squares not with the factors",
            "_step_matrix",
            "factored.scaled_squares(g, rows, columns",
            "factored.scaled_squares(g, rows * 0 + 1, columns * 0 + 1",
        ),
        ("the type's eps is always float64's", "_with_eps", "np.finfo(dtype)", "np.finfo(np.float64)"),
    )
)

SCALAR_MUTANTS = tuple(
    ScalarMutant(name, "Adafactor", change)
    for name, change in (
        ("maximize ignored", lambda h, o, t: h._replace(sign=1.0)),
        ("climbs instead of descending", lambda h, o, t: h._replace(sign=-h.sign)),
        ("decay not multiplied by lr", lambda h, o, t: h._replace(decay=o.weight_decay)),
        ("decay multiplied by the step size", lambda h, o, t: h._replace(decay=h.rho * o.weight_decay)),
        ("decay dropped", lambda h, o, t: h._replace(decay=0.0)),
        ("weights of the step before", lambda h, o, t: _with_weight(h, max(t - 1, 1) ** o.beta2_decay)),
        ("weights of the next step", lambda h, o, t: _with_weight(h, (t + 1) ** o.beta2_decay)),
        ("weights always of the default", lambda h, o, t: _with_weight(h, t**-0.8)),
        ("weights exchanged", lambda h, o, t: h._replace(fresh=h.kept, kept=h.fresh)),
        ("old moments in full", lambda h, o, t: h._replace(kept=1.0)),
        ("step size is lr", lambda h, o, t: h._replace(rho=o.lr)),
        ("step size falls always", lambda h, o, t: h._replace(rho=t**-0.5)),
        ("step size falls a step early", lambda h, o, t: h._replace(rho=min(o.lr, (t + 1) ** -0.5))),
        ("step size off in the fifth digit", lambda h, o, t: h._replace(rho=h.rho * 1.00001)),
        ("eps is always the type's", lambda h, o, t: h._replace(eps=-1.0)),
        ("eps is always float64's", lambda h, o, t: h._replace(eps=2.0**-52 if h.eps < 0 else h.eps)),
        ("eps by half", lambda h, o, t: h._replace(eps=h.eps / 2)),
        ("least size by half", lambda h, o, t: h._replace(eps_of_size=h.eps_of_size / 2)),
        ("least size is the default", lambda h, o, t: h._replace(eps_of_size=1e-3)),
        ("d is the default", lambda h, o, t: h._replace(d=1.0)),
        ("d off in the fifth digit", lambda h, o, t: h._replace(d=h.d * 1.00001)),
        ("updates not limited", lambda h, o, t: h._replace(d=1e300)),
    )
)


def _with_weight(h: Any, weight: float) -> Any:
    return h._replace(fresh=weight, kept=1 - weight)
