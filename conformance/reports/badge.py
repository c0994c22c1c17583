"""Badges: the JSON that shields.io draws one from, which says by which suite and whose formulas, and no percentage."""

import json
from pathlib import Path

from refoptim.conformance.reports import summary
from refoptim.conformance.reports.summary import Cell, one_line
from refoptim.conformance.runner.outcome import Grade, Report

_COLORS = {Grade.EXACT: "brightgreen", Grade.A: "brightgreen", Grade.B: "green", Grade.C: "yellow"}


def write(report: Report, file: Path) -> None:
    """Write the badge of a report."""
    file.write_text(json.dumps(badge(report)) + "\n", encoding="utf-8")


def badge(report: Report) -> dict[str, object]:
    """Return what https://shields.io/badges/endpoint-badge reads."""
    message, color = _message(report)
    label = " ".join(["refoptim", one_line(report.suite, 20), *_what(report)])
    return {"schemaVersion": 1, "label": label, "message": f"{message} ({_dialect(report)})", "color": color}


def _what(report: Report) -> list[str]:
    """Return the algorithm and the dtypes, where there is one that was judged, or how many there are."""
    judged = Cell(tuple(report.results)).judged or report.results
    algorithms = sorted({summary.algorithm(result) for result in judged})
    if not algorithms:
        return []
    what = algorithms[0] if len(algorithms) == 1 else f"{len(algorithms)} algorithms"
    return [one_line(what, 40), *map(one_line, summary.dtypes(judged))]


def _message(report: Report) -> tuple[str, str]:
    cell = Cell(tuple(report.results))
    if not report.complete:
        return "incomplete run", "lightgrey"
    if cell.failed:
        return f"{len(cell.failed)} of {cell.asked} vectors failed", "red"
    if not cell.judged:
        return "nothing judged", "lightgrey"
    if cell.grade is None:
        return "conforms", "brightgreen"
    error = f", {summary.ulps(cell.worst.sulp)} ulp" if cell.worst else ""
    return f"{cell.grade}{error}", _COLORS.get(cell.grade, "red")


def _dialect(report: Report) -> str:
    return f"{one_line(summary.dialect(report), 40)} dialect"
