"""Rows of docs/deviations.md: where a step differs from torch's, with both numbers. Each test is named for its row."""

import math

import autograd
import numpy as np
import pytest

import refoptim as optim
from refoptim.conformance.tolerances import CLOSE

torch = pytest.importorskip("torch", reason="torch, whose numbers these are, is not installed")


def both(name, values, grads, dtype=np.float64, **options):
    """Return the parameter after the same steps with refoptim and with torch."""
    ours, theirs = optim.Parameter(np.array(values, dtype)), torch.nn.Parameter(torch.tensor(np.array(values, dtype)))
    left = getattr(optim, name)([ours], **options)
    right = getattr(torch.optim, name)([theirs], **options)
    for grad in grads:
        ours.grad, theirs.grad = np.array(grad, dtype), torch.tensor(np.array(grad, dtype))
        left.step()
        right.step()
    return ours.data, theirs.detach().numpy()


@pytest.mark.parametrize("name", ["AdamW", "NAdam", "RAdam"])
def test_decoupled_decay_is_not_folded_into_a_number_near_1(name):
    """Decoupled decay: torch multiplies by 1 - 3e-8 rounded, which takes twice as much from every element."""
    theta = np.linspace(1, 2, 1000, dtype=np.float32)
    exact = theta.astype(np.float64) * (1 - 3e-8)
    options = {} if name == "AdamW" else {"decoupled_weight_decay": True}
    ours, theirs = both(name, theta, [np.zeros(1000)], np.float32, lr=1.0, weight_decay=3e-8, **options)
    wrong = [np.sum(np.abs(got - exact) > 0.5 * np.spacing(theta)) for got in (ours, theirs)]
    assert wrong[0] == 0
    assert wrong[1] > 400


def test_decoupled_decay_over_1000_steps_is_closer_to_the_ideal():
    """Decoupled decay: over 1,000 steps."""
    rng = np.random.default_rng(0)
    theta, grads = rng.standard_normal(64), rng.standard_normal((1000, 64))
    ours, theirs = both("AdamW", theta, grads, np.float32)
    exact, _ = both("AdamW", theta.astype(np.float32), grads.astype(np.float32), np.float64)
    ulps = [np.median(np.abs(got - exact) / np.spacing(np.abs(exact).astype(np.float32))) for got in (ours, theirs)]
    assert ulps[0] < 16
    assert ulps[1] > 100


def test_bias_corrections_do_not_cancel():
    """Bias corrections: while the gradient stays the same, each step is lr, whatever the betas."""
    ours, theirs = both("Adam", [0.0], [[1.0]] * 3, lr=1.0, eps=0.0)
    assert abs(ours[0] + 3.0) <= 4 * np.spacing(3.0)
    assert abs(theirs[0] + 3.0) > 10 * np.spacing(3.0)


def test_a_variance_is_not_negative():
    """Centered RMSprop, the variance."""
    constants = np.random.default_rng(0).uniform(0.1, 10, 500)
    ours, theirs = both("RMSprop", np.ones(500), [constants] * 300, np.float32, centered=True, alpha=0.9)
    assert np.isfinite(ours).all()
    assert np.isnan(theirs).sum() > 50


def test_nadams_product_is_not_float32():
    """NAdam's product of mu."""
    exact = -2.5723532687
    ours, theirs = both("NAdam", [0.0], [[1.0]] * 3, lr=1.0, eps=0.0)
    assert abs(ours[0] - exact) < abs(theirs[0] - exact)
    assert 1e-9 < abs(ours[0] - theirs[0]) < 1e-7


def test_asgds_eta_is_not_float32():
    """ASGD's eta and mu: two steps, with eta 0.1 and 0.1 / 1.05."""
    exact = -0.1 - (0.1 / 1.05) * (1 - 0.5 * 0.1)
    ours, theirs = both("ASGD", [0.0], [[1.0]] * 2, lr=0.1, lambd=0.5, alpha=1.0)
    assert abs(ours[0] - exact) <= 2 * np.spacing(0.2)
    assert abs(theirs[0] - exact) > 1e-10


def test_asgds_decay_is_not_folded_into_a_number_near_1():
    """ASGD's decay, for-loop."""
    rng = np.random.default_rng(0)
    theta, grads = rng.standard_normal(64), rng.standard_normal((1000, 64))
    ours, theirs = both("ASGD", theta, grads, np.float32)
    exact, _ = both("ASGD", theta.astype(np.float32), grads.astype(np.float32), np.float64)
    ulps = [np.median(np.abs(got - exact) / np.spacing(np.abs(exact).astype(np.float32))) for got in (ours, theirs)]
    assert ulps[0] < 16
    assert ulps[1] > 100


def test_radams_rho_does_not_cancel():
    """RAdam's rho."""
    exact = -5.008165005401331
    ours, theirs = both("RAdam", [0.0], [[1.0]] * 6, lr=1.0, eps=0.0, betas=(0.9, 0.9999))
    assert abs(ours[0] - exact) <= 8 * np.spacing(5.0)
    assert abs(theirs[0] - exact) > 1000 * np.spacing(5.0)


