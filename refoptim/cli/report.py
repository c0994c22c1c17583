"""``refoptim report``: reports of runs, as a table or side by side on a page."""

import argparse
from pathlib import Path
from typing import Any

from refoptim.cli.refusals import RefusedError, check_file, writing


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
    from refoptim.conformance.reports import html, json_lines, markdown, table

    check_file("--html", options.html)
    check_file("--markdown", options.markdown)
    try:
        saved = [json_lines.load(file) for file in options.reports]
    except json_lines.ReportError as error:
        raise RefusedError(f"{error}") from error
    if options.html is not None:
        with writing("--html", options.html):
            html.write(saved, options.html)
    if options.markdown is not None:
        with writing("--markdown", options.markdown):
            markdown.write([one.report for one in saved], options.markdown)
    written = [str(file) for file in (options.html, options.markdown) if file is not None]
    print("\n".join(written) if written else "\n\n".join(table.text(one.report) for one in saved))
    return 0
