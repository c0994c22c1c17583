"""Clipping: torch's numbers, exact norms, the same bits however gradients are cut into parameters."""

import math
import re
from fractions import Fraction

import numpy as np
import pytest

import refoptim as optim
from refoptim import utils
from refoptim.conformance.tolerances import CLOSE
from refoptim.sparse import SparseGrad

INF, NAN = math.inf, math.nan
DTYPES = [np.float32, np.float64, np.complex64, np.complex128]
SHAPES = [(3, 4), (), (0,), (5,), (2, 1, 3)]


def gradients(dtype=np.float32, shapes=SHAPES, seed=1):
    rng = np.random.default_rng(seed)
    found = [rng.standard_normal(shape) + 1j * rng.standard_normal(shape) for shape in shapes]
    return [np.asarray(g if np.dtype(dtype).kind == "c" else g.real, dtype) for g in found]


def parameters(grads):
    """Return a parameter for each gradient, all in buffers of their own."""
    params = [optim.Parameter(np.ones_like(g)) if g is not None else optim.Parameter([1.0]) for g in grads]
    for param, g in zip(params, grads, strict=True):
        param.grad = g
    return params


def in_torch(torch, grads):
    tensors = [torch.ones(g.shape, dtype=getattr(torch, g.dtype.name), requires_grad=True) for g in grads]
    for tensor, g in zip(tensors, grads, strict=True):
        tensor.grad = torch.from_numpy(g.copy())
    return tensors


def state(params):
    return [None if param.grad is None else np.array(param.grad).tobytes() for param in params]


def exact_squares(array):
    return sum((Fraction(float(x)) ** 2 for x in np.asarray(array).reshape(-1)), Fraction(0))


@pytest.mark.filterwarnings("ignore:Casting complex values")  # torch's, where it counts complex elements
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norm_type", [2, 2.0, 1, "inf", INF, -INF, 0, 3, 0.5, -1.5])
@pytest.mark.parametrize("max_norm", [0, 0.5, 1000.0, INF])
def test_as_torch(dtype, norm_type, max_norm):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    # torch takes no largest or smallest element of an empty array.
    grads = gradients(dtype, [shape for shape in SHAPES if 0 not in shape])
    tensors, params = in_torch(torch, grads), parameters(grads)
    want = torch.nn.utils.clip_grad_norm_(tensors, max_norm, norm_type)
    total = utils.clip_grad_norm_(params, max_norm, norm_type)
    close = CLOSE["float64" if grads[0].real.dtype == np.float64 else "float32"]
    assert total.dtype == want.numpy().dtype
    np.testing.assert_allclose(total, want, **close)
    assert total == utils.get_total_norm(grads, norm_type)
    for param, tensor in zip(params, tensors, strict=True):
        np.testing.assert_allclose(param.grad, tensor.grad, **close)


@pytest.mark.parametrize("special", [NAN, INF, -INF])
@pytest.mark.parametrize("norm_type", [2, 1, INF])
def test_totals_that_are_not_finite_as_torch(special, norm_type):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    grads = [np.array([1.0, special, -2.0]), np.array([3.0])]
    tensors, params = in_torch(torch, grads), parameters(grads)
    for clip, owners in [(torch.nn.utils.clip_grad_norm_, tensors), (utils.clip_grad_norm_, params)]:
        with pytest.raises(RuntimeError, match=r"The total norm of order .* is non-finite"):
            clip(owners, 1.0, norm_type, error_if_nonfinite=True)
    assert state(params) == [g.tobytes() for g in grads]
    want = torch.nn.utils.clip_grad_norm_(tensors, 1.0, norm_type)
    np.testing.assert_equal(float(utils.clip_grad_norm_(params, 1.0, norm_type)), want.item())
    for param, tensor in zip(params, tensors, strict=True):
        np.testing.assert_array_equal(param.grad, tensor.grad)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_the_norm_is_within_an_ulp(dtype, scale):
    grad = (gradients(np.float64, [(20, 300)])[0] * scale).astype(dtype)
    total = utils.clip_grad_norm_(parameters([grad]), INF)
    below, above = (Fraction(float(np.nextafter(total, dtype(to)))) for to in (0, INF))
    assert below**2 < exact_squares(grad) < above**2


