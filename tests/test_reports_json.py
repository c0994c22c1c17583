"""Reports as lines of JSON: read as they were written, and never where something is missing or damaged."""

import itertools
import json
import math

import pytest

pytest.importorskip("jsonschema", reason="jsonschema, extra conformance, is not installed")
pytest.importorskip("jinja2", reason="jinja2, extra conformance, is not installed")

from jsonschema import Draft202012Validator

from refoptim import cli
from refoptim.conformance.reports import json_lines, table
from refoptim.conformance.reports.curves import Curve, State
from refoptim.conformance.runner.outcome import Divergence, Grade, Report, Result, Status
from refoptim.conformance.vectors import store

WHO = {"name": "faux", "version": "1.2", "language": "C", "homepage": "https://faux.example", "dialect": "torch"}
ODD = '</td>\n\x1b[31m| \x00\ud800\u202e]]> "q" \u2028'
DIVERGENCE = Divergence(2, "w", (1, 3), ODD, "3f800000 (1.0)", "3ff0000000000001 (1.0)", math.inf, 8.0)
GOOD = Result(
    "adam.f32.probe.plain", "Adam", "probe", "f32", Status.CONFORMS, Grade.A, 0.875, 8.0, "theta", seconds=0.25
)
ALL = [GOOD] + [
    Result(f"{status}{ODD}", ODD, ODD, ODD, status, grade, sulp, 8.0, ODD, DIVERGENCE, ODD, ODD)
    for status, grade, sulp in zip(Status, itertools.cycle([*Grade, None]), itertools.cycle([math.inf, math.nan, None]))
]
MIXED = Report("2026.11", WHO, ALL)
ONE = Report("2026.11", WHO | {ODD: [ODD, None]}, [GOOD], complete=False)
NONE = Report(ODD, {}, [])
CURVE = Curve(
    GOOD.id,
    "w",
    (0,),
    "theta",
    (1, 2),
    (1.0, 2.0),
    (1.0, math.nan),
    (0.0, math.inf),
    8.0,
    2,
    (State("m", (2,), (0.5,), 8.0),),
)


def test_what_is_written_is_read_again(tmp_path):
    for run in (MIXED, ONE, NONE):
        file = tmp_path / "report.jsonl"
        json_lines.write(run, file, [CURVE])
        assert repr(json_lines.load(file)) == repr(json_lines.Saved(run, [CURVE]))  # NaN is not equal to itself
        assert repr(json_lines.read(file)) == repr(run)


def test_every_line_keeps_the_schema(tmp_path):
    validator = Draft202012Validator(json.loads((store.SCHEMAS / json_lines.SCHEMA).read_text("utf-8")))
    validator.check_schema(validator.schema)
    json_lines.write(MIXED, tmp_path / "report.jsonl", [CURVE])
    text = (tmp_path / "report.jsonl").read_text("utf-8")
    lines = [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]
    assert [line["kind"] for line in lines] == ["header", *["result"] * len(ALL), "curve", "footer"]
    for line in lines:
        validator.validate(line)
    definitions = validator.schema["$defs"]
    own = definitions["result"]["properties"]
    assert set(own) == {"kind", *Result._fields}
    assert own["status"]["enum"] == [str(status) for status in Status]
    assert own["grade"]["enum"] == [*map(str, Grade), None]
    assert set(definitions["divergence"]["properties"]) == set(Divergence._fields)
    assert set(definitions["curve"]["properties"]) == {"kind", *Curve._fields}


