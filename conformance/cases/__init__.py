"""The cases, as data: a file per algorithm, with option sets, what they mean, and mutants that must be rejected."""

from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType


def stems() -> dict[str, ModuleType]:
    """Return the case modules by the stem they share with the algorithm's other files."""
    return {found.name: import_module(f"{__name__}.{found.name}") for found in iter_modules(__path__)}
