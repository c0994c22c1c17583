"""Parameters: what they are made of, and arrays that go in and out of them."""

import copy
import pickle

import autograd
import numpy as np
import pytest

import refoptim as optim
from refoptim import Parameter
from refoptim.errors import GradientShapeError, GradientTypeError

DTYPES = [np.float32, np.float64, np.complex64, np.complex128]


def values(shape, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    array = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        array = array + 1j * rng.standard_normal(shape)
    return np.asarray(array, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 4), (2, 3, 4)])
def test_has_the_shape_dtype_and_values_of_its_array(shape, dtype):
    array = values(shape, dtype)
    p = Parameter(array)
    assert (p.shape, p.dtype, p.size, p.ndim, p.device) == (shape, dtype, array.size, array.ndim, "cpu")
    assert type(p.data) is np.ndarray
    assert p.grad is None
    np.testing.assert_array_equal(p.data, array, strict=True)


def read_only():
    array = values((4, 6))
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    "array",
    [
        values((4, 6)).T,
        values((8, 6))[::2],
        values((4, 6))[:, ::-1],
        np.asfortranarray(values((4, 6))),
        np.broadcast_to(values(6), (4, 6)),
        read_only(),
        values((4, 6)).astype(">f8"),
        values((4, 6)).astype(">c16"),
        values((4, 6)).view(np.matrix),
    ],
    ids=["transposed", "strided", "reversed", "fortran", "broadcast", "read-only", ">f8", ">c16", "matrix"],
)
def test_takes_any_array_and_makes_it_plain(array):
    p = Parameter(array)
    np.testing.assert_array_equal(p.data, np.asarray(array))
    assert type(p.data) is np.ndarray
    assert p.dtype.isnative
    assert p.data.flags.c_contiguous
    assert p.data.flags.writeable


@pytest.mark.parametrize(("plain", "shape"), [([1.0, 2.0], (2,)), ([[1.0], [2.0]], (2, 1)), (3.0, ()), ([], (0,))])
def test_takes_lists_and_numbers(plain, shape):
    p = Parameter(plain)
    assert (p.shape, p.dtype) == (shape, np.float64)
    assert p.data.tolist() == plain


@pytest.mark.parametrize(
    ("array", "name"),
    [
        ([1, 2], "int64"),
        (np.ones(2, np.longdouble), str(np.dtype(np.longdouble))),
        (np.ones(2, bool), "bool"),
        (np.ones(2, np.uint8), "uint8"),
        (np.array([1.0, None]), "object"),
        (np.array(["a"]), "<U1"),
        (np.zeros(2, [("x", "f8")]), "[('x', '<f8')]"),
    ],
)
def test_another_dtype_is_refused_by_name(array, name):
    with pytest.raises(TypeError) as caught:
        Parameter(array, name="w")
    assert f"but is of {name}: write array.astype(np.float32)" in str(caught.value)
    assert "Parameter 'w' must be of float32, float64, complex64, complex128, float16, bfloat16," in str(caught.value)


def test_masked_arrays_are_refused():
    masked = np.ma.array([1.0, 2.0], mask=[False, True])
    with pytest.raises(TypeError, match=r"must not be a masked array: write array.filled\(0\)"):
        Parameter(masked)
    p = Parameter([1.0, 2.0])
    for attribute in ("data", "grad"):
        with pytest.raises(TypeError, match="masked"):
            setattr(p, attribute, masked)
    assert p.grad is None
    assert p.data.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_never_shares_memory_with_what_it_was_made_of(dtype):
    array = values(5, dtype)
    before = array.copy()
    p = Parameter(array)
    assert not np.shares_memory(p.data, array)
    p.data[...] = 7
    np.testing.assert_array_equal(array, before)
    other = Parameter(p)
    assert not np.shares_memory(other.data, p.data)
    assert other.data.tolist() == [7] * 5


def test_asarray_shares_memory_and_converts():
    p = Parameter(values(3, np.float32))
    assert np.shares_memory(np.asarray(p), p.data)
    assert not np.shares_memory(np.array(p), p.data)
    assert np.asarray(p, np.float64).dtype == np.float64
    with pytest.raises(ValueError, match="copy"):
        np.asarray(p, np.float64, copy=False)
    np.testing.assert_array_equal(np.add(p, 1), p.data + np.float32(1))
    assert len(p) == 3


def test_data_setter_copies_into_the_same_array():
    p = Parameter(values(4))
    kept, new = p.data, values(4, seed=1)
    p.data = new
    assert p.data is kept
    assert not np.shares_memory(p.data, new)
    np.testing.assert_array_equal(kept, new)
    p.data -= 1
    assert p.data is kept
    np.testing.assert_array_equal(kept, new - 1)
    p.data = p.data[::-1]
    np.testing.assert_array_equal(kept, new[::-1] - 1)


