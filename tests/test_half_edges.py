"""Parameters of float16 and bfloat16: what is refused, and clipping, averages and schedulers around the step."""

import numpy as np
import pytest

ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes, extra half, is not installed")

import refoptim as optim  # noqa: E402
from refoptim import Parameter, utils  # noqa: E402
from refoptim.gpu import _dtype_of  # noqa: E402

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = [BFLOAT16, np.dtype(np.float16)]


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


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"rounding": "up"}, ValueError, "Invalid rounding: 'up'; use None or 'nearest', or 'stochastic'"),
        ({"rounding": "stochastic", "seed": -1}, ValueError, "Invalid seed: -1"),
        ({"rounding": "stochastic", "seed": 1 << 64}, ValueError, "Invalid seed: 18446744073709551616"),
        ({"rounding": "stochastic", "seed": 0.5}, ValueError, "Invalid seed: 0.5"),
        ({"seed": 1}, ValueError, "seed is for rounding='stochastic'"),
        ({"rounding": "stochastic", "master_weights": True}, ValueError, "without master weights"),
        ({"differentiable": True}, TypeError, "differentiable=True needs an array of JAX's or torch's"),
    ],
)
def test_options_that_cannot_be(options, error, message):
    param = Parameter(np.ones(2, np.float16))
    with pytest.raises(error, match=message.replace("(", r"\(")):
        optim.Adam([param], **options)
    assert param.data.flags.writeable


@pytest.mark.parametrize("options", [{"master_weights": True}, {"rounding": "stochastic"}])
def test_options_without_parameters_to_use_them_on(options):
    with pytest.raises(TypeError, match="is for parameters of float16 or bfloat16, and there are none"):
        optim.SGD([Parameter([1.0])], **options)


@pytest.mark.parametrize("kind", [optim.LBFGS, optim.CG])
def test_minimizers_refuse(kind):
    with pytest.raises(TypeError, match="needs more digits than bfloat16 has"):
        kind([Parameter(np.ones(2, BFLOAT16))])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gradients_are_of_the_same_dtype_and_the_error_says_how(dtype):
    param = Parameter(np.ones(2, dtype), name="w")
    with pytest.raises(TypeError, match="has dtype float32, but the parameter has dtype") as caught:
        param.grad = np.ones(2, np.float32)
    module = "ml_dtypes" if dtype == BFLOAT16 else "np"
    assert f"write values.astype({module}.{dtype})" in str(caught.value)
    assert param.grad is None


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_scalars_empty_arrays_and_nan(dtype):
    params = [Parameter(np.array(1.0, dtype)), Parameter(np.zeros((0, 3), dtype)), Parameter(np.ones(4, dtype))]
    optimizer = optim.Adam(params, lr=0.25)
    nan = np.array([np.nan, np.inf, -np.inf, 1.0], dtype)
    optimizer.step(grads=[np.array(1.0, dtype), np.zeros((0, 3), dtype), nan])
    assert float(params[0].data) == 0.75
    assert np.isnan(params[2].data.astype(np.float32)).tolist() == [True, True, True, False]
    assert repr(params[0]) == f"Parameter(0.75, dtype={dtype}, grad=1)".replace("1)", repr_one(dtype))


def repr_one(dtype):
    """Return how NumPy writes 1 in a dtype."""
    return f"{np.array2string(np.array(1.0, dtype))})"


@pytest.mark.parametrize("options", [{}, {"arithmetic": "float64"}, {"rounding": "stochastic"}], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_number_survives_a_step_of_no_length(dtype, options):
    theta = np.arange((1 << 16) + 1).astype(np.uint16).view(dtype)  # the last one has no neighbour
    param = Parameter(theta)
    optim.SGD([param], lr=0.0, **options).step(grads=[np.zeros(theta.size, dtype)])
    got = param.data
    nan = np.isnan(theta.astype(np.float32))
    np.testing.assert_array_equal(np.isnan(got.astype(np.float32)), nan)
    np.testing.assert_array_equal(got[~nan].view(np.uint16), theta[~nan].view(np.uint16))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_clipping_computes_in_float64_and_rounds_once(dtype):
    theta, gradients = data(dtype, steps=2, shape=(70_000,))
    first, second = Parameter(theta), Parameter(theta[:100])
    first.grad, second.grad = gradients[0], gradients[1][:100]
    wide = np.concatenate([gradients[0], gradients[1][:100]]).astype(np.float64)
    norm = utils.clip_grad_norm_([first, second], 1.5)
    assert norm.dtype == np.float32
    expected = utils.get_total_norm(wide)
    assert norm == np.float32(expected)
    scaled = wide * (1.5 / (expected + utils._EPS))
    np.testing.assert_array_equal(np.concatenate([first.grad, second.grad]), rounded(scaled, dtype))
    utils.clip_grad_value_([first], 1e-3)
    bound = rounded(np.array(1e-3), dtype)
    assert np.abs(first.grad).max() == bound
    for p in (0, 1, 3, "inf"):
        got = utils.get_total_norm(gradients[0], p)
        assert got == np.float32(utils.get_total_norm(gradients[0].astype(np.float64), p))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_averages_are_those_of_float32_rounded(dtype):
    from refoptim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    theta, gradients = data(dtype)
    params = [Parameter(theta), Parameter(theta[0])]
    model = AveragedModel(params, multi_avg_fn=get_ema_multi_avg_fn(0.75))
    expected = theta.astype(np.float32)
    model.update_parameters(params)
    for gradient in gradients:
        params[0].data = gradient
        model.update_parameters(params)
        wide = gradient.astype(np.float32)
        expected = (expected.astype(np.float64) + 0.25 * (wide.astype(np.float64) - expected)).astype(np.float32)
        got = model.module[0].data
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, expected.astype(dtype))
        expected = got.astype(np.float32)


def test_schedulers_do_not_care():
    param = Parameter(np.ones(3, BFLOAT16))
    optimizer = optim.SGD([param], lr=1.0)
    scheduler = optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    for _ in range(3):
        optimizer.step(grads=[np.ones(3, BFLOAT16)])
        scheduler.step()
    assert param.data.tolist() == [-0.75] * 3


def test_bfloat16_of_another_library_is_that_of_ml_dtypes_or_the_error_says_what_is_missing():
    class View:
        @property
        def dtype(self):
            raise NotImplementedError("no such dtype")

    with pytest.raises(TypeError, match=r"bfloat16 needs ml_dtypes, write pip install 'refoptim\[half\]': no such"):
        _dtype_of(View())
    torch = pytest.importorskip("torch", reason="torch, whose array is looked at, is not installed")
    core = pytest.importorskip("cuda.core.utils", reason="cuda.core, which comes with numba-cuda, is not installed")
    view = core.StridedMemoryView.from_any_interface(torch.ones(2, dtype=torch.bfloat16), stream_ptr=-1)
    assert _dtype_of(view) == BFLOAT16
