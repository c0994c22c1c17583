"""Clipping and averages on a GPU: the CPU's bits under Numba's simulator.

The simulator is chosen when Numba is imported, so this file runs itself in a second process. Each scenario raises if
something is wrong there.
"""

import pickle
from copy import deepcopy

import numpy as np
import pytest

import refoptim as optim
from refoptim import utils
from refoptim.kernels.jit import cuda
from refoptim.swa_utils import AveragedModel, get_ema_avg_fn, get_ema_multi_avg_fn, get_swa_multi_avg_fn, update_bn

if __name__ == "__main__":
    # Only a program finds its neighbours.
    from simulated import SHAPES, bits, on_host, params, run_all, set_grads


def clipping_by_norm():
    for dtype in (np.float32, np.float64, np.complex64):
        for p in (2, 1, 0, np.inf, -np.inf, 3):
            there, here = params("cuda", dtype), params("cpu", dtype)
            for some in (there, here):
                optim.SGD(some[:2], lr=0.1)  # neighbours, and one on its own
                set_grads(some)
            norms = [utils.clip_grad_norm_(some, 0.5, p) for some in (there, here)]
            assert bits(norms) == bits([norms[1]] * 2), (dtype, p)
            assert norms[0].dtype == norms[1].dtype
            assert bits([param.grad for param in there]) == bits([param.grad for param in here]), (dtype, p)


def clipping_by_value():
    for dtype in (np.float32, np.float64):
        there, here = params("cuda", dtype), params("cpu", dtype)
        for some in (there, here):
            set_grads(some)
            utils.clip_grad_value_(some, 0.3)
        assert bits([param.grad for param in there]) == bits([param.grad for param in here])
        assert max(abs(on_host(param.grad)).max() for param in there) == dtype(0.3)


def clipping_with_a_norm_that_is_known():
    there, here = params("cuda"), params("cpu")
    mixed = [there[0], here[1]]
    for some in (there, here):
        set_grads(some)
    whole = utils.get_total_norm([param.grad for param in here[:2]])
    assert utils.get_total_norm([param.grad for param in there[:2]]) == whole
    assert utils.get_total_norm([param.grad for param in mixed]) == whole  # of two devices
    columns = cuda.to_device(np.arange(12.0).reshape(3, 4))[:, ::2]
    assert utils.get_total_norm(columns) == utils.get_total_norm(np.arange(12.0).reshape(3, 4)[:, ::2])
    utils.clip_grads_with_norm_(there, 1.0, whole)
    utils.clip_grads_with_norm_(here, 1.0, whole)
    assert bits([param.grad for param in there]) == bits([param.grad for param in here])
    there[0].grad = there[0].place.uploaded(np.full(SHAPES[0], np.nan))
    with pytest.raises(RuntimeError, match="non-finite"):
        utils.clip_grad_norm_(there, 1.0, error_if_nonfinite=True)


def sparse_gradients_are_clipped():
    found = []
    for device in ("cpu", "cuda"):
        (param,) = params(device, shapes=[(6, 2)])
        values = param.place.uploaded(np.arange(6.0).reshape(3, 2))
        param.grad = optim.SparseGrad([4, 0, 4], values, param.shape)
        norm = utils.clip_grad_norm_(param, 1.0)
        found.append((norm, on_host(param.grad.to_dense()).tobytes()))
    assert found[0] == found[1]


def averaged(where, dtype, **options):
    model = params(where, dtype)
    average = AveragedModel(model, **options)
    for seed in range(3):
        optimizer = optim.SGD(model, lr=0.1)
        set_grads(model, seed)
        optimizer.step()
        average.update_parameters(model)
    return model, average


AVERAGES = [{}, {"multi_avg_fn": get_ema_multi_avg_fn(0.9)}, {"avg_fn": get_ema_avg_fn(0.3)}]
AVERAGES += [{"multi_avg_fn": get_swa_multi_avg_fn(), "arithmetic": "float64"}]


