"""The one place for compile options and launch configuration."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property, lru_cache, partial
from importlib import import_module
from types import FunctionType
from typing import Any, NamedTuple
from warnings import catch_warnings, simplefilter

import numpy as np
from numba import njit
from numba.core import config

from refoptim.kernels.caching import cached
from refoptim.kernels.interrupts import imported, whole
from refoptim.kernels.kept import Kept
from refoptim.kernels.pool import share

# Nobody calls kernels from C: to leave the wrapper for that out saves compiling it.
_OPTIONS = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
_PART_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "no_cfunc_wrapper": True,
    "no_cpython_wrapper": True,
}

# Waking the other threads takes as long as one thread needs for about this many bytes.
SERIAL_BELOW = 2_097_152
# Threads that are awake are worth a part of this many bytes, if what they are to do has been described before.
AWAKE = 4
# How many elements a thread takes at a time: whole cache lines, and as little as keeps all of them busy to the end.
GRAIN = 16_384
# How many parts short arrays have, and what the parts' elements are a multiple of.
PARTS, UNIT = 8, 64

# Threads of a block.
THREADS = 256

# Whether numba.cuda is its simulator, whose kernels take arrays for addresses, and whose arrays are NumPy's.
SIMULATED = bool(vars(config)["ENABLE_CUDASIM"])

_stream: ContextVar[Any] = ContextVar("stream", default=0)


def cpu_rule(rule: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a rule so that the CPU loop that calls it contains its code."""
    return njit(inline="always", error_model="numpy")(rule)


