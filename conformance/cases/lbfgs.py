"""Situations of LBFGS, and mutants. They have an exam of their own: ``refoptim.conformance.minimizers``."""

from typing import Any

import numpy as np
from flint import arb

from refoptim.conformance.scenario import generator
from refoptim.conformance.situation import (
    ITERATIONS,
    RUN_SIZE,
    SIZE,
    Exact,
    FunctionMutant,
    Situation,
    constant,
    dot,
    hessian,
)
from refoptim.conformance.truth import balls
from refoptim.formulas import lbfgs as formulas

# Nothing that the exams of element-wise optimizers could take.
CASES, RULE_MUTANTS, SCALAR_MUTANTS = (), (), ()

_LEAST = 1e-10
# What came before: how many pairs, the options, and how large steps and how sure their curvature are.
_HISTORIES: dict[str, tuple[int, dict[str, Any], float, float]] = {
    "one pair": (0, {}, 1.0, 1.0),
    "some pairs": (4, {"lr": 0.5}, 1.0, 1.0),
    "as many pairs as are kept": (5, {"history_size": 5}, 1.0, 1.0),
    "one pair is kept": (1, {"history_size": 1}, 1.0, 1.0),
    "too little curvature": (3, {}, 2e-6, 0.3),
    "negative curvature": (3, {}, 1.0, -1.0),
    "too little curvature at once": (0, {}, 2e-6, 0.3),
}


def situations(dtype: Any) -> list[Situation]:
    """Return the iterations that are judged."""
    found = []
    for name, size in (("the first iteration", 3.0), ("the first iteration, near the end", 1e-3)):
        rng = generator("LBFGS", name, dtype)
        theta, grad = (rng.standard_normal(SIZE).astype(dtype) for _ in range(2))
        grad = (grad * size).astype(dtype)
        found.append(Situation(name, "LBFGS", {"lr": 0.5}, theta, constant(grad), 1.0, {}))
    return found + [_later(name, dtype) for name in _HISTORIES]


def _later(name: str, dtype: Any) -> Situation:
    count, options, size, curvature = _HISTORIES[name]
    rng = generator("LBFGS", name, dtype)
    matrix = hessian(rng, SIZE, 10.0)
    steps = [rng.standard_normal(SIZE).astype(dtype) for _ in range(count)]
    changes = [(matrix @ step).astype(dtype) for step in steps]
    curvatures = [dot(y, s) for y, s in zip(changes, steps, strict=True)]
    d, before = ((size * rng.standard_normal(SIZE)).astype(dtype) for _ in range(2))
    state = {
        "func_evals": count + 1,
        "n_iter": count + 1,
        "d": d,
        "t": 0.75,
        "old_dirs": changes,
        "old_stps": steps,
        "ro": [1 / curvature for curvature in curvatures],
        "H_diag": curvatures[-1] / dot(changes[-1], changes[-1]) if count else 1,
        "prev_flat_grad": before,
        "prev_loss": 2.0,
    }
    grad = (before + curvature * 0.75 * (matrix @ d)).astype(dtype)
    return Situation(name, "LBFGS", options, rng.standard_normal(SIZE).astype(dtype), constant(grad), 1.0, state)


def exact(situation: Situation) -> Exact:
    """Return what an iteration leads to."""
    theta, g, state = balls(situation.theta), balls(situation.grad(situation.theta)), situation.state
    lr = arb(float(situation.options.get("lr", 1)))
    if not state:
        t, pairs = formulas.first_step(g, lr), []
    else:
        old = [(balls(s), balls(y)) for s, y in zip(state["old_stps"], state["old_dirs"], strict=True)]
        s, y = state["t"] * balls(state["d"]), g - balls(state["prev_flat_grad"])
        pairs = formulas.remembered(old, s, y, m=situation.options.get("history_size", 100), least=arb(_LEAST))
        t = lr
    d = formulas.direction(g, pairs)
    return Exact(d, t, theta + t * d, pairs)


def runs(dtype: Any) -> list[Situation]:
    """Return the runs without a search: on a parabola of small integers, with a history that is too short for all."""
    matrix, vector = _quadratic(dtype)
    options = {"lr": 0.75, "history_size": 5}
    return [Situation("run", "LBFGS", options, 0 * vector, lambda x: matrix @ x - vector, 0.0, {})]


def exact_run(situation: Situation) -> Any:
    """Return where the iterations lead to."""
    matrix, vector = map(balls, _quadratic(situation.theta.dtype.name))
    lr, m = arb(situation.options["lr"]), situation.options["history_size"]
    theta, s, before = balls(situation.theta), None, None
    pairs: list[Any] = []
    for _ in range(ITERATIONS):
        g = (matrix * theta).sum(axis=1) - vector
        if before is not None:
            pairs = formulas.remembered(pairs, s, g - before, m=m, least=arb(_LEAST))
        s = (lr if pairs else formulas.first_step(g, lr)) * formulas.direction(g, pairs)
        theta, before = theta + s, g
    return theta


def _quadratic(dtype: Any) -> tuple[Any, Any]:
    rng = generator("LBFGS", "run", dtype)
    half = rng.integers(-2, 3, (RUN_SIZE, RUN_SIZE))
    return (half @ half.T + 8 * np.eye(RUN_SIZE)).astype(dtype), rng.integers(-9, 10, RUN_SIZE).astype(dtype)


_FACTORS, _HISTORY, _SUM = "kernels.lbfgs.factors", "kernels.lbfgs.History.direction", "kernels.lbfgs._sum"
_EXTEND, _KEPT = "kernels.lbfgs.History.extend", "optimizers.lbfgs.LBFGS._remember"

_GRAD, _HALF = "buffer.grad[segment.place]", 'buffer.grad[segment.place].astype("f2").astype(self._dtype)'

