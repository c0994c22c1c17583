"""Parameters on a GPU, under Numba's simulator: what they are made from, where they lie, and what may be assigned.

The simulator is chosen when Numba is imported, so this file runs itself in a second process, once for all scenarios.
"""

import copy
import json
import pickle
import sys
import traceback

import numpy as np
import pytest

import refoptim as optim
from refoptim import devices
from refoptim.gpu import Gpu

SHAPES = [(), (0,), (3, 0), (1,), (7,), (2, 3)]
DTYPES = [np.float32, np.float64, np.complex64, np.complex128]
REAL = {}  # of numba.cuda's functions, those that a scenario replaces


def on_gpu(values, dtype=None):
    """Return values as an array of numba.cuda's."""
    from numba import cuda

    return cuda.to_device(np.asarray(values, dtype))


def numbers(shape, dtype, seed=1):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape) + (1j * rng.standard_normal(shape) if np.dtype(dtype).kind == "c" else 0)
    return np.asarray(values, dtype)


def same(left, right):
    left, right = np.asarray(left), np.asarray(right)
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()


def made_from_device_arrays():
    for shape in SHAPES:
        for dtype in DTYPES:
            host = numbers(shape, dtype)
            given = on_gpu(host)
            p = optim.Parameter(given)
            assert (p.device, p.shape, p.dtype, p.size, p.ndim) == ("cuda:0", shape, dtype, host.size, host.ndim)
            assert same(p, host)
            assert p.grad is None
            if host.size:
                p.place.fill(p.data, 0)
                assert same(given.copy_to_host(), host), "the array handed in was not copied"


def made_on_a_device_by_name():
    host = numbers((2, 3), np.float32)
    for name in ("cuda", "cuda:0", devices.device("cuda")):
        p = optim.Parameter(host, "w", device=name)
        assert (p.device, p.name) == ("cuda:0", "w")
        assert same(p, host)
    assert optim.Parameter(host, device="cpu").device == "cpu"
    back = optim.Parameter(on_gpu(host), device="cpu")
    assert isinstance(back.data, np.ndarray)
    assert same(back, host)
    assert optim.Parameter([1.0, 2.0], device="cuda").device == "cuda:0"


def made_from_no_numbers():
    for given in (on_gpu([1, 2]), on_gpu([True])):
        with pytest.raises(TypeError, match=r"must be of float32.*but is of"):
            optim.Parameter(given)


def arrays_stay_the_same_objects():
    p = optim.Parameter(numbers((2, 3), np.float32), device="cuda")
    assert p.data is p.data
    p.grad = on_gpu(np.ones((2, 3), np.float32))
    assert p.grad is p.grad
    grad = p.grad
    p.grad = on_gpu(np.zeros((2, 3), np.float32))
    assert p.grad is grad
    p.grad = grad
    assert p.grad is grad
    optim.SGD([p]).step()
    assert p.grad is grad, "one parameter has no need to move"


def arrays_share_the_memory_of_kernels():
    params = [optim.Parameter(numbers(shape, np.complex64), device="cuda") for shape in ((2,), (3, 1))]
    optim.SGD(params)
    buffer = params[0].buffer
    assert params[1].buffer is buffer
    assert (buffer.theta.dtype, buffer.theta.size) == (np.float32, 10)
    buffer.device.fill(buffer.theta, 2.5)
    assert same(params[1], np.full((3, 1), 2.5 + 2.5j, np.complex64))
    params[1].data = on_gpu(numbers((3, 1), np.complex64, 5))
    assert same(buffer.theta.copy_to_host()[4:], numbers((3, 1), np.complex64, 5).view(np.float32).reshape(-1))


def strided_arrays_are_copied():
    host = numbers((4, 6), np.float64)
    for view in (lambda a: a.T, lambda a: a[:, 1:3], lambda a: a[::2, ::3]):
        given = view(on_gpu(host))
        assert same(optim.Parameter(given), view(host))
        p = optim.Parameter(np.zeros(view(host).shape), device="cuda")
        p.grad = given
        assert same(p.grad.copy_to_host(), view(host))
        p.data = given
        assert same(p, view(host))


def assignments_that_are_refused():
    p = optim.Parameter(np.ones((2, 3), np.float32), "w", device="cuda")
    q = optim.Parameter(np.ones((2, 3), np.float32), "v")
    p.grad, q.grad = on_gpu(np.full((2, 3), 7, np.float32)), np.full((2, 3), 7, np.float32)
    host, gpu = np.zeros((2, 3), np.float32), on_gpu(np.zeros((2, 3), np.float32))
    for error, target, given, words in [
        (TypeError, p, host, "'w' is on cpu, but the parameter is on cuda:0: write numba.cuda.to_device"),
        (TypeError, q, gpu, "'v' is on cuda:0, but the parameter is on cpu: write values.copy_to_host"),
        (RuntimeError, p, host, "cupy.asarray"),
        (TypeError, p, on_gpu(np.zeros((2, 3))), "dtype float64, but the parameter has dtype float32"),
        (ValueError, p, on_gpu(np.zeros((3, 2), np.float32)), "shape (3, 2), but the parameter has shape (2, 3)"),
        (TypeError, p, [[0.0] * 3] * 2, "expected to be an array or None but got"),
        (TypeError, p, 1.0, "expected to be an array or None but got"),
    ]:
        for name in ("data", "grad"):
            with pytest.raises(error) as caught:
                setattr(target, name, given)
            assert words in str(caught.value), caught.value
    for param in (p, q):
        assert same(param, np.ones((2, 3), np.float32))
        assert same(devices.to_host(param.grad), np.full((2, 3), 7, np.float32))


