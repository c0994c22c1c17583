"""The CUDA kernel of a rule: a thread steps a strip of neighbours, which it loads and stores 16 bytes at a time.

A rule returns the new element of its first array, then those of its last ones. A strip is as wide as 16 bytes hold
elements of the widest of its arrays: so neighbouring threads read and write neighbouring bytes. What lies before the
first element from which all arrays are aligned, and behind the last strip, is stepped element by element; so is
everything, where the arrays have no such element.

As in ``arithmetic``, the plain functions are what the CUDA simulator runs, and compiled code has the overloads.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from types import FunctionType
from typing import Any

from llvmlite import ir
from numba import typeof, types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from refoptim.kernels.arithmetic import unpack, widen
from refoptim.kernels.jit import SIMULATED, GpuKernel, Row, cuda, gpu_rule, grid, launch_with_numbers, loaded, renamed

# The most bytes that one instruction moves for a thread; their address must be a multiple of it.
ACCESS = 16

# Numba passes a typing context that the caller does not: to a type checker the two signatures do not agree.
_intrinsic: Any = intrinsic


class RuleKernel(GpuKernel):
    """The CUDA kernel of a rule, compiled when it is first launched."""

    def __init__(self, rule: Callable[..., Any]) -> None:
        assert isinstance(rule, FunctionType)
        self.__doc__ = rule.__doc__
        self.name = f"{rule.__name__}_gpu"
        self.rule = rule
        self._compiled: dict[Any, Any] = {}

    @cached_property
    def function(self) -> FunctionType:
        """The kernel as a plain function, the rule in it compiled for the device."""
        rule = gpu_rule(self.rule).value

        def kernel(arrays, size, head, wide, strips, h):
            i = cuda.grid(1)
            if i < strips:
                step_strip(rule, arrays, head + wide * i, h)
            if i < size - wide * strips:
                step(rule, arrays, i if i < head else i + wide * strips, h)

        return renamed(loaded(kernel), self.name, self.rule.__module__)

    def reading(self, kind: Any) -> FunctionType:
        """Return the kernel that finds its scalars on the GPU."""
        rule = gpu_rule(self.rule).value

        def kernel(arrays, size, head, wide, strips, row):
            i = cuda.grid(1)
            h = kind(*unpack(kind, row))
            if i < strips:
                step_strip(rule, arrays, head + wide * i, h)
            if i < size - wide * strips:
                step(rule, arrays, i if i < head else i + wide * strips, h)

        return renamed(loaded(kernel), f"{self.rule.__name__}_reading_gpu", self.rule.__module__)

    def compiled(self, itemsizes: Sequence[int], h: Any) -> Any:
        """Return the kernel for arrays with elements of these sizes and scalars of this type."""
        reads = isinstance(h, Row)
        key = (*itemsizes, h.numbers.dtype if reads else type(h[0]), reads)
        if key not in self._compiled:
            function = self.reading(h.kind) if reads else self.function
            self._compiled[key] = cuda.jit(signature(itemsizes, h))(function)
        return self._compiled[key]

    def launch(self, first: Any, *arguments: Any) -> None:
        """Step every element of flat arrays of one size, given the scalars, which may lie on the GPU too.

        The host does not wait for the end.
        """
        arrays, h = (first, *arguments[:-1]), arguments[-1]
        if not first.size:
            return
        itemsizes = [x.dtype.itemsize for x in arrays]
        addresses = [address(x) for x in arrays]
        head, wide, strips = layout(first.size, itemsizes, addresses)
        blocks, threads = grid(max(strips, first.size - wide * strips))
        try:
            kernel = self.compiled(itemsizes, h)
            if SIMULATED:
                scalars = h.numbers if isinstance(h, Row) else h
                kernel[blocks, threads](arrays, first.size, head, wide, strips, scalars)
            else:
                scalars = (address(h.numbers),) if isinstance(h, Row) else h
                launch_with_numbers(kernel, blocks, threads, (*addresses, first.size, head, wide, strips, *scalars))
        except Exception as error:
            raise self.failure(error) from error


def gpu_elementwise(rule: Callable[..., Any]) -> RuleKernel:
    """Make the CUDA kernel of a rule. It is compiled when it is first launched."""
    return RuleKernel(rule)


def signature(itemsizes: Sequence[int], h: Any) -> Any:
    """Return the types of a kernel's arguments."""
    kinds = {4: types.float32, 8: types.float64}
    arrays = types.Tuple([types.CPointer(kinds[itemsize]) for itemsize in itemsizes])
    scalars = types.CPointer(kinds[h.numbers.dtype.itemsize]) if isinstance(h, Row) else typeof(h)
    return types.void(arrays, types.int64, types.int64, types.int64, types.int64, scalars)


