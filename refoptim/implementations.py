"""The ways to compute a step: the fused kernel, the formula on flat arrays, and the formula parameter by parameter.

Each takes a group's settings, slots and one of their runs, and returns what to call. Nothing is changed before that.
"""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

from . import kernels
from .arrays import Array
from .cpu import CPU, Launch
from .formulas.namespace import namespace
from .half import MASTER, Half
from .scalars import packed, packer
from .slots import Host, Run, Slots


class Variant(NamedTuple):
    """One algorithm under one set of options."""

    kernel: Callable[..., None]  # takes the parameters, the gradients, the state arrays and the scalars
    formula: Callable[..., tuple[Any, ...]]  # the same with symbols; returns the new parameters and state
    state: tuple[str, ...] = ()  # the names of the state arrays, in the order both take them
    counts: bool = True  # whether there is host state, such as a step count; parameters without are all alike
    shaped: bool = False  # whether kernel and formula take one parameter at a time, in its shape, instead of flat runs
    dense: bool = True  # whether gradients may be arrays
    # Whether gradients may be sparse: "" no, "rows" for steps of their rows alone, "history" for steps of all rows that
    # have state.
    sparse: str = ""
    typed: Callable[[np.dtype[Any]], dict[str, Any]] = lambda _: {}  # symbols that depend on the parameters' real type
    # Where the kernel takes shapes: what steps many parameters of fewer elements than this in one launch on the CPU, a
    # thread each.
    together: Callable[..., None] | None = None
    short: int = 0


class Algorithm(Protocol):
    """What an implementation asks of an optimizer, about one of its groups and a host state before the step."""

    arithmetic: str | None
    half: Half
    param_groups: list[dict[str, Any]]
    defaults: dict[str, Any]
    initial_host: ClassVar[dict[str, Any]]
    state_arrays: ClassVar[tuple[str, ...]]
    table_rows: ClassVar[int]

    def _variant(self, group: dict[str, Any]) -> Variant: ...
    def _options(self, group: dict[str, Any]) -> Any: ...
    def _scalars(self, options: Any, host: Host) -> tuple[float, ...]: ...
    def _powers(self, options: Any) -> tuple[str, ...] | None: ...
    def _symbols(self, group: dict[str, Any], host: Host) -> dict[str, Any]: ...
    def _advance(self, group: dict[str, Any], host: Host) -> dict[str, Any]: ...
    def _initial_values(self, group: dict[str, Any]) -> dict[str, float]: ...
    def _state_shapes(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...] | None]: ...


class Settings(NamedTuple):
    """What follows from a group's options, for as long as they do not change."""

    algorithm: Algorithm
    group: dict[str, Any]
    variant: Variant
    options: Any  # as the algorithm wants them for its scalars
    initial: dict[str, float]  # what state arrays start with where it is not zero
    wide: np.dtype[Any] | None  # what to compute in; None is what the arrays are of
    constant: bool  # whether a kernel takes the same scalars in every step but the first
    implementation: "Implementation"
    wide_state: tuple[str, ...]  # the state arrays, with master weights before the others

    def state_of(self, slots: Slots) -> tuple[str, ...]:
        """Return the names of the state arrays of parameters of one dtype."""
        return self.wide_state if slots.has_wide_state else self.variant.state


class Ready(NamedTuple):
    """The launch of all parameters, to be repeated for as long as the settings are the same."""

    settings: Settings
    launches: list[Launch]
    pack: Callable[..., None] | None  # writes other scalars where the kernel reads them; None if they do not change
    draw: Callable[[Slots], None] | None = None  # the same for what else changes

    def renew(self, slots: Slots) -> None:
        """Write what the launch reads in the step to come."""
        if self.pack is not None:
            self.pack(*self.settings.algorithm._scalars(self.settings.options, slots.host))
        if self.draw is not None:
            self.draw(slots)


Implementation = Callable[[Settings, Slots, Run], list[Launch]]


def settings_of(algorithm: Algorithm, group: dict[str, Any]) -> Settings:
    """Return the settings of a group that is laid out in slots."""
    variant, options = algorithm._variant(group), algorithm._options(group)
    if algorithm.half.stochastic or algorithm.half.master_weights:
        variant = variant._replace(counts=True)
    initial = algorithm._initial_values(group)
    wide = None if algorithm.arithmetic is None else np.dtype(algorithm.arithmetic)
    constant = algorithm._powers(options) == ()
    implementation, wide_state = _choose(group, variant), (MASTER, *variant.state)
    return Settings(algorithm, group, variant, options, initial, wide, constant, implementation, wide_state)


