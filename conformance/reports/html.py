"""Reports as a page: one file that needs no other and no script, for one implementation or several side by side."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from refoptim.conformance.reports import chart, summary
from refoptim.conformance.reports.chart import Pane
from refoptim.conformance.reports.curves import Curve
from refoptim.conformance.reports.json_lines import Saved
from refoptim.conformance.reports.summary import Cell, Failure, shown
from refoptim.conformance.reports.verdicts import Difference, differences
from refoptim.conformance.runner.outcome import Grade, Report, Result, Status

FOLDER = Path(__file__).parent
# How many curves are drawn: of each algorithm that fails, and of what conforms of each implementation.
DRAWN, NEAREST = 2, 3


class Drawn(NamedTuple):
    """A vector with its curve."""

    result: Result
    curve: Curve
    panes: list[Pane]


class Wrong(NamedTuple):
    """What failed of an algorithm, and what there is to see of it."""

    anchor: str
    failure: Failure
    drawn: list[Drawn]
    others: list[Result]  # that failed too


class Judged(NamedTuple):
    """An implementation and what came of it."""

    report: Report
    title: str
    who: str  # the title, shorter
    link: str  # to its homepage, or nothing
    verdict: str
    conforms: bool
    counts: dict[Status, int]
    wrong: list[Wrong]
    nearest: list[Drawn]  # that conform, those with the largest shares of their budgets first
    reasons: dict[tuple[Status, str], list[Result]]


class Place(NamedTuple):
    """A cell of a matrix, and where what failed is told."""

    cell: Cell | None
    anchor: str


class Row(NamedTuple):
    """A row of a matrix."""

    algorithm: str
    dtype: str  # or nothing, where dtypes are columns
    span: int  # how many rows its algorithm has, in the first of them; 0 in the others
    places: list[Place]


class Matrix(NamedTuple):
    """Algorithms by implementation or, of a single one, by dtype."""

    title: str
    columns: list[str]
    rows: list[Row]


class Dialect(NamedTuple):
    """A verdict on an algorithm, and which lines of the formula it is about."""

    who: str
    algorithm: str
    number: int  # of vectors
    verdict: str
    differences: list[Difference]


def write(report: Report | Sequence[Saved], file: Path, curves: Iterable[Curve] = ()) -> None:
    """Write the page of a report, or of several.

    Args:
        report: one report, or several with the curves of each.
        file: where to write.
        curves: of one report, the curves of vectors that failed and, if there are, of others.

    """
    saved = [Saved(report, list(curves))] if isinstance(report, Report) else list(report)
    file.write_text(page(saved), encoding="utf-8")


def page(saved: Sequence[Saved]) -> str:
    """Return the page of some reports."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalized,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"ulps": summary.ulps, "short": _short, "color": _color, "line": summary.one_line}
    every = [_judged(number, *one) for number, one in enumerate(saved)]
    return environment.get_template("page.html").render(
        css=Markup((FOLDER / "page.css").read_text(encoding="utf-8")),  # noqa: S704  ours
        every=every,
        suites=sorted({one.report.suite for one in saved}),
        dialects_of=sorted({summary.dialect(one.report) for one in saved}),
        matrices=list(_matrices(every)),
        dialects=list(chain.from_iterable(map(_dialects, every))),
        failed=sum(len(one.wrong) for one in every),
        chart=chart,
        lower_bounds=summary.LOWER_BOUNDS,
    )


def _finalized(value: Any) -> Any:
    """Return what a template prints: texts from outside without signs that would be obeyed."""
    return shown(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _judged(number: int, report: Report, curves: list[Curve]) -> Judged:
    by_id = {curve.id: curve for curve in curves}
    homepage = str(report.implementation.get("homepage") or "")
    wrong = [_wrong(f"r{number}-{place}", failure, by_id) for place, failure in enumerate(summary.failures(report), 1)]
    conforming = [r for r in report.results if r.status is Status.CONFORMS and r.budget and r.sulp is not None]
    conforming.sort(key=lambda result: -(result.sulp or 0.0) / (result.budget or 1.0))
    return Judged(
        report,
        summary.title(report),
        summary.who(report),
        homepage if homepage.startswith(("https://", "http://")) else "",
        summary.verdict(report),
        summary.conforms(report),
        summary.counts(report),
        wrong,
        list(_drawn(conforming, by_id, NEAREST)),
        summary.reasons(report),
    )


def _wrong(anchor: str, failure: Failure, curves: dict[str, Curve]) -> Wrong:
    ordered = sorted(failure.cell.failed, key=summary.difficulty)
    drawn = list(_drawn(ordered, curves, DRAWN))
    seen = {failure.smallest.id, *(one.result.id for one in drawn)}
    return Wrong(anchor, failure, drawn, [result for result in ordered if result.id not in seen])


def _drawn(results: Iterable[Result], curves: dict[str, Curve], most: int) -> Iterator[Drawn]:
    there = [result for result in results if result.id in curves]
    for result in there[:most]:
        yield Drawn(result, curves[result.id], chart.panes(curves[result.id]))


def _matrices(every: list[Judged]) -> Iterator[Matrix]:
    """Yield the matrix of optimizers and that of schedulers, where there are any."""
    asked: dict[bool, dict[str, list[Result]]] = {False: {}, True: {}}
    for result in chain.from_iterable(one.report.results for one in every):
        asked[summary.is_schedule(result)].setdefault(summary.algorithm(result), []).append(result)
    tables = [summary.cells(one.report.results, summary.algorithm, lambda result: result.dtype) for one in every]
    anchors = [{wrong.failure.algorithm: wrong.anchor for wrong in one.wrong} for one in every]

    def place(number: int, algorithm: str, dtype: str) -> Place:
        cell = tables[number].get((algorithm, dtype))
        return Place(cell, anchors[number].get(algorithm, "") if cell and cell.failed else "")

    for schedules, algorithms in asked.items():
        title, rows = "Schedulers" if schedules else "Optimizers", []
        every_dtype = summary.dtypes(chain.from_iterable(algorithms.values()))
        for algorithm, results in algorithms.items():
            if len(every) == 1:
                rows.append(Row(algorithm, "", 1, [place(0, algorithm, dtype) for dtype in every_dtype]))
                continue
            own = summary.dtypes(results)
            for dtype in own:
                span = len(own) if dtype == own[0] else 0
                rows.append(Row(algorithm, dtype, span, [place(i, algorithm, dtype) for i in range(len(every))]))
        if rows:
            yield Matrix(title, [one.who for one in every] if len(every) > 1 else every_dtype, rows)


def _dialects(one: Judged) -> Iterator[Dialect]:
    for wrong in one.wrong:
        algorithm = wrong.failure.algorithm
        for verdict, number in wrong.failure.dialects.most_common():
            yield Dialect(one.title, algorithm, number, verdict, list(differences(algorithm, verdict)))


def _short(result: Result) -> str:
    """Return a vector's id without what its row says already."""
    parts = result.id.split(".")
    said = 2 if not summary.is_schedule(result) or parts[1:2] == ["schedule"] else 1
    return ".".join(parts[said:]) or result.id


def _color(grade: Grade | None) -> str:
    """Return the class of a grade's mark."""
    return {None: "none", Grade.B: "fair", Grade.C: "weak", Grade.D: "bad"}.get(grade, "good")
