"""``refoptim report``: reports of runs, as a table or side by side on a page."""

import argparse
import sys
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "report",
        help="show reports of refoptim check, or put several on one page",
        description="Show the reports that refoptim check --json wrote: as tables, or all of them on one page that "
        "needs no other file. The exit code is 2 if one cannot be read, is damaged or was cut off.",
    )
    parser.add_argument("reports", nargs="+", type=Path, metavar="FILE", help="what refoptim check --json wrote")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the page of all reports there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write all reports there, below each other")


def run(options: argparse.Namespace) -> int:
    """Read the reports, and print or write them."""
    try:
        from refoptim.conformance.reports import html, json_lines, markdown, table
    except ModuleNotFoundError as error:
        if error.name not in ("jinja2", "jsonschema"):
            raise
        print(f"refoptim report needs {error.name}: pip install 'refoptim[conformance]'", file=sys.stderr)
        return 2
    try:
        saved = [json_lines.load(file) for file in options.reports]
        if options.html is not None:
            html.write(saved, options.html)
        if options.markdown is not None:
            markdown.write([one.report for one in saved], options.markdown)
    except json_lines.ReportError as error:
        print(f"refoptim report: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"refoptim report: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    written = [str(file) for file in (options.html, options.markdown) if file is not None]
    print("\n".join(written) if written else "\n\n".join(table.text(one.report) for one in saved))
    return 0