def _launch(settings: Settings, slots: Slots, run: Run, scalars: Array, kept: bool) -> Launch:
    """Return the launch of the kernel, which may be kept."""
    first, *others = slots.arrays_of(run, settings.variant.state)
    return kernels.jit.entry(settings.variant.kernel, first, scalars, kept=kept), (first, *others, scalars)


def fused(
    settings: Settings, slots: Slots, run: Run, launch: Callable[[Settings, Slots, Run, Array, bool], Launch] = _launch
) -> list[Launch]:
    """Launch the kernel once for the run, and be ready to repeat that if it is all parameters'."""
    again = repeats(settings, slots, run)
    scalars = packed_scalars(settings, slots, run.first)
    return be_ready(settings, slots, [launch(settings, slots, run, scalars, again)], scalars if again else None)


def repeats(settings: Settings, slots: Slots, run: Run) -> bool:
    """Return whether the next step can be the launches of this one, for other scalars."""
    # Those that do not change may be others in the first step.
    return run.span is None and (slots.host is not None or not settings.constant or not settings.variant.counts)


def be_ready(settings: Settings, slots: Slots, launches: list[Launch], scalars: Array | None) -> list[Launch]:
    """Be ready to repeat launches that are all parameters' and read these scalars, if there are any."""
    slots.ready = None
    if scalars is not None:
        slots.ready = Ready(settings, launches, None if settings.constant else packer(scalars))
    return launches


def _fused_each(settings: Settings, slots: Slots, run: Run) -> list[Launch]:
    """Launch the kernel for each parameter, in its shape, and once for all that are short."""
    scalars, variant = packed_scalars(settings, slots, run.first), settings.variant
    together = variant.together if slots.device is CPU else None
    limit = variant.short if together else 0
    sizes = {place: slots.params[place].size for place in range(run.first, run.stop)}
    short = [place for place, size in sizes.items() if 0 < size < limit]
    long = [place for place, size in sizes.items() if size and size >= limit]
    launches: list[Launch] = []
    if together and short:
        arrays = slots.shared_arrays(run.first, run.stop, variant.state)
        places = slots.shaped_places(short, run.first, variant.state)
        launches.append((together, (*arrays, places, scalars)))
    launches += [(variant.kernel, (*arrays, scalars)) for arrays in slots.shaped_arrays(long, variant.state)]
    return be_ready(settings, slots, launches, scalars if repeats(settings, slots, run) else None)


def packed_scalars(settings: Settings, slots: Slots, place: int) -> Array:
    """Return the kernel's scalars, for a parameter and those with the same host state."""
    numbers = settings.algorithm._scalars(settings.options, slots.host_of(place))
    return packed(numbers, slots.arithmetic if settings.wide is None else settings.wide)


def _foreach(settings: Settings, slots: Slots, run: Run) -> list[Launch]:
    """Evaluate the formula once, on the flat arrays of the run."""
    symbols = _symbols(settings.algorithm, settings.group, slots.host_of(run.first))
    return [(evaluate, (settings, symbols, _seen(slots, slots.arrays_of(run, settings.variant.state))))]


def _for_loop(settings: Settings, slots: Slots, run: Run) -> list[Launch]:
    """Evaluate the formula for one parameter after the other."""
    symbols = _symbols(settings.algorithm, settings.group, slots.host_of(run.first))
    singles = [slots.arrays_of(single, settings.variant.state) for single in slots.each(run)]
    return [(evaluate, (settings, symbols, _seen(slots, arrays))) for arrays in singles]


def _for_each_shape(settings: Settings, slots: Slots, run: Run) -> list[Launch]:
    """Evaluate the formula for one parameter after the other, in its shape."""
    symbols = formula_symbols(settings, slots, run.first)
    shaped = slots.shaped_arrays(range(run.first, run.stop), settings.variant.state)
    return [(evaluate, (settings, symbols, _seen(slots, arrays))) for arrays in shaped if arrays[0].size]