@pytest.mark.parametrize("attribute", ["data", "grad"])
@pytest.mark.parametrize(
    ("wrong", "kind", "message"),
    [
        (values(3), GradientShapeError, r"has shape \(3,\), but the parameter has shape \(2,\)"),
        (values((1, 2)), GradientShapeError, r"has shape \(1, 2\)"),
        (np.float64(1), GradientShapeError, r"has shape \(\)"),
        (values(2, np.float32), GradientTypeError, r"has dtype float32.*write values.astype\(np.float64\)"),
        (values(2, np.complex128), GradientTypeError, "has dtype complex128"),
        (np.array([1, 2]), GradientTypeError, "has dtype int64"),
        ([1.0, 2.0], GradientTypeError, r"but got \w+ of type 'list': write np.asarray\(values, np.float64\)"),
        (1.0, GradientTypeError, "'float'"),
        ("ab", GradientTypeError, "'str'"),
    ],
)
@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("loose", [False, True])
def test_setters_refuse_what_is_not_the_parameters(attribute, wrong, kind, message, loose, times):
    p = Parameter([1.0, 2.0], name="w")
    if loose:
        optim.SGD([p], differentiable=True)
    for _ in range(times):
        p.grad = np.array([3.0, 4.0])
    with pytest.raises(kind, match=message) as caught:
        setattr(p, attribute, wrong)
    assert "Parameter 'w'" in str(caught.value)
    assert isinstance(caught.value, RuntimeError)
    assert isinstance(caught.value, ValueError if kind is GradientShapeError else TypeError)
    assert p.data.tolist() == [1.0, 2.0]
    assert p.grad.tolist() == [3.0, 4.0]


def test_float64_gradient_of_a_float32_parameter_says_what_to_write():
    p = Parameter(values(2, np.float32))
    with pytest.raises(TypeError, match=r"write values.astype\(np.float32\)"):
        p.grad = values(2)
    assert p.grad is None


def test_big_endian_gradients_are_converted():
    p, g = Parameter(values(3)), values(3, seed=1)
    p.grad = g.astype(">f8")
    np.testing.assert_array_equal(p.grad, g)
    assert p.grad.dtype.isnative


GIVEN = {
    "contiguous": lambda g: g,
    "strided": lambda g: np.repeat(g, 2, axis=0)[::2],
    "backwards": lambda g: g[::-1].copy()[::-1],
    "by columns": np.asfortranarray,
    "read-only": lambda g: np.frombuffer(g.tobytes(), g.dtype).reshape(g.shape),
    "big-endian": lambda g: g.astype(g.dtype.newbyteorder(">")),
    "memmap": lambda g: g.view(np.memmap),
}


@pytest.mark.parametrize("given", GIVEN.values(), ids=GIVEN)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64"])
@pytest.mark.parametrize("shape", [3, 1, 0, (2, 3), (0, 3), (1, 1, 2)])
def test_gradients_of_every_kind_time_after_time(shape, dtype, given):
    p, q = Parameter(values(shape, dtype)), Parameter(values(2, dtype))
    for seed in range(6):
        if seed == 2:
            optim.SGD([p, q])
        if seed == 4:
            p.grad = None
        gradient = values(shape, dtype, seed)
        p.grad = given(gradient)
        np.testing.assert_array_equal(p.grad, gradient, strict=True)
        assert not np.shares_memory(p.grad, gradient)
    assert q.grad is None


def test_a_gradient_may_be_its_own_reverse():
    p = Parameter(values(5))
    for seed in range(3):
        p.grad = values(5, seed=seed)
        p.grad = p.grad[::-1]
        np.testing.assert_array_equal(p.grad, values(5, seed=seed)[::-1])


def test_masked_gradients_are_refused_time_after_time():
    p = Parameter(values(2, np.float32))
    for _ in range(3):
        p.grad = values(2, np.float32)
        with pytest.raises(TypeError, match="masked"):
            p.grad = np.ma.masked_array(values(2, np.float32), [True, False])


@pytest.mark.parametrize("shape", [3, (), (2, 2), 0, 5000])
def test_a_parameter_alone_keeps_its_arrays(shape):
    p, value = Parameter(values(shape)), values(shape)
    data = p.data
    p.grad = values(shape, seed=1)
    grad = p.grad
    p.grad = values(shape, seed=2)
    p.data = np.asarray(2 * value)
    optim.SGD([p], lr=1.0).step()
    np.testing.assert_array_equal(p.data, 2 * value - values(shape, seed=2))
    assert p.data is data
    assert p.grad is grad
    assert data.flags.writeable


@pytest.mark.parametrize("loose", [False, True])
def test_gradient_is_copied_and_can_be_written_into(loose):
    p, g = Parameter(values((3, 3))), values((3, 3), seed=1)
    if loose:
        optim.SGD([p], differentiable=True)
    p.grad = g
    kept = p.grad
    assert not np.shares_memory(kept, g)
    p.grad += g
    assert p.grad is kept
    np.testing.assert_array_equal(kept, g + g)
    np.matmul(g, g, out=p.grad)
    np.testing.assert_array_equal(p.grad, g @ g)
    p.grad = p.grad[::-1]
    np.testing.assert_array_equal(p.grad, (g @ g)[::-1])
    p.grad = None
    assert p.grad is None
    with pytest.raises(TypeError, match="NoneType"):
        p.grad += g


