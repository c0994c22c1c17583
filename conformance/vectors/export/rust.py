"""The trajectories as a module of constants in Rust."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from refoptim.conformance.vectors.export.flat import Bits, Option, trajectories
from refoptim.conformance.vectors.vector import Vector

TEMPLATES = Path(__file__).parent / "templates"


def write(vectors: Sequence[Vector], folder: Path, _: Path | None) -> int:
    """Write ``refoptim_vectors.rs``."""
    found = trajectories(vectors)
    path = folder / "refoptim_vectors.rs"
    shutil.copy(TEMPLATES / path.name, path)
    with path.open("a", encoding="utf-8", newline="\n") as file:
        file.write("\n/// All of them.\npub static VECTORS: &[Trajectory] = &[\n")
        file.writelines(f"    {_literal(vector)},\n" for vector in found)
        file.write("];\n")
    return len(found)


def _literal(value: Any) -> str:
    if isinstance(value, tuple):
        kind = "Setting" if isinstance(value, Option) else type(value).__name__  # Rust has an Option of its own
        fields = zip(type(value)._fields, value, strict=True)  # pyright: ignore[reportAttributeAccessIssue]
        return f"{kind} {{ " + ", ".join(f"{name}: {_field(kind, name, part)}" for name, part in fields) + " }"
    if isinstance(value, list):
        return f"&[{', '.join(map(_literal, value))}]"
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:#018x}" if isinstance(value, Bits) else repr(value)


def _field(kind: str, name: str, value: Any) -> str:
    if (kind, name) in {("Setting", "text"), ("Expected", "classes")}:
        return "None" if value is None else f"Some({_literal(value)})"
    return _literal(value)
