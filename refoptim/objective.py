"""The loss as a function of all parameters as one vector."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import kernels
from .arrays import Array
from .buffers import REAL_TYPE, FlatBuffer
from .devices import to_host
from .neighbours import gather, is_neighbour
from .parameter import Parameter
from .recycler import Recycler
from .scalars import number

if TYPE_CHECKING:  # it imports Numba
    from .kernels.measures import Measured

# What copies a gradient into a vector, unless it is there, and returns that with what an optimizer wants to know of it.
Measure = Callable[[Array, Array], "Measured"]


class Segment(NamedTuple):
    """Neighbours in a buffer that follow each other in the vector."""

    params: list[Parameter]
    buffer: FlatBuffer
    moves: int  # the buffer's, when this was found
    place: slice  # in the buffer
    part: slice  # in the vector


class Objective:
    """A closure as a function of one vector: where the parameters are, and what loss and gradient are there.

    Args:
        params: the parameters, in the order of the vector, on one device.
        closure: sets the gradients and returns the loss.
        dtype: of the vectors; at least as wide as the parameters'.
        max_eval: how often the closure may be called.
        vectors: where the vectors come from.

    """

    def __init__(
        self,
        params: list[Parameter],
        closure: Callable[[], Any],
        dtype: np.dtype[Any],
        max_eval: int,
        vectors: Recycler,
    ) -> None:
        self._params = params
        self._closure = closure
        self._dtype = dtype
        self._vectors = vectors
        self._segments: list[Segment] = []
        self._start = self.point()
        self.left = max_eval
        self.calls = 0
        self.first: Any = None  # what the closure returned first

    def evaluate(self, measure: Measure) -> "tuple[float, Measured]":
        """Return the loss where the parameters are, and the gradient, measured in this way."""
        self.left -= 1
        loss = self._closure()
        if not self.calls:
            self.first = loss
        self.calls += 1
        return number("the closure's loss", loss), self._gradient(measure)

    def point(self) -> Array:
        """Return where the parameters are."""
        segments = self._laid_out()
        if not segments:
            return np.empty(0, self._dtype)
        point = self._vector(segments)
        for segment in segments:
            kernels.measures.copy(point[segment.part], segment.buffer.theta[segment.place])
        return point

    def leave(self, d: Array, t: float) -> Array:
        """Take the parameters ``t * d`` further. Return where they were."""
        segments = self._laid_out()
        if not segments:
            return np.empty(0, self._dtype)
        point = self._vector(segments)
        for segment in segments:
            theta = segment.buffer.theta[segment.place]
            kernels.vectors.leave(point[segment.part], theta, d[segment.part], t)
        return point

    def move(self, x: Array | None, d: Array, t: float) -> None:
        """Take the parameters to ``x + t * d``; without x from where they are."""
        for segment in self._laid_out():
            theta = segment.buffer.theta[segment.place]
            kernels.vectors.add(theta, theta if x is None else x[segment.part], d[segment.part], t)

    def restore(self) -> None:
        """Take the parameters back to where they were at first."""
        for segment in self._laid_out():
            kernels.memory.assign(segment.buffer.theta[segment.place], self._start[segment.part])

    def _gradient(self, measure: Measure) -> "Measured":
        """Return the gradient, with zeros where a parameter has none."""
        segments = self._laid_out()
        if not segments:
            return kernels.measures.measured(np.empty(0, self._dtype))
        gradient = self._vector(segments)
        for segment in segments:
            part, buffer = gradient[segment.part], segment.buffer
            if buffer.missing == 0:
                source = buffer.grad[segment.place]
                if len(segments) == 1:
                    return measure(gradient, source)
                kernels.measures.copy(part, source)
                continue
            end = 0
            for param in segment.params:
                begin, end = end, end + real_size(param)
                if param.grad is None:
                    buffer.device.fill(part[begin:end], 0)
                else:
                    kernels.memory.assign(part[begin:end], _dense(param, buffer))
        return measure(gradient, gradient)

    def _vector(self, segments: list[Segment]) -> Array:
        """Return a new vector where the parameters are."""
        return self._vectors.empty(segments[-1].part.stop, self._dtype, segments[0].buffer.theta)

    def _laid_out(self) -> list[Segment]:
        """Return where the parameters lie, found anew if another optimizer has moved some."""
        if not self._segments or any(segment.buffer.moves != segment.moves for segment in self._segments):
            self._segments = list(_segments(self._params))
        return self._segments


def _segments(params: list[Parameter]) -> Iterator[Segment]:
    runs: list[list[Parameter]] = []
    for param in params:
        if param.buffer is None:
            # An optimizer with differentiable=True has taken it out.
            gather([param])
        if runs and is_neighbour(runs[-1][-1], param):
            runs[-1].append(param)
        else:
            runs.append([param])
    stop = 0
    for run in runs:
        buffer, width = run[0].buffer, _width(run[0])
        assert buffer is not None
        begin, end = run[0].offset * width, (run[-1].offset + run[-1].size) * width
        start, stop = stop, stop + end - begin
        yield Segment(run, buffer, buffer.moves, slice(begin, end), slice(start, stop))


def real_size(param: Parameter) -> int:
    """Return how many real numbers a parameter is."""
    return param.size * _width(param)


def _width(param: Parameter) -> int:
    """Return how many real numbers an element is."""
    return 2 if param.dtype.kind == "c" else 1


def _dense(param: Parameter, buffer: FlatBuffer) -> Any:
    """Return a gradient as a flat array of real numbers, where the buffer is or NumPy's."""
    if param.has_flat_grad:
        return buffer.flats(param.offset, param.size)[1]
    grad = to_host(param.grad.to_dense())
    return np.ascontiguousarray(grad).reshape(-1).view(REAL_TYPE[grad.dtype])
