"""What all reports say: which cells a table has, what failed and where to look first, and the verdict."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

from refoptim.conformance.runner.outcome import NOT_JUDGED, ExitCode, Grade, Report, Result, Status, exit_code

LOWER_BOUNDS = "Every error is the largest that these vectors showed: a lower bound of the largest there is."

ANSWERED = (Status.CONFORMS, Status.MISMATCH, Status.REJECTED)
FAILED = (Status.MISMATCH, Status.REJECTED, Status.ERRORED, Status.PROTOCOL, Status.STALE)
# Where to look first: the tiers whose numbers show most of the formula.
_TIERS = ("probe", "dyadic", "separator", "sparse", "trace", "schedule", "boundary", "defaults", "long", "special")
_DTYPES = ("f32", "f64", "c64", "c128")
_ELLIPSIS = "..."

Key = Callable[[Result], str]


class Cell(NamedTuple):
    """The results that share a place in a table."""

    results: tuple[Result, ...]

    @property
    def failed(self) -> list[Result]:
        """Those that keep the run from conforming."""
        return [result for result in self.results if result.status in FAILED]

    @property
    def judged(self) -> list[Result]:
        """Those with an answer that was right or wrong."""
        return [result for result in self.results if result.status in ANSWERED]

    @property
    def asked(self) -> int:
        """How many there are, but for those that were skipped or are unsupported."""
        return sum(result.status not in NOT_JUDGED for result in self.results)

    @property
    def grade(self) -> Grade | None:
        """The worst grade, None where nothing was graded."""
        grades = [result.grade for result in self.results if result.grade is not None]
        return max(grades, key=list(Grade).index, default=None)

    @property
    def worst(self) -> Result | None:
        """The result with the largest error, None where none was measured."""
        measured = [result for result in self.results if result.sulp is not None]
        return max(measured, key=lambda result: _size(result.sulp), default=None)

    @property
    def text(self) -> str:
        """Grade and largest error, or what there is instead, and how many failed."""
        failed = f"{len(self.failed)}/{self.asked}" if self.failed else ""
        figures = self.word if self.grade is None else f"{self.grade} {ulps(self.worst.sulp) if self.worst else ''}"
        return f"{figures.strip()} {failed}".strip()

    @property
    def word(self) -> str:
        """What there is where nothing was graded."""
        found = Counter(result.status for result in self.results)
        return next((word for status, word in _WORDS.items() if found[status]), "")


# What a cell without a grade says, the worst first.
_WORDS = {
    Status.PROTOCOL: "crash",
    Status.ERRORED: "error",
    Status.REJECTED: "refused",
    Status.MISMATCH: "wrong",
    Status.STALE: "stale",
    Status.CONFORMS: "ok",
    Status.SKIPPED: "skip",
    Status.UNSUPPORTED: "-",
}


class Failure(NamedTuple):
    """What failed of an algorithm."""

    algorithm: str
    cell: Cell
    smallest: Result  # of those that failed, the one to look at first
    dialects: Counter[str]  # verdicts, and how many have each, whatever they say about how near


def cells(results: Iterable[Result], row: Key, column: Key) -> dict[tuple[str, str], Cell]:
    """Return the cells of a table, by row and column."""
    found: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        found.setdefault((row(result), column(result)), []).append(result)
    return {place: Cell(tuple(own)) for place, own in found.items()}


def dtypes(results: Iterable[Result]) -> list[str]:
    """Return the dtypes that were asked for, the common ones first."""
    found = {result.dtype for result in results}
    return [*(dtype for dtype in _DTYPES if dtype in found), *sorted(found.difference(_DTYPES))]


def algorithm(result: Result) -> str:
    """Return the algorithm, as a row of a table."""
    return shown(result.algorithm)


def option_set(result: Result) -> str:
    """Return the algorithm and the options that a vector is about, as its id has them."""
    options = ".".join(result.id.split(".")[2 if is_schedule(result) else 3 :])
    return shown(f"{result.algorithm} {options}".rstrip())


def is_schedule(result: Result) -> bool:
    """Return whether a vector is about learning rates: its id names no dtype."""
    return result.id.split(".")[1:2] != [result.dtype]


def failures(report: Report) -> list[Failure]:
    """Return what failed, algorithm by algorithm, wrong formulas before what was not refused."""
    rows = cells(report.results, algorithm, lambda _: "").items()
    found = [
        Failure(name, cell, min(cell.failed, key=difficulty), dialects(cell.failed))
        for (name, _), cell in rows
        if cell.failed
    ]
    return sorted(found, key=lambda failure: (difficulty(failure.smallest)[0], -len(failure.cell.failed)))


def dialects(results: Iterable[Result]) -> Counter[str]:
    """Return the verdicts of the search, of those that differ in how near they are only the furthest."""
    found: dict[str, list[str]] = {}
    for result in results:
        if result.dialect:
            found.setdefault(_DISTANCE.sub("", result.dialect), []).append(result.dialect)
    return Counter({max(verdicts, key=_distance): len(verdicts) for verdicts in found.values()})


# What follows "within" or "to" in a verdict.
_DISTANCE = re.compile(r"(?<=within )[0-9.e+-]+(?= ulp)|(?<=to )[0-9.e+-]+(?= of their length)")


def _distance(verdict: str) -> list[float]:
    return [float(number) for number in _DISTANCE.findall(verdict)]


def difficulty(result: Result) -> tuple[int, int, int, str]:
    """Return what results are sorted by: the first of those that failed is the one to look at first."""
    tier = _TIERS.index(result.tier) if result.tier in _TIERS else len(_TIERS)
    options = option_set(result).count("-")
    return tier, options, result.divergence.step if result.divergence else 0, result.id


def counts(report: Report) -> dict[Status, int]:
    """Return how many results have each status, leaving out what there is none of."""
    found = Counter(result.status for result in report.results)
    return {status: found[status] for status in Status if found[status]}


def reasons(report: Report) -> dict[tuple[Status, str], list[Result]]:
    """Return what was not judged, by status and reason, the most frequent first; skips before the rest."""
    found: dict[tuple[Status, str], list[Result]] = {}
    for result in report.results:
        if result.status in (Status.SKIPPED, Status.STALE, Status.UNSUPPORTED):
            found.setdefault((result.status, one_line(result.message) or "no reason given"), []).append(result)
    order = [Status.STALE, Status.SKIPPED, Status.UNSUPPORTED]
    return dict(sorted(found.items(), key=lambda item: (order.index(item[0][0]), -len(item[1]))))


def verdict(report: Report) -> str:
    """Return the end of the story in one line, which says what the exit code says."""
    whole = Cell(tuple(report.results))
    if not report.complete:
        return f"INCOMPLETE: the run ended early, after {count(report.results, 'result')}"
    if whole.failed:
        found = Counter(result.status for result in whole.failed)
        parts = ", ".join(f"{number} {status}" for status, number in found.items())
        return f"DOES NOT CONFORM: {len(whole.failed)} of {whole.asked:,} vectors failed ({parts})"
    if not whole.judged:
        return f"NOTHING WAS JUDGED: {count(report.results, 'vector')}, and not one answer"
    at = "" if whole.grade is None else " exactly" if whole.grade is Grade.EXACT else f" at grade {whole.grade}"
    return f"conforms{at}: {count(whole.judged, 'answer')} of {count(report.results, 'vector')}"


def conforms(report: Report) -> bool:
    """Return whether there were answers, and all of them were right."""
    return exit_code(report) is ExitCode.CONFORMS


def title(report: Report) -> str:
    """Return who was judged, in one line."""
    language = report.implementation.get("language")
    return one_line(f"{who(report)}{f' ({language})' if language else ''}")


def who(report: Report) -> str:
    """Return the implementation's name and version."""
    return one_line(f"{name(report)} {report.implementation.get('version') or ''}")


