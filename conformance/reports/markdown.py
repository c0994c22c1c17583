"""Reports as Markdown, such as the summary of a job: ``refoptim check --markdown "$GITHUB_STEP_SUMMARY"``."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from refoptim.conformance.reports import summary
from refoptim.conformance.reports.summary import Failure, one_line
from refoptim.conformance.runner.outcome import Report


def write(report: Report | Sequence[Report], file: Path) -> None:
    """Write a report, or several. To GitHub's summary of a job it is appended, below the reports that are there."""
    reports = [report] if isinstance(report, Report) else report
    summary_of_job = str(file) == os.environ.get("GITHUB_STEP_SUMMARY")
    with file.open("a" if summary_of_job else "w", encoding="utf-8") as output:
        output.write("\n".join(map(text, reports)))


def text(report: Report) -> str:
    """Return a report: verdict, table, what failed, and what was not judged."""
    sign = "✅" if summary.conforms(report) else "❌"
    blocks = [
        f"### {sign} {escaped(summary.title(report))}",
        f"{escaped(summary.verdict(report))}. {escaped(_measure(report))}",
        "\n".join(_table(report)),
        *map(_failure, summary.failures(report)),
        "\n".join(_reasons(report)),
        f"<sub>Cells: worst grade, largest error in ulps, failed/asked. {summary.LOWER_BOUNDS}</sub>",
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def escaped(text: object) -> str:
    """Return a text in one line, with nothing in it that Markdown or HTML would obey."""
    plain = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~$])", r"\\\1", plain)


def _table(report: Report) -> Iterator[str]:
    columns = summary.dtypes(report.results)
    found = summary.cells(report.results, summary.algorithm, lambda result: result.dtype)
    if not found:
        return
    yield f"| | {' | '.join(map(escaped, columns))} |"
    yield f"|---|{'---|' * len(columns)}"
    for row in dict.fromkeys(row for row, _ in found):
        cells = [found.get((row, column)) for column in columns]
        texts = [("**{}**" if cell.failed else "{}").format(escaped(cell.text)) if cell else "" for cell in cells]
        yield f"| {escaped(row)} | {' | '.join(texts)} |"


def _failure(failure: Failure) -> str:
    result, cell = failure.smallest, failure.cell
    lines = [f"**{escaped(failure.algorithm)}**: {len(cell.failed)} of {cell.asked} failed. Look first at"]
    lines[0] += f" {escaped(result.id)} ({result.status})."
    if result.message:
        lines.append(f"- {escaped(result.message)}")
    if result.divergence:
        lines.append(f"- First divergence: {escaped(result.divergence)}")
    lines += [f"- {number} of them: {escaped(verdict)}" for verdict, number in failure.dialects.most_common(3)]
    return "\n".join(lines)


def _reasons(report: Report) -> Iterator[str]:
    found = summary.reasons(report)
    if not found:
        return
    yield f"<details><summary>{sum(map(len, found.values())):,} were not judged</summary>"
    yield ""
    for (status, reason), results in found.items():
        yield f"- {len(results):,} {status}: {escaped(reason)}"
    yield ""
    yield "</details>"


def _measure(report: Report) -> str:
    return f"By {summary.dialect(report)}'s formulas, refoptim {report.suite}."
