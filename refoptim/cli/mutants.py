"""``refoptim mutants``: wrong optimizers, put to the vectors."""

import argparse
import json
from pathlib import Path
from typing import Any

from refoptim.cli import jobs
from refoptim.cli.refusals import RefusedError, check_file, writing


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "mutants",
        help="put thousands of wrong optimizers to the vectors",
        description="Put wrong optimizers to the vectors: formulas with one expression changed, by hand and "
        "automatically, wrong bookkeeping, and weak numbers. The exit code is 1 if too few are rejected, or one that "
        "is not has no verdict.",
    )
    parser.add_argument("--filter", default="", metavar="TEXT", help="only algorithms of this stem, e.g. adam")
    parser.add_argument("--by-hand", action="store_true", help="only those written by hand, which takes seconds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what became of each there too")
    jobs.add(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(options: argparse.Namespace) -> int:
    """Put them to the vectors and print the score."""
    from refoptim.conformance.vectors import mutation

    check_file("--json", options.json)
    stems = [stem for stem in mutation.stems() if options.filter in stem]
    if not stems:
        raise RefusedError(f"--filter {options.filter!r} matches nothing; try adam or sgd")
    with jobs.each(options.jobs) as each:
        score = mutation.score(stems, automatic=not options.by_hand, quiet=options.quiet, each=each)
    for line in lines(score, mutation.KINDS):
        print(line)
    if options.json is not None:
        with writing("--json", options.json):
            options.json.write_text(json.dumps(score._asdict(), indent=1) + "\n", encoding="utf-8")
    return 0 if score.passed else 1


def lines(score: Any, kinds: tuple[str, ...]) -> list[str]:
    """Return the score in words."""
    found = []
    for kind in kinds:
        rejected, total = len(score.rejected[kind]), len(score.rejected[kind]) + len(score.survivors[kind])
        found.append(f"{kind:10} {rejected:6,} of {total:6,} rejected  {100 * score.share(kind):7.2f} %")
    found.append(f"{'all':10} {100 * score.share():34.2f} %")
    for survivors in score.survivors.values():
        found += [f"  survived  {name}  [{verdict}]" for name, verdict in survivors.items() if verdict]
    found += [f"  SURVIVED  {name}  [no verdict]" for name in score.unexplained]
    return found + [f"  STALE     {name}  [has a verdict, and does not survive]" for name in score.stale]
