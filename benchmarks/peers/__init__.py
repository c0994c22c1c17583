"""Who takes part in the comparison: a file for each library, with ``threads()`` and ``contenders()``.

``contenders(algorithm, values, grads)`` gives functions by name, each of which builds a :class:`Contender` with copies
of these values and gradients, one parameter for each row. A library that is not installed is known all the same.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, NamedTuple

from refoptim.buffers import Array


class Contender(NamedTuple):
    """An optimizer with its parameters."""

    step: Callable[[], Any]  # returns when the step is done
    look: Callable[[int, Array], Array]  # a tensor's elements at these places


class Library(NamedTuple):
    """What must be installed, and how."""

    name: str  # as pip knows it
    module: str  # as Python knows it
    extra: str | None = None


# In this order they are built: JAX's threads inherit the cores of the thread that starts them, and OpenMP binds that
# thread to one core. Who comes later would get a single core for all of its threads.
LIBRARIES = {
    "optax": Library("optax", "optax", "bench"),
    "refoptim": Library("refoptim", "refoptim"),
    "torch": Library("torch", "torch", "torch"),
    "thinc": Library("thinc", "thinc", "bench"),
    "sklearn": Library("scikit-learn", "sklearn", "bench"),
    "numpy": Library("numpy", "numpy"),
}


def is_installed(peer: str) -> bool:
    """Return whether a peer's library can be imported."""
    try:
        return find_spec(LIBRARIES[peer].module) is not None
    except ValueError:  # None stands in sys.modules
        return False


def how_to_install(peer: str) -> str:
    """Return what to type for a library that is not there."""
    return f"pip install 'refoptim[{LIBRARIES[peer].extra}]'"


def load(peer: str) -> ModuleType:
    """Return the file of a peer, whose library is installed."""
    return import_module(f"peers.{peer}")
