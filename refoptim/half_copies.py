"""Steps on wider copies of arrays of 16 bits, which are rounded at the end."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from . import kernels
from .arrays import Array
from .cpu import CPU, Launch
from .implementations import Settings, evaluate, formula_symbols, is_fused, packed_scalars
from .slots import Run, Slots

# Stores new values in an array, given the number of the result that they are.
Store = Callable[[Array, Array, int], None]


def on_copies(settings: Settings, slots: Slots, run: Run) -> Launch:
    """Return the step of a formula, or of a kernel for whole matrices."""
    draws = None
    if settings.algorithm.half.stochastic:
        if slots.device is not CPU:
            check_not_captured(slots)
        draws = draws_of(settings, slots, run.first)
    names = settings.state_of(slots)
    arrays = next(slots.shaped_arrays([run.first], names)) if settings.variant.shaped else slots.arrays_of(run, names)
    return step_copies, (arrays, slots.has_wide_state, *computing(settings, slots, run.first), partial(_store, draws))


def check_not_captured(slots: Slots) -> None:
    """Raise if a CUDA graph is being recorded, which would repeat the random numbers of one step."""
    with slots.device.here():
        if kernels.jit.capturing():
            raise RuntimeError(
                "a captured step would round by the same random numbers each time: rounding='stochastic' in a CUDA "
                "graph is for optimizers that have capturable=True"
            )


def draws_of(settings: Settings, slots: Slots, place: int) -> Array:
    """Return the counters of a step's random numbers: they go by group, dtype, element and step alone."""
    groups = settings.algorithm.param_groups
    number = next(number for number, group in enumerate(groups) if group is settings.group)
    host = slots.host_of(place)
    step = 0 if host is None else host["step"]
    stream = 2 * number + (slots.dtype == np.float16)
    return kernels.half_loops.draws(settings.algorithm.half.seed, step, stream, slots.state.offsets[place])


def draw_anew(settings: Settings, slots: Slots, run: Run, draws: Array) -> None:
    """Have a launch that is repeated read the random numbers of the step to come."""

    def draw(slots: Slots) -> None:
        draws[...] = draws_of(settings, slots, run.first)

    if slots.ready is not None:
        slots.ready = slots.ready._replace(draw=draw)


def computing(settings: Settings, slots: Slots, place: int) -> tuple[Callable[..., None], np.dtype[Any]]:
    """Return what steps wider arrays in place, and the type that they must have."""
    if is_fused(settings.group):
        kernel = partial(settings.variant.kernel, **settings.variant.typed(slots.real))
        return partial(call, kernel, (packed_scalars(settings, slots, place),)), work_of(settings, slots)
    slots.device.check_formulas()
    return partial(_evaluate, settings, slots, formula_symbols(settings, slots, place)), work_of(settings, slots)


def work_of(settings: Settings, slots: Slots) -> np.dtype[Any]:
    """Return the type to compute in."""
    return slots.arithmetic if settings.wide is None else settings.wide


def step_copies(
    arrays: tuple[Array, ...],
    has_master: bool,
    compute: Callable[..., None],
    work: np.dtype[Any],
    store: Store,
) -> None:
    """Step copies of parameters, gradients and state arrays, or of master weights, and store what is new."""
    theta, grad, *state = arrays
    master = state.pop(0) if has_master else None
    with kernels.memory.temporaries(theta) as empty, np.errstate(all="ignore"):
        if master is not None:
            kernels.half_copies.restore(master, theta)
        sources = (theta if master is None else master, grad, *state)
        copies = [empty(tuple(source.shape), work) for source in sources]
        for copy, source in zip(copies, sources, strict=True):
            kernels.half_copies.widen(copy, source)
        compute(*copies)
        new = (copies[0], *copies[2:])
        for number, (target, values) in enumerate(zip((sources[0], *state), new, strict=True)):
            store(target, values, number)
        if master is not None:
            kernels.half_copies.store(theta, master)


def call(kernel: Callable[..., None], others: tuple[Any, ...], *arrays: Array) -> None:
    """Call a kernel, which takes what is not copied last."""
    kernel(*arrays, *others)


def _store(draws: Array | None, target: Array, values: Array, number: int) -> None:
    kernels.half_copies.store(target, values, draws, number)


def _evaluate(settings: Settings, slots: Slots, symbols: dict[str, Any], *arrays: Array) -> None:
    evaluate(settings, symbols, tuple(map(slots.device.formulas_array, arrays)))
