"""Gradients that are zero but for some rows: the same step as a dense one, which reads and writes those rows alone."""

import json
import pickle
import sys
from copy import deepcopy

import numpy as np
import pytest
import scipy.sparse

import refoptim as optim
from refoptim import SparseGrad, kernels
from refoptim.conformance.tolerances import CLOSE
from refoptim.kernels import jit, row_loops

IMPLEMENTATIONS = {
    "fused": {},
    "foreach": {"foreach": True},
    "for-loop": {"foreach": False, "fused": False},
    "float64": {"arithmetic": "float64"},
}
# Where a row without a gradient stays as it is, a dense gradient of zero must leave it so too.
ALIKE = {
    "sgd": (optim.SGD, {"lr": 0.1}),
    "momentum": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.25}),
    "nesterov": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "maximize": True}),
    "adagrad": (optim.Adagrad, {"lr": 0.1, "lr_decay": 0.5, "initial_accumulator_value": 0.25}),
    "adagrad-maximize": (optim.Adagrad, {"maximize": True}),
}
DTYPES = [np.float32, np.float64, np.complex64, np.complex128]


def random_grad(rng, shape, dtype, count, leading=1):
    """Return a gradient with some rows, among them repeated ones."""
    indices = np.stack([rng.integers(0, length, count) for length in shape[:leading]])
    return SparseGrad(indices, random_values(rng, (count, *shape[leading:]), dtype), shape)


def random_values(rng, shape, dtype):
    values = rng.standard_normal((*shape, 2))
    return (values[..., 0] + 1j * values[..., 1] if np.dtype(dtype).kind == "c" else values[..., 0]).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("name", ALIKE)
def test_a_sparse_step_has_the_bits_of_the_dense_one(name, implementation, dtype):
    kind, options = ALIKE[name]
    rng = np.random.default_rng(5)
    for shape, leading in [((9, 4), 1), ((7,), 1), ((5, 2, 3), 2), ((3, 4), 2)]:
        start = random_values(rng, shape, dtype)
        sparse, dense = optim.Parameter(start), optim.Parameter(start)
        left, right = (kind([p], **options, **IMPLEMENTATIONS[implementation]) for p in (sparse, dense))
        for count in (3, 0, 1, 8, 2):
            sparse.grad = random_grad(rng, shape, dtype, count, leading)
            dense.grad = sparse.grad.to_dense()
            left.step()
            right.step()
            assert np.array_equal(sparse.data, dense.data)
        assert left.state[sparse].keys() == right.state[dense].keys()
        for key, value in left.state[sparse].items():
            assert np.array_equal(value, right.state[dense][key]), key


@pytest.mark.parametrize("name", ALIKE)
def test_threads_that_share_the_rows_give_the_bits_of_one(monkeypatch, name):
    kind, options = ALIKE[name]
    rng = np.random.default_rng(7)
    grads = [random_grad(rng, (900, 3), np.float32, 500) for _ in range(3)]
    assert max(grad.summed().rows.size for grad in grads) > 4 * row_loops.GRAIN
    found = []
    for threshold in (sys.maxsize, 0):
        monkeypatch.setattr(jit, "SERIAL_BELOW", threshold)
        optimizer = kind([optim.Parameter(np.ones((900, 3), np.float32))], **options)
        for grad in grads:
            optimizer.step(grads=[grad])
        found.append(optimizer.param_groups[0]["params"][0].data.tobytes())
    assert found[0] == found[1]


