"""Many short parameters whose kernel takes shapes: stepped in one launch, with the bits of one after the other."""

from typing import NamedTuple

import ml_dtypes
import numpy as np
import pytest

import refoptim as optim
from refoptim import half_together
from refoptim.kernels import adafactor, jit, muon


class Kind(NamedTuple):
    """An optimizer, its kernels' file, what to step, and options that change all there is to change."""

    optimizer: type[optim.Optimizer]
    file: object
    shapes: list
    options: dict


MATRICES = [(1, 1), (2, 3), (7, 1), (1, 9), (40, 70), (65, 33), (130, 5), (64, 64), (5, 300)]
KINDS = {
    "adafactor": Kind(
        optim.Adafactor,
        adafactor,
        [*MATRICES, (), (1,), (17,), (5000,), (3, 4, 5), (2, 1, 70, 4), (0,), (0, 4), (4, 0), (5000, 2)],
        {"lr": 0.1, "weight_decay": 0.1, "maximize": True, "eps": (0.01, 0.5), "d": 1.5},
    ),
    "muon": Kind(
        optim.Muon,
        muon,
        MATRICES,
        {"lr": 0.1, "weight_decay": 0.3, "nesterov": False, "ns_steps": 2, "adjust_lr_fn": "match_rms_adamw"},
    ),
}
PRECISIONS = {
    "float32": (np.float32, {}),
    "float64": (np.float64, {}),
    "wide": (np.float32, {"arithmetic": "float64"}),
    "bfloat16": (ml_dtypes.bfloat16, {}),
    "float16 wide": (np.float16, {"arithmetic": "float64"}),
    "bfloat16 master": (ml_dtypes.bfloat16, {"master_weights": True}),
    "bfloat16 stochastic": (ml_dtypes.bfloat16, {"rounding": "stochastic", "seed": 7}),
    "float16 stochastic": (np.float16, {"rounding": "stochastic", "seed": 8}),
}


def steps(kind, precision, options, scale):
    """Return all values and all state after steps that not every parameter has a part in."""
    dtype, precisely = PRECISIONS[precision]
    rng = np.random.default_rng(3)
    params = [optim.Parameter(rng.standard_normal(shape).astype(dtype)) for shape in kind.shapes]
    optimizer = kind.optimizer(params, **precisely, **options)
    for step in range(5):
        grads = [(rng.standard_normal(param.shape) * scale).astype(dtype) for param in params]
        if step == 2:
            grads[3] = grads[6] = None
        if step == 3:
            grads[4][...] = 0
        optimizer.step(grads=grads)
    arrays = [value for param in params for value in (param.data, *optimizer.state[param].values())]
    return [np.asarray(array, np.float64) for array in arrays]  # NaN of bfloat16 is not NaN to NumPy


@pytest.fixture
def threads():
    before = optim.get_num_threads()
    yield optim.set_num_threads
    optim.set_num_threads(before)


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e-170, 1e30, 1e170, np.inf, np.nan, 0.0])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", KINDS)
def test_bits_are_those_of_one_after_the_other(monkeypatch, threads, name, precision, scale):
    kind = KINDS[name]
    for options in ({}, kind.options):
        with np.errstate(all="ignore"):
            together = steps(kind, precision, options, scale)
            with monkeypatch.context() as patch:
                patch.setattr(jit, "SERIAL_BELOW", 0)
                patch.setattr(half_together, "SHARE", 7000)
                threads(3)
                shared = steps(kind, precision, options, scale)
                patch.setattr(kind.file, "SHORT", 0)
                alone = steps(kind, precision, options, scale)
        for found, other, expected in zip(together, shared, alone, strict=True):
            np.testing.assert_array_equal(found, expected)  # for which NaN is NaN, whatever its bits are
            np.testing.assert_array_equal(other, expected)


def counted(monkeypatch, file, name):
    """Return a list that gets the number of elements of each launch."""
    found, launch = [], getattr(file, name)

    def counting(*arguments, **typed):
        found.append(arguments[-2].elements)
        launch(*arguments, **typed)

    monkeypatch.setattr(file, name, counting)
    return found


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16 stochastic"])
@pytest.mark.parametrize("name", KINDS)
def test_a_thousand_are_one_launch(monkeypatch, name, precision):
    kind = KINDS[name]
    launches = counted(monkeypatch, kind.file, f"{name}_together")
    monkeypatch.setattr(kind.file, name, None)  # what steps one
    dtype, precisely = PRECISIONS[precision]
    params = [optim.Parameter(np.ones((2, 3), dtype)) for _ in range(1000)]
    optimizer = kind.optimizer(params, **precisely)
    for _ in range(3):
        optimizer.step(grads=[param.data for param in params])
    assert launches == [6000] * 3
    (slots,) = optimizer._layouts[0].slots
    assert len(slots.ready.launches) == 1


@pytest.mark.parametrize("name", KINDS)
def test_long_ones_are_stepped_by_themselves(monkeypatch, name):
    kind = KINDS[name]
    launches, alone, step = counted(monkeypatch, kind.file, f"{name}_together"), [], getattr(kind.file, name)

    def stepping(theta, *others):
        alone.append(theta.shape)
        step(theta, *others)

    monkeypatch.setattr(kind.file, name, stepping)
    monkeypatch.setattr(kind.file, "SHORT", 7)
    params = [optim.Parameter(np.ones(shape)) for shape in ((2, 3), (1, 7), (6, 1), (4, 2))]
    kind.optimizer(params).step(grads=[param.data for param in params])
    assert launches == [12]
    assert alone == [(1, 7), (4, 2)]


@pytest.mark.parametrize("precision", ["float64", "bfloat16 master", "bfloat16 stochastic"])
@pytest.mark.parametrize("name", KINDS)
def test_a_step_that_goes_on_is_as_one_that_is_planned_anew(name, precision):
    kind, (dtype, precisely) = KINDS[name], PRECISIONS[precision]
    rng = np.random.default_rng(5)
    starts = [rng.standard_normal(shape).astype(dtype) for shape in MATRICES]
    found = []
    for is_kept in (True, False):
        params = [optim.Parameter(start) for start in starts]
        optimizer = kind.optimizer(params, lr=0.1, **precisely)
        draw = np.random.default_rng(6)
        for step in range(8):
            optimizer.param_groups[0]["lr"] = 0.2 if step > 5 else 0.1
            if step == 4:
                optimizer.state[params[2]].clear()
            if not is_kept:
                optimizer._layouts[0]._settings = optimizer._layouts[0].slots[0].ready = None
            optimizer.step(grads=[draw.standard_normal(param.shape).astype(dtype) for param in params])
        found.append([param.data.tobytes() for param in params])
    assert found[0] == found[1]
