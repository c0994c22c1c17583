"""Who conforms: every adapter that is installed, and the example harnesses, put to all vectors."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import refoptim
from refoptim.conformance.adapters import NAMES, MissingLibraryError, make
from refoptim.conformance.runner.check import check
from refoptim.conformance.runner.outcome import Grade, Result, Status
from refoptim.conformance.runner.transport import InProcess, Process, Transport
from refoptim.conformance.vectors.encoding import real_of
from refoptim.conformance.vectors.vector import Vector

_HARNESSES = Path(refoptim.__file__).parent.parent / "examples" / "harness"


class Who(NamedTuple):
    """An implementation, as it says hello."""

    name: str
    version: str
    language: str


class Judged(NamedTuple):
    """An implementation and what became of each vector, with a verdict where it is another formula."""

    who: Who
    results: list[tuple[Vector, Result]]


def names() -> list[str]:
    """Return what can be put to the vectors: the adapters, and the example harnesses where they are."""
    return [*NAMES, *(f"{path.stem}.{path.suffix[1:]}" for path in sorted(_HARNESSES.glob("harness.*")))]


@contextmanager
def connected(name: str) -> Iterator[Callable[[], Transport]]:
    """Yield what connects to an adapter in this process, or to a harness in its own.

    Raises:
        MissingLibraryError: its library or its compiler is not installed.

    """
    if name not in (path.name for path in _HARNESSES.glob("harness.*")):
        yield partial(InProcess, make(name))
        return
    with tempfile.TemporaryDirectory() as folder:
        yield partial(Process, _command(_HARNESSES / name, Path(folder)))


def _command(source: Path, folder: Path) -> list[str]:
    tool = {".c": "cc", ".js": "node"}[source.suffix]
    found = shutil.which(tool)
    if found is None:
        raise MissingLibraryError(f"{source.name} needs {tool}")
    if source.suffix == ".js":
        return [found, str(source)]
    program = str(folder / "harness")
    subprocess.run([found, "-std=c99", "-O2", "-o", program, str(source), "-lm"], check=True)  # noqa: S603  our own
    return [program]


def judge(name: str, vectors: Sequence[Vector], *, quiet: bool = True) -> Judged:
    """Put all vectors to an implementation.

    Args:
        name: one of ``names()``.
        vectors: what to ask.
        quiet: whether there is no progress bar (default: True).

    """
    with connected(name) as connect:
        report = check(vectors, connect, quiet=quiet)
    who = report.implementation
    by_id = {vector.id: vector for vector in vectors}
    results = [(by_id[result.id], result) for result in report.results]
    return Judged(Who(who["name"], who["version"], who["language"]), results)


class Cell(NamedTuple):
    """What an implementation makes of an optimizer or a scheduler."""

    algorithm: str
    right: int  # vectors whose numbers are within their budgets
    asked: int  # vectors that have numbers, and were answered
    worst: dict[str, tuple[Grade, float]]  # by precision, the worst grade, and the largest error in scaled ulps
    defaults: tuple[int, int]  # right and asked, of those that leave options out
    special: tuple[int, int]  # of infinity and its like
    refused: tuple[int, int]  # of what makes no sense
    failed: dict[str, list[Result]]  # what errored, by message
    parts: dict[str, list[Result]]  # what is wrong, by what explains it


def cells(found: Judged) -> list[Cell]:
    """Return a cell for each algorithm that an implementation has answered at least one vector of."""
    by_algorithm: dict[str, list[tuple[Vector, Result]]] = {}
    for vector, result in found.results:
        by_algorithm.setdefault(vector.algorithm, []).append((vector, result))
    every = (_cell(name, results) for name, results in sorted(by_algorithm.items()))
    return [cell for cell in every if cell.asked or cell.failed]


def _cell(algorithm: str, results: list[tuple[Vector, Result]]) -> Cell:
    answered = [(v, r) for v, r in results if r.status in (Status.CONFORMS, Status.MISMATCH, Status.REJECTED)]
    kinds: dict[str, list[Result]] = {"numbers": [], "defaults": [], "special": [], "refused": []}
    for vector, result in answered:
        kinds[_kind(vector)].append(result)
    numbers = kinds["numbers"]
    parts: dict[str, list[Result]] = {}
    for result in (r for kind in ("numbers", "defaults", "special") for r in kinds[kind]):
        if result.status is not Status.CONFORMS:
            parts.setdefault(_explained(result), []).append(result)
    failed: dict[str, list[Result]] = {}
    for _, result in results:
        if result.status in (Status.ERRORED, Status.PROTOCOL):
            failed.setdefault(result.message, []).append(result)
    right, asked = _share(numbers)
    return Cell(
        algorithm=algorithm,
        right=right,
        asked=asked,
        worst={p: _worst(own) for p in ("f32", "f64") if (own := [r for r in numbers if real_of(r.dtype) == p])},
        defaults=_share(kinds["defaults"]),
        special=_share(kinds["special"]),
        refused=_share(kinds["refused"]),
        failed=failed,
        parts=parts,
    )


def _worst(results: list[Result]) -> tuple[Grade, float]:
    grade = max((r.grade or Grade.D for r in results), key=list(Grade).index)
    return grade, max((r.sulp or 0.0 for r in results), default=0.0)


def _kind(vector: Vector) -> str:
    if vector.result == "invalid":
        return "refused"
    if vector.expect["encoding"] == "class":
        return "special"
    return "defaults" if "feature:torch_defaults" in vector.requires else "numbers"


def _share(results: list[Result]) -> tuple[int, int]:
    return sum(r.status is Status.CONFORMS for r in results), len(results)


def _explained(result: Result) -> str:
    """Return what explains a mismatch, without the figures that differ from vector to vector."""
    if result.status is Status.REJECTED:
        return f"refuses: {result.message.removeprefix('Rejected: ')}"
    if result.dialect:
        return re.sub(r" within [^ ]+ ulp| to \S+ of their length", "", result.dialect)
    if result.message:
        return result.message
    where = result.divergence
    return f"{where.quantity}: {where.got.partition('(')[2].rstrip(')')} for {where.expected}" if where else "differs"