def test_rows_of_one_dimension_after_those_of_two(monkeypatch):
    rng, shape = np.random.default_rng(11), (9, 2)
    rows = row_loops.over_rows(kernels.sgd.momentum_cpu)
    monkeypatch.setitem(vars(kernels.sgd.momentum_cpu), "rows", rows)
    sparse, dense = (optim.SGD([optim.Parameter(np.ones(shape, np.float32))], lr=0.1, momentum=0.5) for _ in range(2))
    for leading in (1, 2, 1, 1, 2, 2):
        grad = random_grad(rng, shape, np.float32, 2, leading)
        sparse.step(grads=[grad])
        dense.step(grads=[grad.to_dense()])
        left, right = (optimizer.param_groups[0]["params"][0].data for optimizer in (sparse, dense))
        assert np.array_equal(left, right)
        assert len(rows.serial.signatures) == 1  # whatever the rows are, they are compiled once


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_sparse_adam_leaves_other_rows_and_their_moments(implementation):
    rng = np.random.default_rng(6)
    start = rng.standard_normal((6, 3))
    param, alone = optim.Parameter(start), optim.Parameter(start[[1, 4]])
    options = {"lr": 0.1, "betas": (0.5, 0.75)} | IMPLEMENTATIONS[implementation]
    optimizer, other = optim.SparseAdam([param], **options), optim.SparseAdam([alone], **options)
    for _ in range(4):
        values = rng.standard_normal((2, 3))
        param.grad, alone.grad = SparseGrad([4, 1], values[::-1], (6, 3)), SparseGrad([0, 1], values, (2, 3))
        optimizer.step()
        other.step()
    assert np.array_equal(param.data[[1, 4]], alone.data)
    assert np.array_equal(param.data[[0, 2, 3, 5]], start[[0, 2, 3, 5]])
    for key in ("exp_avg", "exp_avg_sq"):
        assert np.array_equal(optimizer.state[param][key][[1, 4]], other.state[alone][key])
        assert not optimizer.state[param][key][[0, 2, 3, 5]].any()


def test_only_the_rows_are_touched():
    """NaN in the other rows of the parameter and of the state would spread to whatever reads them."""
    param = optim.Parameter(np.full((5, 2), np.nan))
    param.data[2] = 1.0
    for kind in (optim.SGD, optim.Adagrad, optim.SparseAdam):
        optimizer = kind([param], lr=0.5)
        param.grad = SparseGrad([2], [[1.0, -1.0]], (5, 2))
        optimizer.step()
        assert np.isfinite(param.data[2]).all()
        assert np.isnan(param.data[[0, 1, 3, 4]]).all()


def test_duplicates_are_summed_and_rounded_once():
    values = np.array([[1.0], [2.0**-24], [2.0**-24], [5.0]], np.float32)
    grad = SparseGrad([3, 3, 3, 1], values, (4, 1)).coalesce()
    assert grad.rows.tolist() == [1, 3]
    assert grad.values.tolist() == [[5.0], [1.0 + 2.0**-23]]


def test_rows_that_are_named_once_stay_as_they_are():
    grad = SparseGrad([3, 1], [[1.0], [2.0]], (4, 1))
    assert grad.summed() is grad
    assert grad.coalesce().rows.tolist() == [1, 3]
    assert SparseGrad([3, 1, 3], [[1.0], [2.0], [3.0]], (4, 1)).summed().values.tolist() == [[2.0], [4.0]]


def test_a_gradient_stays_as_it_was_checked():
    grad = SparseGrad([1], [[1.0, 1.0]], (3, 2))
    for name in ("indices", "values", "shape"):
        with pytest.raises(AttributeError, match=f"{name} of a SparseGrad cannot be exchanged"):
            setattr(grad, name, getattr(grad, name))
    assert grad.rows.tolist() == [1]
    for copied in (grad, deepcopy(grad), pickle.loads(pickle.dumps(grad))):
        for array in (copied.indices, copied.values, copied.rows):
            assert not array.flags.writeable


def test_indices_and_values_are_copied():
    indices, values = np.array([[2], [0]]), np.array([5.0])
    grad = SparseGrad(indices, values, (3, 2))
    indices[0], values[0] = 1, 7.0
    assert grad.rows.tolist() == [4]
    assert grad.to_dense()[2, 0] == 5
    for array in (grad.indices, grad.values, grad.rows):
        assert not array.flags.writeable


def test_momentum_moves_rows_without_a_gradient():
    param = optim.Parameter(np.zeros((3, 1)))
    optimizer = optim.SGD([param], lr=1.0, momentum=0.5)
    for row in (0, 1, 2):
        param.grad = SparseGrad([row], [[1.0]], (3, 1))
        optimizer.step()
    assert param.data.tolist() == [[-1.75], [-1.5], [-1.0]]


