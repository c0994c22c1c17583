"""The CPU loops that step some rows of flat arrays where they lie, each made from the loop that steps whole arrays.

Rows are often a few hundred bytes, anywhere in gigabytes: to take them out, step them and put them back moves each
three times.
"""

from typing import Any

from refoptim.kernels.jit import CpuLoop, CpuTasks, loop_of
from refoptim.kernels.parts import part

# How many rows a thread takes at a time, and how many bytes move while it waits for a row's first ones.
GRAIN, MISS = 64, 256

# What the loops below name, and the copy for each loop has of its own.
step: Any = None


def _two(a, g, rows, width, scalars, first, stop):
    for place in range(first, stop):
        row = rows[place] * width
        step(part(a, row, width), part(g, place * width, width), scalars)


def _three(a, g, b, rows, width, scalars, first, stop):
    for place in range(first, stop):
        row = rows[place] * width
        step(part(a, row, width), part(g, place * width, width), part(b, row, width), scalars)


def _four(a, g, b, c, rows, width, scalars, first, stop):
    for place in range(first, stop):
        row = rows[place] * width
        own = part(g, place * width, width)
        step(part(a, row, width), own, part(b, row, width), part(c, row, width), scalars)


# By how many arrays they take: parameters, the gradient's own rows one behind the other, and state.
_LOOPS = {2: _two, 3: _three, 4: _four}


class RowLoop(CpuTasks):
    """A loop over rows, none of them named twice."""

    def step(self, arrays: tuple[Any, ...], rows: Any, width: int, scalars: Any) -> None:
        """Step these rows, each of so many elements: of all arrays but the second one, which has no others."""
        size = rows.size * len(arrays) * (width * arrays[0].itemsize + MISS)
        self.run(rows.size, GRAIN, size, *arrays, rows, width, scalars)


def over_rows(whole: CpuLoop) -> RowLoop:
    """Return the loop over rows that takes the arrays and scalars of a loop over everything."""
    function = whole.serial.py_func
    return RowLoop(loop_of(function, _LOOPS[whole.arrays], f"{whole.name}_rows", None, step=whole.serial))
