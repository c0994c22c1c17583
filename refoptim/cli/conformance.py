"""``refoptim conformance``: every optimizer against its formula."""

import argparse
from pathlib import Path
from typing import Any

from refoptim.cli import jobs
from refoptim.cli.refusals import RefusedError, check_file, writing


def add(commands: Any) -> None:
    """Add the command."""
    conformance = commands.add_parser(
        "conformance",
        help="measure every optimizer against its formula in exact arithmetic",
        description="Measure every optimizer, option set, dtype and implementation against the documented formula in "
        "exact arithmetic, with torch's figures beside them where it is installed, and put wrong optimizers to the "
        "same exam. The exit code is 1 if a limit is exceeded or a wrong optimizer is not rejected.",
    )
    conformance.add_argument("--filter", default="", metavar="TEXT", help="only rows that contain this, e.g. AdamW")
    conformance.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured there too")
    conformance.add_argument(
        "--mutants",
        action="store_true",
        help="list what gave each wrong optimizer away, and judge some thousand more that are made automatically",
    )
    jobs.add(conformance)
    conformance.add_argument("--quiet", action="store_true", help="no progress bar")


def run(options: argparse.Namespace) -> int:
    """Run the suite and print the table."""
    from refoptim.conformance import report

    check_file("--json", options.json)
    if report.is_empty(options.filter):
        nothing = f"--filter {options.filter!r} matches nothing; try AdamW, float64 or StepLR"
        raise RefusedError("\n".join([nothing, *report.left_out()]))
    with jobs.each(options.jobs) as each:
        outcome = report.run(options.filter, quiet=options.quiet, with_automatic=options.mutants, each=each)
    print(report.text(outcome, with_mutants=options.mutants))
    if options.json is not None:
        with writing("--json", options.json):
            report.write_json(outcome, options.json)
    return 0 if outcome.passed else 1
