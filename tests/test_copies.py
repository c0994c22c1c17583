"""Copies of parameters and optimizers: what they share, and what they leave behind."""

import copy
import pickle

import numpy as np
import pytest

import refoptim as optim


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_a_copy_of_one_parameter_leaves_its_neighbours_behind(duplicate):
    params = [optim.Parameter(np.full(1000, float(i))) for i in range(50)]
    optim.Adam(params)
    params[3].grad = np.ones(1000)
    alone = duplicate(params[3])
    assert alone.buffer.theta.size == 1000
    assert alone.data.tobytes() == params[3].data.tobytes()
    assert alone.grad.tobytes() == params[3].grad.tobytes()
    assert len(pickle.dumps(params[3])) < 20_000


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_the_parameters_of_a_copied_optimizer_are_neighbours_again(duplicate):
    params = [optim.Parameter(np.full(3, float(i))) for i in range(5)]
    optimizer = optim.Adam(params)
    optimizer.step(grads=[np.ones(3)] * 5)
    other = duplicate(optimizer)
    assert len(other._layouts[0].slots[0].runs(stateful=True)) == 1
    assert len({id(param.buffer) for param in other.param_groups[0]["params"]}) == 1
    other.step()
    optimizer.step()
    for left, right in zip(params, other.param_groups[0]["params"], strict=True):
        assert left.data.tobytes() == right.data.tobytes()
