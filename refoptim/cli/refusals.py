"""What a command cannot do: said in a line, before it has done anything else, and the exit code is 2."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# The extra that brings a library, by the module that is missing without it.
_EXTRAS = dict.fromkeys(("flint", "jinja2", "jsonschema", "ml_dtypes", "tqdm"), "conformance") | {"matplotlib": "plot"}


class RefusedError(Exception):
    """A command cannot do what was asked for; the message says why."""


def missing(error: ModuleNotFoundError) -> str | None:
    """Return which library a command needs, and what to install, if it is one of an extra."""
    extra = _EXTRAS.get(error.name or "")
    return extra and f"needs {error.name}: pip install 'refoptim[{extra}]'"


def check_file(option: str, file: Path | None) -> None:
    """Make sure that a file can be written, if one is asked for.

    Raises:
        RefusedError: there is no folder for it, it is a folder itself, or it is not ours to write.

    """
    if file is None:
        return
    if not file.parent.is_dir():
        raise RefusedError(f"{option} {file}: there is no folder {file.parent}")
    if file.is_dir():
        raise RefusedError(f"{option} {file}: it is a folder; give the name of a file")
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise RefusedError(f"{option} {file}: there is no permission to write it")


@contextmanager
def writing(option: str, file: Path) -> Iterator[None]:
    """Name the file where it cannot be written after all, as on a disk that is full.

    Raises:
        RefusedError: it cannot.

    """
    try:
        yield
    except OSError as error:
        raise RefusedError(f"{option} {file}: {error.strerror or error}") from error
