"""Votes: another implementation on each vector that both define. What it dissents from is not published."""

from enum import StrEnum
from typing import NamedTuple

from refoptim.conformance.runner.adapter import Adapter
from refoptim.conformance.runner.answer import answer
from refoptim.conformance.runner.judge import MalformedAnswer, judged
from refoptim.conformance.runner.outcome import Grade, Status
from refoptim.conformance.vectors.vector import Vector

_COMMANDS = {"trajectory": "run", "schedule": "schedule", "trace": "trace"}
_WIDE = ("f64", "c128")


class Vote(StrEnum):
    """What a witness says of a vector."""

    AGREES = "agrees"
    ABSTAINS = "abstains"
    DISSENTS = "dissents"


class Ballot(NamedTuple):
    """A vote and its reason, where it is not that the witness agrees."""

    id: str
    vote: Vote
    reason: str = ""


# What torch computes otherwise on purpose or by its precision, as docs/deviations.md shows: its answer is no vote.
ABSTENTIONS = {
    "Muon": ("torch multiplies matrices in bfloat16", ("f32", "f64")),
    "NAdam": ("torch keeps the product of the momenta in float32", _WIDE),
    "ASGD": ("torch keeps eta and mu in float32", _WIDE),
}


def vote(adapter: Adapter, vector: Vector) -> Ballot:
    """Return what a witness says: it agrees where its answer is right by its formula, however weak its numbers are."""
    reason, dtypes = ABSTENTIONS.get(vector.algorithm, ("", ()))
    if vector.dtype in dtypes and vector.result == "valid":
        return Ballot(vector.id, Vote.ABSTAINS, reason)
    found = answer(adapter, {"cmd": _COMMANDS[vector.type], "problem": vector.problem})
    try:
        result = judged(vector, found)
    except MalformedAnswer as error:
        return Ballot(vector.id, Vote.DISSENTS, str(error))
    if result.status in (Status.UNSUPPORTED, Status.SKIPPED):
        return Ballot(vector.id, Vote.ABSTAINS, result.message)
    if result.status is Status.CONFORMS or (result.status is Status.MISMATCH and result.grade is Grade.C):
        return Ballot(vector.id, Vote.AGREES)
    return Ballot(vector.id, Vote.DISSENTS, str(result.divergence or result.message))
