"""The CUDA kernels of a rule over parameters of 16 bits that do more than round: master weights, stochastic rounding.

They are those of ``strips`` but for what is done to a strip, which is as wide as 16 bytes hold float32 where there are
master weights. Random bits are those of the CPU: they go by the element's place, whatever strip it is in.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import pairwise
from types import FunctionType
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import overload

from refoptim.kernels import half, half_numbers, philox
from refoptim.kernels.arithmetic import unpack
from refoptim.kernels.calls import call_of, changed
from refoptim.kernels.elements import Strip, number, put
from refoptim.kernels.intrinsics import intrinsic
from refoptim.kernels.jit import Row, cuda, gpu_rule, loaded, renamed
from refoptim.kernels.operations import constant
from refoptim.kernels.philox import Draws
from refoptim.kernels.strips import RuleKernel, results_of, wide_of, width

_I16, _I32, _I64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)


class Position(NamedTuple):
    """How far a table of scalars on the GPU is; see ``tables.take_row_gpu``."""

    taken: int
    rows: int
    first: int  # the step count before the first row


class HalfKernels:
    """The kernels of a rule over parameters of 16 bits, each compiled when it is first launched.

    They take what those of ``half_loops`` take, the scalars also from where they lie on the GPU.
    """

    def __init__(self, kernel: RuleKernel) -> None:
        self._kernel = kernel
        self._kind = kernel.rule.__globals__["Scalars"]

    def nearest(self, arrays: tuple[Any, ...], scalars: Any) -> None:
        """Step arrays, given those that a rule's loop takes, and its scalars."""
        self._kernel.launch(*arrays, self._scalars(scalars))

    def master(self, arrays: tuple[Any, ...], scalars: Any) -> None:
        """Step arrays: the parameters come first, then the master weights in the place of the parameters."""
        self._master.launch(*arrays, self._scalars(scalars))

    def stochastic(self, arrays: tuple[Any, ...], scalars: Any, draws: Any, position: Any = None) -> None:
        """Step arrays, given where the random bits are. Where there is a position, that counts the steps."""
        others = (Draws(*map(int, draws)), *(() if position is None else (position,)))
        self._drawn.launch_with(arrays, self._scalars(scalars), *others)

    def _scalars(self, scalars: Any) -> Any:
        return Row(self._kind, scalars) if hasattr(scalars, "__cuda_ndarray__") else self._kind(*scalars)

    @cached_property
    def _master(self) -> RuleKernel:
        return MasterKernel(self._kernel.rule)

    @cached_property
    def _drawn(self) -> RuleKernel:
        return DrawnKernel(self._kernel.rule)


def step_master(rule: Any, arrays: Any, i: Any, h: Any) -> None:
    """Step element i of master weights, and round it to the parameters."""
    theta, master, *others = arrays
    kept = theta[i] == half_numbers.nearest(master[i], theta.dtype)
    first = master[i] if kept else half_numbers.widen(theta[i])
    results = results_of(rule, (first, *(number(x[i]) for x in others)), h)
    for place, result in zip(changed(len(arrays) - 1, len(results)), results):
        put(arrays[place + 1], i, result)
    put(theta, i, master[i])


def step_master_strip(rule: Any, arrays: Any, i: Any, h: Any) -> None:
    """Step the strip that starts with element i."""
    for j in range(width([x.dtype.itemsize for x in arrays])):
        step_master(rule, arrays, i + j, h)


def step_drawn(rule: Any, arrays: Any, i: Any, h: Any, draws: Any) -> None:
    """Step element i, and round by its random bits."""
    results = results_of(rule, (number(x[i]) for x in arrays), h)
    for place, (found, result) in enumerate(zip(changed(len(arrays), len(results)), results)):
        dtype = arrays[found].dtype
        arrays[found][i] = half_numbers.stochastic(result, dtype, half_numbers.drawn(draws, i, place))


def step_drawn_strip(rule: Any, arrays: Any, i: Any, h: Any, draws: Any) -> None:
    """Step the strip that starts with element i."""
    for j in range(width([x.dtype.itemsize for x in arrays])):
        step_drawn(rule, arrays, i + j, h, draws)


