"""Adafactor: torch's numbers on random configurations, its sums and factors, its state, and what it refuses."""

import math
from itertools import product

import numpy as np
import pytest

import refoptim as optim
from refoptim import Parameter
from refoptim.conformance.tolerances import CLOSE
from refoptim.kernels import factored, jit

SHAPES = [(), (1,), (5,), (17,), (1, 1), (2, 3), (7, 1), (1, 9), (40, 70), (3, 4, 5), (2, 1, 3, 4)]
IMPLEMENTATIONS = {"fused": {}, "foreach": {"foreach": True}, "for-loop": {"foreach": False}}
STEPS = 10


def pick(draw, *choices):
    return choices[draw.integers(len(choices))]


def random_options(draw):
    return {
        "lr": pick(draw, 0.0, 0.01, 0.3, 5.0),
        "beta2_decay": pick(draw, -0.8, -0.3, -2.0, 0.0),
        "eps": pick(draw, (None, 1e-3), (0.01, 0.5), (1e-30, 0.0), (2.0, 3.0)),
        "d": pick(draw, 1.0, 1.5, 10.0),
        "weight_decay": pick(draw, 0.0, 0.1, 1.0),
        "maximize": pick(draw, False, True),
    }


def close(got, expected, kind="torch float64"):
    np.testing.assert_allclose(got, expected, **CLOSE[kind])


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("options", [{"lr": math.inf}, {"beta2_decay": -math.inf}])
@pytest.mark.parametrize("shape", [(3,), (2, 3)])
def test_infinite_options_are_torchs(implementation, options, shape):
    torch = pytest.importorskip("torch", reason="torch, whose numbers these are, is not installed")
    draw = np.random.default_rng(2)
    ours, theirs = (kind(draw.standard_normal(shape)) for kind in (Parameter, torch.tensor))
    theirs.copy_(torch.tensor(ours.data))
    optimizer = optim.Adafactor([ours], **options, **IMPLEMENTATIONS[implementation])
    witness = torch.optim.Adafactor([theirs], **options)
    for _ in range(3):
        grad = draw.standard_normal(shape)
        theirs.grad = torch.tensor(grad)
        optimizer.step(grads=[grad])
        witness.step()
        assert np.isfinite(ours.data).all()
        close(ours.data, theirs.numpy())


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("number", range(25))
def test_trajectories_are_torchs(number, implementation):
    torch = pytest.importorskip("torch", reason="torch, whose numbers these are, is not installed")
    draw = np.random.default_rng([number, 5])
    starts = [draw.standard_normal(pick(draw, *SHAPES)) for _ in range(draw.integers(2, 6))]
    options = random_options(draw)
    split = int(draw.integers(1, len(starts)))
    ours, theirs = [Parameter(x) for x in starts], [torch.nn.Parameter(torch.tensor(x)) for x in starts]
    other = {"lr": 0.2, "weight_decay": 0.05, "d": 2.0}
    opt, torch_opt = (
        library.Adafactor([{"params": params[:split]}, {"params": params[split:], **other}], **options, **extra)
        for library, params, extra in [
            (optim, ours, IMPLEMENTATIONS[implementation]),
            (torch.optim, theirs, {"foreach": False}),
        ]
    )
    for step in range(STEPS):
        if step == STEPS // 2:
            for groups in (opt.param_groups, torch_opt.param_groups):
                groups[0]["lr"] = 0.05
        for param, tensor in zip(ours, theirs, strict=True):
            grad = None if draw.random() < 0.2 else draw.standard_normal(param.shape) * 10.0 ** draw.integers(-3, 3)
            param.grad, tensor.grad = grad, None if grad is None else torch.tensor(grad)
        opt.step()
        torch_opt.step()
        for param, tensor in zip(ours, theirs, strict=True):
            close(param.data, tensor.detach().numpy())
    for param, tensor in zip(ours, theirs, strict=True):
        entry = {name: value.numpy() for name, value in torch_opt.state[tensor].items()}
        assert list(opt.state[param]) == list(entry)
        for name, value in opt.state[param].items():
            assert np.shape(value) == entry[name].shape
            close(value, entry[name])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 70, 3), (3, 5, 4), (2, 130, 200), (200, 3, 3)])
def test_sums_are_exact_for_any_shape(shape, dtype):
    rng = np.random.default_rng([2, *shape])
    x = (rng.standard_normal(shape) * 10.0 ** rng.uniform(-4, 4, shape)).astype(dtype)
    rows, columns = np.zeros(shape[:2]), np.zeros((shape[0], shape[2]))
    factored.factors(x, rows, columns, 0.0, 1.0, 0.0)
    for k in range(shape[0]):
        # Sums are rounded once where a square is exact, which float32's are in float64.
        for got, arrays in [(rows[k], x[k]), (columns[k], x[k].T)]:
            expected = [math.fsum(v * v for v in array.astype(np.float64).tolist()) / len(array) for array in arrays]
            assert np.all(np.abs(got - expected) <= np.spacing(expected) * (1 if dtype is np.float32 else 2))


