"""Cutting a flat array into arrays of many shapes, in one call."""

from itertools import accumulate, pairwise
from math import prod
from typing import Any

import numpy as np

from .arrays import Array

Shape = tuple[int, ...]

# NumPy's structures are smaller than 2 GiB. Beside copying a longer array its views take no time.
LONG = 2**31


class Pieces:
    """How a flat array is cut into one array for each of these shapes, without a copy. None has no elements.

    The shapes become the fields of one structure, all of which NumPy reads at once: half the time of a slice and a
    reshape for each.
    """

    def __init__(self, shapes: list[Shape | None], dtype: np.dtype[Any]) -> None:
        self._shapes = [(0,) if shape is None else shape for shape in shapes]
        self._scalars = [place for place, shape in enumerate(shapes) if shape == ()]
        size = sum(map(prod, self._shapes))
        self._structure: np.dtype[Any] | None = None
        if 0 < size * dtype.itemsize < LONG:
            # A field of shape () would be read as a number.
            formats = [(dtype, shape or (1,)) for shape in self._shapes]
            self._structure = np.dtype({"names": list(map(str, range(len(formats)))), "formats": formats})

    def of(self, flat: Array) -> list[Array]:
        """Return the pieces of an array of this dtype, which has as many elements as all of them."""
        if self._structure is None:
            ends = pairwise(accumulate(map(prod, self._shapes), initial=0))
            return [flat[slice(*span)].reshape(shape) for span, shape in zip(ends, self._shapes, strict=True)]
        # flat.view would look through the fields for objects each time.
        pieces = list(np.ndarray((), self._structure, flat).item())
        for place in self._scalars:
            pieces[place] = pieces[place].reshape(())
        return pieces
