"""Sparse gradients on a GPU, under Numba's simulator: rows are taken out, stepped and put back with the CPU's bits.

The simulator is chosen when Numba is imported, so this file runs itself in a second process, once for all scenarios.
"""

import json
import pickle
import re
import sys
import traceback
from importlib import import_module

import numpy as np
import pytest
from numba import types

import refoptim as optim
from refoptim import SparseGrad, devices, kernels
from refoptim.kernels.jit import cuda
from refoptim.kernels.rows import fill_gpu, gather_gpu, scatter_gpu

OPTIMIZERS = {
    "SparseAdam": lambda params: optim.SparseAdam(params, lr=0.1),
    "SGD": lambda params: optim.SGD(params, lr=0.1),
    "SGD momentum": lambda params: optim.SGD(params, lr=0.1, momentum=0.9),
    "Adagrad": lambda params: optim.Adagrad(params, lr=0.1, initial_accumulator_value=0.5),
    "wide": lambda params: optim.SparseAdam(params, lr=0.1, arithmetic="float64"),
}
# Rows in order, in disorder, twice, none, and as positions in two dimensions.
ROWS = {"ordered": [0, 3], "disordered": [5, 1, 2], "twice": [4, 2, 4, 4], "none": [], "pairs": [[1, 0, 1], [0, 1, 1]]}
SHAPE = (6, 2)


def on_gpu(values):
    """Return values as an array of numba.cuda's."""
    from numba import cuda

    return cuda.to_device(values)


def numbers(shape, dtype, seed):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape) + (1j * rng.standard_normal(shape) if np.dtype(dtype).kind == "c" else 0)
    return np.asarray(values, dtype)


def gradient(rows, dtype, seed, place=lambda array: array):
    indices = np.array(rows, np.int64)
    width = SHAPE[1:] if indices.ndim < 2 else ()
    values = numbers((indices.shape[-1], *width), dtype, seed)
    return SparseGrad(indices, place(values), SHAPE)


def stepped(build, device, dtype, sequence, place=lambda array: array):
    """Return an optimizer that has made steps along gradients of these rows; None is a dense one."""
    p = optim.Parameter(numbers(SHAPE, dtype, 1), device=device)
    optimizer = build([p])
    for seed, rows in enumerate(sequence):
        dense = numbers(SHAPE, dtype, seed)
        grad = gradient(rows, dtype, seed, place) if rows is not None else dense
        p.grad = on_gpu(dense) if rows is None and device == "cuda" else grad
        optimizer.step()
    return optimizer


def bits(optimizer):
    (param,) = optimizer.param_groups[0]["params"]
    (entry,) = optimizer.state_dict()["state"].values() or [{}]
    return np.asarray(param).tobytes(), {k: v.tobytes() if hasattr(v, "tobytes") else v for k, v in entry.items()}


def the_bits_of_the_cpu():
    for name, build in OPTIMIZERS.items():
        for dtype in (np.float32, np.complex64) if name == "SGD momentum" else (np.float32,):
            cpu = bits(stepped(build, "cpu", dtype, ROWS.values()))
            for place in (on_gpu, lambda array: array):
                assert bits(stepped(build, "cuda", dtype, ROWS.values(), place)) == cpu, (name, dtype, place)


def history_of_dense_steps():
    for sequence in ([None, [1]], [[1], None, [2], [3]], [[0], [5], [0]]):
        ours, cpu = (stepped(OPTIMIZERS["SGD momentum"], device, np.float32, sequence) for device in ("cuda", "cpu"))
        assert bits(ours) == bits(cpu), sequence


def history_of_a_checkpoint():
    build = OPTIMIZERS["SGD momentum"]
    results = []
    for device in ("cuda", "cpu"):
        first = stepped(build, device, np.float32, [[1], [4]])
        p = optim.Parameter(np.array(first.param_groups[0]["params"][0]), device=device)
        second = build([p])
        second.load_state_dict(first.state_dict())
        p.grad = gradient([2], np.float32, 9)
        second.step()
        results.append(bits(second))
    assert results[0] == results[1]


