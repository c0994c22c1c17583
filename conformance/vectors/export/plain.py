"""The vectors as they are, in JSON: files of the same names, with some of the vectors, and an index of their own."""

import json
from collections.abc import Sequence
from pathlib import Path

from refoptim.conformance.vectors import generate, store
from refoptim.conformance.vectors.vector import Vector


def write(vectors: Sequence[Vector], folder: Path, source: Path | None) -> int:
    """Write the files."""
    chosen = {vector.id for vector in vectors}
    files: dict[str, str] = {}
    for path in sorted((source or store.PACKAGED).glob("*.*.json")):
        file = json.loads(path.read_text(encoding="utf-8"))
        entries = [entry for entry in file["vectors"] if entry["id"] in chosen]
        flags = {flag for entry in entries for flag in entry["flags"]}
        described = {name: text for name, text in file["flags"].items() if name in flags}
        if entries:
            files[path.name] = generate.text(file | {"flags": described, "vectors": entries})
    generate.write(folder, files | {"index.json": generate.index(files)})
    return store.verify(folder)
