"""Elements of arrays on a GPU, one or so many neighbours: loaded, widened, rounded once, and stored.

Numbers of 16 bits come as their bits, as in ``half``; they are widened to float32. As in ``arithmetic``, the plain
functions are what the CUDA simulator runs, and compiled code has the overloads.
"""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import overload

from refoptim.kernels import half, half_numbers
from refoptim.kernels.intrinsics import intrinsic

# The most bytes that one instruction moves for a thread; their address must be a multiple of it.
ACCESS = 16


_I16, _I32 = ir.IntType(16), ir.IntType(32)


def number(x: Any) -> Any:
    """Return a number that was loaded: itself, or the float32 that has its bits."""
    return half_numbers.widen(x) if half_numbers.is_half(x.dtype) else x


def put(target: Any, i: Any, x: Any) -> None:
    """Round a result once and store it."""
    target[i] = half_numbers.nearest(x, target.dtype) if half_numbers.is_half(target.dtype) else x


def move(target: Any, source: Any, i: Any) -> None:
    """Copy element i of an array into another, rounded once."""
    put(target, i, number(source[i]))


class Strip:
    """Neighbouring elements of several arrays, in code that is being generated."""

    def __init__(self, context: Any, builder: Any, arrays: Any, value: Any, i: Any, wide: int) -> None:
        self.context, self.builder, self.wide = context, builder, wide
        self.kinds = [x.dtype for x in arrays]
        starts = [_start(context, builder, *item) for item in zip(arrays, cgutils.unpack_tuple(builder, value))]
        self.vectors = [self._vector(place, builder.gep(start, [i])) for place, start in enumerate(starts)]
        self.native = builder.module.triple.startswith("nvptx") or half.has_float16(context)

    def load(self, place: int) -> list[Any]:
        """Load the elements of an array."""
        builder = self.builder
        loaded = builder.load(self.vectors[place], align=self._size(place))
        elements = [builder.extract_element(loaded, _I32(j)) for j in range(loaded.type.count)]
        if not self._is_paired(place):
            return elements
        return [builder.trunc(part, _I16) for pair in elements for part in (pair, builder.lshr(pair, _I32(16)))]

    def numbers(self, place: int, wide: Any) -> list[Any]:
        """Load the elements of an array in the type of the arithmetic."""
        return [self.widened(element, self.kinds[place], wide) for element in self.load(place)]

    def widened(self, element: Any, found: Any, wide: Any) -> Any:
        """Return an element in the type of the arithmetic."""
        if half.is_half(found):
            element, found = half.widen(self.builder, found, element, self.native), types.float32
        return self.context.cast(self.builder, element, found, wide)

    def rounded(self, x: Any, wide: Any, kind: Any) -> Any:
        """Return a result as an element, rounded once."""
        if half.is_half(kind):
            return half.nearest(self.builder, kind, x, self.native)
        return self.context.cast(self.builder, x, wide, kind)

    def store(self, place: int, elements: Sequence[Any]) -> None:
        """Store the elements of an array."""
        builder, stored = self.builder, self.vectors[place].type.pointee(ir.Undefined)
        if self._is_paired(place):
            parts = [builder.zext(element, _I32) for element in elements]
            elements = [builder.or_(low, builder.shl(high, _I32(16))) for low, high in zip(parts[::2], parts[1::2])]
        for j, element in enumerate(elements):
            stored = builder.insert_element(stored, element, _I32(j))
        builder.store(stored, self.vectors[place], align=self._size(place))

    def _is_paired(self, place: int) -> bool:
        # NVVM moves no 8 elements of 16 bits at once, but 4 pairs of them.
        return half.is_half(self.kinds[place]) and self.wide > 1

    def _vector(self, place: int, first: Any) -> Any:
        """Return a pointer to the elements of an array."""
        kind, wide = (_I32, self.wide // 2) if self._is_paired(place) else (first.type.pointee, self.wide)
        return self.builder.bitcast(first, ir.VectorType(kind, wide).as_pointer())

    def _size(self, place: int) -> int:
        return min(self.wide * self.kinds[place].bitwidth // 8, ACCESS)


def _start(context, builder, x, value):
    """Return where an array begins. That of a rule's kernel is an address."""
    return context.make_array(x)(context, builder, value).data if isinstance(x, types.Array) else value


@intrinsic
def _move(typing_context, target, source, i):
    def generate(context, builder, signature, arguments):
        values = context.make_tuple(builder, types.Tuple((target, source)), arguments[:2])
        strip = Strip(context, builder, (target, source), values, arguments[2], 1)
        wide = types.float32 if half.is_half(source.dtype) else source.dtype
        strip.store(0, [strip.rounded(x, wide, target.dtype) for x in strip.numbers(1, wide)])
        return context.get_dummy_value()

    return types.void(target, source, i), generate


@overload(move, target="generic")
def _compile_move(target, source, i):
    return lambda target, source, i: _move(target, source, i)
