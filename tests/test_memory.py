"""Memory: what long arrays lie in, and that a step needs none but its state."""

import ctypes
import gc
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import refoptim as optim
from refoptim import Parameter, SparseGrad, kernels, pages
from refoptim.buffers import ALIGNMENT, aligned_zeros
from refoptim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from refoptim.utils import clip_grad_norm_, clip_grad_value_, get_total_norm

SIZE = 1 << 21
BYTES = 4 * SIZE
SHAPE = (1024, SIZE // 1024)

# What does not grow with the parameters: scalars, plans, the sums of chunks, pages that a system counts late.
OVERHEAD = BYTES // 4

ELEMENTWISE = [
    ("Adam", {}),
    ("Adam", {"amsgrad": True, "weight_decay": 0.1, "maximize": True}),
    ("AdamW", {}),
    ("SGD", {}),
    ("SGD", {"momentum": 0.9, "nesterov": True}),
    ("Adadelta", {}),
    ("Adagrad", {}),
    ("Adamax", {}),
    ("ASGD", {}),
    ("NAdam", {}),
    ("RAdam", {}),
    ("RMSprop", {"momentum": 0.9, "centered": True}),
    ("Rprop", {}),
]


def gradient(size=SIZE, seed=0):
    return np.random.default_rng(seed).standard_normal(size, np.float32)


def optimizer_of(name, options, shape=SIZE, **more):
    """Return an optimizer of one parameter that has taken a step, which has made its state and compiled its kernel."""
    param = Parameter(gradient().reshape(shape))
    optimizer = getattr(optim, name)([param], **options, **more)
    param.grad = gradient(seed=1).reshape(shape)
    optimizer.step()
    return optimizer, param


def allocated(call):
    """Return how many bytes NumPy and Python have taken at most at a time, beyond what they had."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def resident(call):
    """Return how many bytes of memory the process has used at most at a time, beyond what it used before."""
    # Freed memory must be the system's again, or using it once more would not show.
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # forgets the highest mark
    before = status("VmRSS")
    call()
    return status("VmHWM") - before


def status(name):
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


@pytest.fixture(scope="module", autouse=True)
def collected():
    """What other files have left behind is looked at once, and not at each measurement."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


METERS = [
    allocated,
    pytest.param(
        resident,
        marks=pytest.mark.skipif(
            sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs Linux and glibc"
        ),
    ),
]


def case_id(value):
    return "-".join(value) if isinstance(value, dict) else getattr(value, "__name__", None)


@pytest.mark.parametrize("meter", METERS, ids=case_id)
def test_the_meters_see_a_copy(meter):
    values = gradient()
    assert meter(lambda: values * values) >= BYTES - OVERHEAD


@pytest.mark.parametrize("meter", METERS, ids=case_id)
@pytest.mark.parametrize("arithmetic", [None, "float64"])
@pytest.mark.parametrize(("name", "options"), ELEMENTWISE, ids=case_id)
def test_a_step_needs_no_memory_but_its_state(name, options, arithmetic, meter):
    optimizer, _ = optimizer_of(name, options, arithmetic=arithmetic)
    assert meter(optimizer.step) < OVERHEAD


# In parameters of float32; all of it is freed when the step ends.
EXTRA = {
    # Sums of columns in bands of 64 rows, as pairs of float64.
    ("Adafactor", SHAPE): 1 / 16 + 1 / 64,
    # The update of a vector, which is limited by its own norm.
    ("Adafactor", (SIZE,)): 1,
    # The matrix that is made orthogonal, its product, strips of it, two square ones of its shorter side, and the new
    # momentum, which becomes the state when nothing is left that needs memory.
    ("Muon", SHAPE): 5,
    ("Muon", SHAPE[::-1]): 5,
}


# What is freed in the middle of a step need not be the system's again: these are not measured as resident memory.
@pytest.mark.parametrize(("name", "shape"), EXTRA)
def test_a_step_of_whole_matrices_needs_this_much(name, shape):
    optimizer, _ = optimizer_of(name, {"ns_steps": 1} if name == "Muon" else {}, shape)
    assert allocated(optimizer.step) < EXTRA[name, shape] * BYTES + OVERHEAD


# The state that a step found stays until it ends, the new one comes into being beside it; then there are the points
# where the step and a search began, and gradients of three points. What is free is kept for the next step.
@pytest.mark.parametrize("meter", METERS, ids=case_id)
@pytest.mark.parametrize(("name", "state", "most"), [("LBFGS", 2 * 3 + 2, 2 * 3 + 7), ("CG", 2, 8)])
def test_steps_of_vectors_need_their_state_and_a_few_more(name, state, most, meter):
    options = {"history_size": 3} if name == "LBFGS" else {}
    start, curvature = gradient(), np.linspace(1, 2, SIZE, dtype=np.float32)
    param = Parameter(start)
    param.grad = np.zeros(SIZE, np.float32)

    def closure():
        np.multiply(param.data, curvature, out=param.grad)
        return float(kernels.reductions.dot(param.data, param.grad)) / 2

    def minimize():
        optimizer = getattr(optim, name)([param], max_iter=6, line_search_fn="strong_wolfe", **options)
        for factor in range(1, 5):
            np.multiply(start, factor, out=param.data)
            optimizer.step(closure)

    minimize()
    gc.collect()
    used = meter(minimize)
    assert used < (state + most) * BYTES + OVERHEAD
    # All of it is the system's again once the optimizer is gone.
    assert meter(lambda: None) < OVERHEAD


@pytest.mark.parametrize("meter", METERS, ids=case_id)
@pytest.mark.parametrize("name", ["SparseAdam", "Adagrad", "SGD"])
def test_a_sparse_step_needs_memory_for_its_rows_alone(name, meter):
    param = Parameter(gradient().reshape(SHAPE))
    optimizer = getattr(optim, name)([param])
    param.grad = SparseGrad(np.array([[3, 700]]), gradient(2 * SHAPE[1]).reshape(2, -1), SHAPE)
    optimizer.step()
    assert meter(optimizer.step) < OVERHEAD


def clip(scale, **options):
    def call(params):
        params[0].grad *= scale
        clip_grad_norm_(params, 1.0, **options)

    return call


CALLS = {
    "clip_grad_norm_": clip(1),
    "clip_grad_norm_ of small numbers": clip(np.float32(1e-30)),
    "clip_grad_norm_ by the largest": clip(1, norm_type="inf"),
    "clip_grad_norm_ by the smallest": clip(1, norm_type="-inf"),
    "clip_grad_value_": lambda params: clip_grad_value_(params, 0.5),
    "get_total_norm": lambda params: get_total_norm([p.grad for p in params], 1),
}


@pytest.mark.parametrize("meter", METERS, ids=case_id)
@pytest.mark.parametrize("name", CALLS)
def test_clipping_needs_no_memory(name, meter):
    _, param = optimizer_of("SGD", {})
    CALLS[name]([param])
    assert meter(lambda: CALLS[name]([param])) < OVERHEAD + BLOCK_COPIES


# Where squares would vanish, and for the smallest element, blocks of this size are copied.
BLOCK_COPIES = 4 * kernels.reductions.BLOCK


@pytest.mark.parametrize("meter", METERS, ids=case_id)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", [name for name in CALLS if "small" not in name])
def test_clipping_of_16_bits_needs_no_copy_in_float32(name, dtype, meter):
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes, extra half, is not installed")
    dtype = np.float16 if dtype == "float16" else ml_dtypes.bfloat16
    param = Parameter(gradient(2 * SIZE).astype(dtype))
    param.grad = gradient(2 * SIZE, seed=1).astype(dtype)
    CALLS[name]([param])
    assert meter(lambda: CALLS[name]([param])) < OVERHEAD + BLOCK_COPIES < 4 * param.grad.size


@pytest.mark.parametrize("meter", METERS, ids=case_id)
def test_norms_of_any_order_copy_blocks_alone(meter):
    values = gradient(4 * SIZE)
    get_total_norm(values, 3)
    # Of float64: the copy, its magnitudes, the quotient and the power.
    assert meter(lambda: get_total_norm(values, 3)) < 4 * 2 * BLOCK_COPIES + OVERHEAD < values.nbytes


@pytest.mark.parametrize("meter", METERS, ids=case_id)
def test_zeroing_gradients_and_averaging_need_no_memory(meter):
    optimizer, param = optimizer_of("SGD", {})
    averaged = AveragedModel([param], multi_avg_fn=get_ema_multi_avg_fn(0.9))
    for _ in range(2):
        averaged.update_parameters([param])
    assert meter(lambda: averaged.update_parameters([param])) < OVERHEAD
    assert meter(lambda: optimizer.zero_grad(set_to_none=False)) < OVERHEAD


@pytest.mark.parametrize("meter", METERS, ids=case_id)
def test_building_an_optimizer_needs_its_buffers_and_nothing_else(meter):
    params = [Parameter(gradient().reshape(2, -1)) for _ in range(4)]
    optim.SGD([Parameter([1.0])])
    # Values and gradients move into their buffers; until then they are in both places.
    assert meter(lambda: optim.SGD(params)) < 2 * 4 * BYTES + OVERHEAD


@pytest.mark.parametrize("meter", METERS, ids=case_id)
def test_loading_a_state_needs_room_for_that_state(meter):
    optimizer, _ = optimizer_of("Adam", {})
    saved = optimizer.state_dict()
    assert meter(lambda: optimizer.load_state_dict(saved)) < 2 * BYTES + OVERHEAD


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_long_arrays_start_on_cache_lines_apart_from_each_other(dtype):
    arrays = [aligned_zeros(pages.LONG // np.dtype(dtype).itemsize + 3, dtype) for _ in range(5)]
    for array in arrays:
        assert array.ctypes.data % ALIGNMENT == 0
        assert (array.dtype, array.flags.writeable, array.any()) == (dtype, True, False)
        array[...] = 1
    places = sorted(array.ctypes.data % 4096 for array in arrays)
    assert min(np.diff([*places, places[0] + 4096])) >= 10 * 64


def test_long_arrays_without_advice_are_as_good(monkeypatch):
    monkeypatch.setattr(pages, "_ADVICE", None)
    arrays = [pages.long_zeros(pages.LONG + 5) for _ in range(3)]
    for array in arrays:
        assert (array.size, array.ctypes.data % ALIGNMENT, array.any()) == (pages.LONG + 5, 0, False)
        array[...] = 1
    assert len({array.ctypes.data % 4096 for array in arrays}) == 3


def test_more_memory_than_there_is_leaves_a_memory_error():
    with pytest.raises(MemoryError, match=r"Unable to allocate|no room for an array of [\d,]+ bytes"):
        aligned_zeros(1 << 52, np.float32)
