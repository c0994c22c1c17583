"""``refoptim table``: put every implementation that is installed to the vectors, and say who conforms."""

import argparse
import sys
from pathlib import Path
from typing import Any

from refoptim.cli.refusals import RefusedError, check_file, writing
from refoptim.conformance.runner.options import FILTER


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "table",
        help="say who conforms: torch, optax, Keras and others, each put to the vectors",
        description="Put implementations to all vectors, and write a page that says who conforms, at which grade, and "
        "where not, in which dialect. The exit code is 2 if it could not be done, and 0 otherwise: that others differ "
        "is no failure.",
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="of adapters, or harness.c and harness.js; default: what is installed"
    )
    parser.add_argument("--filter", default="", metavar="TEXT", help=FILTER)
    parser.add_argument("--output", type=Path, metavar="FILE", help="where the page goes; default: to the terminal")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(options: argparse.Namespace) -> int:
    """Write the page."""
    from refoptim.conformance.adapters import MissingLibraryError, UnknownAdapterError, page, table
    from refoptim.conformance.vectors.store import StoreError, load
    from refoptim.conformance.vectors.vector import SUITE

    check_file("--output", options.output)
    try:
        vectors = load(pattern=options.filter)
        if not vectors:
            raise RefusedError(f"--filter {options.filter!r} matches no vector")
        found = []
        for name in options.names or table.names():
            try:
                found.append(table.judge(name, vectors, quiet=options.quiet))
            except MissingLibraryError as error:
                if options.names:
                    raise
                print(f"left out: {error}", file=sys.stderr)
    except (StoreError, UnknownAdapterError, MissingLibraryError) as error:
        raise RefusedError(f"{error}") from error
    written = page.text(found, SUITE)
    if options.output is None:
        print(written, end="")
        return 0
    try:
        with writing("--output", options.output):
            options.output.write_text(written, encoding="utf-8")
    except RefusedError:
        print(written, end="")  # it took minutes
        raise
    return 0
