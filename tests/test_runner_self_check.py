"""The self-check passes, and finds a judge or a transport that lets something through."""

import numpy as np
import pytest

pytest.importorskip("flint", reason="python-flint, extra conformance, is not installed")

from refoptim import cli
from refoptim.conformance.runner import judge, self_check
from refoptim.conformance.runner.outcome import Status
from refoptim.conformance.vectors import store

NAMES = (
    "adam.f32.dyadic.plain",
    "adam.f64.dyadic.plain",
    "adam.f32.special.plain",
    "adam.f32.invalid.negative-lr",
    "muon.f32.dyadic.8x6",
    "lbfgs.f64.trace.valley-searched",
    "steplr.schedule.",
)
SOME = [vector for vector in store.load() if vector.id.startswith(NAMES)]


@pytest.fixture
def few(monkeypatch):
    """Leave a vector of each kind, whose files are as they were a moment ago."""
    monkeypatch.setattr(store, "load", lambda: SOME)
    monkeypatch.setattr(store, "verify", lambda: len(SOME))
    return monkeypatch


def missed():
    """Return which kinds are not recognized."""
    return {finding.name.partition(":")[0] for finding in self_check.self_check() if finding.missed}


VALUES = {"NaN", "infinity", "minus infinity"}


def test_all_is_well(few):
    found = list(self_check.self_check())
    assert not any(finding.missed for finding in found)
    assert all(finding.tried for finding in found)
    assert {v.type for v in SOME} == {"trajectory", "schedule", "trace"}


def conforming(vector, answer):
    right = self_check.right_answer(vector)
    return judge.judged(vector, right)


def lenient(text, dtype, size, what):
    try:
        return np.resize(judge.from_hex(text, judge.real_of(dtype)), size)
    except (ValueError, TypeError, AttributeError):
        return np.zeros(size, judge.DTYPES[judge.real_of(dtype)])


def refusing(vector, answer):
    return judge.judged(vector, answer)._replace(status=Status.UNSUPPORTED)


@pytest.mark.parametrize(
    ("module", "name", "weak", "wanted"),
    [
        (judge, "scaled_errors", lambda got, *_: np.zeros(got.shape), VALUES | {"just beyond the budget"}),
        (judge, "class_of", lambda _: "f", {"right answers conform"}),
        (judge, "right_classes", lambda _: "npmzf", VALUES),
        (judge, "_numbers", lenient, {"twice the numbers"}),
        (judge, "_grade", lambda *_: judge.Grade.B, VALUES | {"just beyond the budget"}),
        (self_check, "judged", conforming, set(self_check.SPOILED)),
        (self_check, "judged", refusing, {"right answers conform", "just beyond the budget"} | VALUES),
        (
            self_check,
            "FAULTS",
            [self_check.FAULTS[4]._replace(output='{"seq":1}\n')],
            {"programs that break the protocol"},
        ),
        (self_check, "FAULTS", [self_check.FAULTS[4]._replace(kind="crash")], {"programs that break the protocol"}),
    ],
)
def test_what_lets_something_through_is_found(few, module, name, weak, wanted):
    few.setattr(module, name, weak)
    assert missed() >= wanted


def test_the_command(few, capsys):
    assert cli.main(["check", "--self-check"]) == 0
    few.setattr(judge, "right_classes", lambda _: "npmzf")
    assert cli.main(["check", "--self-check"]) == 5
    assert "MISSED 1: adam.f32.special.plain" in capsys.readouterr().out


@pytest.mark.slow
def test_every_vector():
    assert not missed()
