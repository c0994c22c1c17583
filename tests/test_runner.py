"""The check: every vector is asked for, answers are judged by the grade that is wanted, and nothing is mixed up."""

import sys
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("flint", reason="python-flint, extra conformance, is not installed")

from refoptim.conformance import adapters
from refoptim.conformance.runner import check, smoke, transport
from refoptim.conformance.runner.adapter import Base, Info, Skip, Unsupported
from refoptim.conformance.runner.outcome import ExitCode, Grade, Report, Status, exit_code
from refoptim.conformance.runner.skips import Skipped
from refoptim.conformance.vectors import store
from refoptim.conformance.vectors.encoding import from_hex, to_hex
from refoptim.conformance.vectors.vector import SUITE

FAUX = str(Path(__file__).with_name("faux.py"))
ALL = store.load()
SOME = [v for v in ALL if v.id.startswith("sgd.f32.dyadic.")]
ONE = SOME[:1]


def faux(mode, timeout=5.0, **options):
    return lambda: transport.Process([sys.executable, FAUX, mode], timeout, **options)


def test_a_lie_about_what_there_is_is_told():
    (result,) = check.check([v for v in ALL if v.id == "sgd.f32.probe.plain"], faux("lies")).results
    assert result.status is Status.UNSUPPORTED
    assert "though hello claims it" in result.message


def test_what_is_not_claimed_is_not_asked():
    (result,) = check.check([v for v in ALL if v.id == "adam.f32.probe.plain"], faux("lies")).results
    assert result.message == "optimizer:Adam"


def test_an_adapters_answers_are_validated_too():
    class Moody(Odd):
        """An adapter with a claim that is none."""

        info = Info("odd", "1", homepage=7)

    with pytest.raises(transport.ProtocolError, match="not of its schema"):
        check.check(ONE, lambda: transport.InProcess(Moody(None), validate=True))


def test_a_harness_that_always_crashes_is_given_up():
    report = check.check(SOME * 9, faux("exits"))
    assert not report.complete
    assert exit_code(report) is ExitCode.PROTOCOL


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
        (SystemExit(0), Status.ERRORED),
    ],
)
def test_an_adapter_that_raises(error, status):
    (result,) = check.check(ONE, lambda: transport.InProcess(Odd(error))).results
    assert result.status is status


def test_an_unknown_command_is_an_error_of_the_request():
    answer = transport.InProcess(adapters.make("refoptim")).ask({"cmd": "dance", "seq": 4})
    assert answer["seq"] == 4
    assert answer["errored"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["refoptim", "refoptim-foreach", "refoptim-for-loop", "refoptim-float64"])
def test_refoptim_conforms_at_grade_a(name):
    report = check.check(ALL, lambda: transport.InProcess(adapters.make(name)), least=Grade.A)
    assert exit_code(report) is ExitCode.CONFORMS
    assert sum(r.status is Status.CONFORMS for r in report.results) > 700


class Shifted(transport.InProcess):
    """Answers whose parameters are off by so many budgets."""

    def __init__(self, vector, budgets):
        super().__init__(adapters.make("refoptim"))
        self._far = np.float32(budgets * vector.budget["theta"]["A"])

    def ask(self, request):
        found = super().ask(request)
        for entry in found["after"][-1].values() if "after" in found else ():
            theta = from_hex(entry["theta"], "f32")
            entry["theta"] = to_hex(theta - np.copysign(self._far * np.spacing(np.abs(theta)), theta))
        return found


@pytest.mark.parametrize(
    ("budgets", "grade", "conforming"),
    [(0, Grade.A, {Grade.A, Grade.B, Grade.C}), (8, Grade.C, {Grade.C}), (2000, Grade.D, set())],
)
def test_the_grade_that_is_asked_for_decides(budgets, grade, conforming):
    (vector,) = (v for v in ALL if v.id == "adam.f32.dyadic.plain")
    for least in (Grade.A, Grade.B, Grade.C):
        (result,) = check.check([vector], lambda: Shifted(vector, budgets), least=least).results
        assert result.grade is grade
        assert result.status is (Status.CONFORMS if least in conforming else Status.MISMATCH)


def test_a_step_alone_tells_a_wrong_step_from_errors_that_add_up():
    (vector,) = (v for v in ALL if v.id == "adam.f32.dyadic.plain")

    class Late(Shifted):
        def ask(self, request):
            return transport.InProcess.ask(self, request) if request["cmd"] == "step" else super().ask(request)

    for transport_of, how in ((Shifted, "wrong too"), (Late, "right: errors add up")):
        (result,) = check.check([vector], partial(transport_of, vector, 2000)).results
        assert result.message == f"step 5 from the exact state is {how}"


REASON = Skipped("sgd.f32.*", "known", "https://example.org/1", date(2027, 1, 1))


@pytest.mark.parametrize(
    ("adapter", "skips", "strict", "today", "status", "code"),
    [
        ("refoptim", [REASON], False, date(2026, 1, 1), Status.SKIPPED, ExitCode.USAGE),
        ("refoptim", [REASON], True, date(2026, 1, 1), Status.STALE, ExitCode.STALE),
        ("refoptim", [REASON], True, date(2027, 1, 1), Status.STALE, ExitCode.STALE),
        ("refoptim", [REASON._replace(id="adam*")], True, date(2026, 1, 1), Status.CONFORMS, ExitCode.CONFORMS),
        (None, [REASON], True, date(2026, 1, 1), Status.SKIPPED, ExitCode.USAGE),
        (None, [], True, date(2026, 1, 1), Status.MISMATCH, ExitCode.MISMATCH),
    ],
)
def test_skips(adapter, skips, strict, today, status, code):
    connect = faux("stays") if adapter is None else lambda: transport.InProcess(adapters.make(adapter))
    report = check.check(ONE, connect, skipped=skips, strict=strict, today=today)
    assert report.results[0].status is status
    assert exit_code(report) is code


def test_smoke_tells_the_harness_from_the_optimizer():
    assert all(not wrong for _, wrong in smoke.smoke(transport.InProcess(adapters.make("refoptim")), SUITE))
    with faux("stays")() as process:
        assert [bool(wrong) for _, wrong in smoke.smoke(process, SUITE)] == [False, False, True]
    with faux("few-digits")() as process:
        assert all(wrong for _, wrong in smoke.smoke(process, SUITE))


def test_exit_codes_are_never_mixed():
    (right,) = check.check(ONE, lambda: transport.InProcess(adapters.make("refoptim"))).results
    for statuses, code in [
        ([Status.CONFORMS, Status.SKIPPED, Status.UNSUPPORTED], ExitCode.CONFORMS),
        ([Status.SKIPPED, Status.UNSUPPORTED], ExitCode.USAGE),
        ([Status.SKIPPED], ExitCode.USAGE),
        ([Status.UNSUPPORTED], ExitCode.USAGE),
        ([], ExitCode.USAGE),
        ([Status.CONFORMS, Status.MISMATCH], ExitCode.MISMATCH),
        ([Status.REJECTED], ExitCode.MISMATCH),
        ([Status.MISMATCH, Status.PROTOCOL], ExitCode.PROTOCOL),
        ([Status.ERRORED], ExitCode.PROTOCOL),
        ([Status.STALE, Status.CONFORMS], ExitCode.STALE),
    ]:
        assert exit_code(Report("", {}, [right._replace(status=status) for status in statuses])) is code