def lived(event, optimizer, buffer):
    """Return the optimizer after something that a user may do between two steps."""
    [param] = optimizer.param_groups[0]["params"]
    if event == "dense step":
        param.grad = buffer
        optimizer.step()
    elif event == "load":
        optimizer.load_state_dict(optimizer.state_dict())
    elif event == "write":
        optimizer.state[param]["momentum_buffer"][...] = buffer
    elif event == "clear":
        optimizer.state[param].clear()
    elif event == "pickle":
        return pickle.loads(pickle.dumps(optimizer))
    return optimizer


@pytest.mark.parametrize("between", ["dense step", "load", "write", "clear", "pickle"])
def test_momentum_knows_its_rows_after_anything(between):
    rng = np.random.default_rng(8)
    start = rng.standard_normal((6, 2))
    pair = [optim.SGD([optim.Parameter(start)], lr=0.5, momentum=0.5) for _ in range(2)]
    buffer = rng.standard_normal((6, 2))
    for step in range(4):
        sparse = random_grad(rng, (6, 2), np.float64, 2)
        for place in (0, 1):
            if step == 2:
                pair[place] = lived(between, pair[place], buffer)
            [param] = pair[place].param_groups[0]["params"]
            param.grad = sparse.to_dense() if place else sparse
            pair[place].step()
        [left], [right] = (optimizer.param_groups[0]["params"] for optimizer in pair)
        assert np.array_equal(left.data, right.data)


def test_dense_and_sparse_gradients_in_one_group():
    rng = np.random.default_rng(9)
    starts = [rng.standard_normal(shape) for shape in ((2, 2), (4, 3), (3,))]
    ours, alike = [[optim.Parameter(start) for start in starts] for _ in range(2)]
    left, right = (optim.Adagrad(params, lr=0.1) for params in (ours, alike))
    for _ in range(3):
        grads = [rng.standard_normal((2, 2)), random_grad(rng, (4, 3), np.float64, 3), None]
        left.step(grads=grads)
        right.step(grads=[grads[0], grads[1].to_dense(), None])
        assert all(np.array_equal(a.data, b.data) for a, b in zip(ours, alike, strict=True))
    assert left.state[ours[2]] == {}


@pytest.mark.parametrize("form", [scipy.sparse.csr_matrix, scipy.sparse.coo_array, scipy.sparse.csc_array])
def test_scipys_matrices(form):
    dense = np.array([[0.0, 2.0, 0.0], [0.0, 0.0, -1.0]], np.float32)
    param = optim.Parameter(np.ones((2, 3), np.float32))
    param.grad = form(dense)
    assert isinstance(param.grad, SparseGrad)
    assert np.array_equal(param.grad.to_dense(), dense)
    optim.SparseAdam([param], lr=0.5).step()
    assert param.data[dense == 0].tolist() == [1.0] * 4
    assert np.allclose(param.data[dense != 0], [0.5, 1.5])


def test_a_gradient_can_be_taken_away_copied_and_zeroed():
    param = optim.Parameter(np.zeros((3, 2)))
    param.grad = SparseGrad([1], [[1.0, 2.0]], (3, 2))
    for copy in (deepcopy(param), pickle.loads(pickle.dumps(param))):
        assert np.array_equal(copy.grad.to_dense(), param.grad.to_dense())
    optimizer = optim.SGD([param])
    optimizer.zero_grad(set_to_none=False)
    assert param.grad.rows.size == 0
    optimizer.zero_grad()
    assert param.grad is None
    param.grad = SparseGrad([1], [[1.0, 2.0]], (3, 2))
    param.grad = np.ones((3, 2))
    optimizer.step()
    assert (param.data == -1e-3).all()


