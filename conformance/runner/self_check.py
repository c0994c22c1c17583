"""The self-check: the judge is shown the right answer to every vector, and wrong ones; so is the transport."""

import copy
import math
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from refoptim.conformance.runner.answer import Message
from refoptim.conformance.runner.judge import MalformedAnswer, class_of, judged
from refoptim.conformance.runner.outcome import Status
from refoptim.conformance.runner.transport import Process, ProtocolError
from refoptim.conformance.vectors import store
from refoptim.conformance.vectors.encoding import DTYPES, from_hex, real_of, to_hex, wide_from_hex
from refoptim.conformance.vectors.vector import Vector

Array = NDArray[Any]


class Finding(NamedTuple):
    """One kind of right or wrong, and where it was not recognized."""

    name: str
    tried: int
    missed: list[str]


def self_check() -> Iterator[Finding]:
    """Yield what was tried, and what was missed.

    Raises:
        StoreError: the vectors are damaged.

    """
    yield Finding("files with the right hashes and schemas", store.verify(), [])
    vectors = store.load()
    yield Finding("right answers conform", len(vectors), [v.id for v in vectors if not _conforms(v)])
    for name, (spoil, wanted) in SPOILED.items():
        asked = [(v, spoiled) for v in vectors if (spoiled := _spoiled(v, spoil)) is not None]
        yield Finding(f"{name}: {wanted}", len(asked), [v.id for v, spoiled in asked if _named(v, spoiled) != wanted])
    yield Finding("programs that break the protocol", len(FAULTS), [fault.name for fault in FAULTS if _missed(fault)])


def _conforms(vector: Vector) -> bool:
    return _named(vector, right_answer(vector)) == Status.CONFORMS


def _named(vector: Vector, answer: Message) -> str:
    try:
        return judged(vector, answer).status
    except MalformedAnswer:
        return MALFORMED


MALFORMED = "malformed"
# A number of each class that a vector may expect.
_OF_CLASS = {"n": math.nan, "p": math.inf, "m": -math.inf, "z": 0.0, "f": 1.0, "?": math.nan}


def right_answer(vector: Vector) -> Message:
    """Return the expected values, rounded to the vector's dtype, as an answer."""
    if vector.result == "invalid":
        return {"rejected": True, "error": {"kind": "ValueError", "message": "it makes no sense"}}
    if vector.type == "schedule":
        return {"lr": [_rounded(column, vector) for column in vector.expect["lr"]]}
    if vector.type == "trace":
        points = [_of_each(point, vector) for point in (*vector.expect["calls"], vector.expect["after"])]
        return {"calls": points[:-1], "per_step": vector.expect["per_step"], "after": points[-1]}
    return {"after": [{p: _of_each(all_, vector) for p, all_ in now.items()} for now in vector.expect["after"]]}


def _of_each(expected: Message, vector: Vector) -> Message:
    return {name: _rounded(value, vector) for name, value in expected.items()}


def _rounded(expected: Any, vector: Vector) -> str:
    kind = DTYPES[real_of(vector.dtype)]
    if vector.expect["encoding"] == "class":
        return to_hex(np.array([_OF_CLASS[letter] for letter in expected], kind))
    return to_hex(wide_from_hex(expected, vector.expect["encoding"])[0].astype(kind))


class Leaf(NamedTuple):
    """The last numbers of an answer: of a parameter, or a column of learning rates."""

    holder: Any
    key: Any
    vector: Vector
    param: str = ""

    @property
    def numbers(self) -> Array:
        """The numbers themselves."""
        return from_hex(self.holder[self.key], real_of(self.vector.dtype))

    def put(self, at: int, value: float) -> bool:
        """Write another number there."""
        numbers = self.numbers
        numbers[at] = value
        self.holder[self.key] = to_hex(numbers)
        return True


# Spoils the leaf of an answer, or returns False where there is nothing to spoil.
Spoil = Callable[[Leaf], bool]


def _spoiled(vector: Vector, spoil: Spoil) -> Message | None:
    """Return the right answer with its last numbers spoiled, or None where this cannot be done."""
    if vector.result == "invalid":
        return None
    answer = copy.deepcopy(right_answer(vector))
    if vector.type == "schedule":
        leaf = Leaf(answer["lr"], len(answer["lr"]) - 1, vector)
    else:
        last = answer["after"] if vector.type == "trace" else answer["after"][-1]
        param = next(name for name, said in last.items() if (said if vector.type == "trace" else said["theta"]))
        holder, key = (last, param) if vector.type == "trace" else (last[param], "theta")
        leaf = Leaf(holder, key, vector, param)
    return answer if spoil(leaf) else None