def averages():
    for options in AVERAGES:
        for dtype in (np.float32, np.complex64):
            model, there = averaged("cuda", dtype, **options)
            _, here = averaged("cpu", dtype, **options)
            assert bits(there.state_dict()) == bits(here.state_dict()), (options, dtype)
            assert {param.device for param in there.parameters()} == {"cuda:0"}
            assert all(isinstance(v, np.ndarray) for name, v in there.state_dict().items() if name != "n_averaged")
            copies = [deepcopy(there), pickle.loads(pickle.dumps(there)), here]
            for average in (there, *copies):
                average.update_parameters(model)
            assert [bits(copy.state_dict()) for copy in copies] == [bits(there.state_dict())] * 3


def averages_elsewhere_than_the_model():
    for where, model in (("cuda", "cpu"), ("cpu", "cuda")):
        _, apart = averaged(model, np.float64, device=where)
        _, together = averaged(model, np.float64)
        assert {param.place.name.partition(":")[0] for param in apart.parameters()} == {where}
        assert bits(apart.state_dict()) == bits(together.state_dict())
        _, other = averaged(where, np.float64)
        other.load_state_dict(together.state_dict())
        assert bits(other.state_dict()) == bits(together.state_dict())


def averages_by_a_function_of_the_users():
    def halfway(average, current, _):
        # What there is without CuPy has no arithmetic.
        place = optim.devices.device_of(average)
        return place.uploaded((on_host(average) + on_host(current)) / 2)

    _, there = averaged("cuda", np.float32, avg_fn=halfway)
    _, here = averaged("cpu", np.float32, avg_fn=halfway)
    assert bits(there.state_dict()) == bits(here.state_dict())


class Net:
    """A model with a layer of batch normalization whose statistics lie on a device."""

    def __init__(self, device):
        self.training, self.momentum, self.seen = False, 0.1, []
        self.device = optim.devices.device(device)
        self.running_mean = self.device.uploaded(np.arange(3.0))
        self.running_var = self.device.uploaded(np.ones(3))
        self.weight = params(device, shapes=[(3,)])[0]

    def parameters(self):
        return [self.weight]

    def buffers(self):
        return [self.running_mean, self.running_var]

    def reset_running_stats(self):
        self.device.fill(self.running_mean, 0)

    def __call__(self, x):
        self.seen.append(optim.devices.device_of(x).name)
        if len(self.seen) > 1:
            raise ArithmeticError
        self.device.copy(self.running_mean, on_host(x).mean(axis=0))


def statistics_of_batch_normalization():
    net, batch = Net("cuda"), np.arange(6.0).reshape(2, 3)
    average = AveragedModel([net.weight])
    assert average.n_averaged == 0
    update_bn([batch], net, device="cuda")
    assert net.seen == ["cuda:0"]
    assert on_host(net.running_mean).tolist() == [1.5, 2.5, 3.5]
    with pytest.raises(ArithmeticError):  # in the second call
        update_bn([batch], net)
    assert on_host(net.running_mean).tolist() == [1.5, 2.5, 3.5]


def swapping_in_other_parameters():
    found = []
    for device in ("cpu", "cuda"):
        own, other = params(device), params(device, seed=8)
        optimizer = optim.Adam(own, lr=0.1)
        set_grads(own)
        optimizer.step()
        state = optimizer.state_dict()
        with optim.swap_in_optimizer_params_and_state(optimizer, {str(i): p for i, p in enumerate(other)}, state):
            set_grads(other)
            optimizer.step()
        optimizer.step()
        found.append(bits([own, other, state["state"]]))
    assert found[0] == found[1]


SCENARIOS = [
    clipping_by_norm,
    clipping_by_value,
    clipping_with_a_norm_that_is_known,
    sparse_gradients_are_clipped,
    averages,
    averages_elsewhere_than_the_model,
    averages_by_a_function_of_the_users,
    statistics_of_batch_normalization,
    swapping_in_other_parameters,
]


@pytest.mark.parametrize("scenario", [scenario.__name__ for scenario in SCENARIOS])
def test_in_the_simulator(simulation, scenario):
    assert not simulation[scenario], simulation[scenario]


if __name__ == "__main__":
    run_all(SCENARIOS)