def test_radam_with_nothing_to_do_does_nothing():
    """RAdam, foreach, eps = 0, zero gradients."""
    ours, theirs = both("RAdam", [1.0], [[0.0]], eps=0.0, foreach=True)
    assert ours[0] == 1.0
    assert math.isnan(theirs[0])


def test_rprop_compares_signs_and_not_a_product_that_underflows():
    """Rprop's product of gradients."""
    ours, theirs = both("Rprop", [1.0], [[1e-25]] * 3, np.float32, lr=0.1)
    assert 1 - ours[0] == pytest.approx(0.1 + 0.12 + 0.144)
    assert 1 - theirs[0] == pytest.approx(0.3)


def test_rprop_shrinks_by_a_factor_that_float32_cannot_hold():
    """Rprop, a factor that the type cannot hold."""
    ours, theirs = both("Rprop", [1.0], [[1.0], [-1.0]], np.float32, lr=0.25, etas=(1e-50, 1.2))
    assert ours[0] == 0.75
    assert theirs[0] == 1.0


def test_rprop_stays_where_nothing_pulls():
    """Rprop, zero gradient and an infinite step size."""
    ours, theirs = both("Rprop", [1.0], [[0.0]], lr=math.inf, step_sizes=(1e-6, math.inf))
    assert ours[0] == 1.0
    assert math.isnan(theirs[0])


def test_an_infinite_gradient_gives_an_infinite_moment():
    """First moment, beta1 at most 0.5: an infinite gradient."""
    ours, theirs = optim.Parameter([1.0]), torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    left, right = optim.Adam([ours], betas=(0.5, 0.9)), torch.optim.Adam([theirs], betas=(0.5, 0.9))
    ours.grad, theirs.grad = np.array([math.inf]), torch.tensor([math.inf], dtype=torch.float64)
    left.step()
    right.step()
    assert left.state[ours]["exp_avg"][0] == math.inf
    assert math.isnan(right.state[theirs]["exp_avg"][0])


def test_dampening_counts_gradients_as_torch_does():
    """SGD, the first gradient is not damped."""
    ours, theirs = optim.Parameter([0.0]), torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    options = {"lr": 1.0, "momentum": 0.9, "dampening": 0.5}
    left, right = optim.SGD([ours], **options), torch.optim.SGD([theirs], **options)
    for grad, expected in ((None, 0.0), (1.0, -1.0), (1.0, -2.4)):
        ours.grad = None if grad is None else np.array([grad])
        theirs.grad = None if grad is None else torch.tensor([grad], dtype=torch.float64)
        left.step()
        right.step()
        assert ours.data[0] == theirs.item() == pytest.approx(expected)


@pytest.mark.parametrize(("beta1", "theirs"), [(0.5, -math.inf), (0.4, -math.inf), (0.0, math.nan)])
def test_a_moment_of_large_gradients_is_finite(beta1, theirs):
    """First moment, beta1 at most 0.5: torch's difference of the gradients overflows."""
    param, tensor = optim.Parameter(np.zeros(1, np.float32)), torch.nn.Parameter(torch.zeros(1))
    left = optim.Adam([param], betas=(beta1, 0.9))
    right = torch.optim.Adam([tensor], betas=(beta1, 0.9))
    for grad in (-3e38, 3e38):
        tensor.grad = torch.tensor([grad])
        left.step(grads=[np.array([grad], np.float32)])
        right.step()
    exact = (1 - beta1) * (1 - beta1) * 3e38
    assert left.state[param]["exp_avg"][0] == pytest.approx(exact)
    np.testing.assert_equal(right.state[tensor]["exp_avg"].item(), theirs)


def test_betas_that_are_arrays_are_exact():
    """Betas that are arrays or tensors: while the gradient stays the same, each step is lr, whatever the betas."""
    values = np.array(0.9, np.float32), np.array(0.999, np.float32)
    param, tensor = optim.Parameter([0.0]), torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    left = optim.Adam([param], lr=1.0, eps=0.0, betas=values)
    right = torch.optim.Adam([tensor], lr=1.0, eps=0.0, betas=tuple(map(torch.tensor, values)))
    for _ in range(3):
        tensor.grad = torch.ones(1, dtype=torch.float64)
        left.step(grads=[np.ones(1)])
        right.step()
    assert abs(param.data[0] + 3) <= 4 * np.spacing(3.0)
    assert abs(tensor.item() + 3) > 1e-6


