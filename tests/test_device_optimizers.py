"""Optimizers of parameters on a GPU, under Numba's simulator: the bits of the CPU, whatever lies where and moves when.

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
from refoptim import kernels
from refoptim.gpu import Gpu

# Each with options that need state, and in some cases state that does not start with zeros.
OPTIMIZERS = {
    "SGD": lambda params: optim.SGD(params, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "Adam": lambda params: optim.Adam(params, lr=0.1, amsgrad=True),
    "AdamW": lambda params: optim.AdamW(params, lr=0.1),
    "Adagrad": lambda params: optim.Adagrad(params, lr=0.1, initial_accumulator_value=0.5),
    "Rprop": lambda params: optim.Rprop(params, lr=0.1),
    "RMSprop": lambda params: optim.RMSprop(params, lr=0.1, centered=True, momentum=0.5),
    "NAdam": lambda params: optim.NAdam(params, lr=0.1),
    "ASGD": lambda params: optim.ASGD(params, lr=0.1),
    "wide": lambda params: optim.Adam(params, lr=0.1, arithmetic="float64"),
}
SHAPES = [(3,), (), (2, 2), (0,), (1, 3)]
REAL = {}  # of numba.cuda's functions, those that a scenario replaces


def on_gpu(values, dtype=None):
    """Return values as an array of numba.cuda's."""
    from numba import cuda

    return cuda.to_device(np.asarray(values, dtype))


def numbers(shape, dtype, seed):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape) + (1j * rng.standard_normal(shape) if np.dtype(dtype).kind == "c" else 0)
    return np.asarray(values, dtype)


def made(device, dtype=np.float32, shapes=SHAPES):
    """Return parameters on a device, or on one device each."""
    where = [device] * len(shapes) if isinstance(device, str) else device
    values = [numbers(shape, dtype, seed) for seed, shape in enumerate(shapes)]
    return [optim.Parameter(array, device=name) for array, name in zip(values, where, strict=True)]


def gradients(params, step, missing=()):
    found = []
    for number, param in enumerate(params):
        host = numbers(param.shape, param.dtype, 100 * step + number)
        given = host if param.device == "cpu" else on_gpu(host)
        found.append(None if number in missing else given)
    return found


def bits(optimizer):
    """Return parameters and state as bytes."""
    params = [param for group in optimizer.param_groups for param in group["params"]]
    state = optimizer.state_dict()["state"]
    arrays = [np.asarray(param).tobytes() for param in params]
    return arrays, {n: {k: v.tobytes() if hasattr(v, "tobytes") else v for k, v in e.items()} for n, e in state.items()}


def steps(optimizer, numbers_of_steps, missing=lambda _: ()):
    params = [param for group in optimizer.param_groups for param in group["params"]]
    for step in numbers_of_steps:
        optimizer.step(grads=gradients(params, step, missing(step)))
        optimizer.zero_grad()
    return optimizer


def the_bits_of_the_cpu():
    for name, build in OPTIMIZERS.items():
        for dtype in (np.float32, np.complex128) if name in ("Adam", "SGD") else (np.float32,):
            ours, cpu = (steps(build(made(device, dtype)), range(3)) for device in ("cuda", "cpu"))
            assert bits(ours) == bits(cpu), (name, dtype)
            assert ours._layouts[0].slots[0].ready, "a step that goes on as the last one did plans nothing"


def gradients_that_are_missing():
    def missing(step):
        return [(), (0, 2), (1,), range(5), (3, 4)][step]

    for name in ("Adam", "Rprop"):
        ours, cpu = (steps(OPTIMIZERS[name](made(device)), range(5), missing) for device in ("cuda", "cpu"))
        assert bits(ours) == bits(cpu), name


def devices_mixed_in_one_group():
    where = ["cuda", "cpu", "cuda", "cuda", "cpu"]
    for name, build in OPTIMIZERS.items():
        ours, cpu = (steps(build(made(device)), range(2)) for device in (where, "cpu"))
        assert bits(ours) == bits(cpu), name
        assert [p.device.partition(":")[0] for p in ours.param_groups[0]["params"]] == where


def devices_mixed_by_group():
    built = []
    for where in ("cuda", "cpu"):
        groups = [{"params": made(where), "lr": 0.2}, {"params": made("cpu")}]
        built.append(steps(optim.Adam(groups, lr=0.1), range(3)))
    assert bits(built[0]) == bits(built[1])
    assert len({id(param.buffer) for param in built[0].param_groups[0]["params"]}) == 1


