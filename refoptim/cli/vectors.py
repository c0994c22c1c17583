"""``refoptim vectors``: list, make, check and export the vectors."""

import argparse
import sys
from pathlib import Path
from typing import Any

from refoptim.cli import jobs
from refoptim.cli.refusals import RefusedError, writing
from refoptim.conformance.runner.options import FILTER


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "vectors",
        help="list, make, check and export the conformance vectors",
        description="The conformance vectors: problems for optimizers and schedulers with their exact answers. Exit "
        "codes: 0 all is well, 1 the vectors are not what they should be, 2 it could not be done.",
    )
    actions = parser.add_subparsers(dest="action", required=True)
    listed = actions.add_parser("list", help="print the ids, a line each")
    listed.add_argument("--filter", default="", metavar="TEXT", help=FILTER)
    listed.add_argument("--dtype", default="", choices=("", "f32", "f64", "c64", "c128"), help="only of this dtype")
    shown = actions.add_parser("show", help="print one vector as JSON, what is expected included")
    shown.add_argument("id", help="its id, as list prints it")
    generated = actions.add_parser("generate", help="compute all of them again, in ball arithmetic")
    generated.add_argument(
        "--check", action="store_true", help="change nothing: fail if a file would come out otherwise"
    )
    jobs.add(generated)
    generated.add_argument("--quiet", action="store_true", help="no progress bar")
    verified = actions.add_parser("verify", help="check files against their schemas, hashes and index")
    exported = actions.add_parser("export", help="write them for another language")
    exported.add_argument("--lang", required=True, choices=("c", "rust", "npz", "json"), help="what to write")
    exported.add_argument("--filter", default="", metavar="TEXT", help=FILTER)
    exported.add_argument("folder", type=Path, metavar="DIR", help="a new or empty folder")
    for action in (listed, shown, generated, verified, exported):
        action.add_argument("--vectors", type=Path, metavar="DIR", help="instead of those that come with the package")


def run(options: argparse.Namespace) -> int:
    """Do what was asked for."""
    from refoptim.conformance.vectors.store import MissingVectorsError, StoreError

    try:
        return _ACTIONS[options.action](options)
    except StoreError as error:
        if options.vectors and isinstance(error, MissingVectorsError):
            raise RefusedError(f"--vectors {error}") from error
        print(f"refoptim vectors: {error}", file=sys.stderr)
        return 1


def _list(options: argparse.Namespace) -> int:
    from refoptim.conformance.vectors.store import load

    found = load(options.vectors, options.filter, dtype=options.dtype)
    if not found:
        raise RefusedError(f"--filter {options.filter!r} matches none")
    for vector in found:
        print(vector.id)
    return 0


def _show(options: argparse.Namespace) -> int:
    import json

    from refoptim.conformance.vectors.store import load

    found = [vector for vector in load(options.vectors) if vector.id == options.id]
    if not found:
        raise RefusedError(f"there is no vector {options.id!r}: refoptim vectors list prints all")
    print(json.dumps(found[0]._asdict(), indent=1))
    return 0


def _generate(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from refoptim.conformance.vectors import generate, store

    folder: Path = options.vectors or store.PACKAGED
    total = len(generate.makers()) + 1
    with jobs.each(options.jobs) as each:
        made = generate.generate(each)
        files = dict(tqdm(made, "vectors", total, unit="file", disable=options.quiet, leave=False))
    if not options.check:
        with writing("--vectors", folder):
            generate.write(folder, files)
        print(f"{folder}: {store.verify(folder)} vectors in {len(files) - 1} files")
        return 0
    there = {path.name for path in folder.glob("*.json")}
    other = [name for name, text in files.items() if name not in there or (folder / name).read_text("utf-8") != text]
    for name in sorted({*other, *(there - set(files))}):
        print(f"{folder / name} is not what the formulas give today", file=sys.stderr)
    return 1 if other or there - set(files) else 0


def _verify(options: argparse.Namespace) -> int:
    from refoptim.conformance.vectors.store import PACKAGED, verify

    folder = options.vectors or PACKAGED
    print(f"{folder}: {verify(folder)} vectors, all as they were made")
    return 0


def _export(options: argparse.Namespace) -> int:
    from refoptim.conformance.vectors.export import export
    from refoptim.conformance.vectors.store import load

    found = load(options.vectors, options.filter)
    if not found:
        raise RefusedError(f"--filter {options.filter!r} matches none")
    try:
        with writing("DIR", options.folder):
            count = export(options.lang, found, options.folder, options.vectors)
    except ValueError as error:
        raise RefusedError(f"{error}") from error
    left = len(found) - count
    rest = f"; {left} more are schedules and traces: those are for npz and json" if left else ""
    print(f"{options.folder}: {count} vectors{rest}")
    return 0


_ACTIONS = {"list": _list, "show": _show, "generate": _generate, "verify": _verify, "export": _export}
