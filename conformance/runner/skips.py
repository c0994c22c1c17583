"""Skip files: what is known to fail, why, and until when."""

import tomllib
from collections.abc import Iterable
from datetime import date, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from refoptim.conformance.runner.outcome import Result, Status
from refoptim.conformance.vectors.vector import Vector

_KEYS = {"id", "reason", "issue", "until"}


class SkipFileError(ValueError):
    """A skip file says what makes no sense."""


class Skipped(NamedTuple):
    """Vectors that are not asked for."""

    id: str  # a pattern: * and ? stand for anything
    reason: str
    issue: str = ""
    until: date | None = None  # the first day on which it counts as stale

    def is_over(self, today: date) -> bool:
        """Return whether its time is over."""
        return self.until is not None and today >= self.until

    def __str__(self) -> str:
        parts = [self.reason, self.issue, f"until {self.until}" if self.until else ""]
        return ", ".join(filter(None, parts))


def read(file: Path) -> list[Skipped]:
    """Return what a file skips.

    Raises:
        SkipFileError: it is not TOML, or an entry lacks its id or its reason, or has something unknown.
        OSError: it cannot be read.

    """
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SkipFileError(f"{file}: {error}") from error
    if set(found) - {"skip"} or not isinstance(found.get("skip", []), list):
        raise SkipFileError(f"{file}: it has {', '.join(sorted(found))}; only [[skip]] entries are known")
    return [_entry(file, number, entry) for number, entry in enumerate(found.get("skip", []), 1)]


def _entry(file: Path, number: int, entry: Any) -> Skipped:
    where = f"{file}, entry {number}"
    if not isinstance(entry, dict):
        raise SkipFileError(f"{where}: it is {entry!r}; only [[skip]] entries are known")
    if unknown := set(entry) - _KEYS:
        raise SkipFileError(f"{where}: unknown {', '.join(sorted(unknown))}; known are {', '.join(sorted(_KEYS))}")
    for name in ("id", "reason"):
        if not isinstance(entry.get(name), str) or not entry[name].strip():
            raise SkipFileError(
                f"{where}: it needs {'an id' if name == 'id' else 'a reason'}, a text that is not empty"
            )
    return Skipped(entry["id"], entry["reason"], str(entry.get("issue", "")), _day(where, entry.get("until")))


def _day(where: str, until: Any) -> date | None:
    if until is None or (isinstance(until, date) and not isinstance(until, datetime)):
        return until
    text = str(until)
    try:
        return date.fromisoformat(text if len(text) > len("2026-12") else f"{text}-01")
    except ValueError:
        raise SkipFileError(f"{where}: until is {text!r}, not a day like 2026-12-31 or a month like 2026-12") from None


def check_ids(skips: Iterable[Skipped], vectors: Iterable[Vector]) -> None:
    """Make sure that every entry is about something.

    Raises:
        SkipFileError: an entry's id matches no vector.

    """
    ids = [vector.id for vector in vectors]
    for skip in skips:
        if not any(fnmatchcase(identifier, skip.id) for identifier in ids):
            raise SkipFileError(f"{skip.id!r} matches no vector: refoptim vectors list prints all ids")


def skip_of(identifier: str, skips: Iterable[Skipped]) -> Skipped | None:
    """Return the entry that a vector falls under."""
    return next((skip for skip in skips if fnmatchcase(identifier, skip.id)), None)


def as_toml(results: Iterable[Result]) -> str:
    """Return a skip file for everything that does not conform today, with the reason that the run gave."""
    bad = {Status.MISMATCH, Status.REJECTED, Status.ERRORED, Status.PROTOCOL}
    entries = [
        f"[[skip]]\nid = {_quoted(result.id)}\nreason = {_quoted(_why(result))}\n"
        for result in results
        if result.status in bad
    ]
    return "\n".join(entries)


def _why(result: Result) -> str:
    return result.dialect or result.message or str(result.divergence)


def _quoted(text: str) -> str:
    sound = text.encode(errors="replace").decode()  # half a pair of surrogates cannot be written
    escaped = sound.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + '"'
