"""Cases of Muon: matrices, whose numbers are all made of all, so that errors count beside the largest."""

from typing import Any

from refoptim.conformance.case import Case, Meaning, RuleMutant, ScalarMutant
from refoptim.conformance.tolerances import MATRIX_LIMITS
from refoptim.formulas import muon as formulas

REAL_ONLY = True
ELEMENTWISE = False
LIMITS = MATRIX_LIMITS

DEFAULTS = {
    "lr": 1e-3,
    "weight_decay": 0.1,
    "momentum": 0.95,
    "nesterov": True,
    "ns_coefficients": (3.4445, -4.775, 2.0315),
    "eps": 1e-7,
    "ns_steps": 5,
    "adjust_lr_fn": None,
}

CASES = (
    Case("Muon", {}, (8, 6)),
    Case("Muon", {"lr": 0.02, "nesterov": False}, (5, 9)),
    Case("Muon", {"weight_decay": 0, "momentum": 0.5, "adjust_lr_fn": "match_rms_adamw"}, (7, 4)),
    Case("Muon", {"ns_coefficients": (2.0, -1.5, 0.5), "ns_steps": 3, "adjust_lr_fn": "original"}, (9, 3)),
    Case("Muon", {"eps": 50.0, "adjust_lr_fn": "match_rms_adamw"}, (4, 8)),
    Case("Muon", {"weight_decay": 0.3, "ns_steps": 0, "momentum": 0}, (6, 6)),
)


def meaning(case: Case) -> Meaning:
    """Return the formula of a case and what its symbols stand for."""
    o: dict[str, Any] = DEFAULTS | case.options
    symbols = {
        "gamma": o["lr"],
        "mu": float(o["momentum"]),
        "nesterov": o["nesterov"],
        "coefficients": o["ns_coefficients"],
        "epsilon": o["eps"],
        "steps": o["ns_steps"],
        "lambda_": o["weight_decay"],
        "match_rms": o["adjust_lr_fn"] == "match_rms_adamw",
    }
    shapes = ((2, 3), (4, 1), (3, 3), (3, 2))
    return Meaning(
        formulas.muon, ("momentum_buffer",), lambda _: symbols, shapes=shapes, decoupled=True, whole=True, steps=100
    )


RULE_MUTANTS = tuple(
    RuleMutant(name, rule, right, wrong)
    for name, rule, right, wrong in (
        ("momentum not decayed", "muon_direction", "fma(h.momentum, buffer,", "fma(h.momentum / h.momentum, buffer,"),
        ("gradient added in full", "muon_direction", "h.one_minus_momentum * g)\n    u", "g)\n    u"),
        (
            "looks ahead without the gradient",
            "muon_direction",
            "u = fma(h.momentum, buffer",
            "u = fma(h.momentum, buffer - buffer",
        ),
        ("never looks ahead", "muon_direction", "h.nesterov != 0", "h.nesterov < 0"),
        ("always looks ahead", "muon_direction", "h.nesterov != 0", "h.nesterov == h.nesterov"),
        ("b dropped", "muon_factor", "fma(h.b, gram, h.c * square)", "h.c * square"),
        ("c dropped", "muon_factor", "h.c * square", "square - square"),
        ("b and c exchanged", "muon_factor", "fma(h.b, gram, h.c * square)", "fma(h.c, gram, h.b * square)"),
        ("a dropped", "muon_polynomial", "fma(h.a, x, product)", "product"),
        ("polynomial of an odd degree less", "muon_polynomial", "fma(h.a, x, product)", "h.a * x"),
        ("climbs instead of descending", "muon_update", "fma(-h.step_size", "fma(h.step_size"),
        ("climbs with decay", "muon_update", "h.step_size * x", "-h.step_size * x"),
        ("decay with the wrong sign", "muon_update", "fma(h.decay", "fma(-h.decay"),
        ("decay dropped", "muon_update", "h.decay != 0", "h.decay < 0"),
        ("decay of the update", "muon_update", "fma(h.decay, theta,", "fma(h.decay, x,"),
    )
)

PROGRAM_MUTANTS = tuple(
    RuleMutant(name, program, right, wrong)
    for name, program, right, wrong in (
        ("not divided by the norm", "_divided", "np.divide(x, size.max(), out=x)", "x"),
        ("divided by eps", "_divided", "size.max()", "size[1]"),
        ("eps is no limit", "_divided", "size.max()", "size[0]"),
        ("eps added to the norm", "_divided", "size.max()", "size.sum()"),
        ("Gram matrix not squared", "_orthogonal", "gram(factor, rounded(square))", "factor[...] = square"),
        ("the first matrix throughout", "_orthogonal", "x, product = rounded(product), x", "result = product"),
        ("one step less", "_orthogonal", "range(int(h.steps))", "range(int(h.steps) - 1)"),
        ("momentum not kept", "_step", "assign(buffer, momentum)", "pass"),
        ("rows and columns exchanged", "_step", "rows / columns", "columns / rows"),
        ("no adjustment", "_step", "math.sqrt(max(1.0, rows / columns))", "1.0"),
        ("adjustment without root", "_step", "math.sqrt(max(1.0, rows / columns))", "max(1.0, rows / columns)"),
        ("adjustment below 1", "_step", "max(1.0, rows / columns)", "rows / columns"),
        ("size of AdamW from the smaller", "_step", "max(rows, columns)", "min(rows, columns)"),
        ("size of AdamW without its factor", "_step", "0.2 * math", "1.0 * math"),
        (
            "computed in bfloat16",
            "muon",
            "lambda x: x",
            "lambda x: round_to_bfloat16(x.astype(np.float32)).astype(x.dtype)",
        ),
        ("computed in float32", "muon", "lambda x: x", "lambda x: x.astype(np.float32).astype(x.dtype)"),
    )
)

SCALAR_MUTANTS = tuple(
    ScalarMutant(name, "Muon", change)
    for name, change in (
        ("decay not multiplied by lr", lambda h, o, t: h._replace(decay=o.weight_decay)),
        ("decay by half", lambda h, o, t: h._replace(decay=h.decay / 2)),
        ("momentum is a sum", lambda h, o, t: h._replace(one_minus_momentum=1.0)),
        ("momentum squared", lambda h, o, t: h._replace(momentum=h.momentum * h.momentum)),
        ("a step less", lambda h, o, t: h._replace(steps=h.steps - 1)),
        ("a step more", lambda h, o, t: h._replace(steps=h.steps + 1)),
        ("always five steps", lambda h, o, t: h._replace(steps=5.0)),
        ("always the default coefficients", lambda h, o, t: h._replace(a=3.4445, b=-4.775, c=2.0315)),
        ("a off in the fourth digit", lambda h, o, t: h._replace(a=h.a * 1.0001)),
        ("eps of the default", lambda h, o, t: h._replace(eps=1e-7)),
        ("eps by half", lambda h, o, t: h._replace(eps=h.eps / 2)),
        ("adjustment as AdamW always", lambda h, o, t: h._replace(match_rms=1.0)),
        ("adjustment as AdamW never", lambda h, o, t: h._replace(match_rms=0.0)),
        ("lr off in the fifth digit", lambda h, o, t: h._replace(step_size=h.step_size * 1.00001)),
    )
)
