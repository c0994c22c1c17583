"""torch votes on every vector that both define: none is published from which it dissents."""

import pytest

pytest.importorskip("flint", reason="python-flint, extra conformance, is not installed")
pytest.importorskip("torch", reason="torch, extra torch, is not installed")

from refoptim.conformance import adapters
from refoptim.conformance.runner.answer import answer
from refoptim.conformance.runner.judge import judged
from refoptim.conformance.runner.outcome import Grade
from refoptim.conformance.vectors import generate, schedules, store, votes
from refoptim.conformance.vectors.vector import Vector

ALL = store.load()
WITNESS = adapters.make("torch")


def test_nobody_dissents():
    ballots = [votes.vote(WITNESS, vector) for vector in ALL]
    assert [ballot for ballot in ballots if ballot.vote is votes.Vote.DISSENTS] == []
    assert sum(ballot.vote is votes.Vote.AGREES for ballot in ballots) > 0.8 * len(ALL)


@pytest.mark.parametrize("algorithm", votes.ABSTENTIONS)
def test_every_abstention_has_a_reason(algorithm):
    _, dtypes = votes.ABSTENTIONS[algorithm]
    for dtype in dtypes:
        grades = [
            judged(v, answer(WITNESS, {"cmd": "run", "problem": v.problem})).grade
            for v in ALL
            if v.algorithm == algorithm and v.dtype == dtype and v.result == "valid"
        ]
        assert Grade.D in grades, dtype


@pytest.mark.parametrize("identifier", schedules.DISSENT)
def test_torch_dissents_from_what_is_not_published(identifier, monkeypatch):
    monkeypatch.setattr(schedules, "DISSENT", {})
    kind = identifier.partition(".")[0]
    name = next(name for name in schedules.names() if name.lower() == kind)
    made = generate.whole_file("schedule", name, "", list(schedules.entries(name)))["vectors"]
    found = next(e for e in made if e["id"] == identifier)
    vector = Vector(type="schedule", **{key: value for key, value in found.items() if key in Vector._fields})
    assert votes.vote(WITNESS, vector).vote is votes.Vote.DISSENTS


def test_a_wrong_vector_has_a_dissent():
    vector = next(v for v in ALL if v.id == "sgd.f32.dyadic.plain")
    wrong = vector.expect | {"after": [*vector.expect["after"][1:], vector.expect["after"][0]]}
    assert votes.vote(WITNESS, vector._replace(expect=wrong)).vote is votes.Vote.DISSENTS
    assert votes.vote(WITNESS, vector).vote is votes.Vote.AGREES
