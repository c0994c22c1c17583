"""``refoptim smoke``: a harness tried before its optimizers are judged."""

import argparse
import sys
from typing import Any

from refoptim.cli import check
from refoptim.cli.refusals import RefusedError


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "smoke",
        usage="refoptim smoke --adapter NAME\n       refoptim smoke -- PROGRAM [its flags]",
        help="try a harness on three problems whose answers anybody can see",
        description="Three problems for SGD that tell a wrong harness from a wrong optimizer: bits survive, a learning "
        "rate of 0 moves nothing, and theta - 1 * theta is 0. Exit codes: 0 all three are right, 1 one is wrong, 2 it "
        "could not be asked, 3 it does not say who it is.",
    )
    check.add_implementation(parser)


def run(options: argparse.Namespace) -> int:
    """Ask and print what is wrong."""
    from refoptim.conformance.runner import smoke
    from refoptim.conformance.runner.transport import MissingProgramError, ProtocolError
    from refoptim.conformance.vectors.vector import SUITE

    try:
        with check.connection(options)() as transport:
            found = smoke.smoke(transport, SUITE)
    except ProtocolError as error:
        print(f"refoptim smoke: {error}", file=sys.stderr)
        return 3
    except MissingProgramError as error:
        raise RefusedError(f"{error}") from error
    for name, wrong in found:
        print(f"{name:14} {wrong or 'ok'}")
    return 1 if any(wrong for _, wrong in found) else 0
