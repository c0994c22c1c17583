"""The CPU loops over parameters of 16 bits, made from the rule: each load is widened, each result is rounded once.

There are three for every rule: to the nearest number, stochastic, and with float32 master weights, whose rounded copy
the parameters are. As in ``strips`` a rule returns the new element of its first array, then those of its last ones.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from types import FunctionType
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from refoptim.kernels import half
from refoptim.kernels.arithmetic import unpack
from refoptim.kernels.jit import GRAIN, CpuTasks, cpu_loop, cpu_tasks

# Numba passes a typing context that the caller does not: to a type checker the two signatures do not agree.
_intrinsic: Any = intrinsic

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_WORD = 0xFFFFFFFF

# What the loops below name, and the copy for each rule has of its own.
rule: Any = None
Scalars: Any = None


def nearest(arrays, scalars, first, stop):
    h = Scalars(*unpack(Scalars, scalars))
    for i in range(first, stop):
        _step_nearest(rule, arrays, i, h)


def stochastic(arrays, scalars, draws, first, stop):
    h = Scalars(*unpack(Scalars, scalars))
    for i in range(first, stop):
        _step_stochastic(rule, arrays, i, h, draws)


def master(arrays, scalars, first, stop):
    h = Scalars(*unpack(Scalars, scalars))
    for i in range(first, stop):
        _step_master(rule, arrays, i, h)


class HalfLoop(CpuTasks):
    """A loop over the bits of 16-bit numbers, and over arrays of float32 beside them."""

    def __call__(self, arrays: tuple[Any, ...], *arguments: Any) -> None:
        """Run over all elements; the arguments are the packed scalars, and what else the loop takes."""
        moved = sum(array.nbytes for array in arrays)
        self.run(arrays[0].size, GRAIN, moved, tuple(map(half.as_bits, arrays)), *arguments)


class HalfLoops:
    """The loops of a rule over parameters of 16 bits, each compiled when it is first called."""

    def __init__(self, rule: FunctionType, compiled: Any) -> None:
        self._rule, self._compiled = rule, compiled

    @cached_property
    def nearest(self) -> HalfLoop:
        """Takes the arrays that a rule's loop takes, and its scalars."""
        return self._made(nearest)

    @cached_property
    def stochastic(self) -> HalfLoop:
        """Takes what :func:`draws` returns, too."""
        return self._made(stochastic)

    @cached_property
    def master(self) -> HalfLoop:
        """Takes the parameters first, then the master weights in the place of the parameters."""
        return self._made(master)

    def _made(self, loop: Any) -> HalfLoop:
        rule = self._rule
        name = f"{rule.__name__}_half_{loop.__name__}"
        # Numba's cache looks at the file of the loop: let it be that of the rule.
        place = {"co_filename": rule.__code__.co_filename, "co_firstlineno": rule.__code__.co_firstlineno}
        code = loop.__code__.replace(co_name=name, co_qualname=name, **place)
        names = {"rule": self._compiled, "Scalars": rule.__globals__["Scalars"]}
        made = FunctionType(code, loop.__globals__ | names, name)
        made.__module__ = rule.__module__
        return HalfLoop(made)


def draws(seed: int, step: int, stream: int, place: int) -> Any:
    """Return what a stochastic loop takes for its random numbers: key, step, stream, and the place of element 0."""
    return np.array([seed & _WORD, seed >> 32, step & _WORD, stream, place], np.uint64)


class _Elements:
    """Element i of several arrays, in code that is being generated."""

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

    def load(self, number: int) -> Any:
        return self.builder.load(self.pointers[number])

    def widened(self, number: int, wide: Any) -> Any:
        """Load a number of an array in the type of the arithmetic."""
        loaded, found = self.load(number), self.kinds[number]
        if half.is_half(found):
            loaded, found = self.wide(found, loaded), types.float32
        return self.context.cast(self.builder, loaded, found, wide)

    def wide(self, kind: Any, bits: Any) -> Any:
        return half.widen(self.builder, kind, bits, self.native)

    def nearest(self, kind: Any, x: Any) -> Any:
        return half.nearest(self.builder, kind, x, self.native)

    def store(self, number: int, x: Any, wide: Any, word: Any = None) -> Any:
        """Round a result once and store it; return what was stored."""
        found = self.kinds[number]
        if not half.is_half(found):
            x = self.context.cast(self.builder, x, wide, found)
        elif word is None:
            x = self.nearest(found, x)
        else:
            x = half.stochastic(self.builder, found, x, word)
        self.builder.store(x, self.pointers[number])
        return x


def _call(typing_context: Any, rule: Any, count: int, h: Any) -> tuple[Callable[..., list[Any]], int]:
    """Return what generates a call of the rule with so many numbers, and how many results it has."""
    wide = h[0]
    signature = rule.get_call_type(typing_context, (*[wide] * count, h), {})
    results = len(signature.return_type) if isinstance(signature.return_type, types.BaseTuple) else 1

    def call(context: Any, builder: Any, numbers: Sequence[Any], scalars: Any) -> list[Any]:
        function = context.get_function(rule, signature)
        context.add_linking_libs(function.libs)
        result = function(builder, (*numbers, scalars))
        return cgutils.unpack_tuple(builder, result) if results > 1 else [result]

    return call, results


def _targets(count: int, results: int) -> list[int]:
    """Return which of so many arrays a rule with so many results changes."""
    return [0, *range(count + 1 - results, count)]


