"""Every row of docs/deviations.md, with both numbers."""

import math
import warnings

import numpy as np
import pytest

import refoptim as optim

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


def test_decoupled_decay_is_not_folded_into_a_number_near_1():
    """One step without gradient: torch multiplies by 1 - 3e-8 rounded, which takes twice as much from every element."""
    theta = np.linspace(1, 2, 1000, dtype=np.float32)
    exact = theta.astype(np.float64) * (1 - 3e-8)
    ours, theirs = both("AdamW", theta, [np.zeros(1000)], np.float32, lr=1.0, weight_decay=3e-8)
    wrong = [np.sum(np.abs(got - exact) > 0.5 * np.spacing(theta)) for got in (ours, theirs)]
    assert wrong[0] == 0
    assert wrong[1] > 400


def test_decoupled_decay_over_1000_steps_is_closer_to_the_ideal():
    rng = np.random.default_rng(0)
    theta, grads = rng.standard_normal(64), rng.standard_normal((1000, 64))
    ours, theirs = both("AdamW", theta, grads, np.float32)
    exact, _ = both("AdamW", theta.astype(np.float32), grads.astype(np.float32), np.float64)
    ulps = [np.median(np.abs(got - exact) / np.spacing(np.abs(exact).astype(np.float32))) for got in (ours, theirs)]
    assert ulps[0] < 16
    assert ulps[1] > 100


def test_bias_corrections_do_not_cancel():
    """While the gradient stays the same, each step is lr: all betas cancel out of it."""
    ours, theirs = both("Adam", [0.0], [[1.0]] * 3, lr=1.0, eps=0.0)
    assert abs(ours[0] + 3.0) <= 4 * np.spacing(3.0)
    assert abs(theirs[0] + 3.0) > 10 * np.spacing(3.0)


def test_adagrads_groups_may_start_from_different_sums():
    sums = []
    for module, parameter, array in ((optim, optim.Parameter, np.ones), (torch.optim, torch.nn.Parameter, torch.ones)):
        param = parameter(array(1))
        optimizer = module.Adagrad([{"params": [param], "initial_accumulator_value": 8.0}])
        param.grad = array(1)
        optimizer.step()
        sums.append(float(optimizer.state[param]["sum"][0]))
    assert sums == [9.0, 1.0]


def test_a_variance_is_not_negative():
    constants = np.random.default_rng(0).uniform(0.1, 10, 500)
    ours, theirs = both("RMSprop", np.ones(500), [constants] * 300, np.float32, centered=True, alpha=0.9)
    assert np.isfinite(ours).all()
    assert np.isnan(theirs).sum() > 50


def test_adagrads_state_appears_with_the_first_step():
    ours, theirs = optim.Parameter([1.0]), torch.nn.Parameter(torch.ones(1))
    assert len(optim.Adagrad([ours]).state[ours]) == 0
    assert len(torch.optim.Adagrad([theirs]).state[theirs]) == 2


def test_nadams_product_is_not_float32():
    exact = -2.5723532687
    ours, theirs = both("NAdam", [0.0], [[1.0]] * 3, lr=1.0, eps=0.0)
    assert abs(ours[0] - exact) < abs(theirs[0] - exact)
    assert 1e-9 < abs(ours[0] - theirs[0]) < 1e-7


def test_asgds_eta_is_not_float32():
    """Two steps with eta 0.1 and 0.1 / 1.05: -0.1, then -0.1 + 0.095238 * (0.5 * 0.1 - 1)."""
    exact = -0.1 - (0.1 / 1.05) * (1 - 0.5 * 0.1)
    ours, theirs = both("ASGD", [0.0], [[1.0]] * 2, lr=0.1, lambd=0.5, alpha=1.0)
    assert abs(ours[0] - exact) <= 2 * np.spacing(0.2)
    assert abs(theirs[0] - exact) > 1e-10


