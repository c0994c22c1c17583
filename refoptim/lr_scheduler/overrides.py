"""What a user's class overrides is what runs."""

from typing import Any


def overridden(kind: Any, name: str) -> bool:
    """Return whether a class has a method from a class that is not one of ours, which a mixin may be too."""
    owner = next((base for base in kind.__mro__ if name in vars(base)), None)
    return owner is not None and not owner.__module__.startswith(f"{__package__}.")
