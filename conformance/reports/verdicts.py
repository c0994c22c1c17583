"""What the search for a dialect found, beside what it was measured by: both lines of the formula."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from refoptim.conformance.dialects import axes


class Difference(NamedTuple):
    """A line of a formula that a dialect has otherwise."""

    title: str
    torch: str
    found: str
    recipe: str  # how to convert hyperparameters


def differences(algorithm: str, verdict: str) -> Iterator[Difference]:
    """Yield the lines of torch's formula that a verdict says are others: it names them as ``eps:hat``."""
    known = {axis.name: axis for axis in axes.of(algorithm)}
    torch = {"decay": axes.decay(algorithm, {})} | axes.base(algorithm)
    for name, value in dict.fromkeys(re.findall(r"(\w+):([\w-]+(?: \d+)?)", verdict)):
        formulas = {own.name: own.formula for own in known[name].values} if name in known else {}
        # A value's name may have a number behind a space, "from 128"; of "hat 5" only the first word may be one.
        found = next((word for word in (value, value.partition(" ")[0]) if word in formulas), None)
        if found and torch.get(name) in formulas:
            axis = known[name]
            yield Difference(axis.title, formulas[torch[name]], formulas[found], axis.recipe)
