"""Situations of CG, and mutants. They have an exam of their own: ``refoptim.conformance.minimizers``."""

from typing import Any

import numpy as np
from flint import arb

from refoptim.conformance.scenario import generator
from refoptim.conformance.situation import SIZE, Exact, FunctionMutant, Situation, constant
from refoptim.conformance.truth import balls
from refoptim.formulas import cg as formulas

# Nothing that the exams of element-wise optimizers could take.
CASES, RULE_MUTANTS, SCALAR_MUTANTS = (), (), ()

_ETA, _LEAST_DESCENT, _CANCELS = 0.01, 0.01, 100
_PR, _HZ = {"method": "polak_ribiere"}, {"method": "hager_zhang"}
# How the gradient is made of the last one, the last direction and noise; how large they are; the options.
_ORDINARY, _SMALLER, _FOLLOWS = (0.3, 0.0, 1.0), (0.5, 0.0, 0.01), (0.0, 1.0, 0.1)
_SITUATIONS: dict[str, tuple[tuple[float, float, float], float, dict[str, Any]]] = {
    "Polak-Ribière": (_ORDINARY, 1.0, _PR),
    "Polak-Ribière, small": (_ORDINARY, 1e-3, _PR | {"lr": 0.5}),
    "Polak-Ribière, beta below 0": (_SMALLER, 1.0, _PR),
    "Polak-Ribière, no descent": (_FOLLOWS, 1.0, _PR),
    "Hager-Zhang": (_ORDINARY, 1.0, _HZ),
    "Hager-Zhang, small": (_ORDINARY, 1e-3, _HZ | {"lr": 0.5}),
    "Hager-Zhang, beta below 0": (_SMALLER, 1.0, _HZ),
}
# How large the last gradient is, and how little of its change lies along the direction.
_BOUNDED = {"Hager-Zhang, bound by eta": (100.0, 1e-3), "Hager-Zhang, bound by the gradient": (5e-3, 2e-6)}


def situations(dtype: Any) -> list[Situation]:
    """Return the iterations that are judged."""
    rng = generator("CG", dtype)
    theta, grad = (rng.standard_normal(SIZE).astype(dtype) for _ in range(2))
    return [
        Situation("the first iteration", "CG", {"lr": 0.5}, theta, constant(grad), 1.0, {}),
        *(_later(name, dtype) for name in _SITUATIONS),
        *(_bounded(name, dtype) for name in _BOUNDED),
    ]


def _later(name: str, dtype: Any) -> Situation:
    (of_last, of_direction, of_noise), size, options = _SITUATIONS[name]
    rng = generator("CG", name, dtype)
    theta, last, noise = rng.standard_normal((3, SIZE))
    d = -last + 0.5 * rng.standard_normal(SIZE)
    grad = of_last * last + of_direction * d + of_noise * noise
    return _after(name, options, *(x.astype(dtype) for x in (theta, size * d, size * last, size * grad)))


def _bounded(name: str, dtype: Any) -> Situation:
    size, part = _BOUNDED[name]
    rng = generator("CG", name, dtype)
    theta = rng.standard_normal(SIZE)
    # Two unit vectors at right angles: the gradient halves, and the slope turns from down to up.
    d, last = np.linalg.qr(rng.standard_normal((SIZE, 2)))[0].T
    before, grad = size * (last - 0.5 * part * d), size * (0.5 * last + 0.5 * part * d)
    return _after(name, _HZ, *(x.astype(dtype) for x in (theta, 3 * d, before, grad)))


def _after(name: str, options: dict[str, Any], theta: Any, d: Any, before: Any, grad: Any) -> Situation:
    state = {"func_evals": 5, "n_iter": 1, "d": d, "t": 0.75, "prev_flat_grad": before, "prev_loss": 1.25}
    return Situation(name, "CG", options, theta, constant(grad), 1.0, state)


def exact(situation: Situation) -> Exact:
    """Return what an iteration leads to, whose search takes the first point that it tries."""
    theta, g, state = balls(situation.theta), balls(situation.grad(situation.theta)), situation.state
    lr = arb(float(situation.options.get("lr", 1)))
    size = abs(np.asarray(g, object)).sum()
    d, t = -g, 1 / size if size > 1 else arb(1)
    if state:
        before, last = balls(state["prev_flat_grad"]), balls(state["d"])
        if situation.options["method"] == "polak_ribiere":
            beta = formulas.polak_ribiere(g, before)
        else:
            beta = formulas.hager_zhang(g, before, last, eta=arb(_ETA))
        new = formulas.direction(g, last, beta)
        if -(g * new).sum() >= arb(_LEAST_DESCENT) * (g * g).sum():
            d = new
        products = np.asarray(g * d, object)
        if abs(products).sum() > _CANCELS * abs(products.sum()):
            # What rounding the direction leaves of its slope says nothing about the arithmetic.
            return Exact(d, None, None, None)
        t = arb(2.02) * (arb(situation.loss) - arb(state["prev_loss"])) / (g * d).sum()
    return Exact(d, lr * t, theta + lr * t * d, None)