def zeroed_gradients():
    p = optim.Parameter(numbers((2, 3), np.complex64), device="cuda")
    p.zero_grad()
    assert p.grad is None
    p.grad = on_gpu(numbers((2, 3), np.complex64))
    grad = p.grad
    p.zero_grad()
    assert p.grad is grad
    assert same(grad.copy_to_host(), np.zeros((2, 3), np.complex64))
    p.grad = None
    assert p.grad is None


def seen_by_numpy():
    host = numbers((2, 3), np.float32)
    p = optim.Parameter(host, device="cuda")
    assert same(np.asarray(p), host)
    assert same(np.asarray(p, np.float64), host.astype(np.float64))
    assert same(np.array(p, copy=True), host)
    with pytest.raises(ValueError, match="is on cuda:0, and NumPy sees"):
        np.array(p, copy=False)
    assert len(p) == 2


def shown():
    p = optim.Parameter(np.array([1.0, 2.0], np.float32), "w", device="cuda")
    assert repr(p) == "Parameter([1., 2.], dtype=float32, name='w', device='cuda:0')"
    p.grad = on_gpu([0.5, 0.5], np.float32)
    assert repr(p) == "Parameter([1., 2.], dtype=float32, name='w', device='cuda:0', grad=[0.5, 0.5])"


def moved_and_back():
    for dtype in DTYPES:
        host, gradient = numbers((2, 3), dtype), numbers((2, 3), dtype, 2)
        p = optim.Parameter(host)
        p.grad = gradient
        old = p.data
        assert p.to("cuda") is p
        assert (p.device, old.flags.writeable) == ("cuda:0", False)
        assert same(p, host)
        assert same(p.grad.copy_to_host(), gradient)
        data = p.data
        assert p.to("cuda:0").data is data, "it was there already"
        p.to("cpu")
        assert isinstance(p.data, np.ndarray)
        assert same(p, host)
        assert same(p.grad, gradient)
    p = optim.Parameter(host)
    assert p.to("cuda").to("cpu").grad is None


def copied():
    for dtype in DTYPES:
        p = optim.Parameter(numbers((2, 3), dtype), "w", device="cuda")
        for gradient in (None, on_gpu(numbers((2, 3), dtype, 2))):
            p.grad = gradient
            for duplicate in (copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))):
                q = duplicate(p)
                assert (q.device, q.name) == ("cuda:0", "w")
                assert same(q, p)
                assert (q.grad is None) == (gradient is None)
                assert gradient is None or same(q.grad.copy_to_host(), gradient.copy_to_host())
                q.place.fill(q.data, 1)
                assert same(p, numbers((2, 3), dtype))


def room_for(count, monkeypatch):
    """Let this many arrays be allocated, and no more."""
    from numba import cuda

    left, real = iter(range(count)), REAL.setdefault("device_array", cuda.device_array)

    def device_array(*arguments, **options):
        if next(left, None) is None:
            raise RuntimeError("[2] Call to cuMemAlloc results in CUDA_ERROR_OUT_OF_MEMORY")
        return real(*arguments, **options)

    monkeypatch.setattr(cuda, "device_array", device_array)


def out_of_memory(monkeypatch):
    p = optim.Parameter(np.ones(3))
    p.grad = np.full(3, 2.0)
    data = p.data
    for count in (0, 1):
        room_for(count, monkeypatch)
        with pytest.raises(MemoryError, match=r"cuda:0 has no room for 24 bytes more: .*OUT_OF_MEMORY"):
            p.to("cuda")
        assert p.data is data
        assert data.flags.writeable
        assert same(p.grad, np.full(3, 2.0))
        room_for(count, monkeypatch)
        with pytest.raises(MemoryError, match="no room"):
            optim.Parameter(np.ones(3), device="cuda")
    room_for(2, monkeypatch)
    assert p.to("cuda").device == "cuda:0"


def devices_by_name():
    assert devices.device("cuda") is devices.device("cuda:0")
    assert repr(devices.device("cuda")) == "<device cuda:0>"
    for duplicate in (copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))):
        assert duplicate(devices.device("cuda:0")) is devices.device("cuda:0")
        assert duplicate(devices.CPU) is devices.CPU
    with pytest.raises(RuntimeError, match="'cuda:1' does not exist: there are 1 GPUs"):
        devices.device("cuda:1")


def several_gpus(monkeypatch):
    """Everything that numba.cuda does happens in the context of the parameter's GPU."""
    from numba import cuda

    entered = []

    class Context:
        def __enter__(self):
            entered.append(+1)

        def __exit__(self, *error):
            entered.append(-1)

    monkeypatch.setattr(cuda, "gpus", {3: Context()})
    gpu = Gpu(3)
    real = {name: getattr(cuda, name) for name in ("device_array", "to_device")}
    for name, function in real.items():

        def inside(*arguments, function=function, **options):
            assert sum(entered) == 1
            return function(*arguments, **options)

        monkeypatch.setattr(cuda, name, inside)
    monkeypatch.setattr(Gpu, "_is_alone", False)
    p = optim.Parameter(np.ones(3), device=gpu)
    assert p.device == "cuda:3"
    before = len(entered)
    p.place.fill(p.data, 2.0)
    p.place.copy(p.data, np.ones(3))
    p.place.host(p.data)
    p.place.uploaded(np.ones(3))
    assert len(entered) >= before + 8
    assert sum(entered) == 0


SCENARIOS = [
    made_from_device_arrays,
    made_on_a_device_by_name,
    made_from_no_numbers,
    arrays_stay_the_same_objects,
    arrays_share_the_memory_of_kernels,
    strided_arrays_are_copied,
    assignments_that_are_refused,
    zeroed_gradients,
    seen_by_numpy,
    shown,
    moved_and_back,
    copied,
    out_of_memory,
    devices_by_name,
    several_gpus,
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


if __name__ == "__main__":
    main()
