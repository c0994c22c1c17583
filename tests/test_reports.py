"""Reports: each kind says what the run was, and nothing from outside is obeyed."""

import json
import math
from xml.etree import ElementTree as ET

import pytest

pytest.importorskip("jsonschema", reason="jsonschema, extra conformance, is not installed")
pytest.importorskip("jinja2", reason="jinja2, extra conformance, is not installed")

from refoptim.conformance.reports import badge, junit, markdown, summary, table
from refoptim.conformance.runner.outcome import Divergence, ExitCode, Grade, Report, Result, Status, exit_code
from refoptim.conformance.vectors import store

SCREEN = 45  # lines
WHO = {"name": "faux", "version": "1.2", "language": "C", "homepage": "https://faux.example", "dialect": "torch"}
HOSTILE = "</td><script>alert(1)</script>\n\x1b[31m| **bold** [x](javascript:y) \x00\ud800\u202e]]> &amp; `q` $x$"
DIVERGENCE = Divergence(2, "w", (1, 3), "exp_avg", "3f800000 (1.0)", "3ff0000000000001 (1.0)", 12.5, 8.0)


def result(identifier="adam.f32.probe.plain", status=Status.CONFORMS, grade=None, sulp=None, **more):
    """Return a result, the rest of which follows from its id."""
    name, dtype, tier = identifier.split(".")[:3]
    name = {"adam": "Adam", "sgd": "SGD", "steplr": "StepLR"}.get(name, name)
    return Result(identifier, name, tier, dtype, status, grade, sulp, None if sulp is None else 8.0, **more)


def report(*results, complete=True, **who):
    return Report("2026.11", WHO | who, list(results), complete)


GOOD = result(grade=Grade.A, sulp=0.875, quantity="theta", seconds=0.25)
BAD = result("adam.f64.probe.eps", Status.MISMATCH, Grade.D, math.inf, divergence=DIVERGENCE, dialect="eps:hat")
SKIPPED = result("sgd.f32.probe.plain", Status.SKIPPED, message="issue 12")
ABSENT = result("sgd.f64.probe.plain", Status.UNSUPPORTED, message="option:maximize")
RATES = Result("steplr.schedule.gamma=0.5", "StepLR", "schedule", "f64", Status.CONFORMS, Grade.EXACT, 0.5, 4.0)
REFUSED = result("adam.f32.invalid.negative-lr")
ALL = [GOOD, BAD, SKIPPED, ABSENT, RATES, REFUSED] + [
    result(f"adam.f32.dyadic.{status.name.lower()}", status, message=f"because {status}")
    for status in (Status.REJECTED, Status.ERRORED, Status.PROTOCOL, Status.STALE)
]
MIXED = report(*ALL)
HOSTILE_REPORT = Report(
    HOSTILE,
    dict.fromkeys(WHO, HOSTILE) | {HOSTILE: HOSTILE},
    [
        Result(
            f"adam.f32.probe.{i}{HOSTILE}",
            HOSTILE,
            HOSTILE,
            HOSTILE,
            status,
            divergence=Divergence(1, HOSTILE, (), HOSTILE, HOSTILE, HOSTILE, math.nan, 1.0),
            sulp=math.nan,
            dialect=HOSTILE,
            message=HOSTILE,
        )
        for i, status in enumerate(Status)
    ],
)


# The verdict


@pytest.mark.parametrize(
    ("run", "start", "code"),
    [
        (report(GOOD, REFUSED, SKIPPED), "conforms at grade A: 2 answers of 3 vectors", ExitCode.CONFORMS),
        (report(RATES), "conforms exactly: 1 answer of 1 vector", ExitCode.CONFORMS),
        (report(REFUSED), "conforms: 1 answer", ExitCode.CONFORMS),
        (report(GOOD, BAD, ABSENT), "DOES NOT CONFORM: 1 of 2 vectors failed (1 mismatch)", ExitCode.MISMATCH),
        (report(*ALL), "DOES NOT CONFORM: 5 of 8 vectors", ExitCode.PROTOCOL),
        (report(GOOD, complete=False), "INCOMPLETE: the run ended early, after 1 result", ExitCode.PROTOCOL),
        (report(ABSENT, SKIPPED), "NOTHING WAS JUDGED: 2 vectors", ExitCode.USAGE),
        (report(ABSENT), "NOTHING WAS JUDGED: 1 vector", ExitCode.USAGE),
        (report(), "NOTHING WAS JUDGED", ExitCode.USAGE),
    ],
)
def test_the_verdict_is_the_last_line_and_the_exit_code_s(run, start, code):
    assert exit_code(run) == code
    last = table.text(run).splitlines()[-1]
    assert last.startswith(start)
    assert summary.conforms(run) == last.startswith("conforms")


# Cells


