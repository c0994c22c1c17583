"""The loss as a function of all parameters as one vector."""

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from . import kernels
from .arrays import Array
from .buffers import REAL_TYPE, FlatBuffer
from .devices import to_host
from .parameter import Parameter, gather, is_neighbour
from .scalars import number


class Segment(NamedTuple):
    """Neighbours in a buffer that follow each other in the vector."""

    params: list[Parameter]
    buffer: FlatBuffer
    moves: int  # the buffer's, when this was found
    place: slice  # in the buffer
    part: slice  # in the vector


class Objective:
    """A closure as a function of one vector: where the parameters are, and what loss and gradient are there.

    As a context manager it takes the parameters back to where they were if anything raises.

    Args:
        params: the parameters, in the order of the vector, on one device.
        closure: sets the gradients and returns the loss.
        dtype: of the vectors; at least as wide as the parameters'.
        max_eval: how often the closure may be called.

    """

    def __init__(
        self, params: list[Parameter], closure: Callable[[], Any], dtype: np.dtype[Any], max_eval: int
    ) -> None:
        self._params = params
        self._closure = closure
        self._dtype = dtype
        self._segments: list[Segment] = []
        self._start = self.point()
        self.left = max_eval
        self.calls = 0
        self.first: Any = None  # what the closure returned first

    @property
    def size(self) -> int:
        """How many elements the vectors have."""
        return self._start.size

    def __enter__(self) -> "Objective":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._place(self._start)

    def evaluate(self) -> tuple[float, Array]:
        """Return loss and gradient where the parameters are."""
        self.left -= 1
        loss = self._closure()
        if not self.calls:
            self.first = loss
        self.calls += 1
        return number("the closure's loss", loss), self._gradient()

    def point(self) -> Array:
        """Return where the parameters are."""
        segments = self._laid_out()
        if not segments:
            return np.empty(0, self._dtype)
        point = self._vector(segments)
        for segment in segments:
            kernels.memory.assign(point[segment.part], segment.buffer.theta[segment.place])
        return point

    def move(self, x: Array | None, d: Array, t: float) -> None:
        """Take the parameters to ``x + t * d``; without x from where they are."""
        for segment in self._laid_out():
            theta = segment.buffer.theta[segment.place]
            kernels.vectors.add(theta, theta if x is None else x[segment.part], d[segment.part], t)

    def _place(self, point: Array) -> None:
        for segment in self._laid_out():
            kernels.memory.assign(segment.buffer.theta[segment.place], point[segment.part])

    def _gradient(self) -> Array:
        """Return the gradient, with zeros where a parameter has none."""
        segments = self._laid_out()
        if not segments:
            return np.empty(0, self._dtype)
        gradient = self._vector(segments)
        for segment in segments:
            part, buffer = gradient[segment.part], segment.buffer
            if buffer.missing == 0:
                kernels.memory.assign(part, buffer.grad[segment.place])
                continue
            end = 0
            for param in segment.params:
                begin, end = end, end + real_size(param)
                if param.grad is None:
                    buffer.device.fill(part[begin:end], 0)
                else:
                    kernels.memory.assign(part[begin:end], _dense(param, buffer))
        return gradient

    def _vector(self, segments: list[Segment]) -> Array:
        """Return a new vector where the parameters are."""
        return kernels.memory.empty(segments[-1].part.stop, self._dtype, segments[0].buffer.theta)

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
