"""Explanations: what two dialects compute, where they part, and how to go from one to the other."""

from collections.abc import Iterator
from textwrap import indent, wrap
from typing import Any

import refoptim
from refoptim.conformance.dialects import axes
from refoptim.conformance.dialects.axes import Axis, Dialect, Value
from refoptim.conformance.vectors.options import documented

WIDTH = 100


def explain(one: str, other: str | None = None) -> str:
    """Return what a dialect computes, or how two differ: formulas, axes with sources, defaults, recipe.

    Args:
        one: e.g. ``keras.Adam``; case does not matter.
        other: another dialect of the same optimizer, or of a relative: ``torch.AdamW``.

    Raises:
        UnknownDialectError: there is no such dialect, and the message says what there is, or they are of two
            optimizers that have no formula in common.

    """
    first = axes.dialect(one)
    if other is None:
        return "\n".join(_dialect(first))
    second = axes.dialect(other)
    if axes.template(first.optimizer) != axes.template(second.optimizer):
        raise axes.UnknownDialectError(f"{first} and {second} are two optimizers, not two dialects of one")
    return "\n".join(_both(first, second))


def _dialect(dialect: Dialect) -> Iterator[str]:
    yield from _formula(dialect)
    yield ""
    for axis in axes.of(dialect.optimizer):
        if axis.name != "defaults" and (value := axes.value_of(dialect, axis)):
            yield f"{axis.title} ({axis.name}:{value.name}): {dialect.library} {value.words}"
    if defaults := defaults_of(dialect):
        yield ""
        yield "defaults: " + ", ".join(f"{name}={text(value)}" for name, value in defaults.items())


def _formula(dialect: Dialect) -> Iterator[str]:
    yield f"{dialect}: {dialect.title}"
    yield indent(axes.formula(dialect), "    ")


def _both(one: Dialect, other: Dialect) -> Iterator[str]:
    yield from _formula(one)
    yield ""
    yield from _formula(other)
    parts = list(differences(one, other))
    for axis, left, right in parts:
        yield ""
        yield from wrap(f"{axis.title}: {one} {left.words}; {other} {right.words}", WIDTH)
        for dialect, value in ((one, left), (other, right)):
            yield f"    {dialect}: {value.formula}"
            yield from (f"        {line}" for line in sources(value, dialect.library))
        yield from wrap(f"to convert: {axis.recipe}", WIDTH, initial_indent="    ", subsequent_indent="    ")
    yield ""
    if not parts:
        yield f"{one} and {other} compute the same."
    yield from _defaults(one, other)


def differences(one: Dialect, other: Dialect) -> Iterator[tuple[Axis, Value, Value]]:
    """Yield the axes on which two dialects part, but for their defaults, and both values."""
    theirs = {axis.name: axis for axis in axes.of(other.optimizer)}
    for axis in axes.of(one.optimizer):
        if axis.name not in theirs or axis.name == "defaults":
            continue
        left, right = axes.value_of(one, axis), axes.value_of(other, theirs[axis.name])
        if left and right and left.name != right.name:
            yield axis, left, right


def sources(value: Value, library: str) -> Iterator[str]:
    """Yield where to read that a library computes a value."""
    for found in value.libraries:
        if found.name == library:
            when = f" (since {found.since})" if found.since else f" (until {found.until})" if found.until else ""
            yield f"{found.source}{when}{' ' if found.link else ''}{found.link}"


def _defaults(one: Dialect, other: Dialect) -> Iterator[str]:
    left, right = defaults_of(one), defaults_of(other)
    different = [name for name in left if name in right and left[name] != right[name]]
    if different:
        yield "defaults that differ:"
    for name in different:
        yield f"    {name}: {text(left[name])} in {one}, {text(right[name])} in {other}"
    names = [f"{one.library} calls {name} {own}" for name, own in one.names.items() if name in left]
    names += [f"{other.library} calls {name} {own}" for name, own in other.names.items() if name in right]
    if names:
        yield f"names: {'; '.join(names)}"


def defaults_of(dialect: Dialect) -> dict[str, Any]:
    """Return a dialect's defaults, under torch's names; torch's are refoptim's."""
    if dialect.library != "torch":
        return dict(dialect.defaults)
    if not hasattr(refoptim, dialect.optimizer):
        return {}
    return documented(dialect.optimizer)


def text(value: Any) -> str:
    """Return a default as a reader would write it."""
    if isinstance(value, tuple):
        return f"({', '.join(map(text, value))})"
    return f"{value:g}" if isinstance(value, float) else str(value)