def moved_between_steps():
    for name in ("Adam", "Rprop", "NAdam"):
        cpu = steps(OPTIMIZERS[name](made("cpu")), range(6))
        ours = OPTIMIZERS[name](made("cpu"))
        params = list(ours.param_groups[0]["params"])
        for start, device in enumerate(["cpu", "cuda", "cuda:0", "cpu", "cuda", "cpu"]):
            options = {key: value for key, value in ours.param_groups[0].items() if key != "params"}
            assert ours.to(device) is ours
            assert {key: value for key, value in ours.param_groups[0].items() if key != "params"} == options
            assert [id(param) for param in ours.param_groups[0]["params"]] == list(map(id, params))
            assert {param.device.partition(":")[0] for param in params} == {device.partition(":")[0]}
            steps(ours, [start])
        assert bits(ours) == bits(cpu), name


def moved_with_gradients():
    optimizer = optim.SGD(made("cpu"), lr=0.1)
    params = optimizer.param_groups[0]["params"]
    for param, grad in zip(params, gradients(params, 0, (1,)), strict=True):
        param.grad = grad
    optimizer.to("cuda")
    assert [param.grad is None for param in params] == [False, True, False, False, False]
    optimizer.step()
    cpu = optim.SGD(made("cpu"), lr=0.1)
    cpu.step(grads=gradients(cpu.param_groups[0]["params"], 0, (1,)))
    assert bits(optimizer) == bits(cpu)


def state_follows_parameters():
    for moved in (range(5), [0], [2, 3]):
        cpu, ours = steps(optim.Adam(made("cpu")), range(4)), steps(optim.Adam(made("cpu")), range(2))
        ours.state[ours.param_groups[0]["params"][2]]["mine"] = "kept"
        for number in moved:
            ours.param_groups[0]["params"][number].to("cuda")
        steps(ours, range(2, 4))
        assert ours.state[ours.param_groups[0]["params"][2]].pop("mine") == "kept"
        on_the_gpu = {id(ours.param_groups[0]["params"][number].buffer) for number in moved}
        assert len(on_the_gpu) == 1, "neighbours again"
        assert bits(ours) == bits(cpu), moved


def state_as_arrays_of_the_device():
    optimizer = steps(optim.Adam(made("cuda")), range(2))
    param = optimizer.param_groups[0]["params"][2]
    state = optimizer.state[param]
    assert type(state["exp_avg"]) is type(param.data)
    for given in (np.full((2, 2), 3.0), on_gpu(np.full((2, 2), 3.0, np.float32))):
        state["exp_avg"] = given
        assert (state["exp_avg"].copy_to_host() == 3).all()
        state["exp_avg"] = np.zeros((2, 2))
    with pytest.raises(ValueError, match="shape"):
        state["exp_avg"] = on_gpu(np.zeros(4))
    optimizer.state[param] = dict(state)
    saved = optimizer.state_dict()["state"]
    assert all(isinstance(entry["exp_avg"], np.ndarray) for entry in saved.values())
    live = optimizer.state_dict(copy=False)["state"]
    assert all(type(entry["exp_avg"]) is type(param.data) for entry in live.values())
    live[2]["exp_avg"].copy_to_device(np.full((2, 2), 5, np.float32))
    assert (state["exp_avg"].copy_to_host() == 5).all()
    optimizer.load_state_dict(optimizer.state_dict(copy=False))
    assert (optimizer.state_dict()["state"][2]["exp_avg"] == 5).all()
    for value, device in enumerate(["cpu", "cuda"]):
        optimizer.to(device).state_dict(copy=False)["state"][2]["exp_avg"][...] = value
        assert (optimizer.state_dict()["state"][2]["exp_avg"] == value).all()
    state = optimizer.state[param]
    state.clear()
    assert not len(state)
    assert 2 not in optimizer.state_dict()["state"]
    assert not optimizer._layouts[0].slots[0].state.view("exp_avg", 2).copy_to_host().any()