def _becomes(change: Callable[[str], Any]) -> Spoil:
    def spoil(leaf: Leaf) -> bool:
        leaf.holder[leaf.key] = change(leaf.holder[leaf.key])
        return True

    return spoil


def _missing(leaf: Leaf) -> bool:
    del leaf.holder[leaf.key]
    return True


def _number(value: float) -> Spoil:
    def spoil(leaf: Leaf) -> bool:
        letters = _letters(leaf)
        at = next((i for i, letter in enumerate(letters) if letter not in ("?", class_of(value))), None)
        return at is not None and leaf.put(at, value)

    return spoil


def _letters(leaf: Leaf) -> str:
    """Return the classes of the leaf's numbers, ``?`` where any would be right."""
    if leaf.vector.expect["encoding"] == "class":
        return leaf.vector.expect["after"][-1][leaf.param]["theta"]
    return "".join(map(class_of, leaf.numbers.tolist()))


def _beyond(leaf: Leaf) -> bool:
    """Move the first number towards zero by a little more than the larger budget, in ulps of all that it has been."""
    vector, numbers = leaf.vector, leaf.numbers
    if vector.type != "trajectory" or vector.expect["encoding"] == "class":
        return False
    encoding = vector.expect["encoding"]
    init = next(p["init"] for p in vector.problem["params"] if p["name"] == leaf.param)
    been = [wide_from_hex(now[leaf.param]["theta"], encoding)[0] for now in vector.expect["after"]]
    largest = np.abs([from_hex(init, real_of(vector.dtype)), *been]).max(axis=0)
    scale = largest.max() if vector.expect["scale"] == "tensor" else largest[0]
    far = (1.25 * max(vector.budget["theta"].values()) + 1) * float(np.spacing(numbers.dtype.type(scale)))
    return leaf.put(0, numbers[0] - math.copysign(far, numbers[0]))


# What is done to the last numbers of an answer, and what must come of it.
SPOILED: dict[str, tuple[Spoil, str]] = {
    "nothing where numbers should be": (_missing, MALFORMED),
    "a digit too few": (_becomes(lambda text: text[:-1]), MALFORMED),
    "twice the numbers": (_becomes(lambda text: 2 * text), MALFORMED),
    "no number": (_becomes(lambda _: ""), MALFORMED),
    "other letters than digits": (_becomes(lambda text: "z" * len(text)), MALFORMED),
    "decimals": (_becomes(lambda _: [1.0]), MALFORMED),
    "NaN": (_number(math.nan), Status.MISMATCH),
    "infinity": (_number(math.inf), Status.MISMATCH),
    "minus infinity": (_number(-math.inf), Status.MISMATCH),
    "just beyond the budget": (_beyond, Status.MISMATCH),
}


class Fault(NamedTuple):
    """What a program does with its first request: write, wait, exit. And what this must be called."""

    name: str
    output: str
    seconds: float
    code: int
    kind: str


FAULTS = (
    Fault("hangs", "", 60, 0, "timeout"),
    Fault("hangs in the middle of a line", '{"seq":1', 60, 0, "timeout"),
    Fault("exits", "", 0, 7, "crash"),
    Fault("exits in the middle of a line", '{"seq":1', 0, 0, "crash"),
    Fault("chats", "let me think\n", 0, 0, "not JSON"),
    Fault("answers with a list", "[1]\n", 0, 0, "not an object"),
    Fault("answers another request", '{"seq":2,"after":[]}\n', 0, 0, "wrong seq"),
    Fault("answers twice", '{"seq":1,"after":[]}\n{"seq":1,"after":[]}\n', 0, 0, "extra output"),
)
_PROGRAM = """
import sys, time
sys.stdin.readline()
sys.stdout.write(sys.argv[1])
sys.stdout.flush()
time.sleep(float(sys.argv[2]))
sys.exit(int(sys.argv[3]))
"""


def _missed(fault: Fault) -> bool:
    command = [sys.executable, "-c", _PROGRAM, fault.output, str(fault.seconds), str(fault.code)]
    with Process(command, timeout=0.5 if fault.seconds else 60) as process:
        try:
            process.ask({"cmd": "run", "seq": 1, "problem": {}})
        except ProtocolError as error:
            return error.kind != fault.kind
    return True
