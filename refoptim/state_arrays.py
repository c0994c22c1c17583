"""State arrays of some parameters, each flat and in the parameters' order."""

from collections.abc import Callable, Mapping
from itertools import accumulate
from math import prod
from typing import Any, NamedTuple

import numpy as np

from .cpu import CPU, Device
from .pieces import Pieces

Shape = tuple[int, ...]


class _Cut(NamedTuple):
    """How a state array is cut into the parameters' parts."""

    pieces: Pieces
    lacking: set[int]  # the parameters that have none


class StateArrays:
    """State arrays by name, and what parts of them belong to which parameter, given as its place in their order.

    Args:
        shapes: the parameters'.
        shapes_of: for a parameter of this shape, the state arrays of another one; None is that it has no such array.
        dtype: what state is for users.
        real: what kernels see, two for each complex number.
        device: where it is.

    """

    def __init__(
        self,
        shapes: list[Shape],
        shapes_of: Callable[[Shape], Mapping[str, Shape | None]],
        dtype: np.dtype[Any],
        real: np.dtype[Any],
        device: Device,
    ) -> None:
        self.dtype = dtype
        self.real = real
        self.device = device
        self.arrays: dict[str, Any] = {}
        self._shapes: list[Shape] = shapes
        self._own_shapes: dict[str, list[Shape | None]] = {}
        self._own_offsets: dict[str, list[int]] = {}
        width = dtype.itemsize // real.itemsize
        self.offsets: list[int] = list(accumulate((width * prod(shape) for shape in shapes), initial=0))
        own = {shape: shapes_of(shape) for shape in dict.fromkeys(shapes)}
        for name in dict.fromkeys(name for others in own.values() for name in others):
            found = [own[shape].get(name, shape) for shape in shapes]
            sizes = [0 if shape is None else width * prod(shape) for shape in found]
            self._own_shapes[name] = found
            self._own_offsets[name] = list(accumulate(sizes, initial=0))
        self._cuts: dict[str, _Cut] = {}
        self._views: dict[str, list[Any]] = {}  # the parameters' parts of state arrays

    def make(self, name: str) -> None:
        """Have an array, of zeros if there was none."""
        if name not in self.arrays:
            self.arrays[name] = self.device.zeros(self._offsets_of(name)[-1], self.real)

    def shape_of(self, name: str, place: int) -> Shape | None:
        """Return the shape of a parameter's part of an array, or None if it has none."""
        return self._own_shapes[name][place] if name in self._own_shapes else self._shapes[place]

    def start_of(self, name: str, place: int) -> int:
        """Return where a parameter's part of an array starts."""
        return self._offsets_of(name)[place]

    def view(self, name: str, place: int) -> Any:
        """Return a parameter's part of an array as users see it, in its own dtype and shape."""
        shape = self.shape_of(name, place)
        assert shape is not None
        return self.device.array(self._part(name, place), self.dtype, shape)

    def between(self, name: str, first: int, stop: int) -> Any:
        """Return the parts of an array that belong to parameters from a first one on."""
        offsets = self._offsets_of(name)
        return self.arrays[name][offsets[first] : offsets[stop]]

    def shaped(self, name: str, place: int) -> Any:
        """Return a parameter's part of an array as kernels see it that take it in its shape."""
        return self._part(name, place).view(self.dtype).reshape(self.shape_of(name, place))

    def copies(self, name: str) -> list[Any]:
        """Return the parameters' parts of one copy of an array in the host's memory; what they lack is empty."""
        return self._cut_of(name).pieces.of(self._seen(self.device.host(self.arrays[name])))

    def views(self, name: str) -> list[Any]:
        """Return the parameters' parts of an array as users see them, made once; what they lack is empty or None."""
        if name not in self._views:
            if self.device is CPU:
                self._views[name] = self._cut_of(name).pieces.of(self._seen(self.arrays[name]))
            else:
                lacking, places = self.lacking(name), range(len(self._shapes))
                self._views[name] = [None if place in lacking else self.view(name, place) for place in places]
        return self._views[name]

    def lacking(self, name: str) -> set[int]:
        """Return the parameters that have no part of an array."""
        return self._cut_of(name).lacking

    def write(self, name: str, place: int, values: Any) -> None:
        """Copy values into a parameter's part of an array."""
        self.make(name)
        self.device.copy(self.shaped(name, place), values)

    def fill(self, name: str, place: int | None, value: float) -> None:
        """Write a value everywhere into a parameter's part of an array, or into all of it."""
        self.device.fill(self.arrays[name] if place is None else self._part(name, place), value)

    def erase(self, place: int) -> None:
        """Set a parameter's part of all arrays to zero."""
        for name in self.arrays:
            self.fill(name, place, 0)

    def moved(self, device: Device) -> Callable[[], None]:
        """Copy all arrays to another device. Until what this returns is called nothing has changed."""
        arrays = {name: self._copied(array, device) for name, array in self.arrays.items()}

        def move() -> None:
            self.device, self.arrays, self._views = device, arrays, {}

        return move

    def _copied(self, array: Any, device: Device) -> Any:
        copy = device.zeros(array.size, array.dtype)
        device.copy(copy, array if device is self.device else self.device.host(array))
        return copy

    def _part(self, name: str, place: int) -> Any:
        return self.between(name, place, place + 1)

    def _offsets_of(self, name: str) -> list[int]:
        return self._own_offsets.get(name, self.offsets)

    def _seen(self, array: Any) -> Any:
        return array if array.dtype is self.dtype else array.view(self.dtype)

    def _cut_of(self, name: str) -> _Cut:
        """Return how an array is cut into the parameters' parts: always the same."""
        key = name if name in self._own_shapes else ""
        if key not in self._cuts:
            shapes = [self.shape_of(name, place) for place in range(len(self._shapes))]
            lacking = {place for place, shape in enumerate(shapes) if shape is None}
            self._cuts[key] = _Cut(Pieces(shapes, self.dtype), lacking)
        return self._cuts[key]

    def __getstate__(self) -> dict[str, Any]:
        kept = self.__dict__ | {"_cuts": {}, "_views": {}}
        if self.device is not CPU:
            kept["arrays"] = {name: self.device.host(array) for name, array in self.arrays.items()}
        return kept

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for name, array in self.arrays.items():
            # Copied arrays are not aligned.
            self.arrays[name] = self.device.zeros(array.size, array.dtype)
            self.device.copy(self.arrays[name], array)
