"""What a block does for a sum: its threads fold elements into lanes, which they load 16 bytes at a time, and the lanes.

A lane holds a pair of numbers, such as a sum and what its roundings lost. Lane ``j`` takes the elements ``j``, ``j +
LANES``, ``j + 2 * LANES`` and so on, in this order. A thread has the neighbouring lanes of one load: so their order is
that of one lane for each thread, and the bits are the same however the elements are loaded.

As in ``arithmetic``, the plain functions are what the CUDA simulator runs, and compiled code has the overloads.
"""

from collections.abc import Sequence
from typing import Any

from numba import float64, types
from numba.core import cgutils
from numba.extending import overload

from refoptim.kernels.elements import ACCESS, Strip, number
from refoptim.kernels.intrinsics import intrinsic
from refoptim.kernels.strips import address

# The rows of lanes that a thread has asked for at once.
ROWS = 4


def lanes_of_a_thread(itemsizes: Sequence[int]) -> int:
    """Return how many neighbouring lanes a thread has, given the sizes of the arrays' elements."""
    return ACCESS // min(itemsizes)


def aligned(*arrays: Any) -> bool:
    """Return whether loads of 16 bytes may begin where these arrays do."""
    return not any(address(x) % ACCESS for x in arrays)


def begun(arrays: Any, first: Any, second: Any) -> Any:
    """Return the pairs of a thread's lanes, one behind the other, before it has taken anything."""
    return (first, second) * lanes_of_a_thread([x.dtype.itemsize for x in arrays])


def take_rows(take: Any, pairs: Any, arrays: Any, i: Any, stride: int, h: Any) -> Any:
    """Take ``ROWS`` rows, of which the first begins with element i for this thread, each so far behind the last."""
    for row in range(ROWS):
        pairs = take_few(take, pairs, arrays, i + row * stride, i + row * stride + len(pairs) // 2, h)
    return pairs


def take_few(take: Any, pairs: Any, arrays: Any, i: Any, stop: Any, h: Any) -> Any:
    """Take one row, as far as it has elements."""
    taken = list(pairs)
    for j in range(min(len(pairs) // 2, stop - i)):
        elements = (float64(number(x[i + j])) for x in arrays)
        taken[2 * j : 2 * j + 2] = take(*taken[2 * j : 2 * j + 2], *elements, h)
    return tuple(taken)


def _count(arrays):
    return lanes_of_a_thread([x.dtype.bitwidth // 8 for x in arrays])


def _taking(typing_context, take, arrays, h):
    """Return what generates the code that takes one element of every array into a pair."""
    pair = types.UniTuple(types.float64, 2)
    signature = take.get_call_type(typing_context, (*[types.float64] * (2 + len(arrays)), h), {})
    assert signature.return_type == pair

    def taken(context, builder, pair, elements, h):
        call = context.get_function(take, signature)
        context.add_linking_libs(call.libs)
        return cgutils.unpack_tuple(builder, call(builder, (*pair, *elements, h)))

    return taken


def _to_float64(context, builder, value, kind):
    return context.cast(builder, value, kind, types.float64)


def _elements(context, builder, arrays, value, i, count):
    """Load so many neighbours, and return those of all arrays, one after the other."""
    strip = Strip(context, builder, arrays, value, i, count)
    return list(zip(*(strip.numbers(place, types.float64) for place in range(len(arrays)))))


@intrinsic
def _begun(typing_context, arrays, first, second):
    pairs = types.UniTuple(types.float64, 2 * _count(arrays))

    def generate(context, builder, signature, arguments):
        numbers = [_to_float64(context, builder, *item) for item in zip(arguments[1:], signature.args[1:])]
        return context.make_tuple(builder, pairs, numbers * _count(arrays))

    return pairs(arrays, first, second), generate


@intrinsic
def _take_rows(typing_context, take, pairs, arrays, i, stride, h):
    taken, count = _taking(typing_context, take, arrays, h), _count(arrays)

    def generate(context, builder, signature, arguments):
        i, stride = (context.cast(builder, arguments[n], signature.args[n], types.intp) for n in (3, 4))
        rows = []
        # All loads come first: none waits for what another has brought.
        for _ in range(ROWS):
            rows.append(_elements(context, builder, arrays, arguments[2], i, count))
            i = builder.add(i, stride)
        numbers = cgutils.unpack_tuple(builder, arguments[1])
        for row in rows:
            for j, elements in enumerate(row):
                lane = slice(2 * j, 2 * j + 2)
                numbers[lane] = taken(context, builder, numbers[lane], elements, arguments[5])
        return context.make_tuple(builder, pairs, numbers)

    return pairs(take, pairs, arrays, i, stride, h), generate


@intrinsic
def _take_few(typing_context, take, pairs, arrays, i, stop, h):
    taken = _taking(typing_context, take, arrays, h)

    def generate(context, builder, signature, arguments):
        i, stop = (context.cast(builder, arguments[n], signature.args[n], types.intp) for n in (3, 4))
        numbers = cgutils.unpack_tuple(builder, arguments[1])
        for lane in (slice(j, j + 2) for j in range(0, len(numbers), 2)):
            before, outside = numbers[lane], builder.block
            with builder.if_then(builder.icmp_signed("<", i, stop)):
                (elements,) = _elements(context, builder, arrays, arguments[2], i, 1)
                after, inside = taken(context, builder, before, elements, arguments[5]), builder.block
            for place, (old, new) in enumerate(zip(before, after), start=lane.start):
                numbers[place] = builder.phi(old.type)
                numbers[place].add_incoming(old, outside)
                numbers[place].add_incoming(new, inside)
            i = builder.add(i, context.get_constant(types.intp, 1))
        return context.make_tuple(builder, pairs, numbers)

    return pairs(take, pairs, arrays, i, stop, h), generate


@overload(begun, target="generic")
def _compile_begun(arrays, first, second):
    return lambda arrays, first, second: _begun(arrays, first, second)


@overload(take_rows, target="generic")
def _compile_take_rows(take, pairs, arrays, i, stride, h):
    return lambda take, pairs, arrays, i, stride, h: _take_rows(take, pairs, arrays, i, stride, h)


@overload(take_few, target="generic")
def _compile_take_few(take, pairs, arrays, i, stop, h):
    return lambda take, pairs, arrays, i, stop, h: _take_few(take, pairs, arrays, i, stop, h)
