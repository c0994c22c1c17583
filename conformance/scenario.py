"""Scenarios: parameters in groups and what happens to them, as seeded data, for what is judged and for the truth."""

from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from refoptim.conformance.case import Case, Meaning

Array = NDArray[Any]


class Start(NamedTuple):
    """A parameter before the first step of a scenario, which may continue an earlier run."""

    theta: Array
    taken: int  # how many steps
    state: dict[str, Array]  # empty if it has taken none
    host: dict[str, float]  # the numbers that go along with it


class Scenario(NamedTuple):
    """Parameters, each in one group, and for each step a gradient per parameter and a learning rate per group."""

    name: str
    groups: list[dict[str, Any]]  # the options of each group
    group_of: list[int]
    starts: list[Start]
    grads: list[list[Array | None]]
    lrs: list[list[float]]


def generator(*key: Any) -> np.random.Generator:
    """Return a generator whose numbers depend on the key alone."""
    return np.random.default_rng(crc32(repr(key).encode()))


def one_step(case: Case, meaning: Meaning, dtype: Any, t: int, kind: str, size: int) -> Scenario:
    """Return step t of one parameter, from the state that t - 1 steps of the formula lead to.

    ``realistic`` has the learning rate of the case and gradients of any sign. ``probe`` shows the update in full, not
    through its effect on a larger parameter: a learning rate of 1, gradients from 2**-40 to 2**10, among them those of
    the size of eps, and half of the parameters 0. Signs are such that nothing cancels: what cancellation leaves is as
    inaccurate as the rounded inputs are, and says nothing about the arithmetic.
    """
    rng = generator(case, np.dtype(dtype).name, t, kind)
    probe = kind == "probe"
    shape = case.shape or (size,)
    lr = 1.0 if probe else case.options.get("lr", 1e-3)
    sign = rng.choice([-1.0, 1.0], shape)
    theta = rng.standard_normal(shape)
    if probe:
        theta = _without_cancellation(meaning, np.abs(theta), sign)
        theta.reshape(-1)[::2] = 0.0
    # The squares of 100 gradients are to be finite: float16 ends at 65504.
    least, most = (-12, 2) if np.dtype(dtype) == np.float16 else (-40, 10)
    scale = 2.0 ** rng.uniform(least, most, shape) if probe else 10.0 ** rng.uniform(-3, 1, shape)
    noise = rng.uniform(0.5, 1.5, (t, *shape)) * sign if probe else rng.standard_normal((t, *shape))
    grads = (noise * scale).astype(_real(dtype))
    theta = theta.astype(_real(dtype))
    state: dict[str, Array] = {}
    host = meaning.host(lr)
    if t > 1:
        wide = theta.astype(np.float64)
        begun = (array + meaning.initial(lr).get(name, 0.0) for name, array in meaning.zeros(wide).items())
        values = [wide, *begun]
        for step in range(1, t):
            symbols = meaning.symbols(step) | meaning.typed(dtype) | {"gamma": lr} | host
            still = values[0]
            values = list(meaning.formula(values[0], grads[step - 1].astype(np.float64), *values[1:], **symbols))
            host = meaning.advance(**symbols) if meaning.advance else host
            if probe:
                values[0] = still
        theta, *arrays = (value.astype(_real(dtype)) for value in values)
        named = zip(meaning.state, arrays, strict=True)
        state = {name: _as(array, dtype) for name, array in named if array.size}
    start = Start(_as(theta, dtype), t - 1, state, host if t > 1 else {})
    last: list[Array | None] = [_as(grads[-1], dtype)]
    return Scenario(f"{kind} t={t}", [dict(case.options)], [0], [start], [last], [[lr]])


def _without_cancellation(meaning: Meaning, sizes: Array, grad_sign: Array) -> Array:
    """Return parameters to which decay and update add, or that are at least twice as large as the update."""
    symbols = meaning.symbols(1)
    climbs = 1.0 if symbols.get("maximize") else -1.0
    if symbols.get("lambda_", 0) != 0 and not (meaning.decoupled or symbols.get("decoupled")):
        # Decay that adds to the gradient makes the update point to zero.
        return (2.0 + sizes) * -climbs * grad_sign
    return sizes * climbs * grad_sign


def trajectory(case: Case, dtype: Any, steps: int = 1000, size: int = 48) -> Scenario:
    """Return a long run of one parameter under noisy gradients of sizes from 1e-3 to 10."""
    rng = generator(case, np.dtype(dtype).name, "trajectory")
    lr = case.options.get("lr", 1e-3)
    shape = case.shape or (size,)
    scale = 10.0 ** rng.uniform(-3, 1, shape)
    noise = (rng.standard_normal((steps, *shape)) * scale).astype(_real(dtype))
    start = Start(_as(rng.standard_normal(shape).astype(_real(dtype)), dtype), 0, {}, {})
    grads: list[list[Array | None]] = [[_as(row, dtype)] for row in noise]
    return Scenario("trajectory", [dict(case.options)], [0], [start], grads, [[lr]] * steps)


def bookkeeping(case: Case, meaning: Meaning, dtype: Any, steps: int = 9) -> Scenario:
    """Return a short run of four parameters in two groups: gradients at times missing or zero, changing rates."""
    rng = generator(case, np.dtype(dtype).name, "bookkeeping")
    real = _real(dtype)
    starts = [Start(_as(rng.standard_normal((*s, 2)).astype(real), dtype, s), 0, {}, {}) for s in meaning.shapes]
    absent = {(1, 0), (2, 1), (3, 1), (1, 2), (4, 2), (0, 3), (4, 3), (5, 0), (5, 1), (5, 2), (5, 3)}
    grads: list[list[Array | None]] = [
        [
            None if (step, i) in absent else _as(rng.standard_normal((*shape, 2)).astype(real), dtype, shape)
            for i, shape in enumerate(meaning.shapes)
        ]
        for step in range(steps)
    ]
    # A gradient of zeros is one: of all parameters that have any, of one beside others, and in every other element.
    for step, i, every in ((1, 1, 1), (1, 3, 1), (6, 2, 1), (7, 0, 2)):
        if (grad := grads[step][i]) is not None:
            grad.reshape(-1)[::every] = 0
    other = dict(case.options) | dict(meaning.other)
    lrs = [[0.5 / (1 + step // 3), 0.125 * (1 + step % 2)] for step in range(steps)]
    return Scenario("bookkeeping", [dict(case.options), other], [0, 0, 1, 1], starts, grads, lrs)


def _real(dtype: Any) -> Any:
    return np.zeros(0, dtype).real.dtype


def _as(values: Array, dtype: Any, shape: tuple[int, ...] | None = None) -> Array:
    """Return real numbers as an array of the dtype: pairs of them as complex numbers, if that is what it is."""
    if shape is not None:
        kept = values if np.dtype(dtype).kind == "c" else values[..., 0]
        return np.ascontiguousarray(kept).view(dtype).reshape(shape)
    return np.ascontiguousarray(values).view(dtype)


def reals(array: Array) -> Array:
    """Return an array as a flat one of real numbers, the two parts of a complex one behind each other."""
    flat = np.ascontiguousarray(array).ravel()
    return flat.view(_real(flat.dtype))
