"""Arrays of other libraries on a GPU: taken without a detour over the host, and handed out without a copy."""

from importlib.util import find_spec

import numpy as np
import pytest
from numba.core import config

import refoptim as optim
from refoptim import devices
from refoptim.kernels.jit import cuda

SIMULATED = bool(config.ENABLE_CUDASIM)
VALUES = np.arange(12, dtype=np.float32).reshape(3, 4) - 5


def numbas(values):
    return cuda.to_device(values)


def cupys(values):
    return pytest.importorskip("cupy", reason="CuPy is not installed").asarray(values)


def torchs(values):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("torch's CUDA build is not installed")
    return torch.tensor(values, device="cuda")


def jaxs(values):
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    try:
        return jax.device_put(values, jax.devices("gpu")[0])
    except RuntimeError as error:
        pytest.skip(f"JAX has no GPU: {error}")


class DLPackOnly:
    """An array of which nothing is known but DLPack."""

    def __init__(self, array):
        self.dtype, self.shape = array.dtype, tuple(array.shape)
        self.__dlpack__, self.__dlpack_device__ = array.__dlpack__, array.__dlpack_device__


libraries = pytest.mark.parametrize(
    "made",
    [
        pytest.param(numbas, id="numba"),
        *(pytest.param(made, id=made.__name__.removesuffix("s"), marks=pytest.mark.driver) for made in (cupys, torchs)),
        pytest.param(jaxs, id="jax", marks=pytest.mark.driver),
    ],
)


@libraries
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64], ids=lambda dtype: dtype.__name__)
def test_values_are_copied_on_the_device(made, dtype):
    array = made(VALUES.astype(dtype))
    param = optim.Parameter(array, name="w")
    assert param.device == "cuda:0"
    assert (param.shape, param.dtype) == (VALUES.shape, dtype)
    param.grad = array
    assert np.array_equal(devices.to_host(param.grad), VALUES)
    optim.SGD([param], lr=0.5).step()
    assert np.array_equal(np.asarray(param), VALUES / 2)
    assert np.array_equal(np.asarray(optim.Parameter(array)), VALUES)


@libraries
def test_gradients_of_the_wrong_kind_are_refused(made):
    param = optim.Parameter(made(VALUES))
    for wrong, words in [(VALUES.astype(np.float64), "float64"), (VALUES[1:], "shape")]:
        with pytest.raises((TypeError, ValueError, RuntimeError), match=words):
            param.grad = made(wrong.copy())
    assert param.grad is None


@libraries
def test_grads_of_a_step(made):
    params = [optim.Parameter(made(VALUES)), optim.Parameter(made(VALUES[1]))]
    optim.SGD(params, lr=0.5).step(grads=[made(VALUES), None])
    assert np.array_equal(np.asarray(params[0]), VALUES / 2)
    assert np.array_equal(np.asarray(params[1]), VALUES[1])


@pytest.mark.driver
@pytest.mark.parametrize("made", [cupys, torchs, jaxs])
def test_dlpack_is_enough(made):
    array = made(VALUES)
    param = optim.Parameter(DLPackOnly(array), device="cuda")
    param.grad = DLPackOnly(array)
    optim.SGD([param], lr=0.5).step()
    assert np.array_equal(np.asarray(param), VALUES / 2)


def test_data_and_grad_lie_in_the_flat_buffer(address):
    params = [optim.Parameter(VALUES, device="cuda"), optim.Parameter(VALUES[1].copy(), device="cuda")]
    optim.SGD(params)
    buffer = params[0].buffer
    for name, flat in (("data", buffer.theta), ("grad", buffer.grad)):
        for param in params:
            param.grad = param.data
        start = address(flat)
        assert start % 16 == 0
        assert [address(getattr(param, name)) for param in params] == [start, start + VALUES.nbytes]
        assert all(getattr(param, name) is getattr(param, name) for param in params)


def test_the_arrays_are_cupys_if_it_is_there():
    param = optim.Parameter(VALUES, device="cuda")
    expected = "cupy" if find_spec("cupy") and not SIMULATED else "numba"
    assert type(param.data).__module__.partition(".")[0].removesuffix("_cuda") == expected


def seen_by_cupy(array):
    seen = pytest.importorskip("cupy", reason="CuPy is not installed").asarray(array)
    return seen, seen.data.ptr


def seen_by_torch(array):
    torchs(VALUES)
    seen = pytest.importorskip("torch").as_tensor(array, device="cuda")
    return seen, seen.data_ptr()


def seen_by_torch_as_dlpack(array):
    torchs(VALUES)
    if not hasattr(array, "__dlpack__"):
        pytest.skip("Numba's arrays have no DLPack; CuPy is not installed")
    seen = pytest.importorskip("torch").from_dlpack(array)
    return seen, seen.data_ptr()


def seen_by_numba(array):
    seen = cuda.as_cuda_array(array)
    return seen, seen.device_ctypes_pointer.value


@pytest.mark.driver
@pytest.mark.filterwarnings("ignore:Grid size")  # of Numba's own kernel, which assigns below
@pytest.mark.parametrize("look", [seen_by_numba, seen_by_cupy, seen_by_torch, seen_by_torch_as_dlpack])
def test_other_libraries_see_and_change_the_same_memory(look, address):
    params = [optim.Parameter(VALUES[:1].copy(), device="cuda"), optim.Parameter(VALUES, device="cuda")]
    optimizer = optim.SGD(params, lr=1.0)
    params[1].grad = params[1].data
    data, grad = params[1].data, params[1].grad
    seen, pointer = look(grad)
    assert pointer == address(grad)
    assert look(data)[1] == address(data)
    seen[:] = look(numbas(np.ones_like(VALUES)))[0]
    optimizer.step()
    assert np.array_equal(np.asarray(params[1]), VALUES - 1)
    assert params[1].data is data


@pytest.mark.driver
def test_jax_sees_the_same_memory(address):
    jaxs(VALUES)
    param = optim.Parameter(VALUES, device="cuda")
    if not hasattr(param.data, "__dlpack__"):
        pytest.skip("Numba's arrays have no DLPack; CuPy is not installed")
    seen = pytest.importorskip("jax").dlpack.from_dlpack(param.data)
    assert seen.unsafe_buffer_pointer() == address(param.data)
    assert np.array_equal(np.asarray(seen), VALUES)


@pytest.mark.driver
def test_a_tensor_that_wants_a_gradient_is_kept_as_it_is():
    tensor = torchs(VALUES).requires_grad_()
    assert optim.Parameter(tensor).data is tensor
    with pytest.raises(TypeError, match="differentiable=True"):
        optim.SGD([optim.Parameter(tensor)])
