"""Steps of short parameters of 16 bits whose kernel takes shapes: on copies of many neighbours at once."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from . import implementations, kernels
from .arrays import Array
from .cpu import Launch
from .half_copies import call, draw_anew, draws_of, on_copies, step_copies, work_of
from .implementations import Settings, packed_scalars
from .slots import Run, Slots

# How many elements have copies at a time, if there are more: what a cache holds of them.
SHARE = 1 << 18


def step_together(settings: Settings, slots: Slots, run: Run) -> list[Launch]:
    """Return what steps a run on the CPU: short neighbours at once, each other parameter by itself."""
    scalars = packed_scalars(settings, slots, run.first)
    draws = draws_of(settings, slots, run.first) if settings.algorithm.half.stochastic else None
    launches: list[Launch] = []
    again = implementations.repeats(settings, slots, run)
    for places, is_long in _shares(slots, run, settings.variant.short):
        if is_long:
            launches.append(on_copies(settings, slots, slots.run_of(places[0])))
            again = False  # it has its own scalars and random numbers
        else:
            launches.append(_step(settings, slots, run, places, scalars, draws))
    implementations.be_ready(settings, slots, launches, scalars if again else None)
    if draws is not None:
        draw_anew(settings, slots, run, draws)
    return launches


def _shares(slots: Slots, run: Run, short: int) -> Iterator[tuple[range, bool]]:
    """Yield which parameters to step at once, and whether it is a single one that is not short."""
    first, elements = run.first, 0
    for place in range(run.first, run.stop):
        size = slots.params[place].size
        is_long = 0 < size >= short
        if elements and (is_long or elements + size > SHARE):
            yield range(first, place), False
            first, elements = place, 0
        if is_long:
            yield range(place, place + 1), True
            first = place + 1
        else:
            elements += size
    if elements:
        yield range(first, run.stop), False


def _step(settings: Settings, slots: Slots, run: Run, places: range, scalars: Array, draws: Array | None) -> Launch:
    """Return what steps short neighbours."""
    variant, first = settings.variant, places[0]
    filled = [place for place in places if slots.params[place].size]
    table = slots.shaped_places(filled, first, variant.state)
    assert variant.together is not None
    together = partial(variant.together, **variant.typed(slots.real))
    parts = None if draws is None else [_parts(slots, run, filled, first, name) for name in ("", *variant.state)]
    arrays = slots.shared_arrays(first, places[-1] + 1, settings.state_of(slots))
    compute, store = partial(call, together, (table, scalars)), partial(_store, draws, parts)
    return step_copies, (arrays, slots.has_wide_state, compute, work_of(settings, slots), store)


def _parts(slots: Slots, run: Run, places: list[int], first: int, name: str) -> Array:
    """Return where an array has the parts of parameters, and how far on their random numbers are, a row for each.

    As for a parameter by itself, these go by the place of its own first element.
    """
    state, rows = slots.state, []
    for place in places:
        start, stop = (state.start_of(name, at) - state.start_of(name, first) for at in (place, place + 1))
        rows.append((start, stop, state.offsets[place] - state.offsets[run.first] - start))
    return np.array(rows, np.int64)


def _store(draws: Array | None, parts: list[Array] | None, target: Array, values: Array, number: int) -> None:
    if draws is None or parts is None:
        kernels.half_copies.store(target, values)
    else:
        kernels.half_copies.store_parts(target, values, draws, number, parts[number])