def formula_symbols(settings: Settings, slots: Slots, place: int) -> dict[str, Any]:
    """Return what the formula takes beside arrays, for a parameter and those with the same host state."""
    symbols = _symbols(settings.algorithm, settings.group, slots.host_of(place))
    return symbols | settings.variant.typed(slots.real)


def _seen(slots: Slots, arrays: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return arrays as formulas compute on them."""
    return tuple(map(slots.device.formulas_array, arrays))


def is_fused(group: dict[str, Any]) -> bool:
    """Return whether a group is stepped by kernels, as it is unless an option says otherwise."""
    use_fused = group.get("fused")
    return bool(use_fused) or (use_fused is None and group.get("foreach") is None)


def _choose(group: dict[str, Any], variant: Variant) -> Implementation:
    """Return the implementation that a group asks for: fused, unless an option says otherwise, as in torch."""
    if variant.shaped:
        return _fused_each if is_fused(group) else _for_each_shape
    if is_fused(group):
        return fused
    return _foreach if group.get("foreach") else _for_loop


def evaluation(settings: Settings, slots: Slots, place: int) -> tuple[Callable[..., None], Any]:
    """Return what computes a step of any flat arrays, and what it takes behind them: scalars, or settings."""
    if is_fused(settings.group):
        return settings.variant.kernel, packed_scalars(settings, slots, place)
    symbols = _symbols(settings.algorithm, settings.group, slots.host_of(place))
    slots.device.check_formulas()
    return _evaluate_flat, (settings, symbols, slots)


def _evaluate_flat(*arguments: Any) -> None:
    *arrays, (settings, symbols, slots) = arguments
    evaluate(settings, symbols, _seen(slots, tuple(arrays)))


def evaluate(settings: Settings, symbols: dict[str, Any], arrays: tuple[Array, ...]) -> None:
    """Step arrays by the formula, in place."""
    theta, _, *state = arrays
    wide = theta.dtype if settings.wide is None else settings.wide
    with np.errstate(all="ignore"):
        new = settings.variant.formula(*(flat.astype(wide, copy=False) for flat in arrays), **symbols)
        for flat, values in zip((theta, *state), new, strict=True):
            flat[...] = values


def differentiate(
    algorithm: Algorithm, group: dict[str, Any], data: Any, grad: Any, entry: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """Return the new parameter and its new state, which carry the derivatives of everything they were made from."""
    variant = algorithm._variant(group)
    started = any(name in entry for name in (*variant.state, *algorithm.initial_host))
    host = {name: entry[name] for name in algorithm.initial_host} if started else None
    xp, fill = namespace(data), algorithm._initial_values(group)
    one = 1 + 1j if _is_complex(data) else 1
    state = [entry[name] if name in entry else xp.zeros_like(data) + one * fill.get(name, 0) for name in variant.state]
    # What was loaded is NumPy's, also where the parameters are not.
    arrays = (data, *(xp.asarray(value) if isinstance(value, np.ndarray) else value for value in (grad, *state)))
    symbols = _symbols(algorithm, group, host)
    if _is_complex(data):
        # Pairs of reals, as in the flat arrays.
        halves = [variant.formula(*map(part, arrays), **symbols) for part in (xp.real, xp.imag)]
        new = [real + 1j * imag for real, imag in zip(*halves, strict=True)]
    else:
        new = variant.formula(*arrays, **symbols)
    # NumPy turns 0-d arrays into scalars.
    theta, *state = (np.asarray(v, data.dtype) if isinstance(v, np.ndarray | np.generic) else v for v in new)
    host = algorithm._advance(group, host) if variant.counts else {}
    return theta, host | dict(zip(variant.state, state, strict=True))


def _is_complex(array: Any) -> bool:
    return "complex" in str(array.dtype)


def _symbols(algorithm: Algorithm, group: dict[str, Any], host: Host) -> dict[str, Any]:
    return {name: _scalar(value) for name, value in algorithm._symbols(group, host).items()}


def _scalar(value: Any) -> Any:
    # A float64 number of NumPy's would turn float32 arrays into float64 ones, which Python's numbers do not.
    if isinstance(value, np.ndarray | np.generic):
        return value.item()
    return value.reshape(()) if getattr(value, "ndim", 0) else value