def test_ten_million_elements():
    # torch's float32 norm is off by 3.6e-4 there: its squares are added in float32, one after the other.
    torch = pytest.importorskip("torch", reason="torch is not installed")
    count = np.random.default_rng(2).integers(-3000, 3000, 10_000_000)
    exact = math.sqrt(int(np.dot(count, count))) / 1024
    grad = (count / 1024).astype(np.float32)
    total = utils.get_total_norm(grad)
    assert total == np.float32(exact)
    assert utils.get_total_norm(np.split(grad, [1, 4097, 6_000_000])) == total
    theirs = torch.nn.utils.get_total_norm(torch.from_numpy(grad), foreach=False).item()
    assert abs(theirs - exact) > 100 * np.spacing(np.float32(exact))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("max_norm", [0.1, 1.0])
def test_elements_are_rounded_once(dtype, max_norm):
    grads = gradients(dtype)
    params = parameters(grads)
    utils.clip_grad_norm_(params, max_norm)
    flat = np.concatenate([g.reshape(-1) for g in grads]).astype(np.float64)
    factor = max_norm / (math.sqrt(exact_squares(flat)) + 1e-6)
    for param, g in zip(params, grads, strict=True):
        want = [dtype(float(Fraction(float(x)) * Fraction(factor))) for x in g.reshape(-1)]
        np.testing.assert_array_equal(param.grad, np.array(want, dtype).reshape(g.shape))


def test_a_norm_of_exactly_the_limit_is_scaled_as_in_torch():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    grads = [np.array([0.6, 0.8])]
    tensors, params = in_torch(torch, grads), parameters(grads)
    torch.nn.utils.clip_grad_norm_(tensors, 1.0)
    assert utils.clip_grad_norm_(params, 1.0) == 1.0
    assert params[0].grad[0] == tensors[0].grad[0].item() == 0.6 * (1 / (1 + 1e-6)) != 0.6