@pytest.mark.parametrize("loose", [False, True])
def test_zero_grad_clears_what_is_there_and_only_that(loose):
    p = Parameter([1.0, 2.0])
    if loose:
        optim.SGD([p], differentiable=True)
    p.zero_grad()
    assert p.grad is None
    p.grad = np.array([np.nan, np.inf])
    kept = p.grad
    p.zero_grad()
    assert p.grad is kept
    assert kept.tolist() == [0.0, 0.0]


def test_zero_dimensional_gradient():
    p = Parameter(2.0)
    p.grad = np.float64(3.0)
    p.grad += 1
    assert p.grad == 4.0
    assert p.grad.shape == ()


def test_arrays_of_before_the_move_become_read_only_and_those_after_stay():
    p, q = Parameter(values(3)), Parameter(values(2))
    p.grad = values(3, seed=1)
    old = (p.data, p.grad)
    opt = optim.SGD([p, q], lr=1.0)
    for array in old:
        assert not array.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 1
    np.testing.assert_array_equal(p.data, old[0])
    np.testing.assert_array_equal(p.grad, old[1])
    data, grad = p.data, p.grad
    opt.step()
    opt.load_state_dict(opt.state_dict())
    opt.zero_grad()
    optim.Adam([p, q])
    p.grad = grad
    assert p.data is data
    assert p.grad is grad
    assert data.flags.writeable
    np.testing.assert_array_equal(data, values(3) - values(3, seed=1))


def test_repr_shows_values_name_and_gradient():
    p = Parameter(np.array([1.0, 2.0], np.float32), name="w")
    assert repr(p) == "Parameter([1., 2.], dtype=float32, name='w')"
    p.grad = np.array([0.5, 1], np.float32)
    assert repr(p) == "Parameter([1., 2.], dtype=float32, name='w', grad=[0.5, 1. ])"
    assert repr(Parameter([])) == "Parameter([])"


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_copies_are_independent_and_equal(duplicate, shape):
    p = Parameter(values(shape, np.complex64), name="w")
    opt = optim.SGD([Parameter(values(2, np.complex64)), p])
    p.grad = values(shape, np.complex64, seed=1)
    q = duplicate(p)
    assert (q.name, q.shape, q.dtype) == ("w", shape, np.complex64)
    np.testing.assert_array_equal(q.data, p.data)
    np.testing.assert_array_equal(q.grad, p.grad)
    q.data[...] = 9
    q.grad = None
    np.testing.assert_array_equal(p.data, values(shape, np.complex64))
    np.testing.assert_array_equal(p.grad, values(shape, np.complex64, seed=1))
    # The copy's gradient is not counted where the original lives.
    opt.step()
    np.testing.assert_array_equal(opt.param_groups[0]["params"][0].data, values(2, np.complex64))
    assert not np.array_equal(p.data, values(shape, np.complex64)) or p.size == 0


def test_autograd_arrays_are_kept_for_optimizers_that_differentiate():
    seen = []

    def f(x):
        p = Parameter(x, name="x")
        assert p.data is x
        assert p.is_foreign
        assert p.shape == (2,)
        optim.SGD([p], differentiable=True)
        with pytest.raises(TypeError, match=r"Parameter 'x', which holds a ArrayBox.*differentiable=True"):
            optim.SGD([p])
        p.grad = x * 2
        p.zero_grad()
        assert not p.grad.any()
        plain = Parameter([1.0, 2.0])
        with pytest.raises(GradientTypeError, match="ArrayBox"):
            plain.grad = x
        seen.append(repr(p))
        return (p.data**2).sum()

    np.testing.assert_array_equal(autograd.grad(f)(np.array([1.0, 2.0])), [2.0, 4.0])
    assert "name='x'" in seen[0]


def test_torch_tensors_are_kept_only_with_derivatives():
    torch = pytest.importorskip("torch")
    leaf = torch.tensor([1.0, 2.0], dtype=torch.float64)
    p = Parameter(leaf)
    assert type(p.data) is np.ndarray
    p.grad = torch.tensor([0.5, 0.5], dtype=torch.float64)
    assert p.grad.tolist() == [0.5, 0.5]
    q = Parameter(leaf.requires_grad_())
    assert q.data is leaf
    with pytest.raises(TypeError, match="which holds a Tensor, needs an optimizer with differentiable=True"):
        optim.Adam([q])
    with pytest.raises(RuntimeError, match="requires grad"):
        p.grad = leaf
    q.grad = torch.tensor([np.nan, 1.0], dtype=torch.float64)
    q.zero_grad()
    assert q.grad.tolist() == [0.0, 0.0]
    with pytest.raises(GradientTypeError, match=r"float32.*float64"):
        q.grad = torch.ones(2)
    with pytest.raises(GradientShapeError):
        q.grad = torch.ones(3, dtype=torch.float64)