def runs(dtype: Any) -> list[Situation]:
    """Return no runs: where they lead depends on the search."""
    return []


_RULE, _DIRECTION, _FIRST_T = "kernels.cg.cg_direction", "optimizers.cg.CG._direction", "optimizers.cg.CG._first_t"
_PR_BETA, _HZ_BETA, _PRODUCTS = "kernels.cg.polak_ribiere", "kernels.cg.hager_zhang", "kernels.cg.products"

MUTANTS = tuple(
    FunctionMutant(name, function, right, wrong)
    for name, function, right, wrong in (
        ("climbs", _RULE, "-g)", "g)"),
        ("last direction dropped", _RULE, "fma(h.beta, d, -g)", "-g"),
        ("last direction subtracted", _RULE, "fma(h.beta, d", "fma(-h.beta, d"),
        ("beta for the gradient", _RULE, "fma(h.beta, d, -g)", "fma(-h.beta, g, d)"),
        ("beta below 0", _PR_BETA, "max(beta, 0.0)", "beta"),
        ("beta above 0 dropped", _PR_BETA, "max(beta, 0.0)", "min(beta, 0.0)"),
        ("beta of Fletcher and Reeves", _PR_BETA, "p.gy", "p.gg"),
        ("beta of Hestenes and Stiefel", _PRODUCTS, "(before, before)", "(d, y)"),
        ("beta of Dai and Yuan", _PR_BETA, "p.bb", "p.gg"),
        ("change with the wrong sign", _PRODUCTS, "add(y, g, before, -1.0)", "add(y, before, g, -1.0)"),
        ("change not taken", _PRODUCTS, "before, -1.0)", "before, -0.0)"),
        ("correction dropped", _HZ_BETA, " - 2.0 * _quotient(p.yy, p.dy) * p.dg", ""),
        ("correction not twice", _HZ_BETA, "2.0 * ", "1.0 * "),
        ("correction with the change", _HZ_BETA, "* p.dg", "* p.gy"),
        ("correction of the step", _HZ_BETA, "p.yy", "p.dd"),
        ("curvature with the gradient", _HZ_BETA, "p.dy", "p.dg"),
        ("bound dropped", _HZ_BETA, "max(beta, least)", "beta"),
        ("bound is 0", _HZ_BETA, "max(beta, least)", "max(beta, 0.0)"),
        ("bound above 0", _HZ_BETA, "_quotient(-1.0", "_quotient(1.0"),
        ("bound without the gradient", _HZ_BETA, "min(eta, math.sqrt(p.bb))", "eta"),
        (
            "bound without eta",
            _HZ_BETA,
            "min(eta, math.sqrt(p.bb))",
            "math.sqrt(p.bb)",
        ),
        ("bound with the larger", _HZ_BETA, "min(eta, ", "max(eta, "),
        ("bound with squares", _HZ_BETA, "math.sqrt(p.dd)", "p.dd"),
        ("eta ten times as large", _HZ_BETA, "min(eta, ", "min(10 * eta, "),
        ("methods swapped", _DIRECTION, '== "polak_ribiere"', '!= "polak_ribiere"'),
        ("descent not checked", _DIRECTION, "new if -new", "new if True or -new"),
        ("always the steepest", _DIRECTION, "new if -new", "self._steepest(grad) if -new"),
        ("descent of any size", _DIRECTION, "_LEAST_DESCENT * ", "-1e9 * "),
        ("first point from the gain alone", _FIRST_T, " / slope", " / -1.0"),
        ("first point without the margin", _FIRST_T, "2.02", "2.0"),
        ("first point behind", _FIRST_T, "2.02", "-2.02"),
        ("first point always the steepest", _FIRST_T, "0 < t < inf", "False"),
        ("first point of the next", _FIRST_T, 'loss - memory["prev_loss"]', 'memory["prev_loss"] - loss'),
        ("first step not limited", "minimizer.steepest_t", "min(1.0, 1.0 / size)", "1.0"),
        ("learning rate dropped", "minimizer.Minimizer._iterate", "t = lr * ", "t = "),
        ("search begins elsewhere", "minimizer.Minimizer._search", "start, t, size", "start, 2 * t, size"),
        ("moves backwards", "kernels.vectors.combine", "fma(h.factor, y, x)", "fma(-h.factor, y, x)"),
    )
)
