"""The store: vectors read from their files, after everything that could be wrong with these has been looked for."""

import json
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from refoptim.conformance.vectors.vector import FORMAT, Vector, content_hash

PACKAGED = Path(__file__).parent / "v1"
SCHEMAS = Path(__file__).parent / "schemas"
KINDS = ("trajectory", "schedule", "trace")


class StoreError(ValueError):
    """Vectors cannot be used: a file is not what it was when it was made."""


class DamagedFileError(StoreError):
    """A file cannot be read, or is not JSON."""


class UnknownFormatError(StoreError):
    """A file has a format that this version does not know."""


class SchemaError(StoreError):
    """A file does not have what its schema asks for, or something else."""


class HashError(StoreError):
    """A file or a vector does not have the content that its hash stands for."""


class MissingVectorsError(StoreError):
    """A folder is none of vectors: it has no index."""


class MismatchedIndexError(StoreError):
    """The files are not those of the index."""


def load(folder: Path | None = None, pattern: str = "", *, dtype: str = "") -> list[Vector]:
    """Return the vectors of a folder, all checks passed.

    Args:
        folder: where the files are; default: those that come with the package.
        pattern: only vectors whose id has this at the start of a word, or matches it where it has ``*`` or ``?``.
        dtype: only those of this dtype; schedules count as ``f64``.

    Raises:
        StoreError: something is wrong with a file: the message says with which and what.

    """
    found = [vector for name in _files(folder or PACKAGED) for vector in _read(folder or PACKAGED, name)]
    return [v for v in found if matches(v.id, pattern) and dtype in ("", v.dtype)]


def matches(identifier: str, pattern: str) -> bool:
    """Return whether an id matches a pattern with wildcards, or has a word that begins so: sgd is not in asgd."""
    if any(sign in pattern for sign in "*?["):
        return fnmatchcase(identifier, pattern.lower())
    return re.search(rf"(^|[.-]){re.escape(pattern.lower())}", identifier) is not None


def _files(folder: Path) -> Iterator[str]:
    """Yield the names of the files in the index, each of which has the right hash; and there are no others."""
    if not (folder / "index.json").is_file():
        raise MissingVectorsError(f"{folder}: there are no vectors here, for there is no index.json")
    index = _json(folder / "index.json")
    _check_format(index, "index.json")
    validate(index, "index_v1.json", "index.json")
    there = {path.name for path in folder.glob("*.json")} - {"index.json"}
    for name in sorted(there ^ set(index["files"])):
        where = "is not in the index" if name in there else "is in the index but not there"
        raise MismatchedIndexError(f"{folder / name} {where}: make the vectors again with refoptim vectors generate")
    seen: dict[str, str] = {}
    for name, right in sorted(index["files"].items()):
        path = folder / name
        if sha256(path.read_bytes()).hexdigest() != right:
            _find_damage(path, index)
            raise HashError(f"{path}: its sha256 is not {right}, which the index has: the file was changed")
        seen |= {entry["id"]: entry["sha256"] for entry in _json(path)["vectors"]}
        yield name
    if seen != index["vectors"]:
        other = next(iter(set(seen.items()) ^ set(index["vectors"].items())))
        raise MismatchedIndexError(f"{folder}: the index and the files do not have the same {other[0]}")


def _find_damage(path: Path, index: Mapping[str, Any]) -> None:
    """Raise what says most about a file whose hash is wrong, if anything says more than that."""
    file = _json(path)
    _check_format(file, str(path))
    for entry in file.get("vectors", ()):
        if isinstance(entry, dict) and content_hash(entry) != index["vectors"].get(entry.get("id")):
            raise HashError(f"{path}: the vector {entry.get('id')!r} is not the one that the index has")


def _read(folder: Path, name: str) -> Iterator[Vector]:
    path = folder / name
    file = _json(path)
    _check_format(file, str(path))
    kind = file["schema"].removesuffix(f"_v{FORMAT}.json")
    if kind not in KINDS:
        raise UnknownFormatError(f"{path}: its schema is {file['schema']!r}, known are those of {', '.join(KINDS)}")
    for entry in file["vectors"]:
        if content_hash(entry) != entry["sha256"]:
            raise HashError(f"{path}: the vector {entry['id']!r} has not the content that its sha256 stands for")
        yield _vector(kind, entry)


def _vector(kind: str, entry: Mapping[str, Any]) -> Vector:
    fields = {name: value for name, value in entry.items() if name in Vector._fields}
    fields |= {"flags": tuple(entry["flags"]), "requires": tuple(entry["requires"])}
    return Vector(type=kind, **fields)


def verify(folder: Path | None = None) -> int:
    """Check every file against its schema as well, which takes longer, and return how many vectors there are."""
    folder = folder or PACKAGED
    for name in _files(folder):
        file = _json(folder / name)
        validate(file, file["schema"], str(folder / name))
    return len(load(folder))


def _json(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DamagedFileError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DamagedFileError(f"{path}: not UTF-8 at byte {error.start}") from error
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DamagedFileError(f"{path}: not JSON: {error.msg} in line {error.lineno}, column {error.colno}") from error


def _check_format(file: Any, where: str) -> None:
    found = file.get("format") if isinstance(file, dict) else None
    if found != FORMAT:
        raise UnknownFormatError(f"{where}: its format is {found!r}, this version of refoptim knows {FORMAT}")


def validate(value: Any, schema: str, where: str) -> None:
    """Check a value against one of the schemas.

    Raises:
        SchemaError: it does not have what the schema asks for.

    """
    error = best_match(_validator(schema).iter_errors(value))
    if error is not None:
        raise SchemaError(f"{where}: {error.json_path}: {error.message[:300]}")


@cache
def _validator(schema: str) -> Draft202012Validator:
    name, _, part = schema.partition("#")
    path = SCHEMAS / name
    if not path.is_file():
        raise UnknownFormatError(f"there is no schema {name!r}")
    whole = _json(path)
    return Draft202012Validator({"$ref": f"#{part}", "$defs": whole["$defs"]} if part else whole)