def counted(draws: Any, position: Any) -> Any:
    """Return where the random bits are for the row that was taken last."""
    step = position.first + position.taken - 1
    return Draws(draws.low, draws.high, step, draws.stream, draws.place, draws.factor)


class MasterKernel(RuleKernel):
    """The kernel of a rule that steps master weights."""

    suffix = "_master"

    @property
    def steps(self) -> tuple[Callable[..., None], Callable[..., None]]:
        """What steps an element, and what a strip."""
        return step_master, step_master_strip


class DrawnKernel(RuleKernel):
    """The kernel of a rule that rounds stochastically."""

    suffix = "_drawn"

    @cached_property
    def function(self) -> FunctionType:
        """The kernel as a plain function, the rule in it compiled for the device."""
        rule = gpu_rule(self.rule).value

        def kernel(arrays, size, head, wide, strips, h, draws):
            i = cuda.grid(1)
            if i < strips:
                step_drawn_strip(rule, arrays, head + wide * i, h, draws)
            if i < size - wide * strips:
                step_drawn(rule, arrays, i if i < head else i + wide * strips, h, draws)

        return renamed(loaded(kernel), self.name, self.rule.__module__)

    def reading(self, kind: Any) -> FunctionType:
        """Return the kernel that finds its scalars, and which step it is, on the GPU."""
        rule, counted_gpu = gpu_rule(self.rule).value, gpu_rule(counted).value

        def kernel(arrays, size, head, wide, strips, row, draws, position):
            i = cuda.grid(1)
            h = kind(*unpack(kind, row))
            draws = counted_gpu(draws, Position(*unpack(Position, position)))
            if i < strips:
                step_drawn_strip(rule, arrays, head + wide * i, h, draws)
            if i < size - wide * strips:
                step_drawn(rule, arrays, i if i < head else i + wide * strips, h, draws)

        return renamed(loaded(kernel), f"{self.rule.__name__}_drawn_reading_gpu", self.rule.__module__)


def _compile_master(typing_context, rule, arrays, i, h, wide):
    """Return the signature of a step of this many elements, and what generates its code."""
    call, results = call_of(typing_context, rule, len(arrays) - 1, h)

    def generate(context, builder, signature, arguments):
        _, values, i, scalars = arguments
        strip = Strip(context, builder, arrays, values, i, wide)
        own = strip.kinds[0]

        def first(current, master):
            # Where the parameter is not the rounded master, somebody has written to it, and that is what counts.
            kept = builder.icmp_unsigned("==", current, strip.rounded(master, types.float32, own))
            theta = builder.select(kept, master, strip.widened(current, own, types.float32))
            return context.cast(builder, theta, types.float32, h[0])

        columns = [[first(*pair) for pair in zip(strip.load(0), strip.load(1))]]
        columns += [strip.numbers(place, h[0]) for place in range(2, len(arrays))]
        new = zip(*[call(context, builder, row, scalars) for row in zip(*columns)])
        for place, column in zip(changed(len(arrays) - 1, results), new):
            stored = [strip.rounded(x, h[0], strip.kinds[place + 1]) for x in column]
            strip.store(place + 1, stored)
            if place == 0:
                strip.store(0, [strip.rounded(master, types.float32, own) for master in stored])
        return context.get_dummy_value()

    return types.void(rule, arrays, i, h), generate


def _compile_drawn(typing_context, rule, arrays, i, h, draws, wide):
    """Return the signature of a step of this many elements, and what generates its code."""
    call, results = call_of(typing_context, rule, len(arrays), h)

    def generate(context, builder, signature, arguments):
        _, values, i, scalars, found = arguments
        strip = Strip(context, builder, arrays, values, i, wide)
        rows = zip(*(strip.numbers(place, h[0]) for place in range(len(arrays))))
        columns = zip(*[call(context, builder, row, scalars) for row in rows])
        drawn = _words(builder, cgutils.unpack_tuple(builder, found), i, wide)
        for result, (place, column) in enumerate(zip(changed(len(arrays), results), columns)):
            kind = strip.kinds[place]
            own = [builder.mul(word, constant(word.type, philox.factor(result))) for word in drawn]
            words = [builder.zext(word, _I32) for word in own]
            strip.store(place, [half.stochastic(builder, kind, x, word) for x, word in zip(column, words)])
        return context.get_dummy_value()

    return types.void(rule, arrays, i, h, draws), generate


