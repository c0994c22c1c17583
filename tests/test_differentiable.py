"""``differentiable=True``: derivatives of a loss flow through the steps that led to it."""

import autograd
import autograd.numpy as anp
import numpy as np
import pytest

import refoptim as optim
from refoptim import Parameter
from refoptim.conformance.tolerances import CLOSE

STEPS = 5
START = np.array([1.0, -2.0, 0.5])
SCALE = np.array([1.0, 3.0, 0.2])

CASES = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9}),
    ("SGD", {"momentum": 0.9, "dampening": 0.5, "weight_decay": 0.1}),
    ("SGD", {"momentum": 0.9, "nesterov": True}),
    ("Adam", {}),
    ("Adam", {"amsgrad": True, "weight_decay": 0.1}),
    ("Adam", {"betas": (0.5, 0.0), "maximize": True}),
    ("AdamW", {"weight_decay": 0.1}),
    ("AdamW", {"amsgrad": True, "weight_decay": 0.1}),
]
# torch itself takes no learning rate that carries derivatives here.
BEYOND_TORCH = [
    ("Adamax", {"weight_decay": 0.1}),
    ("Adamax", {"betas": (0.5, 0.0), "maximize": True}),
    ("Rprop", {}),
    ("Rprop", {"etas": (0.7, 1.4), "maximize": True}),
    ("Adagrad", {"lr_decay": 0.1, "initial_accumulator_value": 0.5, "weight_decay": 0.1}),
    ("Adadelta", {"eps": 0.1, "maximize": True}),
    ("RMSprop", {}),
    ("RMSprop", {"momentum": 0.9, "weight_decay": 0.1}),
    ("RMSprop", {"centered": True}),
    ("RMSprop", {"centered": True, "momentum": 0.5, "maximize": True}),
]


def gradient(theta):
    """Return the gradient of sum(scale * theta**4 / 4 + theta), by hand."""
    return SCALE * theta * theta * theta + 1.0


def loss_after(name, options, theta=START, **varied):
    """Return a loss of the parameters after some steps; all that varies may be a traced value."""
    p = Parameter(theta)
    opt = getattr(optim, name)([p], differentiable=True, **{"lr": 0.05, **options, **varied})
    for _ in range(STEPS):
        p.grad = gradient(p.data)
        opt.step()
    return anp.sum(p.data**2)


def central(function, x, h=1e-5):
    """Return the derivative by differences of fourth order, whose error is far below what is asked for."""
    return (8 * (function(x + h) - function(x - h)) - (function(x + 2 * h) - function(x - 2 * h))) / (12 * h)


@pytest.mark.parametrize(("name", "options"), [*CASES, *BEYOND_TORCH])
def test_derivative_by_lr_is_the_finite_difference(name, options):
    def loss(lr):
        return loss_after(name, options, lr=lr)

    np.testing.assert_allclose(autograd.grad(loss)(0.05), central(loss, 0.05), **CLOSE["derivative"])


@pytest.mark.parametrize(
    ("name", "option", "value", "options"),
    [
        ("SGD", "momentum", 0.9, {"dampening": 0.3}),
        ("SGD", "dampening", 0.3, {"momentum": 0.9}),
        ("SGD", "weight_decay", 0.1, {"momentum": 0.9}),
        ("Adam", "weight_decay", 0.1, {}),
        ("Adam", "eps", 0.1, {}),
        ("AdamW", "weight_decay", 0.1, {}),
    ],
)
def test_derivatives_by_other_options(name, option, value, options):
    def loss(x):
        return loss_after(name, options, **{option: x})

    np.testing.assert_allclose(autograd.grad(loss)(value), central(loss, value), **CLOSE["derivative"])


@pytest.mark.parametrize(("name", "options"), [*CASES, *BEYOND_TORCH])
def test_derivative_by_the_start(name, options):
    derivative = autograd.grad(lambda theta: loss_after(name, options, theta=theta))(START)
    for i, direction in enumerate(np.eye(3)):
        expected = central(lambda x, d=direction: loss_after(name, options, theta=START + x * d), 0.0)
        np.testing.assert_allclose(derivative[i], expected, **CLOSE["derivative"])


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_a_traced_lr_may_have_one_element_of_any_shape(shape):
    def loss(lr):
        return loss_after("Adam", {}, lr=lr)

    derivative = autograd.grad(loss)(np.full(shape, 0.05))
    assert derivative.shape == shape
    np.testing.assert_allclose(derivative.item(), autograd.grad(loss)(0.05), **CLOSE["float64"])


