"""Programs that are asked: what a harness can do wrong is told apart, and is never a pass."""

import os
import signal
import sys
import time
from pathlib import Path
from threading import Timer

import pytest

pytest.importorskip("flint", reason="python-flint, extra conformance, is not installed")

from refoptim.conformance.runner import check, hello, transport
from refoptim.conformance.runner.outcome import Status
from refoptim.conformance.vectors import store
from refoptim.conformance.vectors.vector import SUITE

FAUX = str(Path(__file__).with_name("faux.py"))
SOME = store.load(pattern="sgd.f32.dyadic.*")
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
        ("deep", Status.PROTOCOL, "not JSON: it answered '[[["),
        ("latin-1", Status.PROTOCOL, "not JSON"),
        ("leaves-a-child", Status.PROTOCOL, "timeout"),
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
    (result,) = check.check(ONE, faux(mode, 0.5 if mode in ("hangs", "leaves-a-child") else 5.0)).results
    assert result.status is status, result
    assert words in result.message


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("old-protocol", "speaks protocol 0, this is 1"),
        ("nobody", "does not say who it is"),
        ("fails-at-hello", "Oops: no licence"),
        ("fails-in-words", "hello: no licence"),
        ("odd-claims", "a list of features for each name"),
        ("hangs-at-hello", "timeout"),
    ],
)
def test_a_wrong_hello_ends_the_run(mode, words):
    with pytest.raises(transport.ProtocolError, match=words):
        check.check(ONE, faux(mode, 0.5))


def test_who_never_reads_a_long_request_is_not_waited_for_for_ever():
    with faux("never-reads", 0.5)() as process:
        process.ask({"cmd": "hello"})
        with pytest.raises(transport.ProtocolError, match="timeout"):
            process.ask({"cmd": "run", "seq": 1, "problem": {"comment": "x" * 2**20}})


def test_a_second_answer_that_comes_late_is_none_to_the_next_request():
    first, second = check.check(SOME[:2], faux("late")).results
    assert first.status is Status.MISMATCH
    assert second.status is Status.PROTOCOL
    assert second.message.startswith(("wrong seq", "extra output"))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc to look at processes")
def test_what_a_harness_has_started_ends_with_it():
    process = faux("leaves-a-child", 0.5)()
    with process, pytest.raises(transport.ProtocolError):
        process.ask({"cmd": "run", "seq": 1, "problem": ONE[0].problem})
    child = int(process.stderr)
    for _ in range(100):
        state = Path(f"/proc/{child}/stat")
        if not state.exists() or state.read_text(encoding="utf-8").split()[2] == "Z":
            return
        time.sleep(0.01)
    pytest.fail(f"process {child} is still there")


def test_a_harness_that_crashed_is_started_again():
    with faux("exits")() as process:
        for restarts in (0, 1, 2):
            with pytest.raises(transport.ProtocolError):
                process.ask({"cmd": "run", "seq": 1, "problem": ONE[0].problem})
            assert process.restarts == restarts


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
        hello.hello(process, SUITE)
        child = process._process
    assert child.poll() == 0
    start = time.monotonic()
    process = faux("stays")()
    hello.hello(process, SUITE)
    child = process._process
    process.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert child.poll() is not None
    assert time.monotonic() - start < 30


@pytest.fixture
def interruptible():
    """Let Ctrl-C raise: a shell starts what runs in the background without."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interruption_ends_all_programs(jobs):
    made = []

    def connect():
        made.append(faux("hangs", 30)())
        return made[-1]

    Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        check.check(SOME, connect, jobs=jobs)
    assert len(made) == jobs
    for process in made:
        with pytest.raises(transport.ProtocolError, match="it was ended"):
            process.ask({"cmd": "hello"})


class Interrupted:
    """A thread's start at which Ctrl-C is pressed, just before it or just behind it."""

    def __init__(self, start, number, *, behind):
        self._start, self._left, self._behind = start, number, behind

    def __get__(self, thread, _):
        return lambda: self(thread)

    def __call__(self, thread):
        self._left -= 1
        if self._behind or self._left:
            self._start(thread)
        if not self._left:
            raise KeyboardInterrupt


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("number", [1, 2])
def test_an_interruption_while_a_program_is_started(monkeypatch, number, behind):
    process = faux("stays")()
    monkeypatch.setattr(transport.Thread, "start", Interrupted(transport.Thread.start, number, behind=behind))
    with pytest.raises(KeyboardInterrupt):
        check.check(ONE, lambda: process)
    with pytest.raises(transport.ProtocolError, match="it was ended"):
        process.ask({"cmd": "hello"})


def test_a_program_that_is_started_while_it_is_ended(monkeypatch):
    process, popen, started = faux("hangs")(), transport.subprocess.Popen, []

    def slow(*args, **options):
        process.stop()
        started.append(popen(*args, **options))
        return started[-1]

    monkeypatch.setattr(transport.subprocess, "Popen", slow)
    with pytest.raises(transport.ProtocolError, match="it was ended"):
        process.ask({"cmd": "hello"})
    assert started[0].poll() is not None