@pytest.mark.parametrize(
    ("results", "text"),
    [
        ([GOOD], "A 0.9"),
        ([GOOD, RATES], "A 0.9"),
        ([GOOD, result(grade=Grade.B, sulp=123456.0)], "B 1.2e5"),
        ([GOOD, BAD], "D inf 1/2"),
        ([GOOD, BAD, SKIPPED, ABSENT], "D inf 1/2"),
        ([REFUSED], "ok"),
        ([ABSENT, SKIPPED], "skip"),
        ([ABSENT], "-"),
        ([REFUSED, result(status=Status.PROTOCOL)], "crash 1/2"),
        ([result(status=Status.ERRORED), result(status=Status.REJECTED)], "error 2/2"),
        ([result(grade=Grade.A)], "A"),
        ([result(grade=Grade.D, sulp=math.nan, status=Status.MISMATCH), BAD], "D nan 2/2"),
    ],
)
def test_a_cell_says_the_worst_of_its_results(results, text):
    assert summary.Cell(tuple(results)).text == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.0"),
        (0.04, "0.0"),
        (9.96, "10.0"),
        (12.4, "12"),
        (999.0, "999"),
        (1e3, "1.0e3"),
        (2.5e14, "2.5e14"),
        (1.7e300, "1.7e300"),
        (math.inf, "inf"),
        (math.nan, "nan"),
        (None, ""),
    ],
)
def test_errors_have_two_digits(value, text):
    assert summary.ulps(value) == text


def test_a_cell_of_the_table_stands_in_its_row_and_column():
    other = result("sgd.f64.probe.plain", grade=Grade.B, sulp=3.0)
    lines = table.text(report(GOOD, other, result("sgd.f32.probe.plain", grade=Grade.A, sulp=1.0))).splitlines()
    assert lines[2].split() == ["f32", "f64"]
    assert lines[3].split() == ["Adam", "plain", "A", "0.9"] or lines[3].split()[:1] == ["SGD"]
    row = next(line for line in lines if line.startswith("SGD"))
    assert row.index("B 3.0") == lines[2].index("f64")


def test_rows_are_option_sets_while_they_are_few():
    few = [result(f"adam.f32.probe.set-{i}", grade=Grade.A, sulp=1.0) for i in range(table.ROWS)]
    many = [*few, result("adam.f32.probe.one-more", grade=Grade.A, sulp=2.0)]
    assert "Adam set-3" in table.text(report(*few))
    assert "set-3" not in table.text(report(*many))
    assert "Adam  A 2.0" in table.text(report(*many))


def test_the_report_of_all_vectors_fits_a_screen():
    vectors = store.load()
    failing = [
        Result(v.id, v.algorithm, v.tier, v.dtype, Status.MISMATCH, Grade.D, 1e9, 8.0, "theta", DIVERGENCE, "x" * 2000)
        for v in vectors
    ]
    lines = table.text(report(*failing)).splitlines()
    assert len(lines) <= SCREEN
    assert max(map(len, lines)) <= table.WIDTH + 2
    assert any("3f800000 (1.0)" in line for line in lines)


# What failed


def test_the_vector_to_look_at_first_shows_most_of_the_formula():
    ids = ["long.plain", "defaults.plain", "probe.amsgrad-eps", "probe.eps", "invalid.negative-lr"]
    failed = [result(f"adam.f32.{i}", Status.MISMATCH, Grade.D, 9.0, divergence=DIVERGENCE) for i in ids]
    assert summary.failures(report(*failed))[0].smallest.id == "adam.f32.probe.eps"
    assert summary.failures(report(failed[-1], failed[0]))[0].smallest.id == "adam.f32.long.plain"


def test_verdicts_that_differ_in_how_near_they_are_are_one():
    said = ["matches eps:hat within 0.9 ulp (keras)", "matches eps:hat within 1.2e+02 ulp (keras)", "no known dialect"]
    found = summary.dialects(BAD._replace(dialect=text) for text in said)
    assert found == {said[1]: 2, said[2]: 1}


def test_a_failure_is_told_with_step_element_bits_and_budget():
    text = table.text(MIXED)
    assert "Adam: 5 of 7 failed; look first at adam.f64.probe.eps (mismatch)" in text
    assert "step 2, w[1, 3], exp_avg" in text
    for part in (DIVERGENCE.got, DIVERGENCE.expected, "12 ulp, budget 8", "1 of them: eps:hat", "skipped: issue 12"):
        assert part in text, part


# JUnit


def test_junit_has_a_case_for_each_vector(tmp_path):
    junit.write(MIXED, tmp_path / "junit.xml")
    suite = ET.parse(tmp_path / "junit.xml").getroot()[0]
    cases = {case.get("name"): case for case in suite.findall("testcase")}
    assert list(cases) == [each.id for each in ALL]
    expected = {
        Status.CONFORMS: None,
        Status.MISMATCH: "failure",
        Status.REJECTED: "failure",
        Status.STALE: "failure",
        Status.ERRORED: "error",
        Status.PROTOCOL: "error",
        Status.SKIPPED: "skipped",
        Status.UNSUPPORTED: "skipped",
    }
    for each in ALL:
        inside = [child.tag for child in cases[each.id] if child.tag != "properties"]
        assert inside == [tag for tag in [expected[each.status]] if tag], each
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "10", "failures": "3", "errors": "2", "skipped": "2"
    }  # fmt: skip
    properties = {p.get("name"): p.get("value") for p in cases[GOOD.id].iter("property")}
    assert properties == {"sulp": "0.875", "budget": "8.0", "grade": "A"}
    assert cases[GOOD.id].get("time") == "0.250"
    assert "got 3f800000 (1.0)" in cases[BAD.id].find("failure").text


