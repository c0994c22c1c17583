"""Steps of a rule over a pack of elements, in code that is being generated: whole, or in two stages.

Each takes all elements of the pack, or the first ones alone, where an array ends.
"""

import dis
import math
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils

from refoptim.kernels import operations
from refoptim.kernels.calls import call_of, changed, results_of
from refoptim.kernels.intrinsics import intrinsic
from refoptim.kernels.operations import bits_of, constant
from refoptim.kernels.packs import AFTER, BEFORE, WHOLE, WIDTH, Delayed, Pack, struct
from refoptim.kernels.prefetch import ask_for

# How many numbers a processor rounds at once.
_ROUNDED = 8

_I32, _I64 = ir.IntType(32), ir.IntType(64)


def ends_with_quotient(rule: FunctionType) -> bool:
    """Return whether a rule divides once, whatever its options are, and can be taken in two stages.

    Where some options leave the quotient out, it may need numbers that have been written over. Where a root is taken of
    the quotient, the second stage would wait for the divider, too.
    """
    code = list(dis.get_instructions(rule))
    divisions = [instruction.offset for instruction in code if instruction.argrepr == "/"]
    jumps = [(each.offset, each.argval) for each in code if each.opcode in (*dis.hasjrel, *dis.hasjabs)]
    if len(divisions) != 1 or any(start < divisions[0] < target for start, target in jumps):
        return False
    return not any(each.argval == "sqrt" for each in code if each.offset > divisions[0])


class Memory:
    """Loads packs from where their first elements are, and stores them there."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def load(self, place: Any, kind: Any) -> Any:
        """Return a pack as a vector of this kind."""
        found = self._loaded(place, ir.VectorType(place.type.pointee, WIDTH))
        return found if found.type == kind else self.builder.fpext(found, kind)

    def store(self, pack: Any, place: Any) -> None:
        """Store a pack as what is there."""
        kind = ir.VectorType(place.type.pointee, WIDTH)
        self._stored(pack if pack.type == kind else self.builder.fptrunc(pack, kind), place)

    def _loaded(self, place: Any, kind: Any) -> Any:
        return self.builder.load(self.builder.bitcast(place, kind.as_pointer()), align=_size(kind))

    def _stored(self, pack: Any, place: Any) -> None:
        # As they are rounded, half a register at a time: to join the halves takes longer than to store them.
        for number, part in enumerate(operations.parts(self.builder, pack, _ROUNDED)):
            there = self.builder.gep(place, [_I64(_ROUNDED * number)])
            self.builder.store(part, self.builder.bitcast(there, part.type.as_pointer()), align=_size(part.type))


class FirstOnes(Memory):
    """Loads and stores the first numbers of a pack. The others, which are nobody's, are 1, and harm no rule."""

    def __init__(self, builder: Any, count: Any) -> None:
        super().__init__(builder)
        kind = ir.VectorType(count.type, WIDTH)
        numbered = ir.Constant(kind, list(range(WIDTH)))
        self._mask = builder.icmp_signed("<", numbered, operations.everywhere(builder, kind, count))

    def _loaded(self, place: Any, kind: Any) -> Any:
        return self._call("load", kind, kind, [place, _I32(_size(kind)), self._mask, constant(kind, 1.0)])

    def _stored(self, pack: Any, place: Any) -> None:
        self._call("store", pack.type, ir.VoidType(), [pack, place, _I32(_size(pack.type)), self._mask])

    def _call(self, name: str, kind: Any, result: Any, arguments: Sequence[Any]) -> Any:
        name = f"llvm.masked.{name}.v{WIDTH}{kind.element.intrinsic_name}.p0"
        return operations.call(self.builder, name, result, arguments)


def _size(kind: Any) -> int:
    """Return how many bytes an element has."""
    return bits_of(kind.element).width // 8


class Stage(NamedTuple):
    """A stage of a rule: what generates its call, the kind of its packs, and its results, by the arrays they go to."""

    call: Callable[..., list[Any]]
    kind: Pack
    results: dict[int, Any]

    @property
    def delayed(self) -> Any:
        """What those results are that wait for a quotient."""
        [kind] = {kind for kind in self.results.values() if isinstance(kind, Delayed)}
        return kind

    @property
    def written(self) -> set[int]:
        """The arrays whose results do not wait."""
        return {array for array, kind in self.results.items() if not isinstance(kind, Delayed)}

    def vector(self, context: Any) -> Any:
        """Return what a pack of numbers is."""
        return ir.VectorType(context.get_value_type(self.kind.element), WIDTH)

    def resume(self, context: Any, builder: Any, numbers: Sequence[Any], waiting: Any, scalars: Any) -> list[Any]:
        """Return the results of the second stage, given numbers again and what waits for quotients."""
        divided = [builder.extract_value(waiting, place) for place in (0, 1)]
        packs = [struct(builder, x, *divided) for x in numbers]
        return [builder.extract_value(new, 0) for new in self.call(context, builder, packs, scalars)]


