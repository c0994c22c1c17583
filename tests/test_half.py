"""Parameters of float16 and bfloat16: computed in float32, rounded once; master weights; stochastic rounding."""

import copy
import pickle
import sys

import numpy as np
import pytest

ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes, extra half, is not installed")

import refoptim as optim  # noqa: E402
from refoptim import Parameter, SparseGrad  # noqa: E402
from refoptim.kernels import jit  # noqa: E402

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = [BFLOAT16, np.dtype(np.float16)]

OPTIMIZERS = {
    "sgd": (optim.SGD, {"lr": 0.1, "weight_decay": 0.01}),
    "momentum": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.1, "maximize": True}),
    "nesterov": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "adam": (optim.Adam, {"lr": 0.01, "weight_decay": 0.01}),
    "adamw": (optim.AdamW, {"lr": 0.01}),
    "amsgrad": (optim.Adam, {"lr": 0.01, "amsgrad": True}),
    "adamax": (optim.Adamax, {"lr": 0.01}),
    "nadam": (optim.NAdam, {"lr": 0.01}),
    "radam": (optim.RAdam, {"lr": 0.01, "betas": (0.5, 0.9)}),
    "asgd": (optim.ASGD, {"lr": 0.1, "lambd": 0.1, "t0": 2}),
    "adagrad": (optim.Adagrad, {"lr": 0.1, "initial_accumulator_value": 0.5}),
    "adadelta": (optim.Adadelta, {"weight_decay": 0.01}),
    "rmsprop": (optim.RMSprop, {"lr": 0.01, "momentum": 0.9, "centered": True}),
    "rprop": (optim.Rprop, {"lr": 2.0**-7}),  # a state from the start: both formats have it
    "adafactor": (optim.Adafactor, {"lr": 0.01, "eps": (1e-3, 1e-3)}),
    "muon": (optim.Muon, {"lr": 0.01}),
}
# Of each kind one, where all would say the same and take long to compile.
FEW = ["sgd", "adam", "adafactor"]
WAYS = {"fused": {}, "foreach": {"foreach": True}, "for-loop": {"foreach": False, "fused": False}}
WIDE_WAYS = {"float32": {}, "float64": {"arithmetic": "float64"}}
STOCHASTIC = {"rounding": "stochastic", "seed": 7}
SHAPE, STEPS = (40, 31), 6


def data(dtype, steps=STEPS, shape=SHAPE):
    """Return parameters and gradients that a dtype can represent."""
    rng = np.random.default_rng(5)
    scale = 10.0 ** rng.uniform(-3, 0.5, shape)
    return rng.standard_normal(shape).astype(dtype), (rng.standard_normal((steps, *shape)) * scale).astype(dtype)


def rounded(values, dtype):
    """Return float32 or float64 values in another dtype, rounded once."""
    if values.dtype == np.float64 and dtype == BFLOAT16:
        # ml_dtypes goes by way of float32, which would have to be odd where it is inexact.
        narrow = values.astype(np.float32)
        towards = np.where(np.abs(narrow) > np.abs(values), np.nextafter(narrow, np.float32(0)), narrow)
        values = (towards.view(np.uint32) | (towards != values)).view(np.float32)
    return values.astype(dtype)


def bits(param, optimizer):
    """Return the bytes of a parameter and of its state."""
    entry = optimizer.state[param]
    return {"data": param.data.tobytes()} | {name: np.asarray(value).tobytes() for name, value in entry.items()}


def run(kind, theta, gradients, **options):
    """Return a parameter and its optimizer after these steps."""
    param = Parameter(theta)
    optimizer = kind([param], **options)
    for gradient in gradients:
        optimizer.step(grads=[gradient])
    return param, optimizer