def test_a_traced_lr_of_a_zero_dimensional_parameter():
    def loss(lr):
        p = Parameter(2.0)
        opt = optim.SGD([p], lr=lr, momentum=0.5, differentiable=True)
        for _ in range(2):
            p.grad = np.array(3.0)
            opt.step()
        assert p.shape == ()
        return p.data

    np.testing.assert_allclose(autograd.grad(loss)(np.array([0.1])), [-3 - 4.5], **CLOSE["float64"])


def test_state_dict_keeps_traced_values_as_they_are():
    def loss(lr):
        p = Parameter(START)
        opt = optim.Adam([p], lr=lr, differentiable=True)
        for i in range(STEPS):
            if i == 2:
                saved = opt.state_dict()
                opt = optim.Adam([p], lr=0.1, differentiable=True)
                opt.load_state_dict(saved)
            p.grad = gradient(p.data)
            opt.step()
        assert opt.state[p]["step"] == STEPS
        assert repr(opt).startswith("Adam")
        return anp.sum(p.data**2)

    np.testing.assert_allclose(autograd.grad(loss)(0.05), autograd.grad(lambda lr: loss_after("Adam", {}, lr=lr))(0.05))


@pytest.mark.parametrize("kind", [tuple, list])
def test_state_dict_keeps_traced_betas(kind):
    torch = pytest.importorskip("torch", reason="torch, whose derivatives these are, is not installed")
    theta = torch.tensor(START, requires_grad=True)
    beta = torch.tensor(0.9, dtype=torch.float64, requires_grad=True)
    p = Parameter(theta)
    opt = optim.NAdam([p], betas=kind((beta * beta, 0.99)), differentiable=True)
    for _ in range(2):
        saved = opt.state_dict()
        opt.load_state_dict(saved)
        opt.step(grads=[2 * p.data])
    assert type(saved["param_groups"][0]["betas"]) is kind
    (derivative,) = torch.autograd.grad(p.data.sum(), beta)
    assert derivative != 0


def test_traced_parameters_cannot_be_loaded_into_a_plain_group():
    def loss(theta):
        p = Parameter(theta)
        opt = optim.SGD([p], differentiable=True)
        saved = opt.state_dict()
        saved["param_groups"][0]["differentiable"] = False
        with pytest.raises(TypeError, match="needs an optimizer with differentiable=True"):
            opt.load_state_dict(saved)
        opt.param_groups[0]["differentiable"] = False
        p.grad = theta
        with pytest.raises(TypeError, match="needs an optimizer with differentiable=True"):
            opt.step()
        assert p.data is theta
        return anp.sum(p.data)

    assert autograd.grad(loss)(START).tolist() == [1, 1, 1]


def test_a_plain_optimizer_shares_a_parameter_until_it_is_traced():
    def loss(lr):
        p = Parameter(START)
        opt = optim.SGD([p], lr=lr, differentiable=True)
        plain = optim.SGD([p], lr=1.0)
        p.grad = np.ones(3)
        plain.step()
        opt.step()
        with pytest.raises(TypeError, match="which holds a ArrayBox, needs an optimizer with differentiable=True"):
            plain.step()
        return anp.sum(p.data)

    assert autograd.grad(loss)(0.5) == -3


# Plain NumPy


@pytest.mark.parametrize(("name", "options"), [*CASES, *BEYOND_TORCH])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
@pytest.mark.parametrize("lr", [0.05, np.float64(0.05), np.array([0.05])])
def test_plain_parameters_get_what_the_for_loop_gives(name, options, dtype, lr):
    draw = np.random.default_rng(3)

    def numbers(shape):
        array = draw.standard_normal(shape)
        return np.asarray(array + 1j * draw.standard_normal(shape) if np.dtype(dtype).kind == "c" else array, dtype)

    shapes = [(), (3,), (2, 2), (0,)]
    starts = [numbers(shape) for shape in shapes]
    params, twins = ([Parameter(start) for start in starts] for _ in range(2))
    opt = getattr(optim, name)(params, lr=lr, differentiable=True, **options)
    twin = getattr(optim, name)(twins, lr=0.05, **options)
    given = [p.data for p in params]
    for step in range(6):
        grads = [None if i == step - 2 else numbers(shape) for i, shape in enumerate(shapes)]
        opt.step(grads=grads)
        twin.step(grads=grads)
        for p, q in zip(params, twins, strict=True):
            assert (type(p.data), p.dtype, p.shape) == (np.ndarray, dtype, q.shape)
            np.testing.assert_allclose(p.data, q.data, **CLOSE[np.zeros(0, dtype).real.dtype.name])
            assert set(opt.state[p]) == set(twin.state[q])
            for key, value in twin.state[q].items():
                np.testing.assert_allclose(opt.state[p][key], value, **CLOSE[np.zeros(0, dtype).real.dtype.name])
                assert np.asarray(opt.state[p][key]).dtype == np.asarray(value).dtype
    for start, array in zip(starts, given, strict=True):
        np.testing.assert_array_equal(start, array)


