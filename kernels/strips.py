"""The CUDA kernel of a rule: a thread steps a strip of neighbours, which it loads and stores 16 bytes at a time.

A rule returns the new element of its first array, then those of its last ones. A strip is as wide as 16 bytes hold
elements of the widest of its arrays: so neighbouring threads read and write neighbouring bytes. What lies before the
first element from which all arrays are aligned, and behind the last strip, is stepped element by element; so is
everything, where the arrays have no such element.

Numbers of 16 bits come as their bits, as in ``half``: loads are widened to float32, and each result is rounded once.

As in ``arithmetic``, the plain functions are what the CUDA simulator runs, and compiled code has the overloads.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import chain
from types import FunctionType
from typing import Any

from numba import from_dtype, typeof, types
from numba.extending import overload

from refoptim.kernels import half_numbers
from refoptim.kernels.arithmetic import unpack, widen
from refoptim.kernels.calls import call_of, changed
from refoptim.kernels.elements import ACCESS, Strip, number, put
from refoptim.kernels.interrupts import imported
from refoptim.kernels.intrinsics import intrinsic
from refoptim.kernels.jit import SIMULATED, GpuKernel, Row, cuda, gpu_rule, grid, launch_with_numbers, loaded, renamed


class RuleKernel(GpuKernel):
    """The CUDA kernel of a rule, compiled when it is first launched."""

    suffix = ""

    def __init__(self, rule: Callable[..., Any]) -> None:
        assert isinstance(rule, FunctionType)
        self.__doc__ = rule.__doc__
        self.name = f"{rule.__name__}{self.suffix}_gpu"
        self.rule = rule
        self._compiled: dict[Any, Any] = {}

    @property
    def steps(self) -> tuple[Callable[..., None], Callable[..., None]]:
        """What steps an element, and what a strip."""
        return step, step_strip

    @cached_property
    def half(self) -> Any:
        """The kernels of the rule over parameters of 16 bits: see the module ``half_strips``."""
        return imported("refoptim.kernels.half_strips").HalfKernels(self)

    @cached_property
    def function(self) -> FunctionType:
        """The kernel as a plain function, the rule in it compiled for the device."""
        rule, (step, step_strip) = gpu_rule(self.rule).value, self.steps

        def kernel(arrays, size, head, wide, strips, h):
            i = cuda.grid(1)
            if i < strips:
                step_strip(rule, arrays, head + wide * i, h)
            if i < size - wide * strips:
                step(rule, arrays, i if i < head else i + wide * strips, h)

        return renamed(loaded(kernel), self.name, self.rule.__module__)

    def reading(self, kind: Any) -> FunctionType:
        """Return the kernel that finds its scalars on the GPU."""
        rule, (step, step_strip) = gpu_rule(self.rule).value, self.steps

        def kernel(arrays, size, head, wide, strips, row):
            i = cuda.grid(1)
            h = kind(*unpack(kind, row))
            if i < strips:
                step_strip(rule, arrays, head + wide * i, h)
            if i < size - wide * strips:
                step(rule, arrays, i if i < head else i + wide * strips, h)

        return renamed(loaded(kernel), f"{self.rule.__name__}{self.suffix}_reading_gpu", self.rule.__module__)

    def compiled(self, dtypes: Sequence[Any], h: Any, *others: Any) -> Any:
        """Return the kernel for arrays of these dtypes, as kernels see them, and scalars of this type."""
        reads = isinstance(h, Row)
        key = (*dtypes, h.numbers.dtype if reads else type(h[0]), reads)
        if key not in self._compiled:
            function = self.reading(h.kind) if reads else self.function
            self._compiled[key] = cuda.jit(signature(dtypes, h, *others))(function)
        return self._compiled[key]

    def launch(self, first: Any, *arguments: Any) -> None:
        """Step every element of flat arrays of one size, given the scalars, which may lie on the GPU too.

        The host does not wait for the end.
        """
        self.launch_with((first, *arguments[:-1]), arguments[-1])

    def launch_with(self, arrays: Sequence[Any], h: Any, *others: Any) -> None:
        """Launch with more behind the scalars: tuples of numbers, and arrays, of which a kernel gets the addresses."""
        size, dtypes = arrays[0].size, [half_numbers.seen(x.dtype) for x in arrays]
        if not size:
            return
        addresses = [address(x) for x in arrays]
        head, wide, strips = layout(size, [dtype.itemsize for dtype in dtypes], addresses)
        blocks, threads = grid(max(strips, size - wide * strips))
        try:
            kernel = self.compiled(dtypes, h, *others)
            given = [h.numbers if isinstance(h, Row) else h, *others]
            if SIMULATED:
                arrays = tuple(x.view(dtype) for x, dtype in zip(arrays, dtypes))
                kernel[blocks, threads](arrays, size, head, wide, strips, *given)
            else:
                numbers = chain.from_iterable(item if isinstance(item, tuple) else (address(item),) for item in given)
                launch_with_numbers(kernel, blocks, threads, (*addresses, size, head, wide, strips, *numbers))
        except Exception as error:
            raise self.failure(error) from error


def gpu_elementwise(rule: Callable[..., Any]) -> RuleKernel:
    """Make the CUDA kernel of a rule. It is compiled when it is first launched."""
    return RuleKernel(rule)


def signature(dtypes: Sequence[Any], h: Any, *others: Any) -> Any:
    """Return the types of a kernel's arguments."""
    arrays = types.Tuple([types.CPointer(from_dtype(dtype)) for dtype in dtypes])
    given = [h.numbers if isinstance(h, Row) else h, *others]
    kinds = [typeof(item) if isinstance(item, tuple) else types.CPointer(from_dtype(item.dtype)) for item in given]
    return types.void(arrays, types.int64, types.int64, types.int64, types.int64, *kinds)


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