def name(report: Report) -> str:
    """Return the implementation's name."""
    return one_line(report.implementation.get("name") or "an implementation without a name")


def dialect(report: Report) -> str:
    """Return whose formulas the implementation was judged by."""
    return one_line(report.implementation.get("dialect") or "torch")


def count(things: list[Result], noun: str) -> str:
    """Return a number of things."""
    return f"{len(things):,} {noun}{'' if len(things) == 1 else 's'}"


def ulps(value: float | None) -> str:
    """Return an error as a table has it: two digits, and no more signs than they need."""
    if value is None:
        return ""
    if not math.isfinite(value):
        return "inf" if value == math.inf else "nan"
    if value < 1000:
        return f"{value:.1f}" if value < 10 else f"{value:.0f}"
    digits, _, power = f"{value:.1e}".partition("e+")
    return f"{digits}e{int(power)}"


def shown(text: object) -> str:
    """Return a text from outside with nothing in it that a terminal, an XML or an HTML parser would obey."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in str(text))


def one_line(text: object, longest: int = 300) -> str:
    """Return a text from outside in one line that is not too long."""
    line = shown(" ".join(str(text).split()))
    return line if len(line) <= longest else line[: longest - len(_ELLIPSIS)] + _ELLIPSIS


def _size(sulp: float | None) -> float:
    return -1.0 if sulp is None else math.inf if math.isnan(sulp) else sulp