EXACT = [(name, "float32") for name in OPTIMIZERS] + [(name, "float64") for name in FEW]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("name", "arithmetic"), EXACT)
def test_a_step_is_the_float32_step_rounded_once(name, dtype, way, arithmetic):
    kind, options = OPTIMIZERS[name]
    options = options | WAYS[way]
    theta, gradients = data(dtype)
    wide = np.dtype(arithmetic)
    # float64 arrays have float64 arithmetic.
    own, other = Parameter(theta), Parameter(theta.astype(wide))
    half, full = kind([own], **options, **WIDE_WAYS[arithmetic]), kind([other], **options)
    for gradient in gradients:
        half.step(grads=[gradient])
        full.step(grads=[gradient.astype(wide)])
        assert own.data.dtype == dtype
        np.testing.assert_array_equal(own.data.view(np.uint16), rounded(other.data, dtype).view(np.uint16))
        other.data = own.data.astype(wide)
        for key, value in full.state[other].items():
            if isinstance(value, np.ndarray):
                stored = half.state[own][key]
                assert stored.dtype == dtype
                np.testing.assert_array_equal(stored.view(np.uint16), rounded(value, dtype).view(np.uint16))
                value[...] = stored.astype(wide)


PAIRS = [(name, BFLOAT16) for name in OPTIMIZERS] + [(name, np.dtype(np.float16)) for name in FEW]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("name", "dtype"), PAIRS)
def test_master_weights_are_a_float32_run_and_the_parameters_its_rounded_copy(name, dtype, way):
    kind, options = OPTIMIZERS[name]
    theta, gradients = data(dtype, steps=20)
    own, half = run(kind, theta, gradients, **options, **WAYS[way], master_weights=True)
    wide = [gradient.astype(np.float32) for gradient in gradients]
    other, full = run(kind, theta.astype(np.float32), wide, **options, **WAYS[way])
    entry = dict(half.state[own])
    master = entry.pop("master_weight")
    assert master.dtype == np.float32
    np.testing.assert_array_equal(master, other.data)
    np.testing.assert_array_equal(own.data, other.data.astype(dtype))
    assert entry.keys() == full.state[other].keys()
    for key, value in full.state[other].items():
        np.testing.assert_array_equal(entry[key], value)
        assert np.asarray(entry[key]).dtype == np.asarray(value).dtype


@pytest.mark.parametrize("way", WAYS)
def test_what_is_written_to_a_parameter_replaces_its_master_weight_there_alone(way):
    theta, gradients = data(BFLOAT16, steps=4)
    param, optimizer = run(optim.SGD, theta, gradients, lr=1e-3, master_weights=True, **WAYS[way])
    kept = optimizer.state[param]["master_weight"].copy()
    param.data[0] = 2.0
    optimizer.step(grads=[np.zeros(SHAPE, BFLOAT16)])
    master = optimizer.state[param]["master_weight"]
    assert (master[0] == 2.0).all()
    np.testing.assert_array_equal(master[1:], kept[1:])
    assert (kept != kept.astype(BFLOAT16).astype(np.float32)).any()


def test_updates_too_small_for_the_format_are_lost_by_rounding_to_nearest_alone():
    theta, gradients = np.ones(4_096, BFLOAT16), np.ones((100, 4_096), BFLOAT16)
    moved = {
        name: 1 - run(optim.SGD, theta, gradients, lr=1e-4, **options)[0].data.astype(np.float64)
        for name, options in {"nearest": {}, "master": {"master_weights": True}, "stochastic": STOCHASTIC}.items()
    }
    assert not moved["nearest"].any()
    np.testing.assert_array_equal(moved["master"], 1 - float(np.float32(0.99).astype(BFLOAT16)))
    # Each of 4,096 walks of 100 steps ends near 0.01, some 6e-3 to either side.
    assert abs(moved["stochastic"].mean() - 0.01) < 5 * moved["stochastic"].std() / 64
    assert moved["stochastic"].std() > 0


@pytest.mark.parametrize(("name", "dtype"), PAIRS)
def test_stochastic_results_are_neighbours_of_the_float32_step(name, dtype):
    kind, options = OPTIMIZERS[name]
    theta, gradients = data(dtype, steps=1)
    own, half = run(kind, theta, gradients, **options, **STOCHASTIC)
    other, full = run(kind, theta.astype(np.float32), [gradients[0].astype(np.float32)], **options)
    pairs = [(own.data, other.data)]
    pairs += [(half.state[own][key], v) for key, v in full.state[other].items() if isinstance(v, np.ndarray)]
    for got, exact in pairs:
        assert got.dtype == dtype
        nearest = exact.astype(dtype)
        exactly = nearest.astype(np.float32) == exact
        np.testing.assert_array_equal(got[exactly], nearest[exactly])
        apart = np.abs(got.view(np.int16).astype(int) - nearest.view(np.int16).astype(int))
        assert apart.max() <= 1
    assert (own.data != other.data.astype(dtype)).any()


