"""``refoptim smoke``: a harness tried before its optimizers are judged."""

import argparse
import sys
from typing import Any

from refoptim.cli import check


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "smoke",
        usage="refoptim smoke --adapter NAME\n       refoptim smoke -- PROGRAM [its flags]",
        help="try a harness on three problems whose answers anybody can see",
        description="Three problems for SGD that tell a wrong harness from a wrong optimizer: bits survive, a learning "
        "rate of 0 moves nothing, and theta - 1 * theta is 0.",
    )
    check.add_implementation(parser)


def run(options: argparse.Namespace) -> int:
    """Ask and print what is wrong."""
    try:
        from refoptim.conformance.runner import smoke
        from refoptim.conformance.runner.check import SUITE
        from refoptim.conformance.runner.transport import MissingProgramError, ProtocolError
    except ModuleNotFoundError as error:
        return check.missing(error, "smoke")
    try:
        with check.connection(options)() as transport:
            found = smoke.smoke(transport, SUITE)
    except ProtocolError as error:
        print(f"refoptim smoke: {error}", file=sys.stderr)
        return 3
    except (MissingProgramError, ImportError, ValueError) as error:
        print(f"refoptim smoke: {error}", file=sys.stderr)
        return 2
    for name, wrong in found:
        print(f"{name:14} {wrong or 'ok'}")
    return 1 if any(wrong for _, wrong in found) else 0