def test_asgds_decay_is_not_folded_into_a_number_near_1():
    rng = np.random.default_rng(0)
    theta, grads = rng.standard_normal(64), rng.standard_normal((1000, 64))
    ours, theirs = both("ASGD", theta, grads, np.float32)
    exact, _ = both("ASGD", theta.astype(np.float32), grads.astype(np.float32), np.float64)
    ulps = [np.median(np.abs(got - exact) / np.spacing(np.abs(exact).astype(np.float32))) for got in (ours, theirs)]
    assert ulps[0] < 16
    assert ulps[1] > 100


def test_asgd_without_a_real_eta_is_refused():
    ours = optim.Parameter([1.0])
    optimizer = optim.ASGD([ours], lr=1.0, lambd=-2.0)
    with pytest.raises(ValueError, match="lambd"):
        optimizer.step(grads=[np.array([1.0])])
    assert ours.data[0] == 1.0
    tensor = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    reference = torch.optim.ASGD([tensor], lr=1.0, lambd=-2.0)
    tensor.grad = torch.ones(1, dtype=torch.float64)
    with pytest.warns(UserWarning, match="discards the imaginary part"):
        reference.step()
    assert math.isfinite(reference.state[tensor]["eta"].item())


def test_radams_rho_does_not_cancel():
    exact = -5.008165005401331
    ours, theirs = both("RAdam", [0.0], [[1.0]] * 6, lr=1.0, eps=0.0, betas=(0.9, 0.9999))
    assert abs(ours[0] - exact) <= 8 * np.spacing(5.0)
    assert abs(theirs[0] - exact) > 1000 * np.spacing(5.0)


def test_radam_with_nothing_to_do_does_nothing():
    ours, theirs = both("RAdam", [1.0], [[0.0]], eps=0.0, foreach=True)
    assert ours[0] == 1.0
    assert math.isnan(theirs[0])


def test_rprop_compares_signs_and_not_a_product_that_underflows():
    ours, theirs = both("Rprop", [1.0], [[1e-25]] * 3, np.float32, lr=0.1)
    assert 1 - ours[0] == pytest.approx(0.1 + 0.12 + 0.144)
    assert 1 - theirs[0] == pytest.approx(0.3)


def test_rprop_shrinks_by_a_factor_that_float32_cannot_hold():
    ours, theirs = both("Rprop", [1.0], [[1.0], [-1.0]], np.float32, lr=0.25, etas=(1e-50, 1.2))
    assert ours[0] == 0.75
    assert theirs[0] == 1.0


def test_rprop_stays_where_nothing_pulls():
    ours, theirs = both("Rprop", [1.0], [[0.0]], lr=math.inf, step_sizes=(1e-6, math.inf))
    assert ours[0] == 1.0
    assert math.isnan(theirs[0])


def test_an_infinite_gradient_gives_an_infinite_moment():
    ours, theirs = optim.Parameter([1.0]), torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    left, right = optim.Adam([ours], betas=(0.5, 0.9)), torch.optim.Adam([theirs], betas=(0.5, 0.9))
    ours.grad, theirs.grad = np.array([math.inf]), torch.tensor([math.inf], dtype=torch.float64)
    left.step()
    right.step()
    assert left.state[ours]["exp_avg"][0] == math.inf
    assert math.isnan(right.state[theirs]["exp_avg"][0])


def test_step_counts_go_on_beyond_two_to_the_24():
    ours, theirs = optim.Parameter([1.0]), torch.nn.Parameter(torch.tensor([1.0]))
    left, right = optim.Adam([ours]), torch.optim.Adam([theirs])
    ours.grad, theirs.grad = np.array([1.0]), torch.tensor([1.0])
    left.step()
    right.step()
    left.state[ours]["step"] = 2**24
    right.state[theirs]["step"].fill_(2**24)
    left.step()
    right.step()
    assert left.state[ours]["step"] == 2**24 + 1
    assert right.state[theirs]["step"] == 2**24


