"""``refoptim explain``: what two libraries' optimizers of one name compute, and where they part."""

import argparse
from pathlib import Path
from typing import Any

from refoptim.cli.refusals import RefusedError, check_file, writing


def add(commands: Any) -> None:
    """Add the command."""
    explain = commands.add_parser(
        "explain",
        help="say how two libraries' optimizers differ, and how to convert hyperparameters",
        description="Print what an optimizer of a library computes or, of two, both formulas, where they part, with "
        "sources, the defaults that differ, and how to convert hyperparameters. The exit code is 2 if there is no such "
        "dialect.",
    )
    explain.add_argument(
        "dialects", nargs="*", metavar="LIBRARY.OPTIMIZER", help="one or two, e.g. keras.Adam torch.Adam"
    )
    explain.add_argument(
        "--page", type=Path, metavar="FILE", help="write the documentation's page of all dialects there"
    )


def run(options: argparse.Namespace) -> int:
    """Print the explanation, or write the page."""
    from refoptim.conformance.dialects import axes, explain, page

    if options.page is not None:
        if options.dialects:
            raise RefusedError("--page takes no dialects: it has all of them")
        check_file("--page", options.page)
        with writing("--page", options.page):
            options.page.write_text(page.text(), encoding="utf-8")
        return 0
    if len(options.dialects) not in (1, 2):
        got = len(options.dialects)
        raise RefusedError(f"one or two dialects, e.g. keras.Adam torch.Adam; got {got}\n{_known(axes)}")
    try:
        print(explain.explain(*options.dialects))
    except axes.UnknownDialectError as error:
        raise RefusedError(f"{error}") from error
    return 0


def _known(axes: Any) -> str:
    lines = (f"  {name}: {', '.join(map(str, axes.named(name)))}" for name in axes.optimizers())
    return "\n".join(["there are:", *lines])