@_intrinsic
def _step_nearest(typing_context, rule, arrays, i, h):
    call, results = _call(typing_context, rule, len(arrays), h)

    def generate(context, builder, signature, arguments):
        _, values, i, scalars = arguments
        elements = _Elements(context, builder, arrays, values, i)
        numbers = [elements.widened(number, h[0]) for number in range(len(arrays))]
        for number, result in zip(_targets(len(arrays), results), call(context, builder, numbers, scalars)):
            elements.store(number, result, h[0])
        return context.get_dummy_value()

    return types.void(rule, arrays, i, h), generate


@_intrinsic
def _step_stochastic(typing_context, rule, arrays, i, h, draws):
    call, results = _call(typing_context, rule, len(arrays), h)

    def generate(context, builder, signature, arguments):
        _, values, i, scalars, found = arguments
        elements = _Elements(context, builder, arrays, values, i)
        numbers = [elements.widened(number, h[0]) for number in range(len(arrays))]
        words = _words(context, builder, draws, found, i)
        new = call(context, builder, numbers, scalars)
        for number, result, word in zip(_targets(len(arrays), results), new, words):
            elements.store(number, result, h[0], word)
        return context.get_dummy_value()

    return types.void(rule, arrays, i, h, draws), generate


@_intrinsic
def _step_master(typing_context, rule, arrays, i, h):
    call, results = _call(typing_context, rule, len(arrays) - 1, h)

    def generate(context, builder, signature, arguments):
        _, values, i, scalars = arguments
        elements = _Elements(context, builder, arrays, values, i)
        # Where the parameter is not the rounded master, somebody has written to it, and that is what counts.
        current, master, own = elements.load(0), elements.load(1), elements.kinds[0]
        kept = builder.icmp_unsigned("==", current, elements.nearest(own, master))
        theta = builder.select(kept, master, elements.wide(own, current))
        theta = context.cast(builder, theta, types.float32, h[0])
        numbers = [theta, *(elements.widened(number, h[0]) for number in range(2, len(arrays)))]
        first, *others = call(context, builder, numbers, scalars)
        elements.store(0, elements.store(1, first, h[0]), types.float32)
        for number, result in zip(_targets(len(arrays) - 1, results)[1:], others):
            elements.store(number + 1, result, h[0])
        return context.get_dummy_value()

    return types.void(rule, arrays, i, h), generate


def _words(context: Any, builder: Any, draws: Any, value: Any, i: Any) -> list[Any]:
    """Return the four words of random bits of element i."""
    data = context.make_array(draws)(context, builder, value).data
    *key, step, stream, place = (builder.load(builder.gep(data, [_I32(j)])) for j in range(5))
    place = builder.add(place, i)
    counter = [place, builder.lshr(place, _I64(32)), step, stream]
    words, key = ([builder.trunc(part, _I32) for part in parts] for parts in (counter, key))
    return half.philox(builder, words, key)


@_intrinsic
def _put(typing_context, target, x, i):
    def generate(context, builder, signature, arguments):
        values, i = context.make_tuple(builder, types.Tuple((target, x)), arguments[:2]), arguments[2]
        elements = _Elements(context, builder, (target, x), values, i)
        wide = types.float32 if half.is_half(x.dtype) else x.dtype
        elements.store(0, elements.widened(1, wide), wide)
        return context.get_dummy_value()

    return types.void(target, x, i), generate


@_intrinsic
def _put_drawn(typing_context, target, x, i, draws, number):
    def generate(context, builder, signature, arguments):
        values, i = context.make_tuple(builder, types.Tuple((target, x)), arguments[:2]), arguments[2]
        elements = _Elements(context, builder, (target, x), values, i)
        words = _words(context, builder, draws, arguments[3], i)
        word = words[0]
        for j in range(1, 4):
            word = builder.select(builder.icmp_unsigned("==", arguments[4], arguments[4].type(j)), words[j], word)
        elements.store(0, elements.load(1), x.dtype, word)
        return context.get_dummy_value()

    return types.void(target, x, i, draws, number), generate


@cpu_loop
def round_cpu(target, x):
    for i in range(target.size):
        _put(target, x, i)


@cpu_tasks
def round_drawn_cpu(target, x, draws, number, first, stop):
    for i in range(first, stop):
        _put_drawn(target, x, i, draws, number)


@cpu_loop
def widen_cpu(out, x):
    for i in range(out.size):
        _put(out, x, i)


def widened(x: Any) -> Any:
    """Return a flat array of 16-bit numbers as float32, any other as it is."""
    if x.dtype.itemsize != 2:
        return x
    out = np.empty(x.size, np.float32)
    widen_cpu(out, half.as_bits(x))
    return out


def store(target: Any, x: Any, draws: Any = None, number: int = 0) -> None:
    """Round an array of wider numbers once into one of 16 bits; into a wider one, as that rounds.

    With draws it is stochastic: an element's result of this number takes that word of the element's four.
    """
    if target.dtype.itemsize != 2:
        target[...] = x
        return
    if not target.flags.c_contiguous:
        raise ValueError("the target must be contiguous")
    bits, x = half.as_bits(target).reshape(-1), np.ascontiguousarray(x).reshape(-1)
    if draws is None:
        round_cpu(bits, x)
    else:
        round_drawn_cpu.run(bits.size, GRAIN, x.nbytes, bits, x, draws, number)


def restored(theta: Any, master: Any) -> Any:
    """Return the master weights, or the parameters where somebody has written to these."""
    rounded = np.empty_like(theta)
    store(rounded, master)
    same = half.as_bits(rounded) == half.as_bits(theta)
    return np.where(same, master, theta.astype(np.float32))
