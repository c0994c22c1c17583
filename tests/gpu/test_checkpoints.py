"""Runs that change devices on the way, or use both at once, are the run that stays where it is, to the bit."""

import pickle
from copy import deepcopy

import numpy as np
import pytest
from numba.core import config

import refoptim as optim
from refoptim.swa_utils import AveragedModel

CASES = {
    "sgd": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "adamw": (optim.AdamW, {"lr": 0.01, "amsgrad": True}),
    "nadam": (optim.NAdam, {"lr": 0.01}),
    "asgd": (optim.ASGD, {"lr": 0.1, "t0": 2}),
    "rprop": (optim.Rprop, {"lr": 0.01}),
    "adafactor": (optim.Adafactor, {"lr": 0.01}),
    "muon": (optim.Muon, {"lr": 0.01}),
}
SHAPES = [(5, 3), (4, 7)]
STEPS = 3
if config.ENABLE_CUDASIM:
    # For a matrix, hundreds of the system's threads would meet thousands of times.
    del CASES["adafactor"], CASES["muon"]

cases = pytest.mark.parametrize("name", CASES)


def build(name, devices=("cpu", "cpu")):
    kind, options = CASES[name]
    rng = np.random.default_rng(4)
    values = [rng.standard_normal(shape).astype(np.float32) for shape in SHAPES]
    return kind([optim.Parameter(value, device=device) for value, device in zip(values, devices)], **options)


def walk(optimizer, first, steps=STEPS):
    """Take some steps, beginning with the gradients of this one."""
    for step in range(first, first + steps):
        rng = np.random.default_rng([6, step])
        for param in optimizer.param_groups[0]["params"]:
            gradient = rng.standard_normal(param.shape).astype(np.float32)
            param.grad = optim.Parameter(gradient, device=param.device).data
        optimizer.step()
    return optimizer


def stayed(name, steps):
    return walk(build(name), 0, steps)


def places(optimizer):
    return [param.device for param in optimizer.param_groups[0]["params"]]


@cases
def test_a_checkpoint_goes_there_and_back(name, differences):
    optimizer = walk(build(name), 0)
    for part, device in enumerate(["cuda", "cpu"], start=1):
        saved = pickle.loads(pickle.dumps(optimizer.state_dict()))
        values = [optim.Parameter(np.asarray(param)).data for param in optimizer.param_groups[0]["params"]]
        optimizer = build(name, (device, device))
        for param, value in zip(optimizer.param_groups[0]["params"], values, strict=True):
            param.data = optim.Parameter(value, device=device).data
        optimizer.load_state_dict(saved)
        walk(optimizer, part * STEPS)
    assert places(optimizer) == ["cpu", "cpu"]
    assert differences(stayed(name, 3 * STEPS), optimizer) == {}


@cases
def test_an_optimizer_moves_there_and_back(name, differences):
    optimizer = walk(build(name), 0)
    for part, device in enumerate(["cuda", "cpu"], start=1):
        optimizer.to(device)
        assert {place.partition(":")[0] for place in places(optimizer)} == {device}
        walk(optimizer, part * STEPS)
    assert differences(stayed(name, 3 * STEPS), optimizer) == {}


@cases
def test_both_devices_in_one_optimizer(name, differences):
    optimizer = walk(build(name, ("cuda", "cpu")), 0)
    assert places(optimizer) == ["cuda:0", "cpu"]
    assert differences(stayed(name, STEPS), optimizer) == {}


@cases
@pytest.mark.parametrize("copied", [deepcopy, lambda optimizer: pickle.loads(pickle.dumps(optimizer))])
def test_a_copy_goes_on_alone(name, copied, differences):
    optimizer = walk(build(name, ("cuda", "cuda")), 0)
    other = walk(copied(optimizer), STEPS)
    assert places(other) == ["cuda:0", "cuda:0"]
    assert differences(stayed(name, STEPS), optimizer) == {}
    assert differences(stayed(name, 2 * STEPS), other) == {}


def test_state_is_the_hosts_in_a_checkpoint_and_the_devices_elsewhere():
    optimizer = walk(build("adamw", ("cuda", "cuda")), 0)
    (param, _) = optimizer.param_groups[0]["params"]
    entry = optimizer.state[param]
    assert type(entry["exp_avg"]) is type(param.data)
    assert not isinstance(entry["exp_avg"], np.ndarray)
    saved = optimizer.state_dict()["state"][0]
    assert all(type(saved[name]) is np.ndarray for name in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"))


def test_averages_on_a_gpu_are_saved_and_loaded(differing):
    params = [optim.Parameter(np.arange(6.0), device="cuda"), optim.Parameter(np.ones((2, 3)), device="cuda")]
    averaged = AveragedModel(params)
    averaged.update_parameters(params)
    params[0].data = optim.Parameter(np.arange(6.0, 0, -1), device="cuda").data
    averaged.update_parameters(params)
    other = AveragedModel([optim.Parameter(np.zeros(6)), optim.Parameter(np.zeros((2, 3)))])
    other.load_state_dict(averaged.state_dict())
    for one, two in zip(averaged.parameters(), other.parameters(), strict=True):
        assert differing(one.data, two.data) == 0
