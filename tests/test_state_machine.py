"""Random lives of an optimizer, beside a slow model in plain NumPy that keeps all of it parameter by parameter."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import refoptim as optim
from refoptim import Parameter
from refoptim.conformance.tolerances import CLOSE

SHAPES = [(), (2,), (0,), (1, 3)]
DTYPES = [np.float64, np.float64, np.complex128, np.float32]
IMPLEMENTATIONS = [{}, {"foreach": True}, {"foreach": False, "fused": False}, {"differentiable": True}]
OPTIONS = {
    optim.SGD: [
        {},
        {"momentum": 0.9},
        {"momentum": 0.5, "dampening": 0.25, "weight_decay": 0.125},
        {"momentum": 0.5, "nesterov": True, "maximize": True},
    ],
    optim.Adam: [{}, {"betas": (0.5, 0.75)}, {"amsgrad": True, "weight_decay": 0.125}, {"maximize": True, "eps": 0.5}],
    optim.AdamW: [{}, {"weight_decay": 0.5}, {"amsgrad": True, "betas": (0.0, 0.5)}],
}

seeds = st.integers(0, 2**16)
rarities = st.sampled_from([0, 0, 0.3, 0.7])
learning_rates = st.sampled_from([0.0, 0.0625, 0.1, 0.001])


def numbers(draw, shape, dtype):
    """Return numbers that are often zero or equal, and never near to zero otherwise."""
    array = draw.integers(-4, 5, size=shape) / 4
    return np.asarray(
        array + 1j * draw.integers(-4, 5, size=shape) / 4 if np.dtype(dtype).kind == "c" else array, dtype
    )


def split(array):
    """Return a complex array as real and imaginary parts: both are optimized as if they were numbers on their own."""
    return np.stack([array.real, array.imag]).astype(np.float64)


class Model:
    """One parameter and its state, as the documented formulas have it."""

    def __init__(self, value):
        self.shape, self.dtype = value.shape, value.dtype
        self.value, self.grad, self.state = split(value), None, {}

    def step(self, group, kind):
        if self.grad is None:
            return
        g = -self.grad if group["maximize"] else self.grad
        lr, decay = group["lr"], group["weight_decay"]
        if kind is optim.AdamW:
            self.value = self.value - lr * decay * self.value
        else:
            g = g + decay * self.value
        self.value = self.value - lr * (self.momentum(group, g) if kind is optim.SGD else self.adam(group, g))

    def momentum(self, group, g):
        mu = group["momentum"]
        if mu == 0:
            return g
        old = self.state.get("momentum_buffer")
        b = self.state["momentum_buffer"] = g if old is None else mu * old + (1 - group["dampening"]) * g
        return g + mu * b if group["nesterov"] else b

    def adam(self, group, g):
        beta1, beta2 = group["betas"]
        zero = np.zeros_like(g)
        t = self.state["step"] = self.state.get("step", 0) + 1
        m = self.state["exp_avg"] = beta1 * self.state.get("exp_avg", zero) + (1 - beta1) * g
        v = self.state["exp_avg_sq"] = beta2 * self.state.get("exp_avg_sq", zero) + (1 - beta2) * g**2
        if group["amsgrad"]:
            v = self.state["max_exp_avg_sq"] = np.maximum(self.state.get("max_exp_avg_sq", zero), v)
        return m / (1 - beta1**t) / (np.sqrt(v / (1 - beta2**t)) + group["eps"])


class Life(RuleBasedStateMachine):
    """What may happen to an optimizer; ``groups`` holds the model's options and parameters."""

    def __init__(self):
        super().__init__()
        self.saved = []

    @initialize(
        kind=st.sampled_from(list(OPTIONS)), data=st.data(), seed=seeds, sizes=st.lists(st.integers(1, 4), max_size=2)
    )
    def build(self, kind, data, seed, sizes):
        self.kind = kind
        self.options = data.draw(st.sampled_from(OPTIONS[kind])) | data.draw(st.sampled_from(IMPLEMENTATIONS))
        draw = np.random.default_rng(seed)
        params = [self.parameters(draw, size) for size in sizes or [3]]
        self.opt = kind([{"params": group} for group in params], lr=0.1, **self.options)
        self.groups = [self.modelled(group) for group in self.opt.param_groups]

    def parameters(self, draw, count):
        return [
            Parameter(numbers(draw, SHAPES[draw.integers(len(SHAPES))], DTYPES[draw.integers(len(DTYPES))]))
            for _ in range(count)
        ]

    def modelled(self, group):
        return {**group, "params": [Model(p.data) for p in group["params"]]}

    def pairs(self):
        for live, group in zip(self.opt.param_groups, self.groups, strict=True):
            yield from zip(live["params"], group["params"], strict=True)

    @rule(seed=seeds, rarity=rarities, through=st.sampled_from(["grad", "out", "argument", "closure"]))
    def step(self, seed, rarity, through="grad"):
        draw = np.random.default_rng(seed)
        grads = []
        for p, model in self.pairs():
            grad = None if draw.random() < rarity else numbers(draw, p.shape, p.dtype)
            grads.append(grad)
            model.grad = None if grad is None else split(grad)
        if through == "argument":
            assert self.opt.step(grads=grads) is None
        elif through == "closure":
            assert self.opt.step(lambda: self.assign(grads)) == "loss"
        else:
            self.assign(grads, out=through == "out")
            self.opt.step()
        self.step_model()

    def step_model(self):
        for group in self.groups:
            for model in group["params"]:
                model.step(group, self.kind)

    @rule(seed=seeds, rarities=st.lists(rarities, max_size=5))
    def train(self, seed, rarities):
        for number, rarity in enumerate(rarities):
            self.step(seed + number, rarity)

    def assign(self, grads, out=False):
        for (p, _), grad in zip(self.pairs(), grads, strict=True):
            if out and grad is not None and p.grad is not None:
                np.add(grad, 0, out=p.grad)
            else:
                p.grad = grad
        return "loss"

    @rule(count=st.integers(1, 3))
    def step_again(self, count):
        for _ in range(count):
            self.opt.step()
            self.step_model()

    @rule(to_none=st.booleans())
    def zero_grad(self, to_none):
        self.opt.zero_grad(to_none)
        for _, model in self.pairs():
            model.grad = None if to_none or model.grad is None else 0 * model.grad

    @rule(number=st.integers(0, 5), lr=learning_rates)
    def change_lr(self, number, lr):
        number %= len(self.groups)
        self.opt.param_groups[number]["lr"] = self.groups[number]["lr"] = lr

    @precondition(lambda self: len(self.groups) < 4)
    @rule(seed=seeds, count=st.integers(1, 3), lr=learning_rates)
    def add_group(self, seed, count, lr):
        group = {"params": self.parameters(np.random.default_rng(seed), count), "lr": lr}
        self.opt.add_param_group(group)
        self.groups.append(self.modelled(group))
        self.step(seed, 0.3)

    @rule(seed=seeds)
    def write_data(self, seed):
        draw = np.random.default_rng(seed)
        for p, model in self.pairs():
            p.data = numbers(draw, p.shape, p.dtype)
            model.value = split(p.data)

    @rule(seed=seeds)
    def shuffle_a_group(self, seed):
        draw = np.random.default_rng(seed)
        number = draw.integers(len(self.groups))
        order = draw.permutation(len(self.groups[number]["params"]))
        for group in (self.opt.param_groups[number], self.groups[number]):
            group["params"] = [group["params"][i] for i in order]
        self.step(seed, 0.3)

    @rule(seed=seeds, differentiable=st.booleans())
    def move(self, seed, differentiable):
        """Another optimizer takes some of the parameters elsewhere."""
        draw = np.random.default_rng(seed)
        params = [p for p, _ in self.pairs()]
        some = [params[i] for i in draw.permutation(len(params))[: draw.integers(1, len(params) + 1)]]
        optim.SGD(some, differentiable=differentiable)
        self.step(seed, 0.3)

    @rule(seed=seeds, way=st.sampled_from(["deepcopy", "pickle"]))
    def replace_by_a_copy(self, seed, way):
        params = [p for p, _ in self.pairs()]
        both = (params, self.opt)
        copied, self.opt = copy.deepcopy(both) if way == "deepcopy" else pickle.loads(pickle.dumps(both))
        for p in params:
            p.data, p.grad = np.full_like(p.data, 99), np.full_like(p.data, 99)
        assert all(p is q for p, (q, _) in zip(copied, self.pairs(), strict=True))
        self.step(seed, 0.3)

    @rule()
    def save(self):
        self.saved.append((self.opt.state_dict(), copy.deepcopy(self.groups)))

    @precondition(lambda self: self.saved)
    @rule(number=st.integers(0, 9), anew=st.booleans(), seed=seeds)
    def load(self, number, anew, seed):
        state_dict, groups = self.saved[number % len(self.saved)]
        if [len(group["params"]) for group in groups] != [len(group["params"]) for group in self.groups]:
            self.unchanged_by(lambda: self.opt.load_state_dict(state_dict))
        if [self.layout(group) for group in groups] != [self.layout(group) for group in self.groups]:
            return
        if anew:
            self.opt = self.kind([{"params": group["params"]} for group in self.opt.param_groups])
        self.opt.load_state_dict(state_dict)
        for old, new in zip(groups, self.groups, strict=True):
            new["lr"] = old["lr"]
            for before, model in zip(old["params"], new["params"], strict=True):
                model.state = copy.deepcopy(before.state)
        self.step(seed, 0.3)

    @staticmethod
    def layout(group):
        return [(model.shape, model.dtype) for model in group["params"]]

    @rule(choices=st.lists(st.integers(0, 99), min_size=1, max_size=5))
    def bad_call(self, choices):
        calls = list(self.bad_calls())
        for choice in choices:
            self.unchanged_by(calls[choice % len(calls)])

    def bad_calls(self):
        opt, params = self.opt, [p for p, _ in self.pairs()]
        first, last = params[0], params[-1]
        zeros = [np.zeros_like(p.data) for p in params]
        stranger = Parameter([1.0])

        def load(change):
            saved = opt.state_dict()
            change(saved)
            opt.load_state_dict(saved)

        def step_with(**options):
            group = opt.param_groups[-1]
            before = {name: group[name] for name in options}
            group.update(options)
            try:
                opt.step()
            finally:
                group.update(before)

        if not self.options.get("differentiable"):
            yield lambda: opt.state.update({last: {"exp_avg": "text", "momentum_buffer": "text"}})
        # Where there is nothing to compute there is no error either.
        if any(p.grad is not None and p.size for p in opt.param_groups[-1]["params"]):
            yield lambda: step_with(lr="text")
            yield lambda: step_with(lr=np.array([0.1, 0.2, 0.3, 0.4, 0.5]))
            yield lambda: step_with(weight_decay="text")
        yield from [
            lambda: opt.step(grads=zeros[:-1]),
            lambda: opt.step(grads=[*zeros, zeros[0]]),
            lambda: opt.step(grads=[*zeros[:-1], np.zeros((7, 7), last.dtype)]),
            lambda: opt.step(grads=[*zeros[:-1], zeros[-1].astype(np.clongdouble)]),
            lambda: opt.step(grads=[*zeros[:-1], zeros[-1].tolist()]),
            lambda: opt.step(lambda: 1 / 0),
            lambda: setattr(last, "grad", np.zeros((7, 7), last.dtype)),
            lambda: setattr(last, "data", np.ma.array(zeros[-1])),
            lambda: opt.add_param_group({"params": [stranger, first]}),
            lambda: opt.add_param_group({"params": [stranger], "lr": -1.0}),
            lambda: opt.add_param_group({"params": [stranger.data]}),
            lambda: load(lambda saved: saved["param_groups"].pop()),
            lambda: load(lambda saved: saved["param_groups"][-1]["params"].append(99)),
            lambda: load(lambda saved: saved["param_groups"][-1].update(lr=-1.0)),
            lambda: load(lambda saved: saved["state"].update({99: {}})),
            lambda: load(lambda saved: saved["state"].update({len(params) - 1: {"exp_avg": 1, "momentum_buffer": 1}})),
            lambda: setattr(opt, "state", {first: {}, stranger: {}}),
            lambda: opt.register_step_pre_hook(3),
        ]

    def unchanged_by(self, call):
        before = self.bits()
        with pytest.raises((TypeError, ValueError, RuntimeError, KeyError, ZeroDivisionError, AttributeError)):
            call()
        assert self.bits() == before

    def bits(self):
        """Return everything there is, bit for bit."""
        saved = self.opt.state_dict()
        arrays = [(p.data.tobytes(), None if p.grad is None else p.grad.tobytes()) for p, _ in self.pairs()]
        state = {
            number: {name: np.asarray(value).tobytes() for name, value in entry.items()}
            for number, entry in saved["state"].items()
        }
        return arrays, state, saved["param_groups"]

    @invariant()
    def agrees(self):
        for p, model in self.pairs():
            tolerance = CLOSE["model float32" if p.dtype == np.float32 else "model"]
            np.testing.assert_allclose(split(p.data), model.value, **tolerance)
            if model.grad is None:
                assert p.grad is None
            else:
                np.testing.assert_array_equal(split(p.grad), model.grad)
            entry = self.opt.state[p]
            assert set(entry) == set(model.state)
            for name, value in model.state.items():
                if name == "step":
                    assert entry[name] == value
                else:
                    np.testing.assert_allclose(split(entry[name]), value, **tolerance)
        assert [group["lr"] for group in self.opt.param_groups] == [group["lr"] for group in self.groups]


PROFILE = settings(
    derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck), print_blob=False
)


def test_random_lives_agree_with_the_model():
    run_state_machine_as_test(Life, settings=settings(PROFILE, max_examples=60, stateful_step_count=25))


@pytest.mark.slow
def test_many_random_lives_agree_with_the_model():
    run_state_machine_as_test(Life, settings=settings(PROFILE, max_examples=500, stateful_step_count=40))
