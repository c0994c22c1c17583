"""The generator: every vector there is, computed from the formulas, as files that come out the same every time."""

import json
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from refoptim.conformance.suite import Each
from refoptim.conformance.vectors import boundary, flags, invalid, recipes, schedules, special, traces
from refoptim.conformance.vectors.entry import trajectory_entry
from refoptim.conformance.vectors.vector import FORMAT, SUITE

# What documentation a formula follows, where documentations of torch differ.
_FORMULAS = {"Adam": "torch/2.6+/Adam", "AdamW": "torch/2.6+/AdamW"}

File = dict[str, Any]


def trajectories(optimizer: str) -> File:
    """Return the file of an optimizer's trajectories."""
    module, own = recipes.optimizers()[optimizer]
    entries = list(entries_of(optimizer))
    if getattr(module, "ELEMENTWISE", True) and optimizer != "SparseAdam":
        entries += special.entries(module, recipes.named(own))
    entries += invalid.entries(optimizer)
    return whole_file("trajectory", optimizer, _FORMULAS.get(optimizer, f"torch/2.13/{optimizer}"), entries)


def entries_of(optimizer: str, every: int = 1) -> Iterator[dict[str, Any]]:
    """Yield the entries of an optimizer that recipes describe; or of every so many recipes one."""
    module, _ = recipes.optimizers()[optimizer]
    made = (*recipes.of(optimizer), *boundary.recipes(optimizer), *recipes.separating(optimizer))
    return (trajectory_entry(recipe, module) for recipe in made[::every])


def whole_file(kind: str, algorithm: str, formula: str, entries: list[dict[str, Any]]) -> File:
    """Return a file of vectors."""
    return {
        "format": FORMAT,
        "schema": f"{kind}_v{FORMAT}.json",
        "suite": SUITE,
        "algorithm": algorithm,
        "formula": formula,
        "oracle": {"by": "python-flint arb", "bits": 400},
        "flags": flags.described({flag for entry in entries for flag in entry["flags"]}),
        "vectors": entries,
    }


def makers() -> dict[str, Callable[[], File]]:
    """Return what makes each file, by the file's name."""
    found: dict[str, Callable[[], File]] = {}
    for optimizer in recipes.optimizers():
        found[f"{optimizer.lower()}.trajectory.json"] = lambda name=optimizer: trajectories(name)
    for scheduler in schedules.names():
        found[f"{scheduler.lower()}.schedule.json"] = lambda name=scheduler: whole_file(
            "schedule", name, f"torch/2.13/{name}", list(schedules.entries(name))
        )
    found["lbfgs.trace.json"] = lambda: whole_file("trace", "LBFGS", "torch/2.13/LBFGS", list(traces.entries()))
    return found


def text(file: File) -> str:
    """Return a file as it is written: a vector to a line."""
    head = json.dumps({name: value for name, value in file.items() if name != "vectors"}, indent=1)
    lines = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in file["vectors"])
    return f'{head[:-2]},\n "vectors": [\n{lines}\n]}}\n'


def index(files: dict[str, str]) -> str:
    """Return the index of files, given by name as they are written."""
    vectors = {entry["id"]: entry["sha256"] for name in sorted(files) for entry in json.loads(files[name])["vectors"]}
    hashes = {name: sha256(files[name].encode()).hexdigest() for name in sorted(files)}
    return json.dumps({"format": FORMAT, "suite": SUITE, "files": hashes, "vectors": vectors}, indent=1) + "\n"


def generate(each: Each = map) -> Iterator[tuple[str, str]]:
    """Yield every file's name and text, and the index in the end."""
    files: dict[str, str] = {}
    names = list(makers())
    for name, content in zip(names, each(content_of, names), strict=True):
        files[name] = content
        yield name, content
    yield "index.json", index(files)


def content_of(name: str) -> str:
    """Return the text of a file."""
    return text(makers()[name]())


def write(folder: Path, files: dict[str, str]) -> None:
    """Write files into a folder, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        part = folder / f".{name}.part"
        part.write_text(content, encoding="utf-8", newline="\n")
        part.replace(folder / name)