@pytest.fixture
def variant(monkeypatch):
    """Return what chooses one compiled variant for arrays of every size."""
    return lambda name: monkeypatch.setattr(jit, "SERIAL_BELOW", {"serial": sys.maxsize, "parallel": 0}[name])


OPTIONS = {"nearest": {}, "master": {"master_weights": True}, "stochastic": STOCHASTIC}


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["adam", "momentum"])
def test_threads_and_cuts_do_not_change_a_bit(variant, name, dtype, option):
    kind, options = OPTIMIZERS[name]
    options = options | OPTIONS[option]
    theta, gradients = data(dtype)
    variant("serial")
    whole = bits(*run(kind, theta, gradients, **options))
    variant("parallel")
    assert bits(*run(kind, theta, gradients, **options)) == whole
    cuts = [1, 3, 18, 82, 82, 640]
    params = [Parameter(part) for part in np.split(theta.reshape(-1), cuts)]
    optimizer = kind(params, **options)
    for gradient in gradients:
        optimizer.step(grads=np.split(gradient.reshape(-1), cuts))
    parts = [bits(param, optimizer) for param in params]
    for array in whole.keys() - {"step"}:
        assert b"".join(part[array] for part in parts) == whole[array]


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize(
    ("name", "way"), [(name, "fused") for name in OPTIMIZERS] + [(name, "foreach") for name in FEW]
)
def test_a_checkpoint_goes_on_to_the_bit(name, option, way):
    kind, options = OPTIMIZERS[name]
    options = options | OPTIONS[option] | WAYS[way]
    theta, gradients = data(BFLOAT16)
    expected = bits(*run(kind, theta, gradients, **options))
    param, optimizer = run(kind, theta, gradients[:3], **options)
    saved = pickle.loads(pickle.dumps(optimizer.state_dict()))
    resumed = Parameter(param.data)
    fresh = kind([resumed], **options)
    fresh.load_state_dict(saved)
    copied = copy.deepcopy(optimizer)
    pickled = pickle.loads(pickle.dumps(optimizer))
    for gradient in gradients[3:]:
        for each in (optimizer, fresh, copied, pickled):
            each.step(grads=[gradient])
    for each in (optimizer, fresh, copied, pickled):
        assert bits(each.param_groups[0]["params"][0], each) == expected


def test_seeds_groups_and_elements_have_random_numbers_of_their_own():
    theta, gradients = np.ones(1_000, BFLOAT16), np.ones((1, 1_000), BFLOAT16)
    first, second = (run(optim.SGD, theta, gradients, rounding="stochastic", seed=s)[0].data for s in (1, 2))
    assert (first != second).any()
    assert (run(optim.SGD, theta, gradients, rounding="stochastic", seed=1)[0].data == first).all()
    left, right = Parameter(theta), Parameter(theta)
    optim.SGD([{"params": [left]}, {"params": [right]}], **STOCHASTIC).step(grads=[gradients[0]] * 2)
    assert (left.data != right.data).any()
    assert len(set(left.data.tolist())) == 2


def test_options_concern_parameters_of_16_bits_alone():
    theta, gradients = data(np.float32)
    plain = bits(*run(optim.Adam, theta, gradients))
    half = Parameter(np.ones(3, np.float16))
    for option in OPTIONS.values():
        param = Parameter(theta)
        optimizer = optim.Adam([param, half], **option)
        for gradient in gradients:
            optimizer.step(grads=[gradient, np.ones(3, np.float16)])
        assert bits(param, optimizer) == plain


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["SparseAdam", "SGD", "Adagrad"])
def test_sparse_steps_change_their_rows_alone_as_dense_ones_do(name, dtype):
    theta, gradients = data(dtype, steps=3)
    options = {"momentum": 0.9} if name == "SGD" else {}
    rows = np.array([3, 4, 30])
    kind = getattr(optim, name)
    param, wide = Parameter(theta), Parameter(theta.astype(np.float32))
    half, full = kind([param], lr=0.1, **options), kind([wide], lr=0.1, **options)
    for gradient in gradients:
        half.step(grads=[SparseGrad(rows, gradient[rows], SHAPE)])
        full.step(grads=[SparseGrad(rows, gradient[rows].astype(np.float32), SHAPE)])
        np.testing.assert_array_equal(param.data, wide.data.astype(dtype))
        wide.data = param.data.astype(np.float32)
        for key, value in full.state[wide].items():
            if isinstance(value, np.ndarray):
                value[...] = half.state[param][key].astype(np.float32)
    others = np.delete(np.arange(SHAPE[0]), rows)
    np.testing.assert_array_equal(param.data[others], theta[others])
    assert (param.data[rows] != theta[rows]).any()


