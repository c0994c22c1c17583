"""Reports as lines of JSON: written as results come, with a last line that says how many there are."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from refoptim.conformance.reports.curves import Curve, State
from refoptim.conformance.runner.outcome import Divergence, Grade, Report, Result, Status
from refoptim.conformance.vectors.store import SchemaError, validate

FORMAT = 1
SCHEMA = "report_v1.json"

Line = dict[str, Any]


class ReportError(ValueError):
    """A file is no report."""


class DamagedReportError(ReportError):
    """A line of a report is not what it should be."""


class TruncatedReportError(ReportError):
    """A report ends before its end."""


class Saved(NamedTuple):
    """What a file has: a report and the curves that were kept with it."""

    report: Report
    curves: list[Curve]


class Stream:
    """A report that is written as its results come.

    What reads the file of a run that was killed is told so: only ``close`` writes the last line.

    Args:
        file: where to write.
        suite: the suite's version.
        implementation: who answers, as its hello has it.

    """

    def __init__(self, file: Path, suite: str, implementation: dict[str, Any]) -> None:
        self._output = file.open("w", encoding="utf-8", buffering=1)
        self._counts: Counter[str] = Counter()
        self._curves = 0
        try:
            self._line("header", {"format": FORMAT, "suite": suite, "implementation": implementation})
        except BaseException:
            self.abandon()
            raise

    def result(self, result: Result) -> None:
        """Write a result."""
        self._line("result", _result(result))
        self._counts[str(result.status)] += 1

    def curve(self, curve: Curve) -> None:
        """Write the curve of an answer."""
        self._line("curve", curve._asdict() | {"states": [state._asdict() for state in curve.states]})
        self._curves += 1

    def close(self, *, complete: bool = True) -> None:
        """Write the last line, and whether every vector that was asked for has a result."""
        end = {"results": self._counts.total(), "curves": self._curves, "counts": dict(self._counts)}
        self._line("footer", end | {"complete": complete})
        self._output.close()

    def abandon(self) -> None:
        """Close the file; where ``close`` has not been called, it stays without its last line."""
        with suppress(OSError):  # what was not written before will not be now
            self._output.close()

    def _line(self, kind: str, content: Line) -> None:
        # With no number that JSON does not have, and no letter that some encoding does not have.
        self._output.write(json.dumps({"kind": kind} | _finite(content), allow_nan=False) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file, as ``abandon`` does."""
        self.abandon()


def write(report: Report, file: Path, curves: Iterable[Curve] = ()) -> None:
    """Write a whole report."""
    with Stream(file, report.suite, report.implementation) as stream:
        for result in report.results:
            stream.result(result)
        for curve in curves:
            stream.curve(curve)
        stream.close(complete=report.complete)


def read(file: Path) -> Report:
    """Return the report that a file has.

    Raises:
        ReportError: the file cannot be read, is damaged or was cut off; the message says where.

    """
    return load(file).report


def load(file: Path) -> Saved:
    """Return the report that a file has, and its curves.

    Raises:
        ReportError: the file cannot be read, is damaged or was cut off; the message says where.

    """
    lines = list(_lines(file))
    kinds = [line["kind"] for line in lines]
    if kinds[:1] != ["header"]:
        raise DamagedReportError(f"{file}: line 1 is no header: this is no report of refoptim check")
    if kinds[-1] != "footer":
        raise TruncatedReportError(f"{file} ends after line {len(lines)}, without a footer: the run was cut off")
    header, footer = lines[0], lines[-1]
    if twice := [i for i, kind in enumerate(kinds[1:-1], 2) if kind in ("header", "footer")]:
        raise DamagedReportError(f"{file}: line {twice[0]} is a second {kinds[twice[0] - 1]}: two reports in one file")
    results = [_result_from(line) for line in lines if line["kind"] == "result"]
    curves = [_curve_from(line, file) for line in lines if line["kind"] == "curve"]
    for what, found in (("results", results), ("curves", curves)):
        if len(found) != footer[what]:
            raise TruncatedReportError(f"{file} has {len(found)} {what}, its footer counts {footer[what]}")
    if Counter(map(str, (result.status for result in results))) != Counter(footer["counts"]):
        raise DamagedReportError(f"{file}: the footer's counts by status are not those of the results")
    return Saved(Report(header["suite"], header["implementation"], results, footer["complete"]), curves)


def _lines(file: Path) -> Iterator[Line]:
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ReportError(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DamagedReportError(f"{file}: not UTF-8 at byte {error.start}") from error
    if not text:
        raise TruncatedReportError(f"{file} is empty")
    rows = text.split("\n")
    for number, row in enumerate(rows, 1):
        last = number == len(rows)
        if last and not row:
            return
        where = f"{file}: line {number}"
        try:
            line = json.loads(row, parse_float=_known, parse_int=_known, parse_constant=_known)
        except (ValueError, RecursionError) as error:
            if last and number > 1:
                raise TruncatedReportError(f"{where} breaks off: the run was cut off") from error
            raise DamagedReportError(f"{where} is not JSON: {error}") from error
        if isinstance(line, dict) and line.get("kind") == "header" and line.get("format") != FORMAT:
            raise DamagedReportError(f"{where}: its format is {line.get('format')!r}, this version knows {FORMAT}")
        try:
            validate(line, SCHEMA, where)
        except SchemaError as error:
            raise DamagedReportError(f"{error}") from error
        yield line


def _result(result: Result) -> Line:
    divergence = result.divergence
    return result._asdict() | {"divergence": None if divergence is None else divergence._asdict()}


def _result_from(line: Line) -> Result:
    fields = {name: line[name] for name in Result._fields}
    if fields["divergence"] is not None:
        found = fields["divergence"]
        numbers = {name: _number(found[name]) for name in ("sulp", "budget")}
        fields["divergence"] = Divergence(**found | numbers | {"index": tuple(found["index"])})
    fields |= {name: _number(fields[name]) for name in ("sulp", "budget") if fields[name] is not None}
    return Result(**fields | {"status": Status(line["status"]), "grade": line["grade"] and Grade(line["grade"])})


def _curve_from(line: Line, file: Path) -> Curve:
    pairs = [(line, name) for name in ("expected", "got", "sulp")] + [(state, "sulp") for state in line["states"]]
    if any(not own["steps"] or len(own[name]) != len(own["steps"]) for own, name in pairs):
        raise DamagedReportError(f"{file}: the curve of {line['id']} has not a number for each of its steps")
    fields = {name: line[name] for name in Curve._fields}
    fields |= {name: tuple(map(_number, line[name])) for name in ("expected", "got", "sulp")}
    states = tuple(
        State(state["quantity"], tuple(state["steps"]), tuple(map(_number, state["sulp"])), state["budget"])
        for state in line["states"]
    )
    return Curve(**fields | {"index": tuple(line["index"]), "steps": tuple(line["steps"]), "states": states})


def _known(text: str) -> float:
    """Return a number that JSON has, and float64 too; others are written as words."""
    if not math.isfinite(float(text)):
        raise ValueError(f"{text} is no finite number")
    return int(text) if text.lstrip("-").isdecimal() else float(text)


def _number(value: Any) -> float:
    return float(value)


def _finite(value: Any) -> Any:
    """Return a value with the floats that JSON does not have as words, which ``float`` reads."""
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, dict):
        return {str(name): _finite(part) for name, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, (list, tuple)) else value
