"""Ctrl-C waits until what must not be left half done is whole: a step of several parts, an import, a compilation.

Numba that was interrupted while it was imported or compiled for the first time raises its own errors ever after.
"""

from collections.abc import Callable
from functools import partial, wraps
from importlib import import_module
from signal import SIGINT
from typing import Any

# The module signal makes enums of numbers, which takes ten times as long.
_signal: Any = import_module("_signal")


class Uninterrupted:
    """A context in which Ctrl-C waits for the end. One may be inside another."""

    __slots__ = ("_asked", "_before")

    def __enter__(self) -> None:
        self._asked: tuple[Any, ...] | None = None
        before = _signal.getsignal(SIGINT)
        self._before = before if callable(before) and _set_handler(self._ask) else None

    def _ask(self, *arguments: Any) -> None:
        self._asked = arguments

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            _signal.signal(SIGINT, self._before)
            if self._asked is not None:
                self._before(*self._asked)


def _set_handler(handler: Callable[..., Any]) -> bool:
    """Return whether this is the thread that handles signals, which then handles Ctrl-C in this way."""
    try:
        _signal.signal(SIGINT, handler)
    except ValueError:
        return False
    return True


class Pause(Uninterrupted):
    """Lets Ctrl-C wait while something is undone. It is made before there is anything to undo.

    ``pause.begin()`` runs no Python code, so that Ctrl-C waits before anything else happens after an exception was
    caught: ``with pause.begun(pause.begin()): ...``.
    """

    __slots__ = ("begin",)

    def __init__(self) -> None:
        self._asked = None
        before = _signal.getsignal(SIGINT)
        handles = callable(before) and _set_handler(before)
        self.begin: Callable[[], Any] = partial(_signal.signal, SIGINT, self._ask) if handles else lambda: None

    def begun(self, before: Any) -> "Pause":
        """Return the context, given who handled Ctrl-C before: they hear of it in the end."""
        self._before = before
        return self

    def __enter__(self) -> None:
        pass


def whole(call: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that is not interrupted."""

    @wraps(call)
    def done(*arguments: Any, **options: Any) -> Any:
        with Uninterrupted():
            return call(*arguments, **options)

    return done


# Import a module, and return it.
imported = whole(import_module)
