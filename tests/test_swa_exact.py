"""One update of an average, beside the published formula in exact arithmetic; and wrong averages, all rejected."""

import inspect

import numpy as np
import pytest

flint = pytest.importorskip("flint", reason="python-flint, extra conformance, is not installed")

from refoptim import kernels, swa_utils  # noqa: E402
from refoptim.conformance import truth  # noqa: E402
from refoptim.conformance.scenario import reals  # noqa: E402
from refoptim.conformance.tolerances import LIMITS, MEAN_NOISE  # noqa: E402
from refoptim.formulas import swa as formulas  # noqa: E402
from refoptim.kernels.arithmetic import fma  # noqa: E402
from refoptim.parameter import Parameter  # noqa: E402

SIZE = 1_500
DECAYS = [0.999, 0.9, 1 / 3, 0.001]
COUNTS = [1, 2, 3, 10, 299, 2**24 + 1]
AVERAGES = {f"decay={decay:.3g}": (swa_utils.get_ema_avg_fn(decay), 1) for decay in DECAYS}
AVERAGES |= {f"n={n}": (swa_utils.get_swa_avg_fn(), n) for n in COUNTS}
DTYPES = [np.float32, np.float64, np.complex64, np.complex128]
KINDS = ["near", "alike", "apart"]
IMPLEMENTATIONS = {"fused": None, "float64": "float64"}


def data(kind, dtype):
    """Return averages and current values: near each other, of the same size, and of any two sizes."""
    rng = np.random.default_rng(5)
    averaged = rng.standard_normal((SIZE, 2))
    other = rng.standard_normal((SIZE, 2))
    current = {
        "near": averaged * (1 + 0.01 * other),
        "alike": other,
        "apart": other * 2.0 ** rng.uniform(-40, 40, (SIZE, 2)),
    }[kind]
    real = np.zeros(0, dtype).real.dtype
    pairs = (np.ascontiguousarray(array.astype(real)).view(dtype).reshape(-1) for array in (averaged, current))
    return tuple(array[:SIZE] for array in pairs)


def exact(function, averaged, current, n):
    """Return the exact average, of the numbers as they are and decay as the float64 it is."""
    with truth.precision():
        old, new = truth.balls(reals(averaged)), truth.balls(reals(current))
        if isinstance(function.average, type(swa_utils.get_swa_avg_fn().average)):
            return formulas.swa(old, new, n=n)
        return formulas.ema(old, new, decay=flint.arb(function.average.decay))


def errors(got, ball, averaged):
    with truth.precision():
        return truth.errors_in_ulps(reals(got), ball, reals(averaged))


def updated(function, averaged, current, n, arithmetic=None):
    """Return what an AveragedModel makes of it."""
    model = swa_utils.AveragedModel([Parameter(averaged)], avg_fn=function, arithmetic=arithmetic)
    model.n_averaged = n
    model.update_parameters([Parameter(current)])
    return model.module[0].data


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("name", AVERAGES)
def test_an_update_is_right(name, dtype, kind):
    function, n = AVERAGES[name]
    averaged, current = data(kind, dtype)
    ball = exact(function, averaged, current, n)
    single = np.zeros(0, dtype).real.dtype == np.float32
    for implementation, arithmetic in IMPLEMENTATIONS.items():
        if arithmetic and not single:
            continue
        found = errors(updated(function, averaged, current, n, arithmetic), ball, averaged)
        assert found.max() <= LIMITS[implementation].step
        if kind == "near":
            assert found.mean() <= LIMITS[implementation].mean
    assert function(averaged, current, n).tobytes() == updated(function, averaged, current, n).tobytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("name", AVERAGES)
def test_on_average_an_update_is_no_worse_than_torchs(name, dtype, kind):
    torch = pytest.importorskip("torch", reason="torch, which this is compared with, is not installed")
    function, n = AVERAGES[name]
    averaged, current = data(kind, dtype)
    theirs = [torch.tensor(averaged)]
    multi = f"get_{'swa' if name.startswith('n=') else 'ema'}_multi_avg_fn"
    options = {} if name.startswith("n=") else {"decay": function.average.decay}
    getattr(torch.optim.swa_utils, multi)(**options)(theirs, [torch.tensor(current)], n)
    ball = exact(function, averaged, current, n)
    ours = errors(function(averaged, current, n), ball, averaged)
    assert ours.mean() <= errors(theirs[0].numpy(), ball, averaged).mean() + MEAN_NOISE


