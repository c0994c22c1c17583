"""Devices where there is no GPU: what is asked for in vain, and what is never imported."""

import os
import subprocess
import sys

import numpy as np
import pytest

import refoptim as optim
from refoptim import devices


def python(code, **environment):
    """Run code in a process of its own."""
    run = [sys.executable, "-c", code]
    return subprocess.run(run, env=os.environ | environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ["cpu", devices.CPU])
def test_the_cpu_by_name(name):
    assert devices.device(name) is devices.CPU
    p = optim.Parameter(np.ones(3), device=name)
    data = p.data
    assert p.to(name) is p
    assert p.data is data
    assert optim.SGD([p]).to(name).param_groups[0]["params"] == [p]
    assert p.data is data


@pytest.mark.parametrize("make", [optim.Adam, optim.Adafactor, optim.LBFGS])
def test_what_is_there_already_stays_where_it_is(make):
    p, q = optim.Parameter([[1.0, 2.0]]), optim.Parameter([3.0])
    optimizer = make([p, q])
    p.grad, q.grad = np.ones((1, 2)), np.ones(1)
    optimizer.step(lambda: 1.0)
    before = [p.data, p.grad, *(value for value in optimizer.state[p].values() if isinstance(value, np.ndarray))]
    optimizer.to("cpu")
    after = [p.data, p.grad, *(value for value in optimizer.state[p].values() if isinstance(value, np.ndarray))]
    assert all(map(np.shares_memory, before, after))


@pytest.mark.parametrize(
    "name", ["gpu", "CUDA", "cuda:", "cuda:-1", "cuda:x", "cuda:0:1", "cpu:0", "", 0, None, "cuda:²"]
)
def test_names_that_no_device_has(name):
    p = optim.Parameter(np.ones(3))
    for attempt in (p.to, optim.SGD([p]).to, devices.device):
        with pytest.raises(ValueError, match=r"device must be 'cpu', 'cuda' or|there is one CPU"):
            attempt(name)
    assert p.device == "cpu"


# A machine without numba-cuda, and one that has it and no driver.
MISSING = {
    "numba-cuda": ("import sys; sys.modules['numba_cuda'] = None", "needs numba-cuda: write pip install"),
    "driver": ("import pytest; pytest.importorskip('numba_cuda')", "cannot be used: "),
}


@pytest.mark.parametrize("name", MISSING)
def test_a_gpu_where_there_is_none(name):
    if name == "driver":
        cuda = pytest.importorskip("numba_cuda") and pytest.importorskip("numba.cuda")
        if cuda.is_available():
            pytest.skip("there is a GPU")
    before, words = MISSING[name]
    code = f"""
{before}
import numpy as np, refoptim as optim
p = optim.Parameter(np.ones(3))
optimizer = optim.Adam([p])
data = p.data
for attempt in (p.to, optimizer.to, lambda device: optim.Parameter(np.ones(3), device=device)):
    for device in ("cuda", "cuda:0", "cuda:7"):
        try:
            attempt(device)
        except RuntimeError as error:
            assert str(error).startswith(f"device {{device!r}}") and {words!r} in str(error), error
        else:
            raise AssertionError
assert p.data is data and data.flags.writeable and p.device == "cpu"
optimizer.step(grads=[np.ones(3)])
"""
    run = python(code)
    assert run.returncode == 0, run.stderr


def test_nothing_of_cuda_is_imported_for_the_cpu():
    code = """
import sys
import numpy as np, refoptim as optim
assert "numba" not in sys.modules
p = optim.Parameter(np.ones(3))
q = optim.Parameter(np.ones(3))
for optimizer in (optim.Adam([p]), optim.SGD([q], foreach=True)):
    optimizer.step(grads=[np.ones(3)])
    optimizer.load_state_dict(optimizer.state_dict())
p.grad = np.zeros(3)
p.zero_grad()
assert not {name for name in sys.modules if name.startswith(("numba.cuda.", "numba_cuda", "cupy", "cuda."))}
"""
    run = python(code)
    assert run.returncode == 0, run.stderr


class Exported:
    """An array that says with DLPack where it is, and is nowhere."""

    def __init__(self, kind, dtype=np.float32):
        self.kind, self.dtype, self.shape, self.size = kind, np.dtype(dtype), (2,), 2

    def __dlpack_device__(self):
        return (self.kind, 0)


def test_arrays_of_a_gpu_that_is_not_there():
    cuda = pytest.importorskip("numba_cuda") and pytest.importorskip("numba.cuda")
    if cuda.is_available():
        pytest.skip("there is a GPU")
    for kind in (2, 13):
        with pytest.raises(RuntimeError, match="device 'cuda:0' cannot be used"):
            optim.Parameter(Exported(kind))
        p = optim.Parameter(np.ones(2, np.float32))
        with pytest.raises(RuntimeError, match="device 'cuda:0' cannot be used"):
            p.grad = Exported(kind)
        assert p.grad is None


def test_derivatives_stay_where_they_are():
    numpy = pytest.importorskip("autograd.numpy")
    from autograd import grad

    def build(x):
        with pytest.raises(TypeError, match="which carries derivatives, where it is: omit device"):
            optim.Parameter(x, device="cpu")
        p = optim.Parameter(x)
        assert p.device == "cpu"
        with pytest.raises(TypeError, match="needs an optimizer with differentiable=True"):
            p.to("cpu")
        return numpy.sum(x)

    grad(build)(np.ones(3))
