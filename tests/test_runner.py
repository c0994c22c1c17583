"""The runner: what a harness can do wrong is told apart, and is never a pass."""

import sys
import time
from datetime import date
from pathlib import Path

import pytest

pytest.importorskip("flint", reason="python-flint, extra conformance, is not installed")

from refoptim import cli
from refoptim.conformance import adapters
from refoptim.conformance.runner import check, smoke, transport
from refoptim.conformance.runner.adapter import Base, Info, Skip, Unsupported
from refoptim.conformance.runner.outcome import ExitCode, Grade, Report, Status, exit_code
from refoptim.conformance.runner.skips import Skipped
from refoptim.conformance.vectors import store

FAUX = str(Path(__file__).with_name("faux.py"))
ALL = store.load()
SOME = [v for v in ALL if v.id.startswith("sgd.f32.dyadic.")]
ONE = SOME[:1]


def faux(mode, timeout=5.0, **options):
    return lambda: transport.Process([sys.executable, FAUX, mode], timeout, **options)


@pytest.mark.parametrize(
    ("mode", "status", "words"),
    [
        ("hangs", Status.PROTOCOL, "timeout: in 0.5 seconds it said nothing"),
        ("exits", Status.PROTOCOL, "crash: it exited with 7 without an answer; its last words: out of luck"),
        ("is-killed", Status.PROTOCOL, "crash: it was ended by signal 9"),
        ("half-a-line", Status.PROTOCOL, "crash: it exited with 0 in the middle of the line"),
        ("not-json", Status.PROTOCOL, "not JSON: it answered 'I am thinking about it'"),
        ("a-list", Status.PROTOCOL, "not an object"),
        ("another-seq", Status.PROTOCOL, "wrong seq: it answered -1"),
        ("two-answers", Status.PROTOCOL, "extra output"),
        ("closes", Status.PROTOCOL, "closed its output"),
        ("no-parameter", Status.PROTOCOL, "malformed answer: after step 1 there is no theta of 'w'"),
        ("few-steps", Status.PROTOCOL, "malformed answer: 'after' has 4 entries, expected a list of 5"),
        ("few-digits", Status.PROTOCOL, "malformed answer"),
        ("decimals", Status.PROTOCOL, "malformed answer"),
        ("numbers-as-text", Status.PROTOCOL, "malformed answer"),
        ("pieces", Status.MISMATCH, ""),
        ("stays", Status.MISMATCH, ""),
        ("odd-field", Status.MISMATCH, ""),
        ("raises", Status.ERRORED, "KeyError: w"),
        ("refuses", Status.REJECTED, "ValueError: lr"),
        ("has-nothing", Status.UNSUPPORTED, "optimizer:SGD"),
        ("skips", Status.SKIPPED, "issue 12"),
    ],
)
def test_faulty_harnesses_are_told_apart(mode, status, words):
    (result,) = check.check(ONE, faux(mode, 0.5 if mode == "hangs" else 5.0)).results
    assert result.status is status, result
    assert words in result.message


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("old-protocol", "speaks protocol 0, this is 1"),
        ("nobody", "does not say who it is"),
        ("fails-at-hello", "Oops: no licence"),
        ("hangs-at-hello", "timeout"),
    ],
)
def test_a_wrong_hello_ends_the_run(mode, words):
    with pytest.raises(transport.ProtocolError, match=words):
        check.check(ONE, faux(mode, 0.5))


def test_a_lie_about_what_there_is_is_told():
    (result,) = check.check([v for v in ALL if v.id == "sgd.f32.probe.plain"], faux("lies")).results
    assert result.status is Status.UNSUPPORTED
    assert "though hello claims it" in result.message


def test_what_is_not_claimed_is_not_asked():
    (result,) = check.check([v for v in ALL if v.id == "adam.f32.probe.plain"], faux("lies")).results
    assert result.message == "optimizer:Adam"


def test_a_harness_that_crashed_is_started_again():
    with faux("exits")() as process:
        for restarts in (0, 1, 2):
            with pytest.raises(transport.ProtocolError):
                process.ask({"cmd": "run", "seq": 1, "problem": ONE[0].problem})
            assert process.restarts == restarts