def cpu_part(part: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function that CPU loops call, and nobody else, which has loops of its own."""
    return njit(**_PART_OPTIONS)(part)


class CpuLoop:
    """A loop over flat arrays of one size, of which each thread gets its parts. Any number gives the same bits."""

    def __init__(self, loop: FunctionType) -> None:
        self.__doc__ = loop.__doc__
        self.name = loop.__name__
        self.serial = cached(njit(**_OPTIONS)(loop))
        names = loop.__code__.co_varnames[: loop.__code__.co_argcount]
        self.arrays = len(names) - names.count("scalars")

    def __call__(self, first: Any, *arguments: Any) -> None:
        """Run over the first array; the arguments are the other arrays, of the same size, and the scalars."""
        if self.is_short(first) or not self.share(first, *arguments):
            self.serial(first, *arguments)

    @cached_property
    def rows(self) -> Any:
        """The loop that steps some rows of the arrays: see the module ``row_loops``."""
        return imported("refoptim.kernels.row_loops").over_rows(self)

    def is_short(self, first: Any) -> bool:
        """Return whether one thread is faster than several, for arrays like this one."""
        return first.nbytes * self.arrays < SERIAL_BELOW

    def share(self, first: Any, *arguments: Any) -> bool:
        """Run on several threads, and return whether that could be."""
        return share(self.serial, (first, *arguments), self.arrays, first.size, GRAIN)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


class CpuTasks(CpuLoop):
    """A loop over a range, whose last two arguments are its ends: what takes parts of arrays of several shapes."""

    def run(self, tasks: int, grain: int, size: int, *arguments: Any) -> None:
        """Run over so many tasks, of which a thread takes so many at a time. The size says whether that pays."""
        if size < SERIAL_BELOW or not share(self.serial, (*arguments, 0, 0), 0, tasks, grain):
            self.serial(*arguments, 0, tasks)


class CpuKernel(CpuLoop):
    """The loop of a rule. Called with arrays on a GPU it launches its twin there, which gives the same bits."""

    def __init__(self, loop: FunctionType) -> None:
        super().__init__(loop)
        self._names = loop.__globals__

    @cached_property
    def twin(self) -> "GpuKernel":
        """The rule's CUDA kernel, which has its name with ``_gpu``."""
        return self._names[self.name.removesuffix("_cpu") + "_gpu"]

    @cached_property
    def half(self) -> Any:
        """The loops of the rule over parameters of 16 bits: see the module ``half_loops``."""
        rule, compiled = self._names[self.name.removesuffix("_cpu")], self._names[f"_{self.name}"]
        return imported("refoptim.kernels.half_loops").HalfLoops(rule, compiled)

    @cached_property
    def tiled(self) -> CpuLoop:
        """The loop for scalars that are wider than the arrays' elements: see the module ``tiles``."""
        rule = self._names[self.name.removesuffix("_cpu")]
        return imported("refoptim.kernels.tiles").tiled(rule)

    def loop(self, first: Any, scalars: Any) -> CpuLoop:
        """Return the loop for arrays like this one, and such scalars."""
        return self.tiled if first.dtype.itemsize < scalars.dtype.itemsize else self

    def __call__(self, first: Any, *arguments: Any) -> None:
        """Run over the first array; the arguments are the other arrays, of the same size, and the packed scalars."""
        if isinstance(first, np.ndarray):
            if first.dtype.itemsize == 2:
                self.half.nearest((first, *arguments[:-1]), arguments[-1])
            elif first.dtype.itemsize < arguments[-1].dtype.itemsize:
                self.tiled(first, *arguments)
            else:
                super().__call__(first, *arguments)
            return
        *arrays, scalars = arguments
        kind = self._names["Scalars"]
        h = kind(*scalars) if isinstance(scalars, np.ndarray) else Row(kind, scalars)
        self.twin.launch(first, *arrays, h)


def entry(kernel: Callable[..., Any], first: Any, scalars: Any, *, kept: bool = False) -> Callable[..., Any]:
    """Return what to call for arrays like this one: the compiled code itself, if they are small.

    If it is kept, it is called again and again with the same arguments.
    """
    if not isinstance(kernel, CpuKernel) or not isinstance(first, np.ndarray) or first.dtype.itemsize == 2:
        return kernel
    moved, serial = first.nbytes * kernel.arrays, kernel.loop(first, scalars).serial
    if not kept:
        return serial if moved < SERIAL_BELOW else kernel
    return kept_loop(serial, kernel.arrays, first.size, moved)


def kept_loop(serial: Any, sliced: int, tasks: int, moved: int, times: int = 1) -> Callable[..., None]:
    """Return what calls a compiled loop with the same arguments each time: the loop itself, if it moves few bytes.

    How arguments are cut into tasks says ``pool.share``.
    """
    grain = grain_of(tasks, times)
    if moved * AWAKE < SERIAL_BELOW or tasks <= grain:
        return serial
    return Kept(serial, sliced, tasks, grain, is_long=moved >= SERIAL_BELOW)


def grain_of(tasks: int, times: int = 1) -> int:
    """Return how many tasks a thread takes at a time, if it may take so many times as many of them as of elements."""
    return min(times * GRAIN, -(-max(tasks, 1) // (PARTS * UNIT)) * UNIT)


class Row(NamedTuple):
    """Scalars that lie on a GPU: the numbers that a kernel finds there when it runs, not those of its launch."""

    kind: Any  # the rule's Scalars
    numbers: Any


def cpu_loop(loop: Callable[..., Any]) -> CpuLoop:
    """Compile a loop that has no rule for the CPU when it is first called; the compiled code is cached on disk."""
    assert isinstance(loop, FunctionType)
    return CpuLoop(loop)


def cpu_tasks(loop: Callable[..., Any]) -> CpuTasks:
    """Compile a loop over a range for the CPU when it is first called; the compiled code is cached on disk."""
    assert isinstance(loop, FunctionType)
    return CpuTasks(loop)


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
        return whole(self._resolve)()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.value, name)


cuda: Any = Deferred(partial(import_module, "numba.cuda"))
cuda_core: Any = Deferred(partial(import_module, "cuda.core"))


@contextmanager
def on_stream(stream: Any) -> Iterator[None]:
    """Launch kernels and copy on this stream of numba.cuda's, 0 being the default one."""
    token = _stream.set(stream)
    try:
        yield
    finally:
        _stream.reset(token)


def current_stream() -> Any:
    """Return the stream of the innermost :func:`on_stream`."""
    return _stream.get()


def capturing() -> bool:
    """Return whether what is launched on the current stream becomes a part of a CUDA graph, and does not run."""
    if SIMULATED:
        return False
    cuda.current_context()  # a thread that has done nothing yet has none
    driver, stream = import_module("cuda.bindings.driver"), _stream.get()
    error, status = driver.cuStreamIsCapturing(driver.CUstream(int(stream) if stream else 0))
    if error == driver.CUresult.CUDA_ERROR_STREAM_CAPTURE_IMPLICIT:
        raise RuntimeError("another stream is being captured, and this is the default one: write step(stream=...)")
    if error != driver.CUresult.CUDA_SUCCESS:
        raise RuntimeError(f"whether the stream is being captured cannot be seen: {error.name}")
    return status != driver.CUstreamCaptureStatus.CU_STREAM_CAPTURE_STATUS_NONE


def gpu_rule(rule: Callable[..., Any]) -> Any:
    """Compile a rule as a device function when a kernel that calls it is compiled."""
    return Deferred(lambda: cuda.jit(device=True, inline="always")(rule))


def gpu_part(part: Callable[..., Any]) -> Any:
    """Compile a device function that itself names things of numba.cuda, when a kernel that calls it is compiled."""
    assert isinstance(part, FunctionType)
    return Deferred(lambda: cuda.jit(device=True)(loaded(part)))


class GpuKernel:
    """A CUDA kernel that is compiled when it is first launched. Creating one needs no driver and no numba-cuda."""

    def __init__(self, loop: FunctionType) -> None:
        self.__doc__ = loop.__doc__
        self.name = loop.__name__
        self._loop = loop

    @cached_property
    def function(self) -> FunctionType:
        """The loop, with what it names of numba.cuda in place of the stand-ins."""
        return loaded(self._loop)

    @cached_property
    def dispatcher(self) -> Any:
        """The kernel as numba.cuda launches it: ``dispatcher[blocks, threads](*arrays, scalars)``."""
        return cuda.jit(self.function)

    def launch(self, first: Any, *arguments: Any) -> None:
        """Run with a thread for each element of the first array. The host does not wait for the end."""
        if first.size:
            self.run(*grid(first.size), first, *arguments)

    def run(self, blocks: Any, threads: Any, *arguments: Any) -> None:
        """Launch on a grid of one's own. The host does not wait for the end."""
        try:
            _configured(self.dispatcher, blocks, threads, _stream.get())(*arguments)
        except Exception as error:
            raise self.failure(error) from error

    def failure(self, error: Exception) -> RuntimeError:
        """Return what to raise when a launch has raised this."""
        return RuntimeError(f"the CUDA kernel {self.name} was not launched: {error}")

    def __repr__(self) -> str:
        return f"<CUDA kernel {self.name}>"


def grid(threads: int) -> tuple[int, int]:
    """Return how many blocks of how many threads to launch, to have this many threads."""
    return -(-threads // THREADS), min(threads, THREADS)


def launch_with_numbers(dispatcher: Any, blocks: int, threads: int, numbers: Sequence[Any]) -> None:
    """Launch a kernel that was compiled for one signature, of addresses and numbers.

    This is what Numba does in the end. To prepare 20 numbers for it, which CUDA takes as they are, takes Numba 20 us.
    """
    (kernel,) = dispatcher.overloads.values()
    configured = _configured(dispatcher, blocks, threads, _stream.get())
    shape = cuda_core.LaunchConfig(grid=configured.griddim, block=configured.blockdim)
    cuda_core.launch(configured.stream, shape, kernel.library.get_cufunc().kernel, *numbers)


def _configured(dispatcher: Any, *configuration: Any) -> Any:
    # One of the simulator's kernels has one configuration, the last.
    return dispatcher[configuration] if SIMULATED else _silently_configured(dispatcher, *configuration)


@lru_cache(maxsize=512)
def _silently_configured(dispatcher: Any, *configuration: Any) -> Any:
    with catch_warnings():
        # Numba advises against small grids. An array may be small.
        simplefilter("ignore")
        return dispatcher[configuration]


def gpu_kernel(loop: Callable[..., None]) -> GpuKernel:
    """Compile a kernel that is no rule's for CUDA when it is first launched."""
    assert isinstance(loop, FunctionType)
    return GpuKernel(loop)


def loaded(function: FunctionType) -> FunctionType:
    """Return a function that names what the stand-ins of numba.cuda stand for."""
    names = {name: function.__globals__[name] for name in function.__code__.co_names if name in function.__globals__}
    names = {name: item.value if isinstance(item, Deferred) else item for name, item in names.items()}
    return FunctionType(function.__code__, names, function.__name__, None, function.__closure__)


def loop_of(rule: FunctionType, loop: FunctionType, name: str, compiled: Any, **others: Any) -> FunctionType:
    """Return the copy of a loop that names a rule, compiled, its Scalars, and others. It belongs to the rule's file."""
    code, own = loop.__code__, rule.__code__
    # Numba's cache looks there.
    code = code.replace(co_filename=own.co_filename, co_firstlineno=own.co_firstlineno, co_qualname=name)
    names = loop.__globals__ | {"rule": compiled, "Scalars": rule.__globals__["Scalars"]} | others
    return renamed(FunctionType(code, names), name, rule.__module__)


def renamed(function: FunctionType, name: str, module: str) -> FunctionType:
    """Return a function that Numba takes for another one."""
    copy = FunctionType(
        function.__code__.replace(co_name=name), function.__globals__, name, function.__defaults__, function.__closure__
    )
    copy.__qualname__ = name
    copy.__module__ = module
    copy.__doc__ = function.__doc__
    return copy