def differentiated(library, name, steps, **options):
    """Return a parameter that starts at 1 after steps with the gradient 2, and its derivative by that gradient."""
    if library is torch:
        grad = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
        tensor = torch.ones(1, dtype=torch.float64, requires_grad=True).clone()
        optimizer = getattr(torch.optim, name)([tensor], differentiable=True, **options)
        for _ in range(steps):
            tensor.grad = grad * 1
            optimizer.step()
        [derivative] = torch.autograd.grad(tensor.sum(), grad, allow_unused=True)
        return tensor.item(), 0.0 if derivative is None else derivative.item()

    def after(grad):
        param = optim.Parameter(np.ones(1))
        optimizer = getattr(optim, name)([param], differentiable=True, **options)
        for _ in range(steps):
            param.grad = grad * np.ones(1)
            optimizer.step()
        return param.data[0]

    return after(2.0), autograd.grad(after)(2.0)


def test_differentiable_steps_count_in_float64():
    """differentiable, bias corrections: after five times g the parameter is 1 - 5 g / (g + eps)."""
    exact = np.array([1 - 5 * 2 / (2 + 0.1), -5 * 0.1 / (2 + 0.1) ** 2])
    ours, theirs = (differentiated(library, "Adam", 5, lr=1.0, eps=0.1) for library in (optim, torch))
    np.testing.assert_allclose(ours, exact, **CLOSE["float64"])
    assert (np.abs(theirs - exact) > 1e-6).all()


def test_the_first_gradient_of_a_momentum_has_a_derivative():
    """differentiable, SGD's first momentum: the parameter is 1 - g - (0.9 g + g)."""
    ours, theirs = (differentiated(library, "SGD", 2, lr=1.0, momentum=0.9) for library in (optim, torch))
    assert ours == pytest.approx((1 - 2.9 * 2, -2.9))
    assert theirs == pytest.approx((1 - 2.9 * 2, -1.0))


def test_adamax_can_be_differentiated():
    """differentiable, Adamax: each step is lr g / (g + eps)."""
    ours = differentiated(optim, "Adamax", 1, lr=1.0, eps=0.5)
    assert ours == pytest.approx((1 - 2 / 2.5, -0.5 / 2.5**2))
    assert np.isfinite(differentiated(optim, "Adamax", 5, lr=1.0, eps=0.5)).all()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        differentiated(torch, "Adamax", 5, lr=1.0, eps=0.5)


@pytest.mark.parametrize(("lr", "moved"), [(100.0, 50.0), (1e-9, 1e-6)])
def test_rprops_first_step_is_kept_in_its_limits(lr, moved):
    """Rprop, limits of the first step."""
    ours, theirs = both("Rprop", [0.0], [[1.0]], lr=lr)
    assert ours[0] == theirs[0] == -moved


def test_a_new_learning_rate_of_asgd_is_late():
    """ASGD, a changed learning rate."""
    param, tensor = optim.Parameter([0.0]), torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    left, right = optim.ASGD([param], lr=1.0, lambd=0), torch.optim.ASGD([tensor], lr=1.0, lambd=0)
    tensor.grad = torch.ones(1, dtype=torch.float64)
    for lr, expected in ((1.0, -1.0), (1.0, -2.0), (0.125, -3.0), (0.125, -3.125)):
        left.param_groups[0]["lr"] = right.param_groups[0]["lr"] = lr
        left.step(grads=[np.ones(1)])
        right.step()
        assert param.data[0] == tensor.item() == expected


@pytest.mark.parametrize("name", ["Adam", "RMSprop", "Adagrad"])
def test_parts_of_complex_numbers_have_their_own_moments(name):
    """Complex parameters: the small part moves as far as the large one."""
    ours, theirs = both(name, [0j], [[3 + 0.001j]], np.complex128, lr=0.1, eps=0.0)
    assert ours[0].real == pytest.approx(ours[0].imag)
    assert theirs[0].real == pytest.approx(theirs[0].imag)
    assert ours[0] == pytest.approx(theirs[0])


def test_adamaxs_second_beta_is_of_a_maximum():
    """Adamax, what the betas average: after 2 and 1 it is max(0.75 * 2, 1), not a mean of squares."""
    param, tensor = optim.Parameter([0.0]), torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    left, right = optim.Adamax([param], betas=(0.9, 0.75)), torch.optim.Adamax([tensor], betas=(0.9, 0.75))
    for grad in (2.0, 1.0):
        tensor.grad = torch.tensor([grad], dtype=torch.float64)
        left.step(grads=[np.array([grad])])
        right.step()
    expected = pytest.approx(max(0.75 * 2, 1))
    assert left.state[param]["exp_inf"][0] == expected
    assert right.state[tensor]["exp_inf"].item() == expected


def test_the_first_eta_of_rprop_shrinks():
    """Rprop, the order of etas."""
    ours, theirs = both("Rprop", [0.0], [[1.0], [1.0], [-1.0]], lr=0.25, etas=(0.5, 2.0))
    assert ours[0] == theirs[0] == -0.25 - 0.5
    ours, theirs = both("Rprop", [0.0], [[1.0], [-1.0], [1.0]], lr=0.25, etas=(0.5, 2.0))
    assert ours[0] == theirs[0] == -0.25 - 0.125
