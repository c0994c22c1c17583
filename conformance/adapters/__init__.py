"""Adapters: libraries behind the runner's interface, as they come. What they compute otherwise, the suite must find."""

import sys
from importlib import import_module
from types import ModuleType

from refoptim.conformance.runner.adapter import Adapter

# By name, the module and what to call in it.
NAMES: dict[str, str] = {
    "refoptim": "refoptim.conformance.adapters.refoptim:Refoptim",
    "refoptim-foreach": "refoptim.conformance.adapters.refoptim:foreach",
    "refoptim-for-loop": "refoptim.conformance.adapters.refoptim:for_loop",
    "refoptim-float64": "refoptim.conformance.adapters.refoptim:float64",
    "torch": "refoptim.conformance.adapters.torch:Torch",
    "torch-foreach": "refoptim.conformance.adapters.torch:foreach",
    "torch-fused": "refoptim.conformance.adapters.torch:fused",
    "optax": "refoptim.conformance.adapters.optax:Optax",
    "keras": "refoptim.conformance.adapters.keras:Keras",
    "tinygrad": "refoptim.conformance.adapters.tinygrad:Tinygrad",
    "sklearn": "refoptim.conformance.adapters.sklearn:Sklearn",
    "scipy": "refoptim.conformance.adapters.scipy:Scipy",
}

# What to install, by the module that is missing, where the names differ.
_PACKAGES = {"jax": "'jax[cpu]'", "sklearn": "scikit-learn"}


class UnknownAdapterError(ValueError):
    """There is no adapter of this name, or what has it is none."""


class MissingLibraryError(ImportError):
    """An adapter's library is not installed."""


def make(name: str) -> Adapter:
    """Return the adapter of this name.

    Args:
        name: one of ``NAMES``, or ``"package.module:Class"`` for an adapter of one's own.

    Raises:
        UnknownAdapterError: there is none.
        MissingLibraryError: its library is not installed; the message says what to install.

    """
    module, _, attribute = NAMES.get(name, name).partition(":")
    if not module or not attribute:
        raise UnknownAdapterError(
            f"there is no adapter {name!r}: there are {', '.join(NAMES)}, or write package.module:Class for your own"
        )
    try:
        found = getattr(_imported(module), attribute, None)
    except (Exception, SystemExit) as error:
        missing = (error.name or "") if isinstance(error, ModuleNotFoundError) else ""
        if name in NAMES and missing and not missing.startswith("refoptim"):
            missing = missing.partition(".")[0]
            package = _PACKAGES.get(missing, missing)
            raise MissingLibraryError(f"the adapter {name!r} needs {missing}: pip install {package}") from error
        if missing and f"{module}.".startswith(f"{missing}."):
            raise UnknownAdapterError(f"{name!r}: there is no module {missing!r}") from error
        raise UnknownAdapterError(f"{name!r}: the module {module!r} cannot be imported: {_told(error)}") from error
    if found is None:
        raise UnknownAdapterError(f"{name!r}: the module {module!r} has no {attribute!r}")
    try:
        adapter = found()
        is_adapter = hasattr(adapter, "info")
    except (Exception, SystemExit) as error:
        raise UnknownAdapterError(f"{name!r} cannot be made: {_told(error)}") from error
    if not is_adapter:
        raise UnknownAdapterError(f"{name!r} is no adapter: it has no info, which says who answers")
    return adapter


def _told(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _imported(module: str) -> ModuleType:
    sys.path.insert(0, "")  # where an adapter of one's own is, most likely
    try:
        return import_module(module)
    finally:
        sys.path.remove("")