def nobodys(kind: Any) -> Any:
    """Return what a second stage is given for what was written over: nothing that the rest of the rule may need."""
    return constant(kind, math.nan)


def stage_of(typing_context: Any, rule: Any, count: int, h: Any, kind: Pack) -> Stage:
    """Return the stage of a rule that packs of this kind are for, given how many arrays there are."""
    call, results = call_of(typing_context, rule, count, h, kind)
    kinds = results_of(typing_context, rule, count, h, kind)
    return Stage(call, kind, dict(zip(changed(count, results), kinds, strict=True)))


def _stage(typing_context: Any, rule: Any, arrays: Any, h: Any, name: str) -> Stage:
    widened = any(x.dtype != h[0] for x in arrays)
    kind = Pack(h[0], by_newton=widened, stage=name)
    return stage_of(typing_context, rule, len(arrays), h, kind)


def _of_all_and_of_first(generator: Callable[..., Any]) -> tuple[Any, Any]:
    """Return an intrinsic for packs that start with element i, and one for so many elements, of a pack, from there on.

    Args:
        generator: returns the type of the result and what generates it, given a typing context and the types of a
            rule, arrays and scalars.

    """

    @intrinsic
    def of_all(typing_context, rule, arrays, i, h, waiting):
        result, generate = generator(typing_context, rule, arrays, h)

        def emit(context, builder, signature, arguments):
            _, values, i, scalars, waiting = arguments
            places = places_of(context, builder, arrays, values, i)
            return generate(context, builder, places, Memory(builder), scalars, waiting)

        return result(rule, arrays, i, h, waiting), emit

    @intrinsic
    def of_first(typing_context, rule, arrays, i, count, h, waiting):
        result, generate = generator(typing_context, rule, arrays, h)

        def emit(context, builder, signature, arguments):
            _, values, i, count, scalars, waiting = arguments
            places = places_of(context, builder, arrays, values, i)
            return generate(context, builder, places, FirstOnes(builder, count), scalars, waiting)

        return result(rule, arrays, i, count, h, waiting), emit

    return of_all, of_first


def _whole(typing_context: Any, rule: Any, arrays: Any, h: Any) -> Any:
    stage = _stage(typing_context, rule, arrays, h, WHOLE)

    def generate(context, builder, places, memory, scalars, waiting):
        numbers = [memory.load(place, context.get_value_type(stage.kind)) for place in places]
        for target, new in zip(stage.results, stage.call(context, builder, numbers, scalars)):
            memory.store(new, places[target])
        return context.get_dummy_value()

    return types.void, generate


def _before(typing_context: Any, rule: Any, arrays: Any, h: Any) -> Any:
    stage = _stage(typing_context, rule, arrays, h, BEFORE)
    delayed = stage.delayed

    def generate(context, builder, places, memory, scalars, waiting):
        numbers = [memory.load(place, context.get_value_type(stage.kind)) for place in places]
        for (target, kind), new in zip(stage.results.items(), stage.call(context, builder, numbers, scalars)):
            if kind == delayed:
                waiting = new
            else:
                memory.store(new, places[target])
        return waiting

    return delayed, generate


def _after(typing_context: Any, rule: Any, arrays: Any, h: Any) -> Any:
    before = _stage(typing_context, rule, arrays, h, BEFORE)
    stage = _stage(typing_context, rule, arrays, h, AFTER)
    written = before.written

    def generate(context, builder, places, memory, scalars, waiting):
        kind = stage.vector(context)
        gone = nobodys(kind)
        numbers = [gone if target in written else memory.load(place, kind) for target, place in enumerate(places)]
        for target, new in zip(stage.results, stage.resume(context, builder, numbers, waiting, scalars)):
            if target not in written:
                memory.store(new, places[target])
        return context.get_dummy_value()

    return types.void, generate


# Each takes the rule, arrays, the first element, the second of a pair how many, and the scalars. ``begin`` returns what
# ``end`` takes last, and the others take None for.
step, step_first = _of_all_and_of_first(_whole)
begin, begin_first = _of_all_and_of_first(_before)
end, end_first = _of_all_and_of_first(_after)


@intrinsic
def ask(typing_context, arrays, i):
    """Have a pack of each array fetched, from element i on. There need not be one."""

    def generate(context, builder, signature, arguments):
        for x, place in zip(arrays, places_of(context, builder, arrays, *arguments)):
            ask_for(builder, place, WIDTH * x.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(arrays, i), generate


def places_of(context: Any, builder: Any, arrays: Any, value: Any, i: Any) -> list[Any]:
    """Return where element i of each array is."""
    return [
        cgutils.get_item_pointer(context, builder, x, context.make_array(x)(context, builder, item), [i])
        for x, item in zip(arrays, cgutils.unpack_tuple(builder, value))
    ]