LAYOUTS = {
    "apart": list,
    "one buffer": optim.SGD,
    "two groups": lambda params: optim.SGD([{"params": params[::2]}, {"params": params[1::2]}]),
    "reversed": lambda params: optim.SGD(params[::-1]),
    "without a buffer": lambda params: [param.release() for param in params],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("cuts", [[], [1, 2, 50], [4096], [4000, 8192, 9000]])
@pytest.mark.parametrize("norm_type", [2, 1, INF])
def test_cuts_and_buffers_change_no_bit(layout, cuts, norm_type):
    whole = gradients(np.float32, [(10_000,)])
    (want,) = parameters(whole)
    total = utils.clip_grad_norm_(want, 1.0, norm_type)
    params = parameters(np.split(whole[0], cuts))
    LAYOUTS[layout](params)
    assert utils.clip_grad_norm_(params, 1.0, norm_type) == total
    assert b"".join(state(params)) == want.grad.tobytes()


def test_gradients_are_changed_in_place():
    (param,) = parameters([np.array([3.0, 4.0])])
    optimizer, grad = optim.SGD([param], lr=1.0), param.grad
    utils.clip_grad_norm_(param, 1e-3)
    utils.clip_grad_value_(param, 7e-4)
    assert param.grad is grad is not None
    optimizer.step()
    np.testing.assert_array_equal(param.data, 1 - grad)


@pytest.mark.parametrize("build", [list, tuple, iter, lambda params: (p for p in params)])
def test_parameters_without_a_gradient_are_left_out(build):
    params = parameters([np.array([3.0]), np.array([100.0]), np.array([4.0])])
    optim.SGD(params)
    params[1].grad = None  # what it held is still in the buffer
    assert utils.clip_grad_norm_(build(params), 2.5) == 5.0
    np.testing.assert_allclose([params[0].grad[0], params[2].grad[0]], [1.5, 2.0], **CLOSE["float32"])
    assert params[1].grad is None
    params[1].grad = np.array([1.0])
    assert params[1].grad[0] == 1.0


@pytest.mark.parametrize("norm_type", [2, 0, INF, -INF, -1, 3])
@pytest.mark.parametrize("params", [[], (), [optim.Parameter([1.0])], optim.Parameter([1.0])])
def test_without_gradients_the_norm_is_0(params, norm_type):
    assert utils.clip_grad_norm_(params, 1.0, norm_type, error_if_nonfinite=True) == 0.0
    assert utils.clip_grads_with_norm_(params, 1.0, 5.0) is None
    assert utils.clip_grad_value_(params, 1.0) is None


@pytest.mark.parametrize("norm_type", [2, 0, INF, -INF, -1, 3])
def test_empty_arrays_are_left_out(norm_type):
    grads = [np.zeros((0, 3), np.float32), np.array([[]], np.float32)]
    assert utils.get_total_norm(grads, norm_type) == 0
    assert utils.get_total_norm([], norm_type) == 0
    one = [np.zeros(0, np.float32), np.array([-1.0], np.float32)]
    assert utils.get_total_norm(one, norm_type) == utils.clip_grad_norm_(parameters(one), 1, norm_type) == 1


CLIPS = [
    lambda params: utils.clip_grad_norm_(params, 1.0),
    lambda params: utils.clip_grad_value_(params, 1.0),
    lambda params: utils.clip_grads_with_norm_(params, 1.0, 2.0),
]


@pytest.mark.parametrize("clip", CLIPS, ids=["norm", "value", "with-norm"])
def test_an_empty_generator_is_told(clip):
    with pytest.warns(UserWarning, match="empty generator, no gradient clipping will occur") as record:
        clip(iter([]))
    assert record[0].filename == __file__


def test_a_parameter_named_twice_counts_once():
    (param,) = parameters([np.array([3.0, 4.0])])
    assert utils.clip_grad_norm_([param, param], 2.5) == 5.0
    np.testing.assert_allclose(param.grad, [1.5, 2.0], **CLOSE["float32"])


WRONG = [
    (lambda p: utils.clip_grad_norm_(p, -1.0), ValueError, "Invalid max_norm: -1.0"),
    (lambda p: utils.clip_grad_norm_(p, NAN), ValueError, "Invalid max_norm: nan"),
    (lambda p: utils.clip_grad_norm_(p, 1.0, NAN), ValueError, "Invalid norm_type: nan"),
    (lambda p: utils.clip_grad_norm_(p, 1.0, "two"), TypeError, "norm_type must be a number, but is 'two'"),
    (lambda p: utils.clip_grad_norm_(p, "a"), TypeError, "max_norm must be a number, but is 'a'"),
    (lambda p: utils.clip_grad_norm_(p, None), TypeError, "max_norm must be a number, but is None"),
    (lambda p: utils.clip_grads_with_norm_(p, 1.0, None), TypeError, "total_norm must be a number, but is None"),
    (lambda p: utils.clip_grad_value_(p, "a"), TypeError, "clip_value must be a number, but is 'a'"),
    (lambda p: utils.clip_grads_with_norm_(p, -1.0, 2.0), ValueError, "Invalid max_norm: -1.0"),
    (lambda p: utils.clip_grads_with_norm_(p, 1.0, -1e-6), ValueError, "Invalid total_norm: -1e-06"),
    (lambda p: utils.clip_grad_value_(p, -0.5), ValueError, "Invalid clip_value: -0.5"),
    (lambda p: utils.clip_grad_value_(p, NAN), ValueError, "Invalid clip_value: nan"),
    (lambda p: utils.clip_grad_norm_([*p, np.ones(2)], 1.0), TypeError, "'ndarray'"),
    (lambda p: utils.clip_grad_value_([*p, None], 1.0), TypeError, "'NoneType'"),
    (lambda p: utils.clip_grad_value_([*p, *parameters([np.array([1j])])], 1.0), TypeError, "complex"),
    (lambda p: utils.get_total_norm([p[0].grad, np.array([1, 2])]), TypeError, "of int64"),
    (lambda p: utils.get_total_norm([p[0].grad, np.ma.array([1.0, 2.0])]), TypeError, "masked"),
    (lambda p: utils.get_total_norm(p[0].grad, NAN), ValueError, "Invalid norm_type: nan"),
]


@pytest.mark.parametrize(("call", "error", "message"), WRONG, ids=range(len(WRONG)))
def test_mistakes_change_nothing(call, error, message):
    params = parameters([np.array([3.0, 4.0]), np.array([5.0])])
    before = state(params)
    with pytest.raises(error, match=re.escape(message)):
        call(params)
    assert state(params) == before


def test_gradients_of_other_libraries_are_refused():
    autograd = pytest.importorskip("autograd", reason="autograd is not installed")
    held = []

    def loss(x):
        param = optim.Parameter(x)
        param.grad = 2 * x
        with pytest.raises(TypeError, match="clip it with autograd"):
            utils.clip_grad_norm_(param, 1.0)
        held.append(param)
        return (x * x).sum()

    autograd.grad(loss)(np.array([1.0, 2.0]))
    assert held


def test_what_torch_does_with_negative_limits():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    grads = [np.array([3.0, 4.0])]
    tensors, params = in_torch(torch, grads), parameters(grads)
    torch.nn.utils.clip_grad_norm_(tensors, -5.0)
    assert (tensors[0].grad < 0).all()
    torch.nn.utils.clip_grad_value_(tensors, -1.0)
    assert tensors[0].grad.tolist() == [-1.0, -1.0]
    for clip in (utils.clip_grad_norm_, utils.clip_grad_value_):
        with pytest.raises(ValueError, match="must be at least 0"):
            clip(params, -1.0)
    assert params[0].grad.tolist() == [3.0, 4.0]


def test_a_norm_that_its_type_cannot_hold_still_clips():
    grads = [np.full(4, 3e38, np.float32)]
    params = parameters(grads)
    with pytest.raises(RuntimeError, match="non-finite"):
        utils.clip_grad_norm_(params, 6e38, error_if_nonfinite=True)
    assert utils.clip_grad_norm_(params, 3e38) == np.float32(INF)
    np.testing.assert_allclose(params[0].grad, np.full(4, 1.5e38, np.float32), **CLOSE["float32"])


@pytest.mark.parametrize(
    ("kinds", "want"),
    [
        ([np.float32], np.float32),
        ([np.complex64], np.float32),
        ([np.float32, np.float64], np.float64),
        ([np.complex64, np.float32], np.float32),
        ([np.float32, np.complex128], np.float64),
    ],
)
def test_the_norm_has_the_widest_type(kinds, want):
    grads = [np.array([2, 4], kind) for kind in kinds] + [np.array([4], kinds[0])]
    total = utils.get_total_norm(grads)
    assert type(total) is want
    assert total == want(math.sqrt(20 * len(kinds) + 16))
    assert type(utils.clip_grad_norm_(parameters(grads), 1.0)) is want


@pytest.mark.parametrize(
    ("arrays", "want"),
    [
        (np.array([[3.0, 0.0], [0.0, 4.0]]), 5.0),
        (np.float32(-2.0), 2.0),
        ([np.array(3.0), np.arange(8.0)[4:5]], 5.0),
        ([np.asfortranarray(np.ones((4, 4)))[::2, ::2]], 2.0),
        ((np.array([3.0 + 4.0j]),), 5.0),
        (iter([np.array([3.0]), np.array([4.0])]), 5.0),
        (optim.Parameter([3.0, 4.0]), 5.0),
        (SparseGrad([2, 0, 2], [1.0, 4.0, 2.0], (9,)), 5.0),
    ],
)
def test_what_has_a_norm(arrays, want):
    assert utils.get_total_norm(arrays) == want


SPARSE = SparseGrad([2, 0, 2], [[1.0, -1.0], [4.0, 0.0], [2.0, 1.0]], (4, 2))  # rows 0 and 2: (4, 0) and (3, 0)


@pytest.mark.parametrize("norm_type", [2, 1, 0, INF, -INF, 3, -1])
def test_sparse_gradients_have_the_norm_of_dense_ones(norm_type):
    dense = utils.get_total_norm([SPARSE.to_dense(), np.array([2.0])], norm_type)
    assert utils.get_total_norm([SPARSE, np.array([2.0])], norm_type) == dense


@pytest.mark.parametrize(
    ("clip", "want"),
    [
        (lambda param: utils.clip_grads_with_norm_(param, 1.0, 2.0 - 1e-6), [[2, 0], [0, 0], [1.5, 0], [0, 0]]),
        (lambda param: utils.clip_grad_value_(param, 3.5), [[3.5, 0], [0, 0], [3, 0], [0, 0]]),
    ],
)
def test_sparse_gradients_are_clipped_as_sums(clip, want):
    param = optim.Parameter(np.ones((4, 2)))
    param.grad = SPARSE
    clip(param)
    assert isinstance(param.grad, SparseGrad)
    np.testing.assert_array_equal(param.grad.to_dense(), want)
    np.testing.assert_array_equal(SPARSE.values[0], [1.0, -1.0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("limit", [0, 0.3, 1.0, INF])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_values_are_clipped_as_in_torch(dtype, limit, layout):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    grads = gradients(dtype)
    grads[0][0, :3] = NAN, INF, -INF
    tensors, params = in_torch(torch, grads), parameters(grads)
    LAYOUTS[layout](params)
    torch.nn.utils.clip_grad_value_(tensors, limit)
    utils.clip_grad_value_(params, limit)
    for param, tensor in zip(params, tensors, strict=True):
        np.testing.assert_array_equal(param.grad, tensor.grad)


@pytest.mark.parametrize(("text", "p"), [("inf", math.inf), ("-inf", -math.inf), ("2", 2.0), (" 1.5 ", 1.5)])
def test_a_norm_may_be_named_as_in_torch(text, p):
    grads = [np.array([3.0, -4.0]), np.array([1.0])]
    assert utils.get_total_norm(grads, text) == utils.get_total_norm(grads, p)
