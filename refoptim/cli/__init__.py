"""The command line: a file per command, each with ``add`` for its arguments and ``run`` for what it does."""

import argparse
import errno
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module

from refoptim.cli.refusals import RefusedError, missing

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
    """Run a command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="refoptim",
        description="torch.optim without torch, and the proof.",
        epilog="Exit codes: 0 all is well, 1 something failed that was judged, 2 it could not be done, 130 Ctrl-C, "
        "141 nobody reads the output any more. refoptim check has others too: see its --help.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    files = {name.replace("_", "-"): import_module(f"refoptim.cli.{name}") for name in COMMANDS}
    for file in files.values():
        file.add(commands)
    options = parser.parse_args(arguments)
    try:
        code = files[options.command].run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # such as of head, which has seen enough
        _say_no_more()
        return 141
    except Exception as error:  # noqa: BLE001  the exit code 1 is for what was judged
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            _say_no_more()
        why = _why(error)
        print(f"refoptim {options.command}{why}" if why else traceback.format_exc().rstrip(), file=sys.stderr)
        return 2
    return code


def _why(error: Exception) -> str | None:
    """Return in a line why a command could not be run, nothing where that takes a traceback."""
    if isinstance(error, RefusedError):
        return f": {error}"
    if isinstance(error, ModuleNotFoundError) and (needed := missing(error)):
        return f" {needed}"
    if isinstance(error, OSError) and error.filename is not None:
        return f": {error.filename}: {error.strerror}"
    # Of the files a command writes the names are known: what has none is the output.
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f": standard output: {error.strerror}"
    return None


def _say_no_more() -> None:
    """Let Python end without writing what nobody can have: it would complain, with an exit code of its own."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
