"""What the runner asks of an implementation in Python: a class with a few methods, which speaks NumPy."""

from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

from refoptim.conformance.vectors.vector import Rows, Schedule, Trace, Trajectory

Array = NDArray[Any]


class Unsupported(Exception):  # noqa: N818  an answer, not an error
    """The implementation does not have what a problem asks for: ``raise Unsupported("option:amsgrad")``."""


class Rejected(Exception):  # noqa: N818  an answer, not an error
    """The implementation refuses the problem's values, as it should where a vector's result is ``invalid``."""


class Skip(Exception):  # noqa: N818  an answer, not an error
    """The implementation's maintainers know that this fails, and say why: ``raise Skip("issue 12")``."""


class Info(NamedTuple):
    """Who answers."""

    name: str  # e.g. "torch for-loop"
    version: str
    language: str = "Python"
    homepage: str = ""
    dialect: str = "torch"  # whose formulas it means to compute
    # What it has, by torch's names: for each optimizer its options, dtypes and features, as ``requires`` names them:
    # {"Adam": ["dtype:f32", "option:amsgrad"]}. What is not here is not asked for. None: ask, it will say.
    optimizers: dict[str, list[str]] | None = None
    schedulers: list[str] | None = None


class Adapter(Protocol):
    """An implementation, which takes one problem after another.

    ``start`` raises Unsupported for what it does not have, and Rejected (or ValueError) for values that make no sense.
    """

    info: Info

    def start(self, problem: Trajectory) -> None:
        """Build the parameters, the groups and the optimizer."""
        ...

    def step(self, grads: dict[str, Array | Rows | None], lrs: tuple[float, ...]) -> None:
        """Take one step with these gradients, by parameter, and these learning rates, by group."""
        ...

    def params(self) -> dict[str, Array]:
        """Return every parameter's values now."""
        ...

    def state(self) -> dict[str, dict[str, Array]]:
        """Return every parameter's state now, by torch's names; what there is none of is left out."""
        ...

    def load(self, params: dict[str, Array], state: dict[str, dict[str, Array]], steps: dict[str, int]) -> None:
        """Go on from here: values, state arrays and the number of steps taken, by parameter."""
        ...

    def schedule(self, problem: Schedule) -> list[list[float]]:
        """Return each group's learning rates, and after them each group's momentum where it is cycled, by epoch."""
        ...

    def trace(self, problem: Trace) -> "Calls":
        """Call ``step`` as often as asked, with a closure that gives what the problem says, call after call."""
        ...


class Calls(NamedTuple):
    """Where a minimizer called its closure."""

    points: list[dict[str, Array]]  # the parameters at each call
    per_step: list[int]  # how many calls each step made
    params: dict[str, Array]  # in the end


class Base:
    """An adapter that has nothing yet: what is not overridden is unsupported."""

    info: Info

    def start(self, problem: Trajectory) -> None:
        """Refuse every optimizer."""
        raise Unsupported(f"optimizer:{problem.algorithm}")

    def step(self, grads: dict[str, Array | Rows | None], lrs: tuple[float, ...]) -> None:
        """Have nothing to step."""
        raise NotImplementedError

    def params(self) -> dict[str, Array]:
        """Have no parameters."""
        raise NotImplementedError

    def state(self) -> dict[str, dict[str, Array]]:
        """Have no state to show."""
        return {}

    def load(self, params: dict[str, Array], state: dict[str, dict[str, Array]], steps: dict[str, int]) -> None:
        """Refuse to go on from a given state."""
        raise Unsupported("feature:set_state")

    def schedule(self, problem: Schedule) -> list[list[float]]:
        """Refuse every scheduler."""
        raise Unsupported(f"scheduler:{problem.algorithm}")

    def trace(self, problem: Trace) -> Calls:
        """Refuse every minimizer."""
        raise Unsupported(f"optimizer:{problem.algorithm}")
