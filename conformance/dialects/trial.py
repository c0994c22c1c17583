"""A trial: what an optimizer makes of a problem in some dialect, with or without a mistake."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from refoptim.conformance.dialects import axes as known
from refoptim.conformance.dialects import forms, suspects
from refoptim.conformance.dialects.decay import same
from refoptim.conformance.vectors.encoding import DTYPES, real_of
from refoptim.conformance.vectors.options import documented
from refoptim.conformance.vectors.vector import Rows, Trajectory

Array = NDArray[Any]

# The quantities of a parameter, by torch's names, the parameter itself as "theta".
Values = dict[str, Any]


class Numbers(NamedTuple):
    """What a trial is computed with: how arrays and a formula's symbols become such numbers."""

    array: Callable[[Array], Any]
    symbols: Callable[[dict[str, Any]], dict[str, Any]]


def _float64(array: Array) -> Array:
    """Return an array in float64, a complex one as its real and imaginary parts."""
    flat = np.ascontiguousarray(array)
    return flat.astype(np.complex128).view(np.float64) if flat.dtype.kind == "c" else flat.astype(np.float64)


FLOATS = Numbers(_float64, lambda symbols: symbols)


class Storing(NamedTuple):
    """What storing does to state: before a step uses it, and after."""

    used: Callable[[Any], Any] = same
    stored: Callable[[Any], Any] = same


EXACTLY = Storing()


def completed(problem: Trajectory, library: str = "torch") -> Trajectory:
    """Return a problem with the options that it leaves out written out, by the defaults of a library."""
    defaults = documented(problem.algorithm)
    own = {one.library: one.defaults for one in known.named(problem.algorithm)}.get(library, {})
    defaults |= {name: value for name, value in own.items() if name in defaults}
    groups = tuple(group._replace(options=defaults | group.options) for group in problem.groups)
    steps = tuple(
        step if step.lrs else step._replace(lrs=tuple(group.options["lr"] for group in groups))
        for step in problem.steps
    )
    return problem._replace(groups=groups, steps=steps)


class _Course:
    """One parameter on its way."""

    def __init__(self, problem: Trajectory, name: str, axes: Mapping[str, str], numbers: Numbers) -> None:
        group = next(group for group in problem.groups if name in group.params)
        self._algorithm = problem.algorithm
        self._form = forms.of(problem.algorithm)
        self._options = group.options
        self._axes = axes
        self._numbers = numbers
        self._dtype, self._real = DTYPES[problem.dtype], DTYPES[real_of(problem.dtype)]
        self._like = problem.params[name]
        self._t = 0
        self._pending: Any = 0
        self._values = [numbers.array(self._like)]
        self._host: dict[str, Any] = {}

    def step(self, grad: Array | Rows | None, lr: float, at: int, storing: Storing) -> None:
        """Take the step of this number, of all steps, with this gradient; without one, sit it out."""
        if grad is None:
            return
        if self._t == 0:
            self._begin(lr)
        self._t += 1
        dense = grad.dense(self._like) if isinstance(grad, Rows) else grad
        touched = grad.named(self._like) if isinstance(grad, Rows) else None
        if self._axes.get("zeros") == "lazy":
            touched = dense != 0
        g = self._numbers.array(dense)
        g = -g if self._options.get("maximize") else g
        state, symbols = self._values[1:], self._symbols(lr, at)
        found = list(self._form.formula(self._values[0], g, *state, kept=storing.used, **symbols))
        if touched is not None:
            found = [_kept(new, old, touched) for new, old in zip(found, self._values, strict=True)]
        if self._axes.get("update") == "previous":
            moved = found[0] - self._values[0]
            found[0] = self._values[0] + self._pending
            self._pending = moved
        self._values = [found[0], *map(storing.stored, found[1:])]

    def _symbols(self, lr: float, at: int) -> dict[str, Any]:
        t = {"shared": at, "from 0": self._t - 1, "from 2": self._t + 1}.get(self._axes.get("count", ""), self._t)
        given = self._form.symbols(self._options, self._dtype, t) | {"gamma": lr}
        symbols = self._numbers.symbols(given) | self._host
        if self._form.advance:
            self._host = self._form.advance(**symbols)
        choice = {"decay": known.decay(self._algorithm, self._options)} | dict(self._axes)
        return symbols | {axis: choice[axis] for axis in self._form.axes}

    def _begin(self, lr: float) -> None:
        shape = np.shape(self._values[0])
        factored = self._axes.get("factored") != "from 128" or min(shape[-2:]) >= 128
        own = self._form.shapes(shape if factored else ())
        initial = self._form.initial(self._options, self._axes, lr)
        for name in self._form.state:
            start = np.full(own.get(name, shape), initial.get(name, 0.0), self._real)
            self._values.append(self._numbers.array(start))
        self._host = self._numbers.symbols(self._form.host(lr))

    def now(self) -> Values:
        """Return the parameter and its state, flat."""
        names = ("theta", *self._form.state)
        return {name: np.ravel(value) for name, value in zip(names, self._values, strict=False)}


def _kept(new: Any, old: Any, touched: Array) -> Any:
    """Return the new values of elements that are touched, and the old ones of the others."""
    if old.size < touched.size:  # sums over rows and columns are no element's
        return new
    mixed = old.copy()
    chosen = np.repeat(touched.ravel(), old.size // touched.size).reshape(old.shape)
    mixed[chosen] = new[chosen]
    return mixed


def run(
    problem: Trajectory,
    axes: Mapping[str, str],
    numbers: Numbers = FLOATS,
    storing: Storing = EXACTLY,
) -> Iterator[dict[str, Values]]:
    """Yield every parameter's quantities after each recorded step.

    Args:
        problem: what happens to which parameters, all options written out.
        axes: the values of the optimizer's axes, where they are not torch's, and of ``update``, ``count``, ``zeros``.
        numbers: what it is computed with.
        storing: what storing does to state.

    """
    axes = known.base(problem.algorithm) | dict(axes)
    if axes.get("none") == "zero":
        problem = suspects.missing_as_zero(problem) or problem
    courses = {name: _Course(problem, name, axes, numbers) for name in problem.params}
    owner = {name: i for i, group in enumerate(problem.groups) for name in group.params}
    for t, step in enumerate(problem.steps, 1):
        for name, course in courses.items():
            course.step(step.grads[name], step.lrs[owner[name]], t, storing)
        if t in problem.record:
            yield {name: course.now() for name, course in courses.items()}
