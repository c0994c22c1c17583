"""Verdicts on mutants that pass every vector, beside those on mutants that pass the exams as well."""

_COPIES = "asgd: asgd: h.one_minus_mu != 0"
_WEIGHT = "asgd: ASGD._scalars: 1.0 - mu"

_VARIANCE = "fma(h.alpha, fma(-a, a, v), h.spread * distance * distance)"

VERDICTS: dict[str, tuple[str, ...]] = {
    "A variance is only below 0 where it was rounded there, which no vector asks for.": (
        *(
            f"rmsprop: {rule}: maximum({_VARIANCE}, h.zero) -> {_VARIANCE}"
            for rule in ("centered", "centered_momentum")
        ),
        "rmsprop: RMSprop._scalars: zero=0.0 -> zero=-1.0",
    ),
    "A copy and an average of weight 1 are the same but for infinity, where the order of a sum decides.": (
        *(f"{_COPIES} -> {by}" for by in ("True", "h.sign != 0", "h.eta != 0", "h.mu != 0")),
        *(f"{_COPIES} -> h.one_minus_mu != {by}" for by in ("1", "-1")),
        *(f"{_WEIGHT} -> {by}" for by in ("1.0 + mu", "1.0", "mu", "2.0 - mu", "0.0 - mu")),
    ),
}
