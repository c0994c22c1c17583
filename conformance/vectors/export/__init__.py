"""Exports of the vectors for languages that would rather not read JSON."""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from refoptim.conformance.vectors.vector import Vector

Write = Callable[[Sequence[Vector], Path, Path | None], int]

# By language, the file that has ``write(vectors, folder, source)``, which returns how many vectors it wrote.
LANGUAGES = {"c": "c", "rust": "rust", "npz": "npz", "json": "plain"}


def export(lang: str, vectors: Sequence[Vector], folder: Path, source: Path | None = None) -> int:
    """Write vectors into a new folder, all of them or nothing, and return how many there are in it.

    Args:
        lang: ``"c"`` (a header and a ``main`` that compares) or ``"rust"`` (a module of constants), both with
            trajectories only; ``"npz"`` (NumPy's arrays) or ``"json"`` (the files as they are, with these vectors).
        vectors: what to write, as ``store.load`` returns it.
        folder: where to; it must be new or empty.
        source: where the vectors came from; default: the package.

    Raises:
        ValueError: the language is another, nothing is to be written, or the language cannot say any of it.
        FileExistsError: there is something in the folder, or it is a file.
        OSError: the folder cannot be written to.

    """
    if lang not in LANGUAGES:
        raise ValueError(f"lang is {lang!r}, expected one of {', '.join(LANGUAGES)}")
    if not vectors:
        raise ValueError("there are no vectors to write")
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise FileExistsError(f"{folder} is not a folder")
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty: nothing is overwritten")
    folder.parent.mkdir(parents=True, exist_ok=True)
    write: Write = import_module(f"{__name__}.{LANGUAGES[lang]}").write
    # Written beside it and moved there in the end: an interrupted export leaves no half of it.
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        count = write(vectors, part, source)
        part.chmod(0o755)
        if folder.exists():
            folder.rmdir()
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return count