def test_a_report_that_was_cut_anywhere_is_not_read(tmp_path):
    file = tmp_path / "report.jsonl"
    json_lines.write(MIXED, file, [CURVE])
    whole = file.read_text("utf-8")
    lines = whole.splitlines(keepends=True)
    for kept in range(len(lines)):
        file.write_text("".join(lines[:kept]), "utf-8")
        with pytest.raises(json_lines.TruncatedReportError):
            json_lines.read(file)
        file.write_text("".join(lines[:kept]) + lines[kept][: len(lines[kept]) // 2], "utf-8")
        with pytest.raises(json_lines.ReportError):
            json_lines.read(file)
    for missing in range(1, len(lines) - 1):
        file.write_text("".join(lines[:missing] + lines[missing + 1 :]), "utf-8")
        with pytest.raises(json_lines.TruncatedReportError, match="footer counts"):
            json_lines.read(file)


def test_a_stream_that_is_not_closed_has_no_footer(tmp_path):
    file = tmp_path / "report.jsonl"
    with json_lines.Stream(file, "2026.11", WHO) as stream:
        stream.result(GOOD)
        assert GOOD.id in file.read_text("utf-8")  # at once, not when the buffer is full
    with pytest.raises(json_lines.TruncatedReportError, match="after line 2, without a footer"):
        json_lines.read(file)


def changed(number, **fields):
    """Return the lines of a report with other fields in one of them."""

    def change(lines):
        lines[number] = json.dumps(json.loads(lines[number]) | fields)
        return lines

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed(0, format=2), "format is 2, this version knows 1"),
        (changed(0, suite=3), "3 is not of type 'string'"),
        (changed(1, status="fine"), "'fine' is not one of"),
        (changed(1, grade="F"), "'F' is not one of"),
        (changed(1, sulp="many"), "line 2"),
        (changed(1, sulp=math.inf), "line 2 is not JSON: Infinity is no finite number"),
        (changed(1, seconds=math.nan), "line 2 is not JSON: NaN is no finite number"),
        (changed(1, sulp=10**400), "0 is no finite number"),
        (lambda lines: [lines[0], '{"kind":"result","sulp":1e999}', *lines[2:]], "1e999 is no finite number"),
        (changed(1, more=1), "'more' was unexpected"),
        (changed(1, kind="verdict"), "'verdict' is not one of"),
        (changed(1, status="mismatch"), "counts by status"),
        (changed(-2, got=[1.0]), "not a number for each of its steps"),
        (changed(-2, steps=[], got=[], expected=[], sulp=[]), "not a number for each of its steps"),
        (lambda lines: lines[1:], "line 1 is no header"),
        (lambda lines: ["{", *lines], "line 1 is not JSON"),
        (lambda lines: [lines[0], "[" * 100_000, *lines[1:]], "line 2 is not JSON"),
        (lambda lines: [lines[0], "", *lines[1:]], "line 2 is not JSON"),
        (lambda lines: ["[1]", *lines], "is not of type 'object'"),
        (lambda lines: [*lines, *lines], "two reports in one file"),
        (lambda lines: [*lines[:-1], lines[0], lines[-1]], "a second header"),
    ],
)
def test_a_damaged_report_is_not_read(tmp_path, change, message):
    file = tmp_path / "report.jsonl"
    json_lines.write(MIXED, file, [CURVE])
    file.write_text("\n".join(change(file.read_text("utf-8").splitlines())) + "\n", "utf-8")
    with pytest.raises(json_lines.DamagedReportError, match=r"report\.jsonl") as raised:
        json_lines.read(file)
    assert message in str(raised.value)


# The command


def test_the_command_prints_tables(tmp_path, capsys):
    files = [tmp_path / name for name in ("a.jsonl", "b.jsonl")]
    for file, run in zip(files, (MIXED, ONE), strict=True):
        json_lines.write(run, file)
    assert cli.main(["report", *map(str, files)]) == 0
    assert capsys.readouterr().out == f"{table.text(MIXED)}\n\n{table.text(ONE)}\n"


def test_the_command_writes_files(tmp_path, capsys):
    json_lines.write(MIXED, tmp_path / "a.jsonl", [CURVE])
    asked = list(itertools.chain(*((f"--{kind}", str(tmp_path / f"out.{kind}")) for kind in ("html", "markdown"))))
    assert cli.main(["report", str(tmp_path / "a.jsonl"), str(tmp_path / "a.jsonl"), *asked]) == 0
    assert capsys.readouterr().out.split() == asked[1::2]
    assert "2 implementations" in (tmp_path / "out.html").read_text("utf-8")
    assert (tmp_path / "out.markdown").read_text("utf-8").count("### ") == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "No such file"), ("", "is empty"), ("hello", "line 1 is not JSON"), (b"\xff", "not UTF-8 at byte 0")],
)
def test_the_command_refuses_what_is_no_report(tmp_path, capsys, content, message):
    file = tmp_path / "a.jsonl"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert cli.main(["report", str(file), "--html", str(tmp_path / "out.html")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out.html").exists()


def test_the_command_says_where_it_cannot_write(tmp_path, capsys):
    json_lines.write(MIXED, tmp_path / "a.jsonl")
    assert cli.main(["report", str(tmp_path / "a.jsonl"), "--html", str(tmp_path / "no" / "out.html")]) == 2
    assert "there is no folder" in capsys.readouterr().err
