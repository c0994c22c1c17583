"""The command line: a file per command, each with ``add`` for its arguments and ``run`` for what it does."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

# By the command's name, with underscores. Their files import what is heavy or optional when they run.
COMMANDS = (
    "check",
    "compile",
    "conformance",
    "explain",
    "mutants",
    "plot_schedule",
    "report",
    "smoke",
    "table",
    "vectors",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 all is well, 1 something failed, 2 it could not be run, 130 Ctrl-C."""
    parser = argparse.ArgumentParser(prog="refoptim", description="torch.optim without torch, and the proof.")
    commands = parser.add_subparsers(dest="command", required=True)
    files = {name.replace("_", "-"): import_module(f"refoptim.cli.{name}") for name in COMMANDS}
    for file in files.values():
        file.add(commands)
    options = parser.parse_args(arguments)
    try:
        return files[options.command].run(options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
