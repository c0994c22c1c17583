"""Options that the command line and the pytest plugin share. It imports nothing: they are there at every start."""

import argparse

FILTER = "only ids with a word that begins with this, or that match it: adam, probe, adam.*.probe.*"

TIMEOUT = 10.0
LONGEST_TIMEOUT = 86_400.0


def seconds(text: str) -> float:
    """Return how long a program may take to answer.

    Raises:
        ArgumentTypeError: it is no number, or out of range.

    """
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= LONGEST_TIMEOUT:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds above 0, up to {LONGEST_TIMEOUT:,.0f}")
    return number