MUTANTS = tuple(
    FunctionMutant(name, function, right, wrong)
    for name, function, right, wrong in (
        ("first loop from the oldest", _FACTORS, "for i in range(rho.size - 1, -1, -1)", "for i in range(rho.size)"),
        ("second loop from the newest", _FACTORS, "for i in range(rho.size):", "for i in range(rho.size - 1, -1, -1):"),
        ("scale dropped from beta", _FACTORS, "product = scale * product", "pass"),
        ("scale dropped", _SUM, "_scale(d, scale)", "_scale(d, 1.0)"),
        ("scale inverted", _SUM, "_scale(d, scale)", "_scale(d, 1 / scale)"),
        ("first loop climbs", _HISTORY, "found[:count, 0]", "-found[:count, 0]"),
        ("second loop climbs", _HISTORY, "found[count:, 0]", "-found[count:, 0]"),
        ("alpha added", _SUM, "ys[::-1], -alpha[::-1]", "ys[::-1], alpha[::-1]"),
        ("alpha added in alpha", _FACTORS, "fma(-alpha[j], sy", "fma(alpha[j], sy"),
        ("alpha added in beta", _FACTORS, "fma(-alpha[j], yy", "fma(alpha[j], yy"),
        ("alpha with the change", "kernels.lbfgs.History._products", "[*steps, *ys]", "[*ys, *ys]"),
        ("alpha without rho", _FACTORS, "rho[i] * product", "product"),
        ("first loop subtracts steps", _SUM, "_add_all(d, ys[::-1]", "_add_all(d, steps[::-1]"),
        ("first loop subtracts from the oldest", _SUM, "_add_all(d, ys[::-1]", "_add_all(d, ys"),
        ("second loop adds changes", _SUM, "_add_all(d, steps, rest)", "_add_all(d, ys, rest)"),
        ("beta with the step", _HISTORY, "found[count:, 0]", "found[:count, 0]"),
        ("beta without rho", _FACTORS, "fma(-rho[i], product, alpha[i])", "alpha[i] - product"),
        ("beta dropped", _FACTORS, "fma(-rho[i], product, alpha[i])", "alpha[i]"),
        ("beta without the second loop", _FACTORS, "fma(rest[j], sy[j, i], product)", "product"),
        ("second loop dropped", _SUM, "_add_all(d, steps, rest)", "_add_all(d, steps, 0.0 * rest)"),
        ("products kept on one side", _HISTORY, "= yy[:known, known:].T", "= 0.0"),
        (
            "products of forgotten pairs kept",
            _HISTORY,
            "old[len(old) - known :, len(old) - known :]",
            "old[:known, :known]",
        ),
        ("change with the wrong sign", "kernels.lbfgs.pair", "add(y, g, before, -1.0)", "add(y, before, g, -1.0)"),
        ("change not taken", "kernels.lbfgs.pair", "-1.0", "-0.0"),
        ("step without its size", "kernels.lbfgs.lbfgs_step", "h.t * s", "s"),
        ("step and change swapped", _EXTEND, "ys[-1], steps[-1]", "steps[-1], ys[-1]"),
        ("curvature of the change", _EXTEND, "found[len(ys) - 1, -1]", "found[-1, -1]"),
        ("curvature with the gradient", _EXTEND, "found[len(ys) - 1, -1]", "found[len(ys) - 1, 0]"),
        ("curvature of the oldest step", _EXTEND, "found[len(ys) - 1, -1]", "found[0, -1]"),
        ("pairs of little curvature kept", _KEPT, "curvature > _LEAST_CURVATURE", "curvature > 0"),
        (
            "pairs of negative curvature kept",
            _KEPT,
            "curvature > _LEAST_CURVATURE",
            "abs(curvature) > _LEAST_CURVATURE",
        ),
        ("no pair kept", _KEPT, "curvature > _LEAST_CURVATURE", "curvature < _LEAST_CURVATURE"),
        ("too many pairs kept", _KEPT, "[-most:]", "[-most - 1:]"),
        ("oldest pairs kept", _KEPT, "[-most:]", "[:most]"),
        ("rho not inverted", _KEPT, "1.0 / curvature", "curvature"),
        ("rho not renewed", _KEPT, '"ro"], 1.0 / curvature', '"ro"], (memory["ro"] or [1.0])[-1]'),
        ("scale not renewed", _KEPT, '"H_diag": ', '"H": '),
        ("scale with the step", _KEPT, "curvature / square", "curvature / float(s @ s)"),
        ("scale inverted at its source", _KEPT, "curvature / square", "square / curvature"),
        ("first step not limited", "minimizer.steepest_t", "min(1.0, 1.0 / size)", "1.0"),
        ("first step not at most 1", "minimizer.steepest_t", "min(1.0, 1.0 / size)", "1.0 / size"),
        ("first step by the largest", "minimizer.steepest_t", "sum_of_magnitudes", "largest_magnitude"),
        ("every step is the first", "optimizers.lbfgs.LBFGS._first_t", 'memory["n_iter"] == 1', "True"),
        ("no step is the first", "optimizers.lbfgs.LBFGS._first_t", 'memory["n_iter"] == 1', "False"),
        ("moves backwards", "kernels.vectors.combine", "fma(h.factor, y, x)", "fma(-h.factor, y, x)"),
        ("moves by the whole direction", "kernels.vectors.combine", "fma(h.factor, y, x)", "x + y"),
        ("learning rate dropped", "minimizer.Minimizer._iterate", "t = lr * ", "t = "),
        ("gradient not kept", "minimizer.Minimizer._iterate", '"prev_flat_grad": grad.vector', '"prev_flat_grad": d'),
        ("gradients in float16", "objective.Objective._gradient", _GRAD, _HALF),
    )
)
