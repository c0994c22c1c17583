"""Dialects: what other libraries compute under an optimizer's name."""

from typing import Any


def check_dialect(dialect: Any, *libraries: str) -> None:
    """Raise unless a dialect is None, torch's or one of these libraries'."""
    known = ("torch", *libraries)
    if dialect is not None and not (isinstance(dialect, str) and dialect in known):
        names = ", ".join(map(repr, known[:-1]))
        raise ValueError(f"Invalid dialect: {dialect!r}; use None (torch's), {names} or {known[-1]!r}")