def test_gradients_add_up_and_scale():
    one, other = SparseGrad([1], [[1.0]], (3, 1)), SparseGrad([1, 0], [[2.0], [3.0]], (3, 1))
    assert (one + other).to_dense().tolist() == [[3.0], [3.0], [0.0]]
    assert (0.5 * other).to_dense().tolist() == [[1.5], [1.0], [0.0]]
    assert repr(other) == "SparseGrad(2 of (3, 1), dtype=float64)"
    with pytest.raises(ValueError, match="different rows"):
        one + SparseGrad([1], [[1.0]], (4, 1))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([0.5], [[1.0]], (2, 1)), TypeError, "indices must be integers, but are of float64"),
        (([2], [[1.0]], (2, 1)), IndexError, "index 2 is out of bounds for axis 0 with size 2"),
        (([-1], [[1.0]], (2, 1)), IndexError, "index -1 is out of bounds"),
        (([[0], [1]], [1.0], (2, 1)), IndexError, "index 1 is out of bounds for axis 1"),
        (([0], [1.0], (2, 1)), ValueError, "values have shape .1,., but 1 indices into .2, 1. need .1, 1."),
        (([[0], [0], [0]], [1.0], (2, 1)), ValueError, "do not fit into the shape"),
        (([0], [[1]], (2, 1)), TypeError, "values must be of float32"),
    ],
)
def test_malformed_gradients(arguments, error, message):
    with pytest.raises(error, match=message):
        SparseGrad(*arguments)


@pytest.mark.parametrize(
    ("grad", "message"),
    [
        (SparseGrad([0], [[1.0]], (3, 1)), r"has shape \(3, 1\), but the parameter has shape \(2, 1\)"),
        (
            SparseGrad([0], np.ones((1, 1), np.float32), (2, 1)),
            "has dtype float32, but the parameter has dtype float64",
        ),
    ],
)
def test_gradients_that_do_not_fit(grad, message):
    param = optim.Parameter(np.ones((2, 1)))
    param.grad = np.ones((2, 1))
    with pytest.raises((TypeError, ValueError), match=message):
        param.grad = grad
    with pytest.raises((TypeError, ValueError), match=message):
        optim.SGD([param]).step(grads=[grad])
    assert isinstance(param.grad, np.ndarray)


def test_differentiable_takes_no_sparse_gradient():
    param = optim.Parameter(np.ones((2, 2)))
    optim.SGD([param], differentiable=True)
    with pytest.raises(TypeError, match="differentiable=True, which takes no sparse gradient"):
        param.grad = SparseGrad([0], [[1.0, 1.0]], (2, 2))


def test_sparse_adams_state_is_plain():
    param = optim.Parameter(np.ones((2, 1)))
    optimizer = optim.SparseAdam([param])
    param.grad = SparseGrad([0], [[1.0]], (2, 1))
    optimizer.step()
    saved = optimizer.state_dict()
    assert list(saved["state"][0]) == ["step", "exp_avg", "exp_avg_sq"]
    assert json.dumps(saved["param_groups"]) == (
        '[{"lr": 0.001, "betas": [0.9, 0.999], "eps": 1e-08, "maximize": false, "params": [0]}]'
    )


TORCH = {
    "sparse-adam": ("SparseAdam", {"lr": 0.1}),
    "sparse-adam-maximize": ("SparseAdam", {"betas": (0.5, 0.75), "eps": 1e-3, "maximize": True}),
    "sgd": ("SGD", {"lr": 0.1}),
    "momentum": ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.25, "maximize": True}),
    "nesterov": ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "adagrad": ("Adagrad", {"lr": 0.1, "lr_decay": 0.5, "initial_accumulator_value": 0.25}),
}


@pytest.mark.parametrize("shape", [(8, 3), (6,)], ids=str)
@pytest.mark.parametrize("name", TORCH)
def test_torch_agrees(name, shape):
    torch = pytest.importorskip("torch", reason="torch, whose numbers these are, is not installed")
    kind, options = TORCH[name]
    rng = np.random.default_rng(10)
    start = rng.standard_normal(shape)
    ours, theirs = optim.Parameter(start), torch.nn.Parameter(torch.tensor(start))
    left, right = getattr(optim, kind)([ours], **options), getattr(torch.optim, kind)([theirs], **options)
    with torch.sparse.check_sparse_tensor_invariants():
        for count in (3, 1, 0, 5, 2):
            grad = random_grad(rng, shape, np.float64, count)
            ours.grad = grad
            tensors = torch.tensor(np.array(grad.indices)), torch.tensor(np.array(grad.values))
            theirs.grad = torch.sparse_coo_tensor(*tensors, shape)
            left.step()
            right.step()
            np.testing.assert_allclose(ours.data, theirs.detach().numpy(), **CLOSE["torch float64"])
