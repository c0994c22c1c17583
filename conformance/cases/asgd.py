"""Cases of averaged stochastic gradient descent."""

from typing import Any

from refoptim.conformance.case import Case, Meaning, RuleMutant, ScalarMutant
from refoptim.formulas import asgd as formulas

DEFAULTS = {
    "lr": 1e-2,
    "lambd": 1e-4,
    "alpha": 0.75,
    "t0": 1e6,
    "weight_decay": 0,
    "maximize": False,
}

CASES = (
    Case("ASGD", {}),
    Case("ASGD", {"maximize": True, "lambd": 0.1}),
    Case("ASGD", {"lambd": 0.5, "alpha": 1.5, "lr": 0.1}),
    Case("ASGD", {"lambd": 0.0, "t0": 0}),
    Case("ASGD", {"lambd": 0.3, "t0": 4.5, "weight_decay": 0.1}),
    Case("ASGD", {"weight_decay": 0.1, "maximize": True, "t0": 1, "alpha": 0.5}),
)


def meaning(case: Case) -> Meaning:
    """Return the formula of a case and what its symbols stand for."""
    o: dict[str, Any] = DEFAULTS | case.options
    symbols = {
        "gamma": o["lr"],
        "lambd": o["lambd"],
        "alpha": o["alpha"],
        "t0": o["t0"],
        "lambda_": o["weight_decay"],
        "maximize": o["maximize"],
        # Nothing is divided by the size of the gradient: decay shrinks the parameter, whichever way it is written.
        "decoupled": True,
    }
    return Meaning(
        _formula,
        ("ax",),
        lambda t: symbols | {"t": t},
        host=lambda lr: {"eta": lr, "mu": 1.0},
        advance=_advance,
    )


_SCHEDULE = ("t", "gamma", "lambd", "alpha", "t0")


def _formula(*arrays: Any, eta: Any, mu: Any, lambd: Any, lambda_: Any, maximize: bool, **_: Any) -> tuple[Any, ...]:
    return formulas.asgd(*arrays, eta=eta, mu=mu, lambd=lambd, lambda_=lambda_, maximize=maximize)


def _advance(**symbols: Any) -> dict[str, Any]:
    eta, mu = formulas.schedule(**{name: symbols[name] for name in _SCHEDULE})
    return {"eta": eta, "mu": mu}


RULE_MUTANTS = tuple(
    RuleMutant(name, "asgd", right, wrong)
    for name, right, wrong in (
        ("weight decay dropped", "fma(h.weight_decay, theta, g)", "g"),
        ("weight decay with the wrong sign", "fma(h.weight_decay, theta, g)", "fma(-h.weight_decay, theta, g)"),
        ("weight decay of the average", "fma(h.weight_decay, theta, g)", "fma(h.weight_decay, ax, g)"),
        ("weight decay of the gradient", "fma(h.weight_decay, theta, g)", "fma(h.weight_decay, g, g)"),
        ("maximize ignored", "h.sign * g", "g"),
        ("climbs instead of descending", "fma(-h.eta", "fma(h.eta"),
        ("steps of size 1", "fma(-h.eta, g, theta)", "theta - g"),
        ("steps from the average", "fma(-h.eta, g, theta)", "fma(-h.eta, g, ax)"),
        ("steps with the weight of the average", "fma(-h.eta, g, theta)", "fma(-h.mu, g, theta)"),
        ("steps are averaged", "return theta, mean", "return mean, mean"),
        ("average not kept", "return theta, mean", "return theta, ax"),
        ("no average", "return theta, mean", "return theta, theta"),
        ("average and parameter exchanged", "return theta, mean", "return mean, theta"),
        ("average with the wrong sign", "fma(h.mu, theta - ax, ax)", "fma(-h.mu, theta - ax, ax)"),
        ("average with the other weight", "fma(h.mu, theta - ax, ax)", "fma(h.one_minus_mu, theta - ax, ax)"),
        ("average of the gradient", "fma(h.mu, theta - ax, ax)", "fma(h.mu, g - ax, ax)"),
        ("average is a sum", "fma(h.mu, theta - ax, ax)", "fma(h.mu, theta, ax)"),
        ("average of the last two", "fma(h.mu, theta - ax, ax)", "(theta + ax) / (h.sign * h.sign + h.sign * h.sign)"),
        ("averages always", "h.one_minus_mu != 0", "h.mu == h.mu * 2"),
    )
)


def _eta(o: Any, steps: int, alpha: float = 0.75) -> float:
    """Return the step size after so many steps, if all were with this learning rate."""
    return formulas.schedule(t=steps, gamma=o.lr, lambd=o.lambd, alpha=alpha, t0=0)[0]


def _mu(h: Any, mu: float) -> Any:
    return h._replace(mu=mu, one_minus_mu=1.0 - mu)


def _coarse(x: float) -> float:
    return round(x * 2**20) / 2**20


SCALAR_MUTANTS = tuple(
    ScalarMutant(name, "ASGD", change)
    for name, change in (
        ("steps do not shrink", lambda h, o, t: h._replace(eta=o.lr)),
        ("steps shrink like a root", lambda h, o, t: h._replace(eta=_eta(o, t - 1, alpha=0.5))),
        ("steps shrink a step late", lambda h, o, t: h._replace(eta=_eta(o, max(t - 2, 0)))),
        ("steps shrink from the first on", lambda h, o, t: h._replace(eta=_eta(o, t))),
        ("steps shrink regardless of lr", lambda h, o, t: h._replace(eta=o.lr / (1 + o.lambd * (t - 1)) ** 0.75)),
        ("steps shrink twice", lambda h, o, t: h._replace(eta=h.eta * h.eta / o.lr)),
        ("eta in 20 bits", lambda h, o, t: h._replace(eta=_coarse(h.eta))),
        ("eta off in the fifth digit", lambda h, o, t: h._replace(eta=h.eta * 1.00001)),
        ("lambd does not decay", lambda h, o, t: h._replace(weight_decay=h.weight_decay - o.lambd)),
        ("lambd alone decays", lambda h, o, t: h._replace(weight_decay=o.lambd)),
        ("lambd decays twice", lambda h, o, t: h._replace(weight_decay=h.weight_decay + o.lambd)),
        ("weight decay multiplied by lr", lambda h, o, t: h._replace(weight_decay=h.weight_decay * h.eta)),
        ("averages from the start", lambda h, o, t: _mu(h, 1.0 / t)),
        ("never averages", lambda h, o, t: _mu(h, 1.0)),
        ("averages a step late", lambda h, o, t: _mu(h, 1.0 / (1.0 / h.mu - 1.0) if h.mu <= 0.5 else 1.0)),
        ("averages with twice the weight", lambda h, o, t: _mu(h, min(1.0, 2.0 * h.mu))),
        ("mu in 20 bits", lambda h, o, t: _mu(h, _coarse(h.mu))),
    )
)
