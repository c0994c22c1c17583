"""The judge: runs a subject through a scenario beside the exact computation and measures the distance in ulps."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from refoptim.conformance import truth
from refoptim.conformance.case import Case, Meaning
from refoptim.conformance.scenario import Scenario, reals
from refoptim.conformance.subjects import Subject

Array = NDArray[Any]


class Distance(NamedTuple):
    """How far a subject is from the truth, element by element, in ulps."""

    theta: Array
    state: dict[str, Array]

    @property
    def worst(self) -> float:
        """The largest distance of all, parameters and state."""
        return max(self.worst_theta, self.worst_state)

    @property
    def worst_theta(self) -> float:
        """The largest distance of a parameter."""
        return float(np.max(self.theta, initial=0.0))

    @property
    def worst_state(self) -> float:
        """The largest distance of a number of the state."""
        return max((float(np.max(errors, initial=0.0)) for errors in self.state.values()), default=0.0)

    @property
    def mean_theta(self) -> float:
        """The mean distance of the parameters."""
        return float(np.mean(self.theta))


class Exact(NamedTuple):
    """One parameter's exact values after a scenario, and the largest it had on the way."""

    theta: truth.Balls
    state: dict[str, truth.Balls]
    largest: list[Array]  # of the parameter, then of each state array


class Truth:
    """The exact outcome of a scenario, computed once for all subjects."""

    def __init__(self, case: Case, meanings: list[Meaning], scenario: Scenario) -> None:
        self.case = case
        self.scenario = scenario
        with truth.precision():
            self.exact = [self._run(meanings[owner], i, owner) for i, owner in enumerate(scenario.group_of)]

    def _run(self, meaning: Meaning, index: int, owner: int) -> Exact:
        start = self.scenario.starts[index]
        first = next((i for i, grads in enumerate(self.scenario.grads) if grads[index] is not None), 0)
        lr = self.scenario.lrs[first][owner]
        begun = {
            name: start.state[name] if name in start.state else filled(zeros, meaning.initial(lr).get(name, 0.0))
            for name, zeros in meaning.zeros(start.theta).items()
        }
        host = truth.exact_symbols(start.host or meaning.host(lr))
        values = [_exact(array) for array in (start.theta, *begun.values())]
        largest = [_sizes(value) for value in values]
        t = start.taken
        for grads, lrs in zip(self.scenario.grads, self.scenario.lrs, strict=True):
            grad = grads[index]
            if grad is None:
                continue
            t += 1
            symbols = meaning.symbols(t) | meaning.typed(start.theta.dtype) | {"gamma": lrs[owner]}
            symbols = truth.exact_symbols(symbols) | host
            values = [_as_balls(v) for v in meaning.formula(values[0], _exact(grad), *values[1:], **symbols)]
            host = meaning.advance(**symbols) if meaning.advance else host
            largest = [np.maximum(old, _sizes(value)) for old, value in zip(largest, values, strict=True)]
        if meaning.whole:
            largest[0][:] = largest[0].max()
        state = {name: value for name, value in zip(meaning.state, values[1:], strict=True) if t and value.size}
        sizes = [size for size in largest[1:] if size.size]
        return Exact(values[0], state, [largest[0], *sizes])

    def judge(self, subject: Subject) -> list[Distance]:
        """Run a subject through the scenario and return its distance, by parameter."""
        run = subject(self.case.optimizer, self.scenario)
        for grads, lrs in zip(self.scenario.grads, self.scenario.lrs, strict=True):
            run.step(grads, lrs)
        with truth.precision():
            return [self._distance(run, index, exact) for index, exact in enumerate(self.exact)]

    def _distance(self, run: Any, index: int, exact: Exact) -> Distance:
        theta, state = reals(run.theta(index)), run.state(index)
        if set(state) != set(exact.state):
            missing = np.array([np.inf])
            return Distance(missing, dict.fromkeys(set(state) | set(exact.state), missing))
        return Distance(
            truth.errors_in_ulps(theta, exact.theta, exact.largest[0]),
            {
                name: truth.errors_in_ulps(reals(state[name]), ball, large)
                for (name, ball), large in zip(exact.state.items(), exact.largest[1:], strict=True)
            },
        )


def filled(like: Array, value: float) -> Array:
    """Return an array like this one, full of a real number, or of one whose parts are both that."""
    return np.full(like.shape, complex(value, value) if like.dtype.kind == "c" else value, like.dtype)


def _exact(array: Array) -> truth.Balls:
    """Return an array's numbers as balls: of matrices in their shape, of all others flat."""
    return truth.balls(array if array.ndim > 1 and array.dtype.kind != "c" else reals(array))


def _sizes(values: truth.Balls) -> Array:
    return np.array([abs(float(value.mid())) for value in values.ravel()])


def _as_balls(values: Any) -> truth.Balls:
    return np.asarray(values, object).view(truth.Balls)


def scaled(exact: Exact, distance: Distance, dtype: Any) -> Array:
    """Return a parameter's distances in ulps of the largest of its elements, not of each."""
    sizes = exact.largest[0]
    kind = np.zeros(0, dtype).real.dtype.type
    return distance.theta * np.spacing(sizes.astype(kind)) / np.spacing(kind(sizes.max()))