def test_a_harness_that_always_crashes_is_given_up():
    report = check.check(SOME * 9, faux("exits"))
    assert not report.complete
    assert exit_code(report) is ExitCode.PROTOCOL


def test_validation_finds_an_odd_field():
    (result,) = check.check(ONE, faux("odd-field", validate=True)).results
    assert result.status is Status.PROTOCOL
    assert "not of its schema" in result.message


def test_a_program_that_is_not_there():
    with pytest.raises(transport.MissingProgramError, match="no-such-program"):
        check.check(ONE, lambda: transport.Process(["./no-such-program"]))


def test_no_process_is_left_behind():
    process = faux("stays")()
    with process:
        check.hello(process, check.SUITE)
        child = process._process
    assert child.poll() == 0
    start = time.monotonic()
    process = faux("stays")()
    check.hello(process, check.SUITE)
    child = process._process
    process.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert child.poll() is not None
    assert time.monotonic() - start < 30


def test_jobs_give_the_same_results_in_the_same_order():
    one, four = (check.check(SOME, faux("stays"), jobs=jobs) for jobs in (1, 4))
    assert [r._replace(seconds=0) for r in one.results] == [r._replace(seconds=0) for r in four.results]


class Odd(Base):
    """An adapter in a mood."""

    info = Info("odd", "1")

    def __init__(self, error):
        self._error = error

    def start(self, problem):
        raise self._error


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("lr"), Status.REJECTED),
        (KeyError("w"), Status.ERRORED),
        (Unsupported("option:amsgrad"), Status.UNSUPPORTED),
        (Skip("issue 3"), Status.SKIPPED),
        (MemoryError(), Status.ERRORED),
    ],
)
def test_an_adapter_that_raises(error, status):
    (result,) = check.check(ONE, lambda: transport.InProcess(Odd(error))).results
    assert result.status is status


def test_an_unknown_command_is_an_error_of_the_request():
    answer = transport.InProcess(adapters.make("refoptim")).ask({"cmd": "dance", "seq": 4})
    assert answer["seq"] == 4
    assert answer["errored"]


@pytest.mark.parametrize("name", ["refoptim", "refoptim-foreach", "refoptim-for-loop", "refoptim-float64"])
def test_refoptim_conforms_at_grade_a(name):
    report = check.check(ALL, lambda: transport.InProcess(adapters.make(name)), least=Grade.A)
    assert exit_code(report) is ExitCode.CONFORMS
    assert sum(r.status is Status.CONFORMS for r in report.results) > 700


def test_the_grade_that_is_asked_for_decides():
    vectors = [v for v in ALL if v.id == "muon.f32.probe.8x6"]
    pytest.importorskip("torch", reason="it has weak numbers here")
    made = [
        check.check(vectors, lambda: transport.InProcess(adapters.make("torch")), least=least).results[0].status
        for least in (Grade.B, Grade.C)
    ]
    assert made == [Status.MISMATCH, Status.MISMATCH]


REASON = Skipped("sgd.f32.*", "known", "https://example.org/1", date(2027, 1, 1))


@pytest.mark.parametrize(
    ("adapter", "skips", "strict", "today", "status", "code"),
    [
        ("refoptim", [REASON], False, date(2026, 1, 1), Status.SKIPPED, ExitCode.CONFORMS),
        ("refoptim", [REASON], True, date(2026, 1, 1), Status.STALE, ExitCode.STALE),
        ("refoptim", [REASON], True, date(2027, 1, 1), Status.STALE, ExitCode.STALE),
        ("refoptim", [REASON._replace(id="adam*")], True, date(2026, 1, 1), Status.CONFORMS, ExitCode.CONFORMS),
        (None, [REASON], True, date(2026, 1, 1), Status.SKIPPED, ExitCode.CONFORMS),
        (None, [], True, date(2026, 1, 1), Status.MISMATCH, ExitCode.MISMATCH),
    ],
)
def test_skips(adapter, skips, strict, today, status, code):
    connect = faux("stays") if adapter is None else lambda: transport.InProcess(adapters.make(adapter))
    report = check.check(ONE, connect, skipped=skips, strict=strict, today=today)
    assert report.results[0].status is status
    assert exit_code(report) is code