def _words(builder: Any, draws: Sequence[Any], i: Any, wide: int) -> list[Any]:
    """Return the 16 random bits for a first result of so many elements, the first of which is i."""
    *_, start, factor = draws
    start = builder.add(start, i)
    words = [builder.trunc(word, _I32) for word in _blocks(builder, draws, start, wide)]
    skipped = builder.trunc(start, _I32)

    def has(bit):
        return builder.trunc(builder.lshr(skipped, _I32(bit)), ir.IntType(1))

    # By 8 elements and by 4, then by the pair that is half of a word.
    for bit, count in ((3, 2), (2, 1)):
        is_so = has(bit)
        words = [builder.select(is_so, later, word) for word, later in zip(words, words[count:])]
    halves = [builder.trunc(part, _I16) for word in words for part in (word, builder.lshr(word, _I32(16)))]
    is_so = has(1)
    halves = [builder.select(is_so, later, own) for own, later in pairwise(halves)]
    is_odd, first = has(0), builder.trunc(factor, _I16)
    factors = first, builder.mul(first, _I16(philox.SPREAD))

    return [
        builder.mul(
            builder.select(is_odd, halves[(j + 1) // philox.PAIR], halves[j // philox.PAIR]),
            builder.select(is_odd, factors[(j + 1) % philox.PAIR], factors[j % philox.PAIR]),
        )
        for j in range(wide)
    ]


def _blocks(builder: Any, draws: Sequence[Any], start: Any, wide: int) -> list[Any]:
    """Return the words of the block that holds the bits of the first of so many elements, and of the next if needed."""
    *key, step, stream, _, _ = draws
    block, place = builder.udiv(start, _I64(philox.SHARE)), builder.urem(start, _I64(philox.SHARE))

    def drawn(block):
        return philox.philox(builder, [block, builder.lshr(block, _I64(32)), step, stream], key)

    words, before = drawn(block), builder.block
    # Where parameters begin at a multiple of 8 no strip of theirs does: no thread waits for others that draw again.
    with builder.if_then(builder.icmp_unsigned(">", place, _I64(philox.SHARE - wide))):
        following, within = drawn(builder.add(block, _I64(1))), builder.block
    for word in following:
        either = builder.phi(word.type)
        either.add_incoming(word, within)
        either.add_incoming(word.type(0), before)
        words.append(either)
    return words


@intrinsic
def _step_master(typing_context, rule, arrays, i, h):
    return _compile_master(typing_context, rule, arrays, i, h, 1)


@intrinsic
def _step_master_strip(typing_context, rule, arrays, i, h):
    return _compile_master(typing_context, rule, arrays, i, h, wide_of(arrays))


@intrinsic
def _step_drawn(typing_context, rule, arrays, i, h, draws):
    return _compile_drawn(typing_context, rule, arrays, i, h, draws, 1)


@intrinsic
def _step_drawn_strip(typing_context, rule, arrays, i, h, draws):
    return _compile_drawn(typing_context, rule, arrays, i, h, draws, wide_of(arrays))


@overload(step_master, target="generic")
def _compile_step_master(rule, arrays, i, h):
    return lambda rule, arrays, i, h: _step_master(rule, arrays, i, h)


@overload(step_master_strip, target="generic")
def _compile_step_master_strip(rule, arrays, i, h):
    return lambda rule, arrays, i, h: _step_master_strip(rule, arrays, i, h)


@overload(step_drawn, target="generic")
def _compile_step_drawn(rule, arrays, i, h, draws):
    return lambda rule, arrays, i, h, draws: _step_drawn(rule, arrays, i, h, draws)


@overload(step_drawn_strip, target="generic")
def _compile_step_drawn_strip(rule, arrays, i, h, draws):
    return lambda rule, arrays, i, h, draws: _step_drawn_strip(rule, arrays, i, h, draws)