def checkpoints_go_on_elsewhere():
    for name, build in OPTIMIZERS.items():
        for here, there in [("cuda", "cpu"), ("cpu", "cuda"), ("cuda", "cuda")]:
            straight = steps(build(made(here)), range(4))
            first = steps(build(made(here)), range(2))
            values = [np.array(param) for param in first.param_groups[0]["params"]]
            second = build([optim.Parameter(array, device=there) for array in values])
            second.load_state_dict(pickle.loads(pickle.dumps(first.state_dict())))
            assert bits(steps(second, range(2, 4))) == bits(straight), (name, here, there)


def copied():
    optimizer = steps(optim.Rprop(made("cuda")), range(2))
    for duplicate in (copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))):
        other = duplicate(optimizer)
        params = other.param_groups[0]["params"]
        assert {param.device for param in params} == {"cuda:0"}
        assert len({id(param.buffer) for param in params}) == 1
        assert bits(steps(other, [2])) == bits(steps(duplicate(optimizer), [2]))
        assert bits(other) == bits(steps(optim.Rprop(made("cpu")), range(3)))


def gradients_in_the_flat_gradient():
    built = []
    for device in ("cuda", "cpu"):
        optimizer = optim.SGD(made(device, shapes=[(3,)] * 3), lr=0.1)
        params = optimizer.param_groups[0]["params"]
        for param, grad in zip(params, gradients(params, 0), strict=True):
            param.grad = grad
        optimizer.step(grads=[params[2].grad, params[0].grad, params[1].grad])
        built.append(bits(optimizer))
    assert built[0] == built[1]


def gradients_of_another_device():
    optimizer = optim.SGD(made("cuda", shapes=[(3,), (3,)]), lr=0.1)
    before = bits(optimizer)
    with pytest.raises(TypeError, match="is on cpu, but the parameter is on cuda:0"):
        optimizer.step(grads=[on_gpu(np.ones(3, np.float32)), np.ones(3, np.float32)])
    assert bits(optimizer) == before
    assert [param.grad for param in optimizer.param_groups[0]["params"]] == [None, None]


def streams():
    from numba import cuda

    seen = []
    for stream in (cuda.stream(), cuda.default_stream(), 0):
        optimizer = optim.Adam(made("cuda"))
        params = optimizer.param_groups[0]["params"]
        optimizer.register_step_post_hook(lambda *_: seen.append(kernels.jit.current_stream()))
        launch = optimizer._layouts[0].plan
        optimizer._layouts[0].plan = lambda *a, launch=launch: seen.append(kernels.jit.current_stream()) or launch(*a)
        optimizer.step(grads=gradients(params, 0), stream=stream)
        assert seen == [stream, 0]
        seen.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Gpu, "fill", lambda *_: seen.append(kernels.jit.current_stream()))
            optimizer.zero_grad(False, stream=stream)
        assert set(seen) == {stream}
        seen.clear()
    elsewhere = optim.Parameter(np.ones(3), device=Gpu(3))
    with pytest.raises(ValueError, match="one GPU, but there are parameters on cuda:0 and cuda:3"):
        optim.SGD([*made("cuda"), elsewhere]).step(stream=cuda.stream())
    with pytest.raises(TypeError, match=r"stream must be numba\.cuda's, CuPy's"):
        optimizer.step(stream="fast")
    assert kernels.jit.current_stream() == 0


def formulas(monkeypatch):
    for options in ({"foreach": True}, {"foreach": False}, {"fused": False}):
        optimizer = optim.Adam(made("cuda"), **options)
        before = bits(optimizer)
        with pytest.raises(RuntimeError, match="compute with CuPy on cuda:0, and it is not installed"):
            optimizer.step(grads=gradients(optimizer.param_groups[0]["params"], 0))
        assert bits(optimizer) == before
    # What CuPy would be handed: the simulator's memory is NumPy's.
    monkeypatch.setattr(Gpu, "check_formulas", lambda _: None)
    monkeypatch.setattr(Gpu, "formulas_array", lambda _, array: array._ary)
    for options in ({"foreach": True}, {"foreach": False}):
        ours, cpu = (steps(optim.Adam(made(device), **options), range(2)) for device in ("cuda", "cpu"))
        assert bits(ours) == bits(cpu)


