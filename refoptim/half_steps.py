"""Steps of parameters of 16 bits: computed in float32, or in float64 where that is asked for, and rounded once."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from . import implementations, kernels
from .arrays import Array
from .cpu import CPU, Launch
from .implementations import Settings, evaluate, formula_symbols, is_fused, packed_scalars
from .slots import Run, Slots


def step_half(settings: Settings, slots: Slots, run: Run) -> list[Launch]:
    """Return what steps a run of parameters of 16 bits."""
    if is_fused(settings.group) and not settings.variant.shaped:
        if slots.device is CPU:
            return _fused_here(settings, slots, run)
        return [fused(settings, slots, run, packed_scalars(settings, slots, run.first))]
    pieces = slots.each(run) if settings.variant.shaped or not settings.group.get("foreach") else [run]
    return [_widened(settings, slots, piece) for piece in pieces if piece.theta.size]


def fused(settings: Settings, slots: Slots, run: Run, scalars: Any, position: Any = None) -> Launch:
    """Return the launch of a kernel. On a GPU the scalars may lie there, and a position that counts the steps."""
    kernel: Any = settings.variant.kernel
    loops = kernel.half if slots.device is CPU else kernel.twin.half
    theta, grad, *state = slots.arrays_of(run, settings.state_of(slots))
    if slots.has_wide_state:
        master, *state = state
        return loops.master, ((theta, master, grad, *state), scalars)
    if settings.algorithm.half.stochastic:
        if slots.device is not CPU and position is None:
            _check_not_captured(slots)
        counted = () if position is None else (position,)
        return loops.stochastic, ((theta, grad, *state), scalars, _draws(settings, slots, run.first), *counted)
    return loops.nearest, ((theta, grad, *state), scalars)


def _launch(settings: Settings, slots: Slots, run: Run, scalars: Array, kept: bool) -> Launch:
    """Return the launch of a loop on the CPU, which may be kept."""
    loop: Any
    loop, arguments = fused(settings, slots, run, scalars)
    return loop.kept(*arguments) if kept and isinstance(loop, kernels.half_loops.HalfLoop) else (loop, arguments)


def _fused_here(settings: Settings, slots: Slots, run: Run) -> list[Launch]:
    """Launch a loop on the CPU, which can be repeated with other random bits."""
    launches = implementations.fused(settings, slots, run, _launch)
    if settings.algorithm.half.stochastic and slots.ready is not None:
        ((_, (_, _, draws, *_)),) = launches

        def draw(slots: Slots) -> None:
            draws[...] = _draws(settings, slots, run.first)

        slots.ready = slots.ready._replace(draw=draw)
    return launches


def _check_not_captured(slots: Slots) -> None:
    """Raise if a CUDA graph is being recorded, which would repeat the random numbers of one step."""
    with slots.device.here():
        if kernels.jit.capturing():
            raise RuntimeError(
                "a captured step would round by the same random numbers each time: rounding='stochastic' in a CUDA "
                "graph is for optimizers that have capturable=True"
            )


def _draws(settings: Settings, slots: Slots, place: int) -> Array:
    """Return the counters of a step's random numbers: they go by group, dtype, element and step alone."""
    groups = settings.algorithm.param_groups
    number = next(number for number, group in enumerate(groups) if group is settings.group)
    host = slots.host_of(place)
    step = 0 if host is None else host["step"]
    stream = 2 * number + (slots.dtype == np.float16)
    return kernels.half_loops.draws(settings.algorithm.half.seed, step, stream, slots.state.offsets[place])


def _widened(settings: Settings, slots: Slots, run: Run) -> Launch:
    """Return the step of a formula, or of a kernel for whole matrices: on copies, which are rounded at the end."""
    draws = None
    if settings.algorithm.half.stochastic:
        if slots.device is not CPU:
            _check_not_captured(slots)
        draws = _draws(settings, slots, run.first)
    names = settings.state_of(slots)
    arrays = next(slots.shaped_arrays([run.first], names)) if settings.variant.shaped else slots.arrays_of(run, names)
    return _step_copies, (arrays, slots.has_wide_state, *_on_copies(settings, slots, run.first), draws)


def computation(settings: Settings, slots: Slots, place: int) -> Callable[..., None]:
    """Return what steps any flat arrays of 16 bits, given no more than them. Raise if they need more."""
    half = settings.algorithm.half
    if half.master_weights or half.stochastic:
        raise TypeError(
            "sparse gradients of parameters of 16 bits are for optimizers without master weights and stochastic "
            "rounding: write grad.to_dense()"
        )
    if is_fused(settings.group):
        return partial(_call, settings.variant.kernel, packed_scalars(settings, slots, place))
    compute, work = _on_copies(settings, slots, place)
    return lambda *arrays: _step_copies(arrays, False, compute, work, None)


def _call(kernel: Callable[..., None], scalars: Array, *arrays: Array) -> None:
    kernel(*arrays, scalars)


def _evaluate(settings: Settings, slots: Slots, symbols: dict[str, Any], *arrays: Array) -> None:
    evaluate(settings, symbols, tuple(map(slots.device.formulas_array, arrays)))


def _on_copies(settings: Settings, slots: Slots, place: int) -> tuple[Callable[..., None], np.dtype[Any]]:
    """Return what steps wider arrays in place, and the type that they must have."""
    work = slots.arithmetic if settings.wide is None else settings.wide
    if is_fused(settings.group):
        kernel = partial(settings.variant.kernel, **settings.variant.typed(slots.real))
        return partial(_call, kernel, packed_scalars(settings, slots, place)), work
    slots.device.check_formulas()
    return partial(_evaluate, settings, slots, formula_symbols(settings, slots, place)), work


def _step_copies(
    arrays: tuple[Array, ...],
    has_master: bool,
    compute: Callable[..., None],
    work: np.dtype[Any],
    draws: Array | None,
) -> None:
    theta, grad, *state = arrays
    master = state.pop(0) if has_master else None
    with kernels.memory.temporaries(theta) as empty, np.errstate(all="ignore"):
        if master is not None:
            kernels.half_copies.restore(master, theta)
        sources = (theta if master is None else master, grad, *state)
        copies = [empty(tuple(source.shape), work) for source in sources]
        for copy, source in zip(copies, sources, strict=True):
            kernels.memory.assign(copy, source)
        compute(*copies)
        new = (copies[0], *copies[2:])
        for number, (target, values) in enumerate(zip((sources[0], *state), new, strict=True)):
            kernels.half_copies.store(target, values, draws, number)
        if master is not None:
            kernels.half_copies.store(theta, master)