@pytest.mark.parametrize("options", [{"master_weights": True}, STOCHASTIC])
def test_sparse_gradients_are_refused_with_these_options_before_anything_changes(options):
    param, dense = Parameter(np.ones((3, 2), BFLOAT16)), Parameter(np.ones(2, BFLOAT16))
    optimizer = optim.SGD([dense, param], lr=0.5, **options)
    with pytest.raises(TypeError, match="sparse gradients of parameters of 16 bits"):
        optimizer.step(grads=[np.ones(2, BFLOAT16), SparseGrad([0], np.ones((1, 2), BFLOAT16), (3, 2))])
    assert (dense.data == 1).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_state_of_float32_loads_and_is_rounded(dtype):
    theta, gradients = data(dtype)
    param, optimizer = run(optim.Adam, theta, gradients)
    saved = optimizer.state_dict()
    for key in ("exp_avg", "exp_avg_sq"):
        assert saved["state"][0][key].dtype == dtype
        saved["state"][0][key] = saved["state"][0][key].astype(np.float32)
    fresh = optim.Adam([Parameter(param.data)])
    fresh.load_state_dict(saved)
    assert bits(fresh.param_groups[0]["params"][0], fresh) == bits(param, optimizer)


def test_states_with_and_without_master_weights_load_into_each_other():
    theta, gradients = data(BFLOAT16)
    with_, without = {"master_weights": True}, {}
    for saving, loading in ((with_, without), (without, with_)):
        param, optimizer = run(optim.Adam, theta, gradients, lr=0.1, **saving)
        other = Parameter(param.data)
        fresh = optim.Adam([other], lr=0.1, **loading)
        fresh.load_state_dict(optimizer.state_dict())
        fresh.step(grads=[gradients[0]])
        assert ("master_weight" in fresh.state[other]) == bool(loading)
        assert fresh.state[other]["exp_avg"].dtype == (np.float32 if loading else BFLOAT16)
        wide = Parameter(param.data.astype(np.float32))
        full = optim.Adam([wide], lr=0.1)
        rest = {k: v.astype(BFLOAT16) if isinstance(v, np.ndarray) else v for k, v in optimizer.state[param].items()}
        rest.pop("master_weight", None)
        full.load_state_dict(optimizer.state_dict() | {"state": {0: rest}})
        full.step(grads=[gradients[0].astype(np.float32)])
        np.testing.assert_array_equal(other.data, wide.data.astype(BFLOAT16))


def test_a_state_of_torchs_in_bfloat16_loads_and_goes_on():
    torch = pytest.importorskip("torch", reason="torch, which wrote the state, is not installed")
    theta, gradients = data(BFLOAT16)
    tensor = torch.nn.Parameter(torch.tensor(theta.astype(np.float32)).bfloat16())
    theirs = torch.optim.Adam([tensor], lr=0.125)
    for gradient in gradients:
        tensor.grad = torch.tensor(gradient.astype(np.float32)).bfloat16()
        theirs.step()
    saved = theirs.state_dict()
    for name in ("exp_avg", "exp_avg_sq"):
        saved["state"][0][name] = saved["state"][0][name].view(torch.int16).numpy().view(BFLOAT16)
    param = Parameter(tensor.detach().float().numpy().astype(BFLOAT16))
    optimizer = optim.Adam([param], lr=0.125)
    optimizer.load_state_dict(saved)
    assert optimizer.state[param]["exp_avg"].tobytes() == saved["state"][0]["exp_avg"].tobytes()
    optimizer.step(grads=[gradients[0]])
    assert optimizer.state[param]["step"] == STEPS + 1