def test_loading_copies():
    pairs = []
    for module, parameter, array in ((optim, optim.Parameter, np.ones), (torch.optim, torch.nn.Parameter, torch.ones)):
        first, second = parameter(array(2)), parameter(array(2))
        source, target = module.Adam([first]), module.Adam([second])
        for param, optimizer in ((first, source), (second, target)):
            param.grad = array(2)
            optimizer.step()
        target.load_state_dict(source.state_dict())
        target.step()
        pairs.append((float(source.state[first]["step"]), float(target.state[second]["step"])))
    assert pairs == [(1.0, 2.0), (2.0, 2.0)]


def test_a_saved_state_does_not_change():
    steps = []
    for module, parameter, array in ((optim, optim.Parameter, np.ones), (torch.optim, torch.nn.Parameter, torch.ones)):
        param = parameter(array(2))
        optimizer = module.Adam([param])
        param.grad = array(2)
        optimizer.step()
        saved = optimizer.state_dict()
        optimizer.step()
        steps.append(float(saved["state"][0]["step"]))
    assert steps == [1.0, 2.0]


def test_a_parameter_twice_in_a_group_is_stepped_once():
    found = []
    for module, parameter, array in ((optim, optim.Parameter, np.ones), (torch.optim, torch.nn.Parameter, torch.ones)):
        param = parameter(array(1))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            optimizer = module.SGD([param, param], lr=0.25)
        assert "duplicate parameters" in str(caught[0].message)
        param.grad = array(1)
        optimizer.step()
        found.append(float(param.data[0]))
    assert found == [0.75, 0.5]


def test_options_of_a_group_are_checked():
    with pytest.raises(ValueError, match="Invalid learning rate: -1"):
        optim.SGD([{"params": [optim.Parameter([1.0])], "lr": -1}])
    torch.optim.SGD([{"params": [torch.nn.Parameter(torch.ones(1))], "lr": -1}])


def test_the_shape_of_loaded_state_is_checked_at_the_load():
    for module, parameter, array in ((optim, optim.Parameter, np.ones), (torch.optim, torch.nn.Parameter, torch.ones)):
        small, large = parameter(array(2)), parameter(array(3))
        source, target = module.Adam([small]), module.Adam([large])
        small.grad, large.grad = array(2), array(3)
        source.step()
        if module is optim:
            with pytest.raises(ValueError, match="shape"):
                target.load_state_dict(source.state_dict())
            target.step()
        else:
            target.load_state_dict(source.state_dict())
            with pytest.raises(RuntimeError):
                target.step()


def test_fused_sgd_takes_parameters_that_get_a_gradient_later():
    ours = [optim.Parameter(np.ones(2, np.float32)) for _ in range(2)]
    left = optim.SGD(ours, lr=0.5, momentum=0.5, fused=True)
    left.step(grads=[np.ones(2, np.float32), None])
    left.step(grads=[np.ones(2, np.float32), np.ones(2, np.float32)])
    assert ours[1].data.tolist() == [0.5, 0.5]
    theirs = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    right = torch.optim.SGD(theirs, lr=0.5, momentum=0.5, fused=True)
    theirs[0].grad = torch.ones(2)
    right.step()
    theirs[1].grad = torch.ones(2)
    with pytest.raises(TypeError):
        right.step()


def test_dampening_counts_gradients_as_torch_does():
    ours, theirs = optim.Parameter([0.0]), torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    options = {"lr": 1.0, "momentum": 0.9, "dampening": 0.5}
    left, right = optim.SGD([ours], **options), torch.optim.SGD([theirs], **options)
    for grad, expected in ((None, 0.0), (1.0, -1.0), (1.0, -2.4)):
        ours.grad = None if grad is None else np.array([grad])
        theirs.grad = None if grad is None else torch.tensor([grad], dtype=torch.float64)
        left.step()
        right.step()
        assert ours.data[0] == theirs.item() == pytest.approx(expected)