def values_stay_where_they_are():
    values = numbers((2, 2), np.float32, 1)
    given = on_gpu(values)
    grad = SparseGrad(on_gpu(np.array([3, 1])), given, SHAPE)
    assert (grad.place.name, grad.dtype, grad.shape) == ("cuda:0", np.float32, SHAPE)
    assert isinstance(grad.indices, np.ndarray)
    devices.device("cuda").fill(given, 0)
    assert (grad.values.copy_to_host() == values).all(), "the values were not copied"
    host = SparseGrad([3, 1], values, SHAPE)
    dense = grad.to_dense()
    assert dense.copy_to_host().tobytes() == host.to_dense().tobytes()
    assert pickle.loads(pickle.dumps(grad)).to_dense().tobytes() == host.to_dense().tobytes()
    for ours, theirs in [(grad + grad, host + host), (2 * grad, 2 * host), (grad.coalesce(), host.coalesce())]:
        assert devices.to_host(ours.to_dense()).tobytes() == theirs.to_dense().tobytes()
    assert repr(grad) == repr(host)


def values_in_order_are_not_copied_to_the_host(monkeypatch):
    from numba import cuda

    p = optim.Parameter(numbers(SHAPE, np.float32, 1), device="cuda")
    optimizer = OPTIMIZERS["SparseAdam"]([p])
    p.grad = gradient([1, 4], np.float32, 2, on_gpu)
    monkeypatch.setattr(type(cuda.to_device(np.ones(1))), "copy_to_host", lambda *_, **__: pytest.fail("copied"))
    optimizer.step()


def gradients_that_are_refused():
    p, q = optim.Parameter(np.ones(SHAPE), device="cuda"), optim.Parameter(np.ones(SHAPE), "w")
    with pytest.raises(TypeError, match="'w' is on cuda:0, but the parameter is on cpu"):
        q.grad = gradient([1], np.float64, 1, on_gpu)
    with pytest.raises(TypeError, match="dtype float32, but the parameter has dtype float64"):
        p.grad = gradient([1], np.float32, 1, on_gpu)
    with pytest.raises(TypeError, match="values must be of float32"):
        SparseGrad([1], on_gpu(np.ones((1, 2), np.int16)), SHAPE)
    with pytest.raises(IndexError, match="index 6 is out of bounds"):
        SparseGrad(on_gpu(np.array([6])), on_gpu(np.ones((1, 2))), SHAPE)
    with pytest.raises(ValueError, match=r"values have shape \(1, 3\)"):
        SparseGrad([1], on_gpu(np.ones((1, 3))), SHAPE)
    assert p.grad is None
    assert q.grad is None


def zeroed():
    p = optim.Parameter(np.ones(SHAPE), device="cuda")
    p.grad = gradient([1, 3], np.float64, 1, on_gpu)
    p.zero_grad()
    assert p.grad.indices.shape == (1, 0)
    optim.SparseAdam([p]).step()
    assert (np.asarray(p) == 1).all()


def formulas_without_cupy():
    p = optim.Parameter(np.ones(SHAPE), device="cuda")
    optimizer = optim.SGD([p], foreach=True)
    p.grad = gradient([1], np.float64, 1)
    with pytest.raises(RuntimeError, match="compute with CuPy on cuda:0"):
        optimizer.step()
    assert (np.asarray(p) == 1).all()


def fills_with_any_number():
    gpu = devices.device("cuda")
    for value in (2.5, 0.0, -1.0, float("inf")):
        array = on_gpu(np.ones(5, np.float32))
        gpu.fill(array[1:4], value)
        assert array.copy_to_host().tolist() == [1, value, value, value, 1]