def results_of(rule: Any, numbers: Any, h: Any) -> Any:
    """Return what a rule returns for these numbers, in the type of the scalars, as a tuple."""
    results = rule(*(widen(x, h) for x in numbers), h)
    return results if isinstance(results, tuple) else (results,)


def step(rule: Any, arrays: Any, i: Any, h: Any) -> None:
    """Step element i."""
    results = results_of(rule, (number(x[i]) for x in arrays), h)
    for place, result in zip(changed(len(arrays), len(results)), results):
        put(arrays[place], i, result)


def step_strip(rule: Any, arrays: Any, i: Any, h: Any) -> None:
    """Step the strip that starts with element i."""
    for j in range(width([x.dtype.itemsize for x in arrays])):
        step(rule, arrays, i + j, h)


def _compile(typing_context, rule, arrays, i, h, wide):
    """Return the signature of a step of this many elements, and what generates its code."""
    call, results = call_of(typing_context, rule, len(arrays), h)

    def generate(context, builder, signature, arguments):
        _, values, i, scalars = arguments
        strip = Strip(context, builder, arrays, values, i, wide)
        rows = zip(*(strip.numbers(place, h[0]) for place in range(len(arrays))))
        columns = zip(*(call(context, builder, row, scalars) for row in rows))
        for place, column in zip(changed(len(arrays), results), columns):
            strip.store(place, [strip.rounded(x, h[0], strip.kinds[place]) for x in column])
        return context.get_dummy_value()

    return types.void(rule, arrays, i, h), generate


def wide_of(arrays: Any) -> int:
    """Return how many elements a strip has, given the types of its arrays."""
    return width([x.dtype.bitwidth // 8 for x in arrays])


@intrinsic
def _step(typing_context, rule, arrays, i, h):
    return _compile(typing_context, rule, arrays, i, h, 1)


@intrinsic
def _step_strip(typing_context, rule, arrays, i, h):
    return _compile(typing_context, rule, arrays, i, h, wide_of(arrays))


@overload(step, target="generic")
def _compile_step(rule, arrays, i, h):
    return lambda rule, arrays, i, h: _step(rule, arrays, i, h)


@overload(step_strip, target="generic")
def _compile_step_strip(rule, arrays, i, h):
    return lambda rule, arrays, i, h: _step_strip(rule, arrays, i, h)