def width(itemsizes: Sequence[int]) -> int:
    """Return how many elements a strip has, given the sizes of the arrays' elements."""
    return ACCESS // max(itemsizes)


def layout(size: int, itemsizes: Sequence[int], addresses: Sequence[int]) -> tuple[int, int, int]:
    """Return where the first strip starts, how wide strips are, and how many there are."""
    wide = width(itemsizes)
    for head in range(wide):
        if not any((address + head * itemsize) % (wide * itemsize) for address, itemsize in zip(addresses, itemsizes)):
            return head, wide, max(size - head, 0) // wide
    return 0, wide, 0


def address(x: Any) -> int:
    return x.ctypes.data if SIMULATED else x.device_ctypes_pointer.value


def step(rule: Any, arrays: Any, i: Any, h: Any) -> None:
    """Step element i."""
    results = rule(*(widen(x[i], h) for x in arrays), h)
    results = results if isinstance(results, tuple) else (results,)
    for target, result in zip(_targets(arrays, len(results)), results):
        target[i] = result


def step_strip(rule: Any, arrays: Any, i: Any, h: Any) -> None:
    """Step the strip that starts with element i."""
    for j in range(width([x.dtype.itemsize for x in arrays])):
        step(rule, arrays, i + j, h)


def _targets(arrays: Any, results: int) -> Any:
    """Return the arrays that a rule with this many results changes."""
    return (arrays[0], *arrays[len(arrays) + 1 - results :])


def _compile(typing_context, rule, arrays, i, h, wide):
    """Return the signature of a step of this many elements, and what generates its code."""
    kind = h[0]
    signature = rule.get_call_type(typing_context, (*[kind] * len(arrays), h), {})
    results = len(signature.return_type) if isinstance(signature.return_type, types.BaseTuple) else 1

    def generate(context, builder, outer, arguments):
        call = context.get_function(rule, signature)
        context.add_linking_libs(call.libs)
        values = cgutils.unpack_tuple(builder, arguments[1])
        starts = [_start(context, builder, x, value) for x, value in zip(arrays, values)]
        vectors = [(x, _vector(builder, start, arguments[2], wide)) for x, start in zip(arrays, starts)]
        elements = zip(*(_load(context, builder, x, vector, kind) for x, vector in vectors))
        rows = [call(builder, (*row, arguments[3])) for row in elements]
        columns = zip(*(cgutils.unpack_tuple(builder, row) for row in rows)) if results > 1 else [rows]
        for (x, vector), column in zip(_targets(vectors, results), columns):
            _store(context, builder, x, vector, kind, column)
        return context.get_dummy_value()

    return types.void(rule, arrays, i, h), generate


def _start(context, builder, x, value):
    """Return where an array begins. That of a rule's kernel is an address."""
    return context.make_array(x)(context, builder, value).data if isinstance(x, types.Array) else value


def _vector(builder, start, i, wide):
    """Return a pointer to this many elements of an array."""
    first = builder.gep(start, [i])
    return builder.bitcast(first, ir.VectorType(first.type.pointee, wide).as_pointer())


def _load(context, builder, x, vector, kind):
    loaded, wide = builder.load(vector, align=_size(x, vector)), vector.type.pointee.count
    elements = [builder.extract_element(loaded, ir.IntType(32)(j)) for j in range(wide)]
    return [context.cast(builder, element, x.dtype, kind) for element in elements]


def _store(context, builder, x, vector, kind, column):
    stored = vector.type.pointee(ir.Undefined)
    for j, result in enumerate(column):
        element = context.cast(builder, result, kind, x.dtype)
        stored = builder.insert_element(stored, element, ir.IntType(32)(j))
    builder.store(stored, vector, align=_size(x, vector))


def _size(x, vector):
    return vector.type.pointee.count * x.dtype.bitwidth // 8


@_intrinsic
def _step(typing_context, rule, arrays, i, h):
    return _compile(typing_context, rule, arrays, i, h, 1)


@_intrinsic
def _step_strip(typing_context, rule, arrays, i, h):
    return _compile(typing_context, rule, arrays, i, h, width([x.dtype.bitwidth // 8 for x in arrays]))


@overload(step, target="generic")
def _compile_step(rule, arrays, i, h):
    return lambda rule, arrays, i, h: _step(rule, arrays, i, h)


@overload(step_strip, target="generic")
def _compile_step_strip(rule, arrays, i, h):
    return lambda rule, arrays, i, h: _step_strip(rule, arrays, i, h)
