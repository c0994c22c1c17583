"""What came of putting vectors to an implementation, and the exit code that says so."""

from enum import IntEnum, StrEnum
from typing import Any, NamedTuple


class Status(StrEnum):
    """What became of one vector. They are never mixed: a crash is no wrong formula, and neither is a pass."""

    CONFORMS = "conforms"
    MISMATCH = "mismatch"  # an answer that is wrong
    REJECTED = "rejected"  # refused, though the problem makes sense
    SKIPPED = "skipped"  # with a reason, by the implementation or by a skip file
    UNSUPPORTED = "unsupported"  # the implementation does not have this
    ERRORED = "errored"  # the implementation says that it failed
    PROTOCOL = "protocol error"  # it crashed, hung, or said something else than an answer
    STALE = "stale skip"  # skipped, though it would conform, or longer than was said


class Grade(StrEnum):
    """How near an answer is to the exact value."""

    EXACT = "exact"  # the exact values, rounded once
    A = "A"  # within the budget
    B = "B"  # within the budget of who computes hyperparameters in the parameters' own precision
    C = "C"  # the right formula, weak numbers: within 64 budgets
    D = "D"  # another formula


class ExitCode(IntEnum):
    """What ``refoptim check`` ends with."""

    CONFORMS = 0
    MISMATCH = 1
    USAGE = 2
    PROTOCOL = 3
    STALE = 4
    SELF_CHECK = 5


class Divergence(NamedTuple):
    """Where an answer first leaves the exact values: state is looked at before the parameter, in every step."""

    step: int  # from 1; of a schedule, the epoch; of a trace, the call
    param: str
    # Of the element; of a complex one, with 0 for the real part and 1 for the other at its end.
    index: tuple[int, ...]  # pyright: ignore[reportIncompatibleMethodOverride]
    quantity: str  # "theta", "exp_avg", "lr" ...
    got: str  # hex and decimal
    expected: str
    sulp: float
    budget: float

    def __str__(self) -> str:
        where = f"{self.param}[{', '.join(map(str, self.index))}]" if self.index else self.param
        return (
            f"step {self.step}, {where}, {self.quantity}: got {self.got}, expected {self.expected}, "
            f"{self.sulp:.4g} ulp off (budget {self.budget:g})"
        )


class Result(NamedTuple):
    """What became of one vector."""

    id: str
    algorithm: str
    tier: str
    dtype: str
    status: Status
    grade: Grade | None = None
    sulp: float | None = None  # the largest error, in scaled ulps
    budget: float | None = None  # of the quantity that has it
    quantity: str = ""
    divergence: Divergence | None = None
    dialect: str = ""  # the verdict of the search for a dialect, in words
    message: str = ""  # why it was skipped, is unsupported, errored or broke the protocol
    seconds: float = 0.0


class Report(NamedTuple):
    """A whole run."""

    suite: str
    implementation: dict[str, Any]  # name, version, language, homepage, dialect
    results: list[Result]
    complete: bool = True  # whether every vector that was asked for has a result


NOT_JUDGED = frozenset({Status.SKIPPED, Status.UNSUPPORTED})
_WORST_FIRST = (
    ({Status.PROTOCOL, Status.ERRORED}, ExitCode.PROTOCOL),
    ({Status.MISMATCH, Status.REJECTED}, ExitCode.MISMATCH),
    ({Status.STALE}, ExitCode.STALE),
)


def exit_code(report: Report) -> ExitCode:
    """Return the exit code of a run: what kept it from being complete counts before what was wrong.

    Where all is skipped or unsupported nobody conforms: there was nothing to ask.
    """
    if not report.complete:
        return ExitCode.PROTOCOL
    found = {result.status for result in report.results}
    right = ExitCode.CONFORMS if found - NOT_JUDGED else ExitCode.USAGE
    return next((code for statuses, code in _WORST_FIRST if found & statuses), right)
