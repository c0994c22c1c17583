"""The axes on which dialects differ, and the dialects that have names: what ``dialects.toml`` says."""

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

SOURCE = Path(__file__).with_name("dialects.toml")


class Library(NamedTuple):
    """Who computes a value of an axis, and where to read that."""

    name: str
    source: str
    link: str = ""
    since: str = ""
    until: str = ""


class Value(NamedTuple):
    """One answer to the question that an axis is."""

    name: str
    words: str  # what follows a library's name
    formula: str
    libraries: tuple[Library, ...]  # none: a mistake that implementations make


class Axis(NamedTuple):
    """One question to which documented optimizers of the same name give different answers."""

    id: str
    number: int
    title: str
    optimizers: tuple[str, ...]
    judged: bool  # whether the search tries its values
    vector: str  # the id of the vector that tells them apart
    recipe: str  # how to convert hyperparameters
    values: tuple[Value, ...]

    @property
    def name(self) -> str:
        """The formula's parameter."""
        return self.id.partition(".")[2]

    def value(self, name: str) -> Value:
        """Return the value of this name."""
        return next(value for value in self.values if value.name == name)


class Dialect(NamedTuple):
    """A library's choice of values for an optimizer, what is not its own being torch's."""

    library: str
    optimizer: str
    title: str
    source: str
    axes: Mapping[str, str]
    defaults: Mapping[str, Any]  # under torch's names
    names: Mapping[str, str]  # its own names, by torch's

    def __str__(self) -> str:
        return f"{self.library}.{self.optimizer}"


class UnknownDialectError(ValueError):
    """There is no dialect of this name, or there are two that have nothing in common."""


@cache
def _read() -> dict[str, Any]:
    return tomllib.loads(SOURCE.read_text(encoding="utf-8"))


@cache
def every() -> tuple[Axis, ...]:
    """Return all axes."""
    return tuple(_axis(entry) for entry in _read()["axis"])


def _axis(entry: Mapping[str, Any]) -> Axis:
    values = tuple(
        Value(v["name"], v["words"], v["formula"], tuple(Library(**library) for library in v.get("libraries", ())))
        for v in entry["values"]
    )
    return Axis(
        id=entry["id"],
        number=entry["number"],
        title=entry["title"],
        optimizers=tuple(entry["optimizers"]),
        judged=entry["judged"],
        vector=entry.get("vector", ""),
        recipe=entry["recipe"],
        values=values,
    )


@cache
def of(algorithm: str) -> tuple[Axis, ...]:
    """Return the axes of an optimizer or a scheduler."""
    return tuple(axis for axis in every() if algorithm in axis.optimizers)


def libraries() -> list[str]:
    """Return the libraries that have dialects."""
    return list(_read()["dialects"])


@cache
def named(algorithm: str) -> tuple[Dialect, ...]:
    """Return the dialects of an optimizer or a scheduler, torch's first."""
    found = (_dialect(library, algorithm) for library in libraries())
    return tuple(dialect for dialect in found if dialect is not None)


def _dialect(library: str, algorithm: str) -> Dialect | None:
    entry = _read()["dialects"][library]
    if algorithm not in entry:
        return None
    own, known = entry[algorithm], _read()["dialects"]["torch"].get(algorithm, {"axes": {}})
    chosen = {**known["axes"], "defaults": library, **own["axes"]}
    # There are dialects whose defaults are no values of the axis of defaults: papers have none.
    there = {axis.name: {value.name for value in axis.values} for axis in of(algorithm)}
    axes = {name: value for name, value in chosen.items() if value in there.get(name, ()) or name in own["axes"]}
    defaults = {name: _tuple(value) for name, value in own.get("defaults", {}).items()}
    names = entry.get("names", {})
    return Dialect(library, algorithm, entry["title"], entry["source"], axes, defaults, names)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def dialect(name: str) -> Dialect:
    """Return the dialect of a name such as ``keras.Adam``, whose case does not matter.

    Raises:
        UnknownDialectError: there is none; the message says what there is.

    """
    library, _, algorithm = name.rpartition(".")
    for known in optimizers() if library else []:
        if known.lower() == algorithm.lower():
            found = {one.library.lower(): one for one in named(known)}
            if library.lower() in found:
                return found[library.lower()]
            raise UnknownDialectError(f"{name!r}: {known} is known of {', '.join(found)}")
    if library.lower() in map(str.lower, libraries()):
        raise UnknownDialectError(f"{name!r}: there is no optimizer {algorithm!r}, only {', '.join(optimizers())}")
    known = ", ".join(libraries())
    raise UnknownDialectError(f"{name!r}: write LIBRARY.OPTIMIZER, e.g. keras.Adam; the libraries are {known}")


def optimizers() -> list[str]:
    """Return the optimizers and schedulers that have formulas with axes."""
    return list(_read()["formulas"])


def formula(found: Dialect) -> str:
    """Return a dialect's formula, line by line; about what it does not have there is no line."""
    fragments = {axis.name: value.formula if (value := value_of(found, axis)) else "" for axis in of(found.optimizer)}
    lines = template(found.optimizer).format(**fragments).splitlines()
    return "\n".join(line for line in lines if line)


def template(algorithm: str) -> str:
    """Return the formula of an optimizer or a scheduler, with the axes' names where dialects part."""
    return _read()["formulas"][algorithm].strip()


def value_of(found: Dialect, axis: Axis) -> Value | None:
    """Return a dialect's value on an axis, None where it has no such question. Weight decay is the optimizer's own."""
    name = found.axes.get(axis.name)
    if name is None and axis.id == "any.decay" and (found.library == "torch" or "weight_decay" in found.defaults):
        name = decay(found.optimizer, {})
    return axis.value(name) if name else None


def decay(algorithm: str, options: Mapping[str, Any]) -> str:
    """Return how torch's optimizer decays weights."""
    apart = algorithm in ("AdamW", "Muon") or options.get("decoupled_weight_decay")
    return "decoupled" if apart else "l2"


def base(algorithm: str) -> dict[str, str]:
    """Return torch's values on the axes that are judged, but for weight decay, which options decide."""
    known = _read()["dialects"]["torch"].get(algorithm, {"axes": {}})["axes"]
    return {axis.name: known[axis.name] for axis in of(algorithm) if axis.judged and axis.name in known}
