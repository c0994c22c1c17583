"""Optimizers to save and load, and what they save compared."""

import numpy as np

import refoptim as optim
from refoptim import Parameter

SHAPES = [(3,), (), (2, 2), (0,)]
CASES = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "maximize": True}),
    ("Adam", {"lr": 0.05}),
    ("Adam", {"lr": 0.05, "amsgrad": True, "weight_decay": 0.1}),
    ("AdamW", {"lr": 0.05, "betas": (0.8, 0.95)}),
]


def values(seed, shapes=SHAPES, dtype=np.float64):
    draw = np.random.default_rng(seed)
    return [np.asarray(draw.standard_normal(shape), dtype) for shape in shapes]


def built(name, options, dtype=np.float64, named=False):
    """Return parameters and an optimizer with two groups of them."""
    params = [Parameter(value) for value in values(0, dtype=dtype)]
    items = [(f"p{i}", p) for i, p in enumerate(params)] if named else params
    groups = [{"params": items[:1], "lr": 0.25}, {"params": items[1:]}]
    return params, getattr(optim, name)(groups, **options)


def step(opt, seed, dtype=np.float64, absent=()):
    grads = values(seed, dtype=dtype)
    opt.step(grads=[None if i in absent else grad for i, grad in enumerate(grads)])


def assert_same(one, other):
    """Compare nested dicts, lists and arrays, bit for bit and with their types."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_same(left, right)
    elif isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, other, strict=True)
    else:
        assert one == other