def trajectory(dtype, arithmetic):
    rng = np.random.default_rng(9)
    params = [Parameter(rng.standard_normal(shape).astype(dtype)) for shape in [(70, 130), (40,), (5, 70, 9), (1, 300)]]
    optimizer = optim.Adafactor(params, lr=0.1, weight_decay=0.1, arithmetic=arithmetic)
    for _ in range(3):
        optimizer.step(grads=[rng.standard_normal(p.shape).astype(dtype) for p in params])
    arrays = [value for p in params for value in optimizer.state[p].values()] + [p.data for p in params]
    return [np.asarray(array).tobytes() for array in arrays]


@pytest.mark.parametrize(("dtype", "arithmetic"), [(np.float32, None), (np.float64, None), (np.float32, "float64")])
def test_threads_do_not_matter(monkeypatch, dtype, arithmetic):
    found = [trajectory(dtype, arithmetic)]
    monkeypatch.setattr(jit, "SERIAL_BELOW", 0)
    monkeypatch.setattr(jit, "GRAIN", 64)
    before = optim.get_num_threads()
    try:
        for threads in range(1, 4):
            optim.set_num_threads(threads)
            found.append(trajectory(dtype, arithmetic))
    finally:
        optim.set_num_threads(before)
    assert all(other == found[0] for other in found)


def test_many_matrices_are_each_as_one_alone():
    rng = np.random.default_rng(4)
    theta, grad = rng.standard_normal((3, 4, 5)), rng.standard_normal((3, 4, 5))
    options = {"lr": 1.0, "d": 1e9, "eps": (None, 1.0), "beta2_decay": -0.5}
    whole = Parameter(np.zeros_like(theta))
    optim.Adafactor([whole], **options).step(grads=[grad])
    for i in range(3):
        part = Parameter(np.zeros_like(theta[i]))
        optim.Adafactor([part], **options).step(grads=[grad[i]])
        close(whole.data[i], part.data, "float64")


def one_step(values, grad, dtype=np.float64, **options):
    param = Parameter(np.array(values, dtype))
    optimizer = optim.Adafactor([param], **options)
    optimizer.step(grads=[np.array(grad, dtype)])
    return param.data, optimizer.state[param]


def test_each_parameter_has_the_eps_of_its_type():
    """Deviation: torch takes the first parameter's type for all of the call."""
    params = [Parameter(np.zeros(2, np.float32)), Parameter(np.zeros(2))]
    for order in (params, params[::-1]):
        for param in order:
            param.data[...] = 0
        optimizer = optim.Adafactor(order, lr=1.0, d=1e9, eps=(None, 1.0))
        optimizer.step(grads=[np.full(2, 1e-12, p.dtype) for p in order])
        # Gradients this small are divided by eps where that is larger, and otherwise by themselves.
        assert abs(float(params[0].data[0]) + 1e-12 / 2.0**-23) < 1e-9
        assert params[1].data[0] == -1.0


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (2, 0, 4)])
def test_parameters_of_size_zero(shape):
    """Deviation: torch divides by zero."""
    other, empty = Parameter(np.ones(2)), Parameter(np.ones(shape))
    optimizer = optim.Adafactor([other, empty])
    optimizer.step(grads=[np.ones(2), np.ones(shape)])
    assert empty.shape == shape
    assert (other.data != 1).all()
    assert optimizer.state[empty]["step"] == 1


def test_decay_takes_from_the_parameter():
    """Deviation of torch's text, whose last line starts from the parameter before the decay, and so never decays it."""
    theta, _ = one_step([1.0, 1.0], [0.0, 0.0], lr=0.01, weight_decay=0.5)
    close(theta, [0.995, 0.995], "float64")
    values = np.linspace(1, 2, 1000, dtype=np.float32)
    theta, _ = one_step(values, np.zeros(1000), np.float32, lr=1.0, weight_decay=3e-8)
    exact = values.astype(np.float64) * (1 - 3e-8)
    assert np.max(np.abs(theta - exact) / np.spacing(values)) <= 0.5


def test_means_and_not_sums_are_limited_by_eps():
    """Deviation of torch's text, which says sums: as in its code, the mean square is compared with eps."""
    theta, _ = one_step(np.zeros((4, 8)), np.full((4, 8), 1e-5), lr=1.0, d=1e9, eps=(2.0**-23, 1.0))
    mean, eps = 1e-10, 2.0**-23
    expected = 1e-5 / math.sqrt(max(mean * mean / max(mean, eps), eps * eps))
    close(theta, np.full((4, 8), -expected), "float64")


