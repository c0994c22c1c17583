"""One element of several arrays, or two or a pack of neighbours, some of them of 16 bits, in code being generated."""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from refoptim.kernels import half, half_registers, philox
from refoptim.kernels.operations import by_parts
from refoptim.kernels.packs import WIDTH
from refoptim.kernels.prefetch import ask_for

_I32 = ir.IntType(32)


class Elements:
    """Element i of several arrays."""

    count = 1

    def __init__(self, context: Any, builder: Any, arrays: Any, value: Any, i: Any) -> None:
        self.context, self.builder, self.native = context, builder, half.has_float16(context)
        self.kinds = [array.dtype for array in arrays]
        structs = [
            context.make_array(array)(context, builder, item)
            for array, item in zip(arrays, cgutils.unpack_tuple(builder, value))
        ]
        self.pointers = [
            cgutils.get_item_pointer(context, builder, array, struct, [i]) for array, struct in zip(arrays, structs)
        ]

    def drawn(self, zero: Any, i: Any, result: int) -> Any:
        """Return the random bits for a result, given where those of element 0 are, and the element."""
        return philox.bits_of(self.builder, zero, i, result)

    def load(self, number: int) -> Any:
        """Load the bits of an array's element."""
        return self.builder.load(self.pointers[number])

    def widened(self, number: int, wide: Any) -> list[Any]:
        """Load the numbers of an array in the type of the arithmetic."""
        loaded, found = self.load(number), self.kinds[number]
        if half.is_half(found):
            loaded, found = self.wide(found, loaded), types.float32
        return [self.context.cast(self.builder, loaded, found, wide)]

    def wide(self, kind: Any, bits: Any) -> Any:
        """Return the number with these bits."""
        return half.widen(self.builder, kind, bits, self.native)

    def nearest(self, kind: Any, x: Any) -> Any:
        """Return the bits of the nearest number."""
        return half.nearest(self.builder, kind, x, self.native)

    def store(self, number: int, results: Sequence[Any], wide: Any, word: Any = None) -> Any:
        """Round results once, stochastically if there are random bits, and store them; return what was stored."""
        (x,), found = results, self.kinds[number]
        if not half.is_half(found):
            x = self.context.cast(self.builder, x, wide, found)
        elif word is None:
            x = self.nearest(found, x)
        else:
            x = half.stochastic(self.builder, found, x, word)
        self.builder.store(x, self.pointers[number])
        return x

    def ask_for(self, count: int) -> None:
        """Ask for the lines of the memory that so many elements lie in. What is behind an array's end does no harm."""
        for found, pointer in zip(self.kinds, self.pointers):
            ask_for(self.builder, pointer, count * found.bitwidth // 8)


class Packs(Elements):
    """Two packs of elements of several arrays, from element i on.

    They are neighbours; where all arrays are of bfloat16, the lower halves of words of 32 bits, and the upper ones.
    """

    count = 2 * WIDTH

    def __init__(self, context: Any, builder: Any, arrays: Any, value: Any, i: Any) -> None:
        super().__init__(context, builder, arrays, value, i)
        self.paired = all(kind == half.BFLOAT16 for kind in self.kinds)
        self.registers = half_registers.has_registers(context)

    def drawn(self, zero: Any, i: Any, result: int) -> Any:
        """Return the random bits for a result, as words for each pack."""
        if self.paired:
            return philox.pairs_of(self.builder, zero, i, WIDTH, result)
        starts = [i, self.builder.add(i, ir.IntType(64)(WIDTH))]
        return [philox.words_of(self.builder, zero, start, WIDTH, result) for start in starts]

    def load(self, number: int) -> Any:
        """Load the bits of an array's elements: one vector of words for pairs, or one of each pack."""
        return [self.builder.load(place, align=self._alignment(number)) for place in self._vectors(number)]

    def widened(self, number: int, wide: Any) -> list[Any]:
        """Load the numbers of an array in the type of the arithmetic."""
        loaded, found = self.load(number), self.kinds[number]
        if self.paired:
            loaded = half.widen_pair(self.builder, *loaded)
        elif half.is_half(found):
            loaded = [self.wide(found, bits) for bits in loaded]
        kind = ir.VectorType(self.context.get_value_type(wide), WIDTH)
        return [x if x.type == kind else self.builder.fpext(x, kind) for x in loaded]

    def store(self, number: int, results: Sequence[Any], wide: Any, word: Any = None) -> Any:
        """Round results once, stochastically if there are random bits, and store them; return what was stored."""
        rounded = self._nearest(number, results) if word is None else self._drawn(number, results, word)
        for x, place in zip(rounded, self._vectors(number)):
            self.builder.store(x, place, align=self._alignment(number))
        return rounded

    def _nearest(self, number: int, results: Sequence[Any]) -> list[Any]:
        found = self.kinds[number]
        if self.paired:
            return [self._packed(*map(self._raised, results))]
        if half.is_half(found):
            return [half.nearest(self.builder, found, x, self.native) for x in results]
        return [half.single(self.builder, x) for x in results]

    def _drawn(self, number: int, results: Sequence[Any], word: Any) -> list[Any]:
        found, rounded = self.kinds[number], [half.single(self.builder, x) for x in results]
        if self.paired:
            return [self._packed(*(half.raised_by_chance(self.builder, *each) for each in zip(rounded, word)))]
        if half.is_half(found):
            return [self._rounded(found, *given) for given in zip(rounded, word)]
        return rounded

    def _raised(self, x: Any) -> Any:
        if not self.registers:
            return half.raised(self.builder, x)
        return by_parts(half_registers.raised, self.builder, half_registers.WIDTH, half.to_odd(self.builder, x))

    def _packed(self, low: Any, high: Any) -> Any:
        if not self.registers:
            return half.packed(self.builder, low, high)
        return by_parts(half_registers.packed, self.builder, half_registers.WIDTH, low, high)

    def _rounded(self, kind: Any, x: Any, words: Any) -> Any:
        if not self.registers or kind != half.FLOAT16:
            return half.stochastic(self.builder, kind, x, words)
        return by_parts(half_registers.stochastic, self.builder, half_registers.WIDTH, x, words)

    def _alignment(self, number: int) -> int:
        return self.kinds[number].bitwidth // 8

    def _vectors(self, number: int) -> list[Any]:
        """Return where an array's vectors are, each as long as a pack."""
        first = self.pointers[number]
        element, starts = (_I32, [0]) if self.paired else (first.type.pointee, [0, WIDTH])
        kind = ir.VectorType(element, WIDTH).as_pointer()
        return [self.builder.bitcast(self.builder.gep(first, [_I32(start)]), kind) for start in starts]