def test_an_incomplete_run_is_an_error_for_junit(tmp_path):
    junit.write(report(GOOD, complete=False), tmp_path / "junit.xml")
    assert ET.parse(tmp_path / "junit.xml").getroot().get("errors") == "1"


# Markdown


def cells_of(row):
    """Return the cells of a row of a table, as GitHub cuts it."""
    return row.replace("\\|", "").split("|")[1:-1]


@pytest.mark.parametrize("run", [MIXED, HOSTILE_REPORT, report()], ids=["mixed", "hostile", "empty"])
def test_markdown_is_what_it_looks_like(run):
    text = markdown.text(run)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(cells_of(row)) for row in rows}) <= 1
    assert "<script" not in text
    plain = text.replace("\\[", "").replace("\\*", "").replace("\\`", "")
    assert "](javascript" not in plain.replace("\\]", "")
    assert "**bold**" not in plain


def test_markdown_is_added_to_a_job_s_summary_and_replaces_other_files(tmp_path, monkeypatch):
    job, other = tmp_path / "job.md", tmp_path / "other.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(job))
    for file, times in ((job, 3), (other, 1)):
        file.write_text(markdown.text(MIXED), "utf-8")
        markdown.write(MIXED, file)
        markdown.write(MIXED, file)
        assert file.read_text("utf-8") == markdown.text(MIXED) * times


# Badges


@pytest.mark.parametrize(
    ("run", "label", "message", "color"),
    [
        (report(GOOD), "refoptim 2026.11 Adam f32", "A, 0.9 ulp (torch dialect)", "brightgreen"),
        (report(GOOD, dialect="keras"), "refoptim 2026.11 Adam f32", "A, 0.9 ulp (keras dialect)", "brightgreen"),
        (report(GOOD, RATES), "refoptim 2026.11 2 algorithms f32 f64", "A, 0.9 ulp (torch dialect)", "brightgreen"),
        (report(GOOD, ABSENT), "refoptim 2026.11 Adam f32", "A, 0.9 ulp (torch dialect)", "brightgreen"),
        (report(GOOD._replace(grade=Grade.C)), "refoptim 2026.11 Adam f32", "C, 0.9 ulp (torch dialect)", "yellow"),
        (report(GOOD, BAD), "refoptim 2026.11 Adam f32 f64", "1 of 2 vectors failed (torch dialect)", "red"),
        (report(REFUSED), "refoptim 2026.11 Adam f32", "conforms (torch dialect)", "brightgreen"),
        (report(ABSENT), "refoptim 2026.11 SGD f64", "nothing judged (torch dialect)", "lightgrey"),
        (report(GOOD, complete=False), "refoptim 2026.11 Adam f32", "incomplete run (torch dialect)", "lightgrey"),
        (report(), "refoptim 2026.11", "nothing judged (torch dialect)", "lightgrey"),
    ],
)
def test_a_badge_says_by_which_suite_and_whose_formulas(tmp_path, run, label, message, color):
    badge.write(run, tmp_path / "badge.json")
    found = json.loads((tmp_path / "badge.json").read_text("utf-8"))
    assert found == {"schemaVersion": 1, "label": label, "message": message, "color": color}


# What comes from outside


def test_nothing_from_outside_reaches_the_terminal_as_a_command():
    text = table.text(HOSTILE_REPORT)
    assert all(sign.isprintable() or sign == "\n" for sign in text)
    assert "\\x1b[31m" in text
    text.encode("utf-8")


def test_nothing_from_outside_breaks_a_file(tmp_path):
    junit.write(HOSTILE_REPORT, tmp_path / "junit.xml")
    suite = ET.parse(tmp_path / "junit.xml").getroot()[0]
    assert len(suite.findall("testcase")) == len(Status)
    markdown.write(HOSTILE_REPORT, tmp_path / "report.md")
    badge.write(HOSTILE_REPORT, tmp_path / "badge.json")


@pytest.mark.parametrize("missing", ["name", "version", "language", "homepage", "dialect"])
@pytest.mark.parametrize("value", [None, 3, ["x"]])
def test_an_implementation_may_say_little_about_itself(tmp_path, missing, value):
    run = report(GOOD, **{missing: value})
    table.text(run)
    markdown.text(run)
    badge.badge(run)
    junit.write(run, tmp_path / "junit.xml")