def test_without_learning_rate_only_decay_moves():
    for shape in [(3,), (2, 3)]:
        grad = np.zeros(shape)
        grad[..., 0] = 1.0
        theta, state = one_step(np.ones(shape), grad, lr=0.0, eps=(0.1, 1e-3))
        assert (theta == 1).all()
        assert state["step"] == 1
    # A column without gradient has an infinite factor.
    theta, _ = one_step(np.ones((2, 3)), grad, lr=0.0)
    assert (theta == 1).all()


@pytest.mark.parametrize("shape", [(4,), (3, 4)])
@pytest.mark.parametrize("special", [np.nan, np.inf])
def test_nan_and_infinity_are_the_formulas(shape, special):
    grad = np.ones(shape)
    grad[(0,) * len(shape)] = special
    fused, formula = (one_step(np.ones(shape), grad, foreach=foreach)[0] for foreach in (None, True))
    np.testing.assert_array_equal(np.isnan(fused), np.isnan(formula))
    assert np.isnan(fused).any()


@pytest.mark.parametrize("shapes", [[(3,), (2, 3)], [(4,), ()], [(2, 3), (2, 2, 3)]])
def test_a_state_of_torchs_goes_on(shapes):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    rng = np.random.default_rng(3)
    starts = [rng.standard_normal(shape) for shape in shapes]
    tensors, params = [torch.nn.Parameter(torch.tensor(x)) for x in starts], [Parameter(x) for x in starts]
    theirs, ours = torch.optim.Adafactor(tensors, lr=0.1), optim.Adafactor(params)

    def gradients():
        found = [rng.standard_normal(shape) for shape in shapes]
        for tensor, grad in zip(tensors, found, strict=True):
            tensor.grad = torch.tensor(grad)
        theirs.step()
        return found

    for _ in range(3):
        gradients()
    for param, tensor in zip(params, tensors, strict=True):
        param.data[...] = tensor.detach().numpy()
    saved = theirs.state_dict()
    state = {i: {name: value.numpy() for name, value in entry.items()} for i, entry in saved["state"].items()}
    ours.load_state_dict({**saved, "state": state})
    for _ in range(3):
        ours.step(grads=gradients())
    for param, tensor in zip(params, tensors, strict=True):
        close(param.data, tensor.detach().numpy())


def test_state_goes_there_and_back():
    rng = np.random.default_rng(6)
    shapes = [(2, 3), (4,)]
    first = [Parameter(np.ones(shape)) for shape in shapes]
    one = optim.Adafactor(first, lr=0.1)
    one.step(grads=[rng.standard_normal(shape) for shape in shapes])
    second = [Parameter(p.data) for p in first]
    two = optim.Adafactor(second)
    two.load_state_dict(one.state_dict())
    gradients = [rng.standard_normal(shape) for shape in shapes]
    one.step(grads=gradients)
    two.step(grads=gradients)
    assert all(a.data.tobytes() == b.data.tobytes() for a, b in zip(first, second, strict=True))
    saved = one.state_dict()
    assert {name: np.shape(value) for name, value in saved["state"][0].items()} == {
        "step": (),
        "row_var": (2, 1),
        "col_var": (1, 3),
    }
    with pytest.raises(ValueError, match="variance"):
        one.state[first[0]]["variance"] = np.ones((2, 3))


def test_complex_parameters_are_refused():
    with pytest.raises(RuntimeError, match="complex"):
        optim.Adafactor([Parameter(np.ones(2, complex))])


@pytest.mark.parametrize(("shape", "dtype"), [*product([(2000,), (37, 61), (3, 20, 30)], [np.float32, np.float64])])
def test_a_gradients_scale_does_not_matter(shape, dtype):
    rng = np.random.default_rng(8)
    theta, grad = rng.standard_normal(shape).astype(dtype), rng.standard_normal(shape).astype(dtype)
    found = [one_step(theta, grad * dtype(scale), dtype, eps=(0.0, 1e-3))[0] for scale in (1, 2.0**-30, 2.0**30)]
    close(found[1], found[0], "float32" if dtype is np.float32 else "float64")
    close(found[2], found[0], "float32" if dtype is np.float32 else "float64")


@pytest.mark.parametrize("shape", [(3, 4), (5,), (2, 70_000), (140_000,)])
@pytest.mark.parametrize(("size", "slope"), [(3e38, 1.0), (1e30, 1e30), (np.inf, 1.0), (1.0, np.inf), (1.0, np.nan)])
def test_numbers_beyond_the_largest_are_no_warning(shape, size, slope):
    param = Parameter(np.full(shape, size, np.float32))
    optimizer = optim.Adafactor([param], lr=1.0, weight_decay=0.5)
    for _ in range(3):
        optimizer.step(grads=[np.full(shape, slope, np.float32)])
    assert optimizer.state[param]["step"] == 3
