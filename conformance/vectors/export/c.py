"""The trajectories as static arrays in C, with a ``main`` that compares."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from refoptim.conformance.vectors.export.flat import Bits, trajectories
from refoptim.conformance.vectors.vector import Vector

TEMPLATES = Path(__file__).parent / "templates"

_HEAD = """\
/* Made by refoptim vectors export --lang c. What there is in it: refoptim.h. */
#ifndef REFOPTIM_VECTORS_H
#define REFOPTIM_VECTORS_H

#include "refoptim.h"

"""


def write(vectors: Sequence[Vector], folder: Path, _: Path | None) -> int:
    """Write ``refoptim.h``, ``refoptim_vectors.h`` and ``refoptim_main.c``."""
    found = trajectories(vectors)
    for name in ("refoptim.h", "refoptim_main.c"):
        shutil.copy(TEMPLATES / name, folder / name)
    with (folder / "refoptim_vectors.h").open("w", encoding="utf-8", newline="\n") as file:
        file.write(f"{_HEAD}static const refoptim_vector refoptim_vectors[{len(found)}] = {{\n")
        file.writelines(f"{_literal(vector)},\n" for vector in found)
        file.write("};\n\n#endif\n")
    return len(found)


def _literal(value: Any) -> str:
    if isinstance(value, tuple):
        return "{" + ", ".join(map(_literal, value)) + "}"
    if isinstance(value, list):
        values = ", ".join(map(_literal, value))
        return f"{len(value)}, (const {_type(value[0])}[]){{{values}}}" if value else "0, NULL"
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, bool):
        return str(int(value))
    return "NULL" if value is None else f"{value:#018x}u" if isinstance(value, Bits) else repr(value)


def _type(value: Any) -> str:
    if isinstance(value, int):
        return "uint64_t" if isinstance(value, Bits) else "size_t"
    return f"refoptim_{type(value).__name__.lower()}"