def test_smoke_tells_the_harness_from_the_optimizer():
    assert all(not wrong for _, wrong in smoke.smoke(transport.InProcess(adapters.make("refoptim")), check.SUITE))
    with faux("stays")() as process:
        assert [bool(wrong) for _, wrong in smoke.smoke(process, check.SUITE)] == [False, False, True]
    with faux("few-digits")() as process:
        assert all(wrong for _, wrong in smoke.smoke(process, check.SUITE))


def program(mode):
    return ["--", sys.executable, FAUX, mode]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--adapter", "refoptim", "--filter", "sgd.*"], 0, "conforms at grade A"),
        (["--filter", "sgd.f32.dyadic", *program("stays")], 1, "DOES NOT CONFORM"),
        (["--filter", "sgd.f32.dyadic.plain", *program("exits")], 3, "1 protocol error"),
        (["--filter", "sgd.f32.dyadic.plain", *program("raises")], 3, "1 errored"),
        (["--filter", "sgd.f32.dyadic.plain", *program("old-protocol")], 3, "speaks protocol 0"),
        (["--filter", "nothing", "--adapter", "refoptim"], 2, "no vector matches"),
        ([], 2, "give either"),
        (["--adapter", "refoptim", *program("stays")], 2, "give either"),
        (["--adapter", "nonsense"], 2, "there is no adapter 'nonsense'"),
        (["--adapter", "no.such.module:Class"], 2, "no module"),
        (["--adapter", "json:loads"], 2, "cannot be made: TypeError"),
        (["--adapter", "json:JSONDecoder"], 2, "it has no info"),
        (["--", "./no-such-program"], 2, "no-such-program"),
        (["--adapter", "refoptim", "--json", "nowhere/x.json"], 2, "there is no folder nowhere"),
        (["--adapter", "refoptim", "--skips", "nowhere.toml"], 2, "nowhere.toml"),
        (["--adapter", "refoptim", "--vectors", "nowhere"], 2, "index.json"),
    ],
)
def test_the_command(capsys, arguments, code, words):
    assert cli.main(["check", "--quiet", *arguments]) == code
    assert words in "".join(capsys.readouterr())


def test_damaged_vectors_of_the_package_are_a_failed_self_check(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(store, "PACKAGED", tmp_path)
    assert cli.main(["check", "--adapter", "refoptim"]) == 5
    assert "index.json" in capsys.readouterr().err


def test_the_smoke_command(capsys):
    assert cli.main(["smoke", "--adapter", "refoptim"]) == 0
    assert cli.main(["smoke", *program("stays")]) == 1
    assert cli.main(["smoke", *program("hangs-at-hello")[:3], "old-protocol"]) == 3
    assert cli.main(["smoke"]) == 2
    assert "reaches zero" in capsys.readouterr().out


def test_files(tmp_path, capsys):
    options = [
        part for kind in ("json", "junit", "markdown", "badge", "html") for part in (f"--{kind}", str(tmp_path / kind))
    ]
    skips = tmp_path / "skips.toml"
    arguments = ["--filter", "sgd.f32.dyadic.*", "--write-skips", str(skips), *options, *program("stays")]
    assert cli.main(["check", *arguments]) == 1
    assert {file.name for file in tmp_path.iterdir()} >= {"json", "junit", "markdown", "badge", "html"}
    again = ["--filter", "sgd.f32.dyadic.*", "--strict", "--skips", str(skips), *program("stays")]
    assert cli.main(["check", *again]) == 0
    assert "skipped" in capsys.readouterr().out


def test_exit_codes_are_never_mixed():
    (right,) = check.check(ONE, lambda: transport.InProcess(adapters.make("refoptim"))).results
    for statuses, code in [
        ([Status.CONFORMS, Status.SKIPPED, Status.UNSUPPORTED], ExitCode.CONFORMS),
        ([Status.CONFORMS, Status.MISMATCH], ExitCode.MISMATCH),
        ([Status.REJECTED], ExitCode.MISMATCH),
        ([Status.MISMATCH, Status.PROTOCOL], ExitCode.PROTOCOL),
        ([Status.ERRORED], ExitCode.PROTOCOL),
        ([Status.STALE, Status.CONFORMS], ExitCode.STALE),
    ]:
        assert exit_code(Report("", {}, [right._replace(status=status) for status in statuses])) is code