def derivatives():
    params = made("cuda")
    with pytest.raises(RuntimeError, match="is on cuda:0, where arrays carry no derivatives"):
        optim.SGD(params, differentiable=True)
    optimizer = optim.SGD(params)
    before = [param.data for param in params]
    optimizer.param_groups[0]["differentiable"] = True
    with pytest.raises(RuntimeError, match="is on cuda:0, where arrays carry no derivatives"):
        optimizer.step(grads=gradients(params, 0))
    assert all(param.data is array for param, array in zip(params, before, strict=True))
    optimizer = optim.SGD(made("cpu"), differentiable=True)
    with pytest.raises(RuntimeError, match="differentiable=True computes where"):
        optimizer.to("cuda")


def launches_that_fail(monkeypatch):
    optimizer = optim.Adam([{"params": made("cuda")}, {"params": made("cpu")}, {"params": made("cuda")}])
    params = [param for group in optimizer.param_groups for param in group["params"]]
    real, calls = kernels.adam.adam_gpu.launch, iter([True, False])

    def launch(*arguments):
        if not next(calls):
            raise RuntimeError("the CUDA kernel adam_gpu was not launched")
        real(*arguments)

    monkeypatch.setattr(kernels.adam.adam_gpu, "launch", launch)
    with pytest.raises(RuntimeError, match="was not launched") as caught:
        optimizer.step(grads=gradients(params, 0))
    assert caught.value.__notes__ == ["The step has done and counted 4 of its 6 parts; the others not."]
    assert [optimizer.state[param].get("step", 0) for param in params] == [1] * 10 + [0] * 5


def room_for(count, monkeypatch):
    """Let this many arrays be allocated, and no more."""
    from numba import cuda

    left, real = iter(range(count)), REAL.setdefault("device_array", cuda.device_array)

    def device_array(*arguments, **options):
        if next(left, None) is None:
            raise RuntimeError("[2] Call to cuMemAlloc results in CUDA_ERROR_OUT_OF_MEMORY")
        return real(*arguments, **options)

    monkeypatch.setattr(cuda, "device_array", device_array)


def out_of_memory_when_moving(monkeypatch):
    groups = [{"params": made("cpu")}, {"params": made("cpu", np.float64)}]
    optimizer = steps(optim.Adam(groups), range(2))
    params = [param for group in optimizer.param_groups for param in group["params"]]
    before, arrays = bits(optimizer), [param.data for param in params]
    for count in range(8):  # two buffers of two arrays, two arrays of state for each
        room_for(count, monkeypatch)
        with pytest.raises(MemoryError, match="cuda:0 has no room"):
            optimizer.to("cuda")
        assert bits(optimizer) == before
        assert all(param.data is array and array.flags.writeable for param, array in zip(params, arrays, strict=True))
    room_for(8, monkeypatch)
    optimizer.to("cuda")
    assert bits(optimizer) == before


def out_of_memory_when_building(monkeypatch):
    for count in range(4):
        params = made("cuda") + made("cuda", np.float64)
        before = [param.data for param in params]
        room_for(count, monkeypatch)
        with pytest.raises(MemoryError, match="cuda:0 has no room"):
            optim.Adam([{"params": params[:5]}, {"params": params[5:]}])
        assert all(param.data is array for param, array in zip(params, before, strict=True))
        room_for(100, monkeypatch)


def out_of_memory_in_the_first_step(monkeypatch):
    optimizer = optim.Adam(made("cuda"))
    given = gradients(optimizer.param_groups[0]["params"], 0)
    before = bits(optimizer)
    for count in range(2):
        room_for(count, monkeypatch)
        with pytest.raises(MemoryError, match="cuda:0 has no room"):
            optimizer.step(grads=given)
        room_for(100, monkeypatch)
        assert bits(optimizer) == before
    optimizer.step(grads=given)
    assert bits(optimizer) == bits(steps(optim.Adam(made("cpu")), range(1)))


SCENARIOS = [
    the_bits_of_the_cpu,
    gradients_that_are_missing,
    devices_mixed_in_one_group,
    devices_mixed_by_group,
    moved_between_steps,
    moved_with_gradients,
    state_follows_parameters,
    state_as_arrays_of_the_device,
    checkpoints_go_on_elsewhere,
    copied,
    gradients_in_the_flat_gradient,
    gradients_of_another_device,
    streams,
    formulas,
    derivatives,
    launches_that_fail,
    out_of_memory_when_moving,
    out_of_memory_when_building,
    out_of_memory_in_the_first_step,
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