@pytest.mark.parametrize("arithmetic", IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS)
@pytest.mark.parametrize("name", ["ema", "swa"])
def test_300_updates_stay_right(name, arithmetic):
    # The largest ends with 0.6 ulp (equal) and 9 (exponential); torch's get_ema_avg_fn with 46.
    function = getattr(swa_utils, f"get_{name}_avg_fn")()
    values = np.random.default_rng(0).standard_normal((300, 1_000)).astype(np.float32)
    params = [Parameter(values[0])]
    model = swa_utils.AveragedModel(params, avg_fn=function, arithmetic=arithmetic)
    reference = values[0].astype(np.float64)
    for n, value in enumerate(values):
        params[0].data = value
        model.update_parameters(params)
        wide = value.astype(np.float64)
        reference = formulas.swa(reference, wide, n=n) if name == "swa" else formulas.ema(reference, wide, decay=0.999)
        if n == 0:
            reference = wide
    ulps = np.abs(model.module[0].data - reference) / np.spacing(np.abs(values).max())
    assert np.median(ulps) <= LIMITS["fused"].step
    assert ulps.max() <= LIMITS["fused"].median


def test_equal_values_have_themselves_as_average():
    values = data("apart", np.float32)[1]
    for function, n in AVERAGES.values():
        assert function(values, values, n).tobytes() == values.tobytes()


RIGHT = {"forward": "fma(h.weight, c - a, a)", "backward": "fma(h.keep, a - c, c)"}
MUTANTS = [
    ("forward", "fma(h.weight, a - c, a)"),
    ("forward", "fma(h.weight, c, a)"),
    ("forward", "fma(-h.weight, a, a)"),
    ("forward", "fma(h.weight, c - a, c)"),
    ("forward", "h.weight * (c - a)"),
    ("forward", "a"),
    ("forward", "fma(h.weight * h.weight, c - a, a)"),
    ("forward", "fma(h.weight * type(a)(1.00001), c - a, a)"),
    ("forward", "type(a)(np.float16(fma(h.weight, c - a, a)))"),
    ("backward", "fma(h.keep, c - a, c)"),
    ("backward", "fma(h.weight, a - c, c)"),
    ("backward", "fma(h.keep, a, c)"),
    ("backward", "c"),
    ("backward", "fma(h.keep, a - c, a)"),
]
WEIGHT_MUTANTS = {
    "n for n + 1": lambda n: 1 / n,
    "n + 2 for n + 1": lambda n: 1 / (n + 2),
    "the weights swapped": lambda n: n / (n + 1),
    "the second value's": lambda n: 0.5,  # noqa: ARG005
}


def judged(update, names=AVERAGES):
    """Return whether any update of these is beyond the limits."""
    for name, dtype, kind in [(name, dtype, kind) for name in names for dtype in DTYPES[:2] for kind in KINDS]:
        function, n = AVERAGES[name]
        averaged, current = (array[:200] for array in data(kind, dtype))
        ball = exact(function, averaged, current, n)
        keep, weight = function.average.weights(n)
        with np.errstate(all="ignore"):
            got = update(averaged, current, keep, weight, n)
        if not errors(got, ball, averaged).max() <= LIMITS["fused"].step:
            return False
    return True


def plain(rule):
    """Return an update that runs a rule as plain Python."""

    def update(averaged, current, keep, weight, n):
        kind = averaged.dtype.type
        h = kernels.swa.Scalars(kind(weight), kind(keep if keep <= weight else 0))
        return np.array([rule(a, c, h) for a, c in zip(averaged, current, strict=True)])

    return update


def changed(right, wrong):
    names = {"fma": fma, "np": np}
    source = inspect.getsource(kernels.swa.average)
    assert right in source
    exec(source.replace(right, wrong), names)
    return names["average"]


def test_the_rule_is_not_rejected():
    assert judged(plain(kernels.swa.average))


@pytest.mark.parametrize(("side", "wrong"), MUTANTS)
def test_wrong_rules_are_rejected(side, wrong):
    assert not judged(plain(changed(RIGHT[side], wrong)))


@pytest.mark.parametrize("name", WEIGHT_MUTANTS)
def test_wrong_weights_are_rejected(name):
    def update(averaged, current, keep, weight, n):
        weight, new = WEIGHT_MUTANTS[name](n), averaged.copy()
        swa_utils.averages.move(new, current, (1 - weight, weight))
        return new

    assert not judged(update, [name for name in AVERAGES if name.startswith("n=")])
