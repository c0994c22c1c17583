"""Steps of parameters of 16 bits: computed in float32, or in float64 where that is asked for, and rounded once."""

from collections.abc import Callable
from functools import partial
from typing import Any

from . import implementations, kernels
from .arrays import Array
from .cpu import CPU, Launch
from .half_copies import call, check_not_captured, computing, draw_anew, draws_of, on_copies, step_copies
from .half_together import step_together
from .implementations import Settings, is_fused, packed_scalars
from .slots import Run, Slots


def step_half(settings: Settings, slots: Slots, run: Run) -> list[Launch]:
    """Return what steps a run of parameters of 16 bits."""
    if is_fused(settings.group) and slots.device is CPU:
        if settings.variant.together is not None:
            return step_together(settings, slots, run)
        if not settings.variant.shaped:
            return _fused_here(settings, slots, run)
    if is_fused(settings.group) and not settings.variant.shaped:
        return [fused(settings, slots, run, packed_scalars(settings, slots, run.first))]
    pieces = slots.each(run) if settings.variant.shaped or not settings.group.get("foreach") else [run]
    return [on_copies(settings, slots, piece) for piece in pieces if piece.theta.size]


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
            check_not_captured(slots)
        counted = () if position is None else (position,)
        return loops.stochastic, ((theta, grad, *state), scalars, draws_of(settings, slots, run.first), *counted)
    return loops.nearest, ((theta, grad, *state), scalars)


def _launch(settings: Settings, slots: Slots, run: Run, scalars: Array, kept: bool) -> Launch:
    """Return the launch of a loop on the CPU, which may be kept."""
    loop: Any
    loop, arguments = fused(settings, slots, run, scalars)
    return loop.kept(*arguments) if kept and isinstance(loop, kernels.half_loops.HalfLoop) else (loop, arguments)


def _fused_here(settings: Settings, slots: Slots, run: Run) -> list[Launch]:
    """Launch a loop on the CPU, which can be repeated with other random bits."""
    launches = implementations.fused(settings, slots, run, _launch)
    if settings.algorithm.half.stochastic:
        ((_, (_, _, draws, *_)),) = launches
        draw_anew(settings, slots, run, draws)
    return launches


def computation(settings: Settings, slots: Slots, place: int) -> Callable[..., None]:
    """Return what steps any flat arrays of 16 bits, given no more than them. Raise if they need more."""
    half = settings.algorithm.half
    if half.master_weights or half.stochastic:
        raise TypeError(
            "sparse gradients of parameters of 16 bits are for optimizers without master weights and stochastic "
            "rounding: write grad.to_dense()"
        )
    if is_fused(settings.group):
        return partial(call, settings.variant.kernel, (packed_scalars(settings, slots, place),))
    compute, work = computing(settings, slots, place)
    store = kernels.half_copies.store
    return lambda *arrays: step_copies(arrays, False, compute, work, lambda to, values, _: store(to, values))
