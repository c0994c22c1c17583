"""Problems of each tier: parameters, gradients and learning rates that let nothing hide."""

from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from refoptim.conformance.case import Case, Meaning
from refoptim.conformance.vectors.encoding import DTYPES, real_of
from refoptim.conformance.vectors.options import complete, dyadic
from refoptim.conformance.vectors.vector import Gradient, Group, Rows, Step, Trajectory

Array = NDArray[Any]

LONG = 1000
# The steps of a long run after which there is something to compare.
SEEN = frozenset({1, 2, 5, 10, 20, 50, 100, 200, 500, 1000})


class Random:
    """Random numbers that depend on a name alone, with any version of NumPy."""

    def __init__(self, *name: Any) -> None:
        # The legacy generator is the one whose numbers are promised never to change.
        self._state = np.random.RandomState(crc32(repr(name).encode()))

    def normal(self, shape: tuple[int, ...], dtype: str) -> Array:
        """Return numbers of about 1, of few digits, so that decimals of them can be read: sums of uniform ones."""
        values = self._state.randint(-512, 513, (4, *_parts(shape, dtype))).sum(0) / 512
        return _as(values + (values == 0), shape, dtype)

    def sizes(self, shape: tuple[int, ...], dtype: str, least: int, most: int) -> Array:
        """Return numbers of any sign from 2**least to 2**most, on a logarithmic scale."""
        size = 2.0 ** self._state.randint(least, most, _parts(shape, dtype))
        fine = 1 + self._state.randint(0, 256, size.shape) / 256
        return _as(size * fine * self._signs(size.shape), shape, dtype)

    def _signs(self, shape: tuple[int, ...]) -> Array:
        return self._state.randint(0, 2, shape) * 2.0 - 1.0

    def signs(self, shape: tuple[int, ...]) -> Array:
        """Return ones of any sign."""
        return self._signs(shape)

    def integers(self, low: int, high: int, size: int) -> Array:
        """Return whole numbers from low to below high."""
        return self._state.randint(low, high, size)


def _parts(shape: tuple[int, ...], dtype: str) -> tuple[int, ...]:
    return (*shape, 2) if dtype.startswith("c") else shape


def _as(values: Array, shape: tuple[int, ...], dtype: str) -> Array:
    real = np.ascontiguousarray(values, DTYPES[real_of(dtype)])
    return real.view(DTYPES[dtype]).reshape(shape)


def probe(case: Case, meaning: Meaning, dtype: str) -> Trajectory:
    """Return steps that show the update at full precision: from zero, with a learning rate of 1.

    The gradients go from far below eps to far above it; each element keeps its sign, so that no update cancels another.
    """
    random = Random("probe", str(case))
    options = dyadic(complete(case)) | {"lr": 1.0}
    shape = case.shape or (12,)
    eps = _eps(options)
    signs = random.signs(shape)
    # From far below eps to far above, one size per element, and one element that has none at first.
    sizes = np.resize(
        [eps / 4096, eps / 16, eps / 2, eps, 4 * eps, 2.0**-10, 2.0**-3, 1.0, 8.0, 2.0**12, 2.0**20, 1.0], shape
    )
    steps = []
    # Up and down, so that the largest so far is not the last.
    for t, swing in enumerate((1.0, 4.0, 0.125, 0.5, 2.0)):
        fine = np.abs(random.sizes(shape, "f64", -1, 1))
        values = swing * sizes * fine * signs
        if t == 0:
            values.reshape(-1)[-1] = 0.0
        steps.append(Step((1.0,), {"w": values.astype(DTYPES[dtype])}))
    params = {"w": np.zeros(shape, DTYPES[dtype])}
    return _whole(case, dtype, params, [(("w",), options)], steps)


def _eps(options: dict[str, Any]) -> float:
    eps = options.get("eps", 2.0**-20)
    # Adafactor's is a pair; Muon's is beside a norm.
    return 2.0**-20 if isinstance(eps, tuple) or eps > 1 else eps


def bookkeeping(case: Case, meaning: Meaning, dtype: str) -> Trajectory:
    """Return steps of two groups with options of their own, gradients that are missing or zero, and changing rates."""
    random = Random("dyadic", str(case))
    options = dyadic(complete(case))
    other = dyadic(options | dict(meaning.other) | _others(options))
    shapes = dict(zip("wub", _three(case, meaning), strict=True))
    absent = {("b", 1), ("w", 2), ("u", 0), ("b", 3)}
    # Zeros are gradients too: in every other element, and then in all that there are. The step after them shows in the
    # parameters what they did to the state.
    zeros = {("u", 2): 2, ("w", 3): 1, ("u", 3): 1}
    lrs = _lrs(options["lr"])
    steps = []
    for t in range(5):
        grads: dict[str, Gradient] = dict.fromkeys(shapes)
        for name, shape in shapes.items():
            if (name, t) not in absent:
                grads[name] = values = random.sizes(shape, dtype, -6, 3)
                if every := zeros.get((name, t)):
                    values.reshape(-1)[::every] = 0
        steps.append(Step(lrs[t], grads))
    params = {name: random.normal(shape, dtype) for name, shape in shapes.items()}
    return _whole(case, dtype, params, [(("w", "u"), options), (("b",), other | {"lr": lrs[0][1]})], steps)


def _three(case: Case, meaning: Meaning) -> list[tuple[int, ...]]:
    if meaning.whole or case.shape or () not in meaning.shapes:
        return [case.shape or meaning.shapes[0], meaning.shapes[1], meaning.shapes[2]]
    return [(2, 3), (6,), (3,)]  # two of a size, which must not share their state


