"""Norms, clipping and averages: the same bits on both devices, however the numbers are cut into parameters."""

from math import inf

import numpy as np
import pytest

import refoptim as optim
from refoptim import devices
from refoptim.swa_utils import AveragedModel, get_ema_multi_avg_fn, get_swa_multi_avg_fn
from refoptim.utils import clip_grad_norm_, clip_grad_value_, clip_grads_with_norm_, get_total_norm

DTYPES = [np.float32, np.float64, np.complex64]
NORMS = [2.0, 1.0, inf, -inf, 0.0, 3.0]


def numbers(size, dtype, seed=0):
    """Return numbers of both signs and very different sizes."""
    rng = np.random.default_rng([seed, size])
    real = np.zeros(0, dtype).real.dtype
    count = size * np.dtype(dtype).itemsize // real.itemsize
    return (rng.standard_normal(count) * 2.0 ** rng.integers(-40, 40, count)).astype(real).view(dtype)


@pytest.fixture
def both(sized):
    """Return parameters with gradients on the CPU and on the GPU, cut at the same odd places."""

    def both(dtype):
        size = sized(1_000_003, 1_100)
        cuts = [1, 4, 4, size // 2 + 1]
        found = []
        for device in ("cpu", "cuda"):
            params = [optim.Parameter(part, device=device) for part in np.split(numbers(size, dtype), cuts)]
            for param, part in zip(params, np.split(numbers(size, dtype, 1), cuts), strict=True):
                param.grad = optim.Parameter(part, device=device).data
            optim.SGD(params)  # which moves them into one buffer
            found.append(params)
        return found

    return both


def gradients_differ(cpu, gpu, differing):
    return [count for one, other in zip(cpu, gpu, strict=True) if (count := differing(one.grad, other.grad))]


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("p", NORMS)
def test_norms(p, dtype, both):
    cpu, gpu = both(dtype)
    one, other = (get_total_norm([param.grad for param in params], p) for params in (cpu, gpu))
    assert type(one) is type(other)
    assert one == other
    assert one > 0


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("p", NORMS)
def test_clipping_by_norm(p, dtype, both, differing):
    cpu, gpu = both(dtype)
    before = devices.to_host(gpu[0].grad)
    limit = 0.25 * get_total_norm([param.grad for param in cpu], p)
    one, other = (clip_grad_norm_(params, limit, p) for params in (cpu, gpu))
    assert one == other
    assert gradients_differ(cpu, gpu, differing) == []
    assert differing(before, gpu[0].grad)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
def test_clipping_by_a_norm_that_is_known(dtype, both, differing):
    cpu, gpu = both(dtype)
    for params in (cpu, gpu):
        clip_grads_with_norm_(params, 1.0, 3.0)
    assert gradients_differ(cpu, gpu, differing) == []


@pytest.mark.parametrize("dtype", DTYPES[:2], ids=lambda dtype: dtype.__name__)
def test_clipping_by_value(dtype, both, differing):
    cpu, gpu = both(dtype)
    for params in (cpu, gpu):
        clip_grad_value_(params, 0.5)
    assert gradients_differ(cpu, gpu, differing) == []
    assert float(np.abs(devices.to_host(gpu[-1].grad)).max()) == 0.5


@pytest.mark.parametrize("arithmetic", [None, "float64"])
@pytest.mark.parametrize("function", [get_ema_multi_avg_fn(0.9), get_swa_multi_avg_fn()], ids=["ema", "swa"])
def test_averages(function, arithmetic, both, differing):
    models = both(np.float32)
    averages = [AveragedModel(params, multi_avg_fn=function, arithmetic=arithmetic) for params in models]
    for step in range(4):
        for params, averaged in zip(models, averages, strict=True):
            for param in params:
                param.data = optim.Parameter(numbers(param.size, np.float32, step), device=param.device).data
            averaged.update_parameters(params)
    for one, other in zip(*(averaged.parameters() for averaged in averages), strict=True):
        assert other.device == "cuda:0"
        assert differing(one.data, other.data) == 0
        assert one.size == 0 or differing(one.data, numbers(one.size, np.float32, 3))
