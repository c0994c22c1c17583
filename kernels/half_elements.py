"""One element of several arrays, or two neighbours, some of them of 16 bits, in code that is being generated."""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from refoptim.kernels import half
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

    @staticmethod
    def suit(arrays: Any) -> bool:  # noqa: ARG004
        """Return whether arrays of these types can be loaded and stored so."""
        return True

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


class Pairs(Elements):
    """Elements i and i + 1 of several arrays of bfloat16, as words of 32 bits."""

    count = 2

    @staticmethod
    def suit(arrays: Any) -> bool:
        """Return whether all arrays are of bfloat16."""
        return all(array.dtype == half.BFLOAT16 for array in arrays)

    def load(self, number: int) -> Any:
        """Load the word of two elements, which may begin at any of them."""
        return self.builder.load(self._word(number), align=2)

    def widened(self, number: int, wide: Any) -> list[Any]:
        """Load the numbers of an array in the type of the arithmetic."""
        numbers = half.widen_pair(self.builder, self.load(number))
        return [self.context.cast(self.builder, x, types.float32, wide) for x in numbers]

    def store(self, number: int, results: Sequence[Any], wide: Any, word: Any = None) -> Any:
        """Round results once, stochastically if there are random bits, and store them; return what was stored."""
        if word is None:
            rounded = half.nearest_pair(self.builder, results)
        else:
            rounded = half.stochastic_pair(self.builder, results, word)
        self.builder.store(rounded, self._word(number), align=2)
        return rounded

    def _word(self, number: int) -> Any:
        return self.builder.bitcast(self.pointers[number], _I32.as_pointer())
