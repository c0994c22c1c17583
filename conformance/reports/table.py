"""The report for a terminal: a table, what failed and where to look first, and the verdict in the last line."""

from collections.abc import Iterator
from textwrap import wrap

from refoptim.conformance.reports import summary
from refoptim.conformance.reports.summary import Failure, Key, one_line
from refoptim.conformance.runner.outcome import Report, Result

# What fits a terminal: option sets that have rows, algorithms whose failures are told or named, reasons.
ROWS, TOLD, NAMED, LISTED = 24, 2, 6, 3
WIDTH = 110

_ABSENT, _NO_BREAK = "-", "\N{NO-BREAK SPACE}"


def text(report: Report) -> str:
    """Return the report of a run, in lines that fit a terminal."""
    lines = [f"{summary.title(report)}, by {summary.dialect(report)}'s formulas; refoptim {one_line(report.suite)}", ""]
    if report.results:
        lines += [*_table(report.results), ""]
    for block in _failures(summary.failures(report)):
        lines += [*block, ""]
    lines += [", ".join(f"{number:,} {status}" for status, number in summary.counts(report).items()) or "no results"]
    lines += _reasons(report)
    return "\n".join([*lines, summary.verdict(report)])


def _table(results: list[Result]) -> Iterator[str]:
    row = _rows(results)
    columns, found = summary.dtypes(results), summary.cells(results, row, lambda result: result.dtype)
    rows: dict[str, dict[str, str]] = {}
    for (name, column), cell in found.items():
        rows.setdefault(one_line(name, 48), {})[column] = cell.text
    absent = [name for name, cells in rows.items() if set(cells.values()) == {_ABSENT}]
    # What there is in one dtype only, as schedulers are, needs no line of its own.
    single = {name for name, cells in rows.items() if len(columns) > 1 and len(cells) == 1}.difference(absent)
    lines = [[name, *(cells.get(column, "") for column in columns)] for name, cells in rows.items()]
    yield from _grid([["", *map(one_line, columns)], *(line for line in lines if line[0] not in {*single, *absent})])
    for column in columns:
        texts = [f"{name} {rows[name][column]}" for name in rows if name in single and column in rows[name]]
        yield from _wrapped(f"{one_line(column)} only", texts)
    yield from _wrapped("unsupported", absent)
    failed = ", failed/asked" if any(cell.failed for cell in found.values()) else ""
    yield f"cells: worst grade, largest error seen in ulps (a lower bound of what there is){failed}"


def _grid(lines: list[list[str]]) -> Iterator[str]:
    """Yield a table's head and rows, if it has rows, all columns as wide as they need to be."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    if len(lines) > 1:
        yield from ("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _wrapped(what: str, texts: list[str]) -> list[str]:
    """Return a list that goes on in further lines, breaking none of its texts."""
    lines = wrap(
        ", ".join(text.replace(" ", _NO_BREAK) for text in texts), WIDTH - len(what) - 2, break_on_hyphens=False
    )
    indents = [f"{what}: ", *[" " * (len(what) + 2)] * len(lines)]
    return [indent + line.replace(_NO_BREAK, " ") for indent, line in zip(indents, lines, strict=False)]


def _rows(results: list[Result]) -> Key:
    """Return what a row is: an option set where these are few enough, or else an algorithm."""
    sets = {summary.option_set(result) for result in results}
    return summary.option_set if len(sets) <= ROWS else summary.algorithm


def _failures(failures: list[Failure]) -> Iterator[list[str]]:
    for failure in failures[:TOLD]:
        yield list(_failure(failure))
    if others := failures[TOLD:]:
        texts = [f"{failure.algorithm} {len(failure.cell.failed)}/{failure.cell.asked}" for failure in others[:NAMED]]
        yield _wrapped("also failed", texts + ([f"and {len(others) - NAMED} more"] if len(others) > NAMED else []))


def _failure(failure: Failure) -> Iterator[str]:
    result = failure.smallest
    failed = f"{len(failure.cell.failed)} of {failure.cell.asked} failed"
    yield f"{failure.algorithm}: {failed}; look first at {one_line(result.id)} ({result.status})"
    if result.message:
        yield f"  {one_line(result.message)}"
    if result.divergence:
        found = result.divergence
        place = f"{one_line(found.param)}{list(found.index) if found.index else ''}"
        yield f"  first divergence: step {found.step}, {place}, {one_line(found.quantity)}"
        yield f"    got       {one_line(found.got)}"
        yield f"    expected  {one_line(found.expected)}"
        yield f"    error     {summary.ulps(found.sulp)} ulp, budget {found.budget:g}"
    for verdict, number in failure.dialects.most_common(2):
        told = f"{number} of them: {one_line(verdict, 200)}"
        yield from wrap(told, WIDTH, initial_indent="  ", subsequent_indent="    ")


def _reasons(report: Report) -> list[str]:
    found = summary.reasons(report)
    lines = [f"  {len(results):5,} {status}: {reason}" for (status, reason), results in found.items()]
    more = [f"        and {len(lines) - LISTED} more reasons"] if len(lines) > LISTED else []
    return lines[:LISTED] + more
