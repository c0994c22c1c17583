"""The rows of docs/deviations.md about Adafactor and Muon, with both numbers."""

import warnings

import numpy as np
import pytest

import refoptim as optim

torch = pytest.importorskip("torch", reason="torch, whose numbers these are, is not installed")


def both(name, values, grads, ours=None, **options):
    """Return the parameter after the same steps with refoptim and with torch."""
    values = np.asarray(values)
    left, right = optim.Parameter(values), torch.nn.Parameter(torch.tensor(values))
    pair = [
        getattr(optim, name)([left], **options, **(ours or {})),
        getattr(torch.optim, name)([right], **options),
    ]
    for grad in grads:
        left.grad, right.grad = np.asarray(grad, values.dtype), torch.tensor(np.asarray(grad, values.dtype))
        for optimizer in pair:
            optimizer.step()
    return left.data, right.detach().numpy()


def test_adafactors_decay():
    """Adafactor's decay: the text's last line would have 0.99."""
    ours, theirs = both("Adafactor", [1.0], [[1.0]], lr=0.01, weight_decay=0.5)
    assert np.allclose([ours, theirs], 0.985)


def test_adafactors_factors():
    """Adafactor's factors: with sums, as documented, eps would hardly limit gradients of 1e-5, and the step be 0.06."""
    options = {"lr": 1.0, "d": 1e9, "eps": (1e-9, 1.0)}
    ours, theirs = both("Adafactor", np.ones((4, 8)), [np.full((4, 8), 1e-5)], **options)
    assert np.allclose(ours, theirs)
    # The mean of the row means, 1e-10, is below eps; a sum of four is not far above.
    assert np.allclose(1 - ours, 1e-5 * (1e-10 / 1e-9) ** -0.5 * 1e5, rtol=np.spacing(1) * 64)


def test_each_parameter_has_the_eps_of_its_type():
    """Adafactor, `eps[0]=None`: a float32 parameter behind a float64 one gets float64's from torch."""
    values, grad = np.ones(4, np.float32), np.full(4, 1e-8, np.float32)
    moved = []
    for module, parameter, array in (
        (optim, optim.Parameter, np.asarray),
        (torch.optim, torch.nn.Parameter, torch.tensor),
    ):
        wide, narrow = parameter(array(values.astype(np.float64))), parameter(array(values))
        wide.grad, narrow.grad = array(grad.astype(np.float64)), array(grad)
        module.Adafactor([wide, narrow], lr=1.0).step()
        moved.append(1 - float((narrow.detach() if module is torch.optim else narrow.data)[0]))
    # 1e-8 is a twelfth of float32's eps, and far above float64's.
    assert moved[0] < 0.1
    assert moved[1] > 0.9


def test_nothing_to_step():
    """Adafactor, no elements: there is nothing to divide."""
    empty = optim.Parameter(np.ones((0, 3)))
    optimizer = optim.Adafactor([empty])
    optimizer.step(grads=[np.ones((0, 3))])
    assert optimizer.state[empty]["step"] == 1
    with pytest.raises(ZeroDivisionError):
        both("Adafactor", np.ones((0, 3)), [np.ones((0, 3))])


def test_nan_in_a_vector():
    """Adafactor, NaN in a vector: the root mean square of a vector with NaN is NaN."""
    ours, theirs = both("Adafactor", np.ones(3), [[np.nan, 1.0, 1.0]])
    assert np.isnan(ours).all()
    assert np.isnan(theirs).tolist() == [True, False, False]


def test_adafactors_default():
    """Adafactor's `weight_decay`: the text says 1e-2."""
    groups = [
        optim.Adafactor([optim.Parameter([1.0])]).param_groups[0],
        torch.optim.Adafactor([torch.nn.Parameter(torch.ones(1))]).param_groups[0],
    ]
    assert [group["weight_decay"] for group in groups] == [0, 0]


def test_muons_precision():
    """Muon's precision: the update of float64 parameters, against the iteration in float64 by NumPy."""
    rng = np.random.default_rng(0)
    values, grad = rng.standard_normal((2, 8, 6))
    ours, theirs = both("Muon", values, [grad], lr=1.0, weight_decay=0.0, momentum=0.0, nesterov=False)
    x = grad.T / np.linalg.norm(grad)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.775 * square + 2.0315 * square @ square) @ x
    exact = values - (8 / 6) ** 0.5 * x.T
    errors = [np.abs(got - exact).max() for got in (ours, theirs)]
    assert errors[0] < 1e-13
    assert errors[1] > 1e-3


def test_muons_momentum():
    """Muon's momentum: the buffer is a mean, not the sum of the text."""
    left, right = optim.Parameter(np.eye(2)), torch.nn.Parameter(torch.eye(2))
    left.grad, right.grad = np.full((2, 2), 2.0), torch.full((2, 2), 2.0)
    pair = optim.Muon([left]), torch.optim.Muon([right])
    for optimizer in pair:
        optimizer.step()
    buffers = [np.asarray(o.state[p]["momentum_buffer"]) for o, p in zip(pair, (left, right), strict=True)]
    assert np.allclose(buffers, 0.05 * 2.0)


def test_muons_eps():
    """Muon's `eps`: half of a norm that is added to itself would halve the first iterate; a limit leaves it."""
    grad = np.array([[3.0, 0.0], [0.0, 4.0]])
    options = {"lr": 1.0, "weight_decay": 0.0, "momentum": 0.0, "nesterov": False, "ns_steps": 0, "eps": 5.0}
    ours, theirs = both("Muon", np.zeros((2, 2)), [grad], **options)
    assert np.allclose(ours, -grad / 5)
    assert np.abs(theirs + grad / 5).max() < 2.0**-8


def test_muons_decay():
    """Muon's `weight_decay`: decoupled, whatever the text calls it."""
    ours, theirs = both("Muon", np.eye(2), [np.zeros((2, 2))], lr=0.5, weight_decay=0.5)
    assert np.allclose([ours, theirs], 0.75 * np.eye(2))


def test_muons_buffer_is_its_own():
    """Muon, bfloat16 without Nesterov: torch normalizes its own momentum; refoptim has no bfloat16 parameters."""
    grad = torch.full((4, 4), 10.0, dtype=torch.bfloat16)
    param = torch.nn.Parameter(torch.zeros(4, 4, dtype=torch.bfloat16))
    param.grad = grad.clone()
    optimizer = torch.optim.Muon([param], momentum=0.0, nesterov=False)
    optimizer.step()
    assert optimizer.state[param]["momentum_buffer"].float().norm() < 1.1
    ours = optim.Parameter(np.zeros((4, 4), np.float32))
    mine = optim.Muon([ours], momentum=0.0, nesterov=False, dialect="torch")
    mine.step(grads=[np.full((4, 4), 10.0, np.float32)])
    assert np.linalg.norm(mine.state[ours]["momentum_buffer"]) == 40.0


def test_only_matrices_can_be_added():
    """Muon, a vector added later: before anything moves, not in the next step."""
    optimizer = optim.Muon([optim.Parameter(np.eye(2))])
    with pytest.raises(ValueError, match="2"):
        optimizer.add_param_group({"params": [optim.Parameter(np.ones(2))]})
    theirs = torch.optim.Muon([torch.nn.Parameter(torch.eye(2))])
    vector = torch.nn.Parameter(torch.ones(2))
    with warnings.catch_warnings():
        theirs.add_param_group({"params": [vector]})
    vector.grad = torch.ones(2)
    with pytest.raises(ValueError, match="2"):
        theirs.step()