def _lrs(lr: float) -> list[tuple[float, float]]:
    """Return each step's learning rates, which go up and down in both groups."""
    return [(lr, lr * 4), (lr * 2, lr * 8), (lr / 2, lr * 4), (lr / 2, lr * 2), (lr / 4, lr * 8)]


def _others(options: dict[str, Any]) -> dict[str, Any]:
    """Return options that set a second group apart: nearly all that are numbers."""
    found: dict[str, Any] = {}
    if "betas" in options:
        found["betas"] = (0.75, 0.9375)
    if isinstance(options.get("eps"), float) and options["eps"] < 1:
        found["eps"] = options["eps"] * 16
    for name in ("alpha", "rho", "momentum"):
        if options.get(name):
            found[name] = 0.75 if options[name] != 0.75 else 0.875
    return found


def defaults(case: Case, meaning: Meaning, dtype: str) -> Trajectory:
    """Return what people run: default hyperparameters, ordinary parameters and gradients, and one from zero."""
    random = Random("defaults", str(case))
    options = complete(case)
    shapes = dict(zip("wu", _three(case, meaning)[:2], strict=True))
    params = {"w": random.normal(shapes["w"], dtype), "u": np.zeros(shapes["u"], DTYPES[dtype])}
    steps = []
    for _ in range(6):
        grads: dict[str, Gradient] = {
            "w": random.sizes(shapes["w"], dtype, -8, 3),
            "u": random.sizes(shapes["u"], dtype, -24, -2),
        }
        steps.append(Step((options["lr"],), grads))
    return _whole(case, dtype, params, [(("w", "u"), options)], steps)


def left_out(case: Case, meaning: Meaning, dtype: str) -> Trajectory:
    """Return a problem that gives no options at all: the documented defaults hold, the learning rate's too."""
    random = Random("left out", str(case))
    shapes = dict(zip("wu", _three(case, meaning)[:2], strict=True))
    params = {"w": random.normal(shapes["w"], dtype), "u": np.zeros(shapes["u"], DTYPES[dtype])}
    # So many steps take Rprop's sizes to both of their limits; Muon's eps is seen beside norms as small.
    count = 60 if case.optimizer == "Rprop" else 6
    least, most = (-34, -26) if meaning.whole else (-34, -8)
    turning = np.resize([1.0, -1.0], shapes["w"]).astype(DTYPES[dtype])
    steps = []
    for t in range(count):
        small = random.sizes(shapes["u"], dtype, least, most)
        large = random.sizes(shapes["w"], dtype, -6, 3)
        if case.optimizer == "Rprop":
            large = np.abs(large) * turning**t
        steps.append(Step((), {"w": large, "u": small}))
    record = frozenset({1, 2, 10, 30, count}) if count > 6 else None
    return _whole(case, dtype, params, [(("w", "u"), {})], steps, record)


def long(case: Case, meaning: Meaning, dtype: str) -> Trajectory:
    """Return a thousand steps of few elements, under gradients of one size each and any sign."""
    random = Random("long", str(case))
    options = complete(case)
    shape = case.shape or (2,)
    count = 50 if meaning.whole else LONG
    scale = 2.0 ** random.integers(-6, 2, int(np.prod(shape))).reshape(shape)
    steps = [
        Step((options["lr"],), {"w": (random.normal(shape, dtype) * scale.astype(DTYPES[real_of(dtype)]))})
        for _ in range(count)
    ]
    record = frozenset(t for t in SEEN if t <= count)
    return _whole(case, dtype, {"w": random.normal(shape, dtype)}, [(("w",), options)], steps, record)


def sparse(case: Case, meaning: Meaning, dtype: str) -> Trajectory:
    """Return steps of two groups with gradients for some rows: one twice, zeros at times, and sometimes none at all."""
    random = Random("sparse", str(case))
    options = dyadic(complete(case))
    lrs = _lrs(options["lr"])
    # To other optimizers no gradient is what one of zeros is.
    none = None if case.optimizer == "SparseAdam" else [2, 5]
    rows = {"w": [[0, 3], [3, 1, 3], none, [5], [0, 1, 2, 4, 4]], "b": [[1, 0], none, [1, 1], [0, 2], [2]]}
    zeros = {("b", 2): 1, ("w", 4): 2}
    steps = []
    for t in range(5):
        grads: dict[str, Gradient] = dict.fromkeys(rows)
        for name, own in rows.items():
            chosen = own[t]
            if chosen is not None:
                values = random.sizes((len(chosen), 3), dtype, -6, 3)
                if every := zeros.get((name, t)):
                    values.reshape(-1)[::every] = 0
                grads[name] = Rows(np.array(chosen, np.int64), values)
        steps.append(Step(lrs[t], grads))
    params = {name: random.normal((6, 3), dtype) for name in rows}
    other = dyadic(options | _others(options)) | {"lr": lrs[0][1]}
    return _whole(case, dtype, params, [(("w",), options), (("b",), other)], steps)


def dense(problem: Trajectory) -> Trajectory:
    """Return the same problem with zeros where a sparse gradient has nothing."""
    return problem.with_gradients(lambda grad, like: grad.dense(like) if isinstance(grad, Rows) else grad)


def _whole(
    case: Case,
    dtype: str,
    params: dict[str, Array],
    groups: list[tuple[tuple[str, ...], dict[str, Any]]],
    steps: list[Step],
    record: frozenset[int] | None = None,
) -> Trajectory:
    shown = frozenset(range(1, len(steps) + 1)) if record is None else record
    named = tuple(Group(names, options) for names, options in groups)
    return Trajectory(case.optimizer, dtype, params, named, tuple(steps), shown)
