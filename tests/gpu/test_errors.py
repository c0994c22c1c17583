"""What goes wrong on a GPU says so, and has changed nothing."""

from importlib import import_module
from unittest.mock import Mock

import numpy as np
import pytest
from numba.core import config

import refoptim as optim
from refoptim import devices
from refoptim.kernels import jit
from refoptim.kernels.jit import cuda

SIMULATED = bool(config.ENABLE_CUDASIM)


def on_gpu(values):
    return optim.Parameter(np.asarray(values, np.float32), device="cuda")


def contents(optimizer):
    params = [param for group in optimizer.param_groups for param in group["params"]]
    return [devices.to_host(param.data).tobytes() for param in params], str(optimizer.state_dict())


@pytest.mark.parametrize(
    ("device", "error", "words"),
    [
        ("cuda:99", RuntimeError, "'cuda:99' does not exist"),
        ("cuda:-1", ValueError, "'cuda:-1'"),
        ("gpu", ValueError, "must be 'cpu', 'cuda' or"),
        ("cpu:0", ValueError, "there is one CPU"),
    ],
)
def test_devices_that_are_not_there(device, error, words):
    with pytest.raises(error, match=words):
        optim.Parameter(np.zeros(3, np.float32), device=device)
    param = on_gpu([1, 2, 3])
    with pytest.raises(error, match=words):
        param.to(device)
    optimizer = optim.Adam([param])
    with pytest.raises(error, match=words):
        optimizer.to(device)
    assert param.device == "cuda:0"


@pytest.mark.parametrize(("here", "there"), [("cpu", "cuda"), ("cuda", "cpu")])
def test_gradients_of_another_device(here, there):
    param = optim.Parameter(np.ones(3, np.float32), device=here)
    gradient = optim.Parameter(np.ones(3, np.float32), device=there).data
    with pytest.raises((TypeError, RuntimeError), match="cuda:0"):
        param.grad = gradient
    assert param.grad is None
    optimizer = optim.SGD([param])
    with pytest.raises((TypeError, RuntimeError), match="cuda:0"):
        optimizer.step(grads=[gradient])
    assert devices.to_host(param.data).tolist() == [1, 1, 1]


@pytest.fixture
def unlaunchable(monkeypatch):
    """Return what makes the launches of kernels fail: blocks of more threads than any GPU takes."""

    def unlaunchable():
        if SIMULATED:
            # It takes every block.
            kernel = import_module("numba.cuda.simulator.kernel").FakeCUDAKernel
            monkeypatch.setattr(kernel, "__call__", Mock(side_effect=OSError("invalid argument")))
        else:
            monkeypatch.setattr(jit, "THREADS", 2_048)

    return unlaunchable


@pytest.mark.parametrize(("name", "kernel"), [("AdamW", "adam_gpu"), ("SGD", "sgd_gpu"), ("Adafactor", "adafactor")])
def test_a_kernel_that_is_not_launched_is_named(name, kernel, unlaunchable, monkeypatch, sized):
    param = on_gpu(np.arange(sized(50_000, 50)))
    optimizer = getattr(optim, name)([param])
    param.grad = on_gpu(np.ones(param.size)).data
    optimizer.step()
    before = contents(optimizer)
    unlaunchable()
    with pytest.raises(RuntimeError, match=rf"{kernel}\w* was not launched.*(?i:invalid)"):
        optimizer.step()
    monkeypatch.undo()
    assert contents(optimizer) == before
    optimizer.step()
    assert contents(optimizer) != before


@pytest.mark.driver
def test_out_of_memory_when_buffers_are_built(address):
    size = int(0.15 * cuda.current_context().get_memory_info().free) // 4
    params = [optim.Parameter(cuda.device_array(size, np.float32), name=name) for name in "ab"]
    cuda.current_context().memory_manager.deallocations.clear()
    for param in params:
        devices.device("cuda").fill(param.data, 1.0)
    data = [address(param.data) for param in params]
    # They take 0.6 of the memory, and their common buffer would take as much again.
    with pytest.raises(MemoryError):
        optim.SGD(params, momentum=0.9)
    assert [address(param.data) for param in params] == data
    assert [param.offset for param in params] == [0, 0]
    assert float(devices.to_host(params[1].data[-1:])[0]) == 1.0
    # What was allocated on the way has been given back.
    optimizer = optim.SGD(params[:1])
    params[0].grad = params[0].data
    optimizer.step()
    assert float(devices.to_host(params[0].data[:1])[0]) < 1.0


@pytest.mark.driver
def test_out_of_memory_for_state():
    size = int(0.3 * cuda.current_context().get_memory_info().free) // 4
    param = optim.Parameter(cuda.device_array(size, np.float32))
    cuda.current_context().memory_manager.deallocations.clear()
    devices.device("cuda").fill(param.data, 1.0)
    optimizer = optim.Adam([param])
    param.grad = param.data
    with pytest.raises(MemoryError):
        optimizer.step()
    assert float(devices.to_host(param.data[-1:])[0]) == 1.0
    assert optimizer.state_dict()["state"] == {}


@pytest.mark.driver
def test_strided_arrays_are_read_or_refused():
    array = cuda.to_device(np.arange(12, dtype=np.float32).reshape(3, 4))
    for strided in (array[:, ::2], array.T):
        expected = strided.copy_to_host()
        try:
            found = np.asarray(optim.Parameter(strided))
        except (TypeError, ValueError) as error:
            assert "contiguous" in str(error)  # noqa: PT017
        else:
            assert found.tolist() == expected.tolist()