def kernels_do_not_touch_other_rows():
    array, rows = on_gpu(np.arange(12.0)), on_gpu(np.array([4, 1]))
    taken = on_gpu(np.zeros(4))
    kernels.rows.gather_gpu.launch(taken, array, rows, 2)
    assert taken.copy_to_host().tolist() == [8, 9, 2, 3]
    devices.device("cuda").fill(taken, -1)
    kernels.rows.scatter_gpu.launch(taken, array, rows, 2)
    assert array.copy_to_host().tolist() == [0, 1, -1, -1, 4, 5, 6, 7, -1, -1, 10, 11]


SCENARIOS = [
    the_bits_of_the_cpu,
    history_of_dense_steps,
    history_of_a_checkpoint,
    values_stay_where_they_are,
    values_in_order_are_not_copied_to_the_host,
    gradients_that_are_refused,
    zeroed,
    formulas_without_cupy,
    fills_with_any_number,
    kernels_do_not_touch_other_rows,
]


def main():
    """Print what went wrong in each scenario, as JSON."""
    found = {}
    for scenario in SCENARIOS:
        with pytest.MonkeyPatch.context() as monkeypatch:
            try:
                scenario(*[monkeypatch] * scenario.__code__.co_argcount)
                found[scenario.__name__] = ""
            except BaseException:  # noqa: BLE001
                found[scenario.__name__] = traceback.format_exc()
    json.dump(found, sys.stdout)


@pytest.mark.parametrize("name", [scenario.__name__ for scenario in SCENARIOS])
def test_in_the_simulator(simulation, name):
    assert not simulation[name], simulation[name]


def signatures(kind):
    """Return kernels by name, each with the types of its arguments, and what it loads."""
    flat, rows = types.Array(getattr(types, kind), 1, "C"), types.Array(types.int64, 1, "C")
    moved = (flat, flat, rows, types.int64)
    return {
        "gather": (gather_gpu, moved, ["row", "element"]),
        "scatter": (scatter_gpu, moved, ["row", "element"]),
        "fill": (fill_gpu, (flat, getattr(types, kind)), []),
    }


@pytest.mark.parametrize("size", [1, 700, 2**24 + 1, 2**33])
def test_every_element_has_a_thread(monkeypatch, size):
    launched = []
    monkeypatch.setattr(fill_gpu, "run", lambda *arguments: launched.append(arguments))
    array = np.broadcast_to(np.float32(0), size)
    fill_gpu.launch(array, 1.0)
    ((blocks, threads, first, value),) = launched
    assert (blocks - 1) * threads < size <= blocks * threads
    assert (first is array, value) == (True, 1.0)


@pytest.mark.parametrize("capability", [(8, 0), (9, 0)])
@pytest.mark.parametrize("kind", ["float32", "float64"])
@pytest.mark.parametrize("name", signatures("float32"))
def test_ptx_moves_each_element_once(monkeypatch, name, kind, capability):
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
    try:
        import_module("cuda.bindings.nvrtc").nvrtcVersion()
    except RuntimeError:
        pytest.skip("the CUDA toolkit is not installed: pip install numba-cuda[cu13]")
    device = type("Device", (), {"compute_capability": capability})
    monkeypatch.setattr(import_module("numba.cuda.dispatcher"), "get_current_device", lambda: device)
    kernel, arguments, loaded = signatures(kind)[name]
    ptx, _ = cuda.compile_ptx(kernel.function, arguments, cc=capability)
    assert not re.findall(r"^\s*call\b.*|\S*\.local\S*", ptx, re.MULTILINE)
    element = f"[bf]{kind[-2:]}"
    assert len(re.findall(rf"^\s*st\.global\.{element}\b", ptx, re.MULTILINE)) == 1
    assert len(re.findall(r"^\s*(?:ld|st)\.(?!param)", ptx, re.MULTILINE)) == 1 + len(loaded), ptx


if __name__ == "__main__":
    main()
