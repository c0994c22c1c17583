"""The rows of docs/deviations.md about norms, clipping and sparse gradients, with both numbers."""

import math

import numpy as np
import pytest

import refoptim as optim
from refoptim import utils

torch = pytest.importorskip("torch", reason="torch, whose numbers these are, is not installed")


def both(grads):
    """Return a parameter with this gradient, ours and torch's."""
    grads = np.asarray(grads)
    ours, theirs = optim.Parameter(np.zeros_like(grads)), torch.nn.Parameter(torch.zeros_like(torch.tensor(grads)))
    ours.grad, theirs.grad = grads, torch.tensor(grads)
    return ours, theirs


def test_norms_of_many_numbers():
    """Norm of gradients: one million float32 numbers of one size."""
    ours, theirs = both(np.full(1_000_000, 0.1, np.float32))
    exact = float(np.float32(0.1)) * 1000
    errors = [
        abs(float(utils.get_total_norm([ours.grad])) - exact) / exact,
        abs(float(torch.nn.utils.get_total_norm([theirs.grad])) - exact) / exact,
    ]
    assert errors[0] < 2.0**-24
    assert errors[1] > 2.0**-22


def test_the_factor_is_rounded_once():
    """Clipping's factor: elements are the nearest to g * 0.5 / (norm + 1e-6), not a rounding beside it."""
    grads = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    ours, theirs = both(grads)
    factor = 0.5 / (math.sqrt(math.fsum(float(g) ** 2 for g in grads)) + 1e-6)
    exact = (grads.astype(np.float64) * factor).astype(np.float32)
    utils.clip_grad_norm_([ours], 0.5)
    torch.nn.utils.clip_grad_norm_([theirs], 0.5)
    assert np.array_equal(ours.grad, exact)
    assert np.sum(theirs.grad.numpy() != exact) > 100


def test_negative_limits():
    """Negative `max_norm` or `clip_value`: torch turns gradients around, or makes them all alike."""
    for ours_clip, torch_clip, after in (
        (utils.clip_grad_norm_, torch.nn.utils.clip_grad_norm_, [-0.6, 0.8]),
        (utils.clip_grad_value_, torch.nn.utils.clip_grad_value_, [-1.0, -1.0]),
    ):
        ours, theirs = both([3.0, -4.0])
        with pytest.raises(ValueError, match="-1"):
            ours_clip([ours], -1.0)
        assert ours.grad.tolist() == [3.0, -4.0]
        torch_clip([theirs], -1.0)
        assert np.round(theirs.grad.numpy(), 5).tolist() == after


def test_norms_of_nothing():
    """Norms of empty gradients, p = ±inf or p < 0: they are left out."""
    ours, theirs = both(np.zeros(0))
    full, torch_full = both([3.0])
    assert utils.get_total_norm([ours.grad, full.grad], math.inf) == 3.0
    with pytest.raises(RuntimeError):
        torch.nn.utils.get_total_norm([theirs.grad, torch_full.grad], math.inf)


def test_a_norm_at_the_limit():
    """Clipping at the limit: a norm of exactly `max_norm` is scaled by 1 / (1 + 1e-6)."""
    ours, theirs = both([1.0])
    utils.clip_grad_norm_([ours], 1.0)
    torch.nn.utils.clip_grad_norm_([theirs], 1.0)
    assert ours.grad[0] == float(theirs.grad[0]) == 1 / (1 + 1e-6)


def first_move(kind, grad):
    """Return by how much SparseAdam moves first, ours and torch's, or torch's Adam."""
    if kind == "Adam":
        theirs = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        theirs.grad = torch.tensor([grad], dtype=torch.float64)
        torch.optim.Adam([theirs], lr=1.0).step()
        return float(theirs.detach()[0])
    ours, theirs = optim.Parameter([0.0]), torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    ours.grad = optim.SparseGrad([0], [grad], (1,))
    optim.SparseAdam([ours], lr=1.0).step()
    with torch.sparse.check_sparse_tensor_invariants():
        theirs.grad = torch.sparse_coo_tensor([[0]], [grad], (1,), dtype=torch.float64)
        torch.optim.SparseAdam([theirs], lr=1.0).step()
    return ours.data[0], float(theirs.detach()[0])


def test_sparse_adam_is_not_adam_with_a_mask():
    """SparseAdam, "a masked version of Adam": eps is not scaled by the bias correction."""
    assert np.round(first_move("SparseAdam", 1e-6), 3).tolist() == [-0.760, -0.760]
    assert round(first_move("Adam", 1e-6), 3) == -0.990


def test_sparse_adam_counts_empty_gradients():
    """SparseAdam, gradients without rows: they are steps."""
    ours, theirs = optim.Parameter([0.0]), torch.nn.Parameter(torch.zeros(1))
    optimizers = optim.SparseAdam([ours]), torch.optim.SparseAdam([theirs])
    ours.grad = optim.SparseGrad(np.zeros(0, int), np.zeros(0), (1,))
    with torch.sparse.check_sparse_tensor_invariants():
        theirs.grad = torch.sparse_coo_tensor(torch.zeros((1, 0), dtype=int), torch.zeros(0), (1,))
        for optimizer in optimizers:
            optimizer.step()
    steps = [o.state[p]["step"] for o, p in zip(optimizers, (ours, theirs), strict=True)]
    assert steps == [1, 1]
