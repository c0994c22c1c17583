"""The oracle: what an optimizer's formula makes of a problem, in whatever numbers it is given."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refoptim.conformance.case import Case, Meaning
from refoptim.conformance.judge import filled
from refoptim.conformance.vectors.numbers import Numbers
from refoptim.conformance.vectors.vector import Rows, Trajectory

Array = NDArray[Any]

# The quantities of a parameter, by torch's names, the parameter itself as "theta".
Values = dict[str, Any]


class Course:
    """One parameter on its way."""

    def __init__(self, meaning: Meaning, theta: Array, numbers: Numbers) -> None:
        self._meaning = meaning
        self._like = theta
        self._numbers = numbers
        self._t = 0
        self._values = [numbers.array(theta)]
        self._host: dict[str, Any] = {}

    def step(self, grad: Array | Rows | None, lr: float) -> None:
        """Take a step with this gradient; without one, sit it out. Rows that a sparse one does not name stay."""
        if grad is None:
            return
        if self._t == 0:
            self._begin(lr)
        self._t += 1
        dense = grad.dense(self._like) if isinstance(grad, Rows) else grad
        symbols = self._meaning.symbols(self._t) | self._meaning.typed(self._like.dtype) | {"gamma": lr}
        symbols = self._numbers.symbols(symbols) | self._host
        found = self._meaning.formula(self._values[0], self._numbers.array(dense), *self._values[1:], **symbols)
        if self._meaning.advance:
            self._host = self._meaning.advance(**symbols)
        if isinstance(grad, Rows):
            named = grad.named(self._like)
            found = [_kept(new, old, named) for new, old in zip(found, self._values, strict=True)]
        self._values = [self._numbers.stored(value) for value in found]

    def _begin(self, lr: float) -> None:
        initial = self._meaning.initial(lr)
        zeros = self._meaning.zeros(self._like)
        arrays = [filled(array, initial[name]) if name in initial else array for name, array in zeros.items()]
        self._values += [self._numbers.array(array) for array in arrays]
        self._host = self._numbers.symbols(self._meaning.host(lr))

    def now(self) -> Values:
        """Return the parameter and its state; before the first gradient there is no state."""
        state = zip(self._meaning.state, self._values[1:], strict=False)
        return {"theta": self._values[0]} | {name: value for name, value in state if np.size(value)}


def _kept(new: Any, old: Any, named: Array) -> Any:
    """Return the new values of elements that are named, and the old ones of the others."""
    mixed = old.copy()
    chosen = named.reshape(old.shape)
    mixed[chosen] = new[chosen]
    return mixed


def run(problem: Trajectory, meanings: Sequence[Meaning], numbers: Numbers) -> Iterator[dict[str, Values]]:
    """Yield every parameter's quantities after each recorded step.

    Args:
        problem: what happens to which parameters.
        meanings: what each group computes.
        numbers: what it is computed with.

    """
    owner = {name: i for i, group in enumerate(problem.groups) for name in group.params}
    courses = {name: Course(meanings[owner[name]], theta, numbers) for name, theta in problem.params.items()}
    for t, step in enumerate(problem.steps, 1):
        for name, course in courses.items():
            i = owner[name]
            lr = step.lrs[i] if step.lrs else problem.groups[i].options.get("lr", meanings[i].symbols(1)["gamma"])
            course.step(step.grads[name], lr)
        if t in problem.record:
            yield {name: course.now() for name, course in courses.items()}


def meanings_of(problem: Trajectory, meaning: Callable[[Case], Meaning]) -> list[Meaning]:
    """Return what each group of a problem computes, from the file that has the optimizer's cases."""
    return [meaning(Case(problem.algorithm, group.options)) for group in problem.groups]
