"""The one place for compile options and launch configuration."""

from collections.abc import Callable
from functools import cached_property, partial
from importlib import import_module
from types import FunctionType
from typing import Any

from numba import njit

_OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy"}

# Waking the other threads takes as long as one thread needs for about this many elements of Adam.
SERIAL_BELOW = 65_536


def cpu_rule(rule: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a rule so that the CPU loop that calls it contains its code."""
    return njit(inline="always", error_model="numpy")(rule)


def cpu_part(part: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function that CPU loops call, which has loops of its own."""
    return njit(nogil=True, error_model="numpy")(part)


class CpuLoop:
    """A loop over flat arrays, compiled twice: for one thread and for all of them. Both give the same bits."""

    def __init__(self, loop: FunctionType) -> None:
        self.__doc__ = loop.__doc__
        self.name = loop.__name__
        self.parallel = njit(parallel=True, **_OPTIONS)(loop)
        self.serial = njit(**_OPTIONS)(_renamed(loop, f"{loop.__name__}_serial"))

    def __call__(self, first: Any, *arguments: Any) -> Any:
        """Run over the first array; the arguments are the other arrays, of the same size, and the scalars."""
        return (self.serial if first.size < SERIAL_BELOW else self.parallel)(first, *arguments)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


class CpuKernel(CpuLoop):
    """The loop of a rule."""


def cpu_loop(loop: Callable[..., Any]) -> CpuLoop:
    """Compile a loop that has no rule for the CPU when it is first called; the compiled code is cached on disk."""
    assert isinstance(loop, FunctionType)
    return CpuLoop(loop)


def cpu_kernel(loop: Callable[..., None]) -> CpuKernel:
    """Compile the loop of a rule for the CPU when it is first called; the compiled code is cached on disk."""
    assert isinstance(loop, FunctionType)
    return CpuKernel(loop)


class Deferred:
    """Stands in a kernel's file for something of numba.cuda, whose import takes longer than everything else here."""

    def __init__(self, resolve: Callable[[], Any]) -> None:
        self._resolve = resolve

    @cached_property
    def value(self) -> Any:
        """What this stands for."""
        return self._resolve()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.value, name)


cuda: Any = Deferred(partial(import_module, "numba.cuda"))


def gpu_rule(rule: Callable[..., Any]) -> Any:
    """Compile a rule as a device function when a kernel that calls it is compiled."""
    return Deferred(lambda: cuda.jit(device=True, inline="always")(rule))


def gpu_part(part: Callable[..., Any]) -> Any:
    """Compile a device function that itself names things of numba.cuda, when a kernel that calls it is compiled."""
    assert isinstance(part, FunctionType)
    return Deferred(lambda: cuda.jit(device=True)(_loaded(part)))


class GpuKernel:
    """A CUDA kernel that is compiled when it is first launched. Creating one needs no driver and no numba-cuda."""

    def __init__(self, loop: FunctionType) -> None:
        self.__doc__ = loop.__doc__
        self.name = loop.__name__
        self._loop = loop

    @cached_property
    def function(self) -> FunctionType:
        """The loop, with what it names of numba.cuda in place of the stand-ins."""
        return _loaded(self._loop)

    @cached_property
    def dispatcher(self) -> Any:
        """The kernel as numba.cuda launches it: ``dispatcher[blocks, threads](*arrays, scalars)``."""
        return cuda.jit(self.function)

    def __repr__(self) -> str:
        return f"<CUDA kernel {self.name}>"


def gpu_kernel(loop: Callable[..., None]) -> GpuKernel:
    """Compile the grid-stride loop of a rule for CUDA when it is first launched."""
    assert isinstance(loop, FunctionType)
    return GpuKernel(loop)


def _loaded(function: FunctionType) -> FunctionType:
    names = {name: function.__globals__[name] for name in function.__code__.co_names if name in function.__globals__}
    loaded = {name: item.value if isinstance(item, Deferred) else item for name, item in names.items()}
    return FunctionType(function.__code__, loaded, function.__name__)


def _renamed(loop: FunctionType, name: str) -> FunctionType:
    # Numba's cache finds compiled code by the function's name and line and ignores the options: without a name of its
    # own the serial variant would be loaded in place of the parallel one.
    copy = FunctionType(
        loop.__code__.replace(co_name=name), loop.__globals__, name, loop.__defaults__, loop.__closure__
    )
    copy.__qualname__ = name
    copy.__module__ = loop.__module__
    copy.__doc__ = loop.__doc__
    return copy