def test_the_next_step_replaces_arrays_instead_of_changing_them():
    p = Parameter(START)
    opt = optim.Adam([p], differentiable=True)
    p.grad = START
    opt.step()
    data, mean = p.data, opt.state[p]["exp_avg"]
    kept = data.copy(), mean.copy()
    opt.step()
    np.testing.assert_array_equal(data, kept[0])
    np.testing.assert_array_equal(mean, kept[1])
    assert not np.array_equal(p.data, data)


# torch


def torch_derivatives(optimizer, steps, name, options, **extra):
    """Return the derivatives of the loss by lr and by the start, with torch tensors in either library's optimizer."""
    torch = pytest.importorskip("torch")
    lr = torch.tensor(0.05, dtype=torch.float64, requires_grad=True)
    theta = torch.tensor(START, requires_grad=True)
    p = Parameter(theta) if optimizer is optim else theta.clone()
    opt = getattr(optimizer, name)([p], lr=lr, differentiable=True, **options, **extra)

    def value():
        # torch changes a parameter in place, which would spoil what its gradient's own derivative needs.
        return p.data if optimizer is optim else p.clone()

    for _ in range(steps):
        p.grad = torch.tensor(SCALE) * value() ** 3 + 1.0
        opt.step()
    (value() ** 2).sum().backward()
    return [lr.grad.item(), *theta.grad.tolist()]


@pytest.mark.parametrize(("name", "options"), [*CASES, *BEYOND_TORCH])
def test_torch_tensors_give_what_autograd_gives(name, options):
    derivatives = torch_derivatives(optim, STEPS, name, options)
    by_lr = autograd.grad(lambda lr: loss_after(name, options, lr=lr))(0.05)
    by_start = autograd.grad(lambda theta: loss_after(name, options, theta=theta))(START)
    np.testing.assert_allclose(derivatives, [by_lr, *by_start], **CLOSE["derivative by two libraries"])


@pytest.mark.parametrize(("name", "options"), CASES)
def test_torch_tensors_give_torchs_own_derivative(name, options):
    """Of one step: over several torch's in-place updates break the graph of its own learning rate."""
    torch = pytest.importorskip("torch")
    ours = torch_derivatives(optim, 1, name, options)
    theirs = torch_derivatives(torch.optim, 1, name, options, foreach=False)
    # torch's bias corrections are float32 here, as its step count is.
    tolerance = CLOSE["float64" if name == "SGD" else "torch derivative"]
    np.testing.assert_allclose(ours[0], theirs[0], **tolerance)
    if "momentum" not in options:
        # torch detaches the first momentum buffer, and loses what flows through it.
        np.testing.assert_allclose(ours, theirs, **tolerance)


def test_complex_torch_tensors():
    torch = pytest.importorskip("torch")
    start = torch.tensor([1 + 2j, -1j], dtype=torch.complex128)
    plain = Parameter(start.numpy())
    p = Parameter(start.clone().requires_grad_())
    opt, twin = optim.Adam([p], lr=0.1, differentiable=True), optim.Adam([plain], lr=0.1)
    for value in (0.5 + 1j, 2 - 1j):
        p.grad = value * p.data
        plain.grad = value * plain.data
        opt.step()
        twin.step()
    np.testing.assert_allclose(p.data.detach().numpy(), plain.data, **CLOSE["float64"])
    p.data.abs().sum().backward()


def test_numpy_state_goes_on_with_torch_parameters():
    torch = pytest.importorskip("torch")
    plain = Parameter(START)
    twin = optim.Adam([plain], lr=0.1)
    twin.step(grads=[START])
    p = Parameter(torch.tensor(plain.data, requires_grad=True))
    opt = optim.Adam([p], lr=0.1, differentiable=True)
    saved = twin.state_dict()
    saved["param_groups"][0]["differentiable"] = True
    opt.load_state_dict(saved)
    p.grad = torch.tensor(START)
    opt.step()
    twin.step()
    np.testing.assert_allclose(p.data.detach().numpy(), plain.data, **CLOSE["float64"])
