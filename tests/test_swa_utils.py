"""AveragedModel and its averaging functions: what they give, what they take, and what they leave alone."""

import copy
import pickle
import sys

import numpy as np
import pytest

import refoptim as optim
from refoptim import swa_utils
from refoptim.conformance.tolerances import CLOSE
from refoptim.kernels import jit
from refoptim.swa_utils import AveragedModel

DTYPES = [np.float32, np.float64, np.complex64]
SHAPES = [(3, 4), (), (0,), (5,), (2, 1, 3)]
FUNCTIONS = {
    "default": {},
    "swa": {"avg_fn": swa_utils.get_swa_avg_fn()},
    "swa multi": {"multi_avg_fn": swa_utils.get_swa_multi_avg_fn()},
    "ema": {"avg_fn": swa_utils.get_ema_avg_fn(0.75)},
    "ema multi": {"multi_avg_fn": swa_utils.get_ema_multi_avg_fn(0.75)},
}
TORCH = {
    "swa": {"avg_fn": "get_swa_avg_fn"},
    "swa multi": {"multi_avg_fn": "get_swa_multi_avg_fn"},
    "ema": {"avg_fn": "get_ema_avg_fn"},
    "ema multi": {"multi_avg_fn": "get_ema_multi_avg_fn"},
}


class Network:
    """A model with parameters of several dtypes, and buffers."""

    def __init__(self, seed=0, buffers=("mean", "count", "flag")):
        rng = np.random.default_rng(seed)
        self.names = buffers
        self.params = [optim.Parameter(draw(rng, shape, dtype)) for shape in SHAPES for dtype in DTYPES]
        self.mean, self.count, self.flag = rng.standard_normal(4).astype(np.float32), np.array(seed), np.array(True)

    def parameters(self):
        return iter(self.params)

    def buffers(self):
        return (getattr(self, name) for name in self.names)

    def __call__(self, x, scale=1):
        return scale * (self.params[0].data.sum() + x)


def draw(rng, shape, dtype):
    array = rng.standard_normal((*shape, 2))
    return (array[..., 0] + 1j * array[..., 1] if np.dtype(dtype).kind == "c" else array[..., 0]).astype(dtype)


def change(model, seed):
    """Give a model other values."""
    rng = np.random.default_rng(seed)
    for param in model.parameters():
        param.data = np.asarray(draw(rng, param.shape, param.dtype))
    model.mean[...] = rng.standard_normal(4)
    model.count[...] += rng.integers(1, 20)


def content(averaged):
    return [array.tobytes() for array in (*(p.data for p in averaged.parameters()), *averaged.buffers())]


def simple(*values, **options):
    params = [optim.Parameter(np.array(value)) for value in values]
    return params, AveragedModel(params, **options)


def swa(averaged, current, n):
    return averaged + (current - averaged) / (n + 1)


def ema(averaged, current, n):
    return 0.75 * averaged + 0.25 * current


def in_place(function):
    """Return a multi_avg_fn for an avg_fn."""

    def update(averaged, current, n):
        assert len({array.dtype for array in averaged}) == 1
        for one, other in zip(averaged, current, strict=True):
            one[...] = function(one, other, n)

    return update


USERS = {"swa": (swa, in_place(swa)), "ema": (ema, in_place(ema))}


def fail(*_):
    raise KeyError("no average today")


@pytest.mark.parametrize("use_buffers", [False, True])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_averages_are_torchs(name, use_buffers):
    torch = pytest.importorskip("torch", reason="torch, which this is compared with, is not installed")

    class Module(torch.nn.Module):
        def __init__(self, network):
            super().__init__()
            self.params = torch.nn.ParameterList([torch.nn.Parameter(torch.tensor(p.data)) for p in network.params])
            for place, buffer in enumerate(network.buffers()):
                self.register_buffer(str(place), torch.tensor(buffer))

    # torch cannot average flags, nor integers by this function.
    network = Network(buffers=("mean",) if use_buffers and name == "swa multi" else ("mean", "count"))
    module = Module(network)
    options = {
        key: getattr(torch.optim.swa_utils, function)(*([0.75] if "ema" in name else []))
        for key, function in TORCH.get(name, {}).items()
    }
    ours = AveragedModel(network, use_buffers=use_buffers, **FUNCTIONS[name])
    theirs = torch.optim.swa_utils.AveragedModel(module, use_buffers=use_buffers, **options)
    for seed in range(1, 9):
        change(network, seed)
        sources = [*(param.data for param in network.params), *network.buffers()]
        with torch.no_grad():
            for tensor, source in zip([*module.parameters(), *module.buffers()], sources, strict=True):
                tensor.copy_(torch.tensor(source))
        ours.update_parameters(network)
        theirs.update_parameters(module)
        assert ours.n_averaged == int(theirs.n_averaged) == seed
        tensors = [*theirs.module.parameters(), *theirs.module.buffers()]
        for left, right in zip([*ours.parameters(), *ours.buffers()], tensors, strict=True):
            # torch's weight of this one is a float32 number, for float64 parameters too.
            exact = left.dtype == np.float64 and name != "swa multi"
            limits = CLOSE["float64" if exact else "float32"]
            np.testing.assert_allclose(np.asarray(left), right.detach().numpy(), **limits)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("use_buffers", [False, True])
def test_users_functions_give_what_ours_give(name, use_buffers):
    single, many = USERS["ema" if "ema" in name else "swa"]
    network = Network(buffers=("mean",))
    results = []
    for option in (FUNCTIONS[name], {"avg_fn": single}, {"multi_avg_fn": many}):
        averaged = AveragedModel(network, use_buffers=use_buffers, **option)
        for seed in range(1, 6):
            change(network, seed)
            averaged.update_parameters(network)
        results.append([*(param.data for param in averaged.parameters()), *averaged.buffers()])
    for other in results[1:]:
        for left, right in zip(results[0], other, strict=True):
            np.testing.assert_allclose(left, right, **CLOSE["float32"])


def test_the_first_update_copies_whatever_the_function():
    for options in (*FUNCTIONS.values(), {"avg_fn": fail}, {"multi_avg_fn": fail}):
        network = Network()
        averaged = AveragedModel(network, use_buffers=True, **options)
        change(network, 3)
        averaged.update_parameters(network)
        assert content(averaged) == content(network)
        assert averaged.n_averaged == 1


def test_buffers_are_copied_unless_they_are_averaged():
    network = Network()
    averages = [AveragedModel(network, use_buffers=use) for use in (False, True)]
    counts = []
    for seed in range(1, 4):
        change(network, seed)
        counts.append(int(network.count))
        for averaged in averages:
            averaged.update_parameters(network)
    assert averages[0].module.count == network.count
    assert averages[0].module.mean.tobytes() == network.mean.tobytes()
    first = counts[0] + (counts[1] - counts[0]) // 2
    assert averages[1].module.count == first + (counts[2] - first) // 3
    assert averages[1].module.count.dtype == network.count.dtype
    assert averages[1].module.flag


@pytest.mark.parametrize("decay", [0, 0.0, 1, 1.0])
def test_the_ends_of_the_range_of_decay(decay):
    for get in (swa_utils.get_ema_avg_fn, swa_utils.get_ema_multi_avg_fn):
        keyword = "multi_avg_fn" if "multi" in get.__name__ else "avg_fn"
        params, averaged = simple([1.0, np.inf, 3e38], **{keyword: get(decay)})
        averaged.update_parameters(params)
        before = averaged.module[0].data.copy()
        params[0].data = np.array([2.0, 5.0, np.nan])
        averaged.update_parameters(params)
        np.testing.assert_array_equal(averaged.module[0].data, before if decay else params[0].data)


class Plain:
    """A model that says as little as possible."""

    def __init__(self, params):
        self.params = params

    def parameters(self):
        return self.params


class Named(Plain):
    def named_parameters(self):
        return zip(("u.w", "u.b", "v"), self.params)


class WithAttribute:
    def __init__(self, params):
        self.parameters = params


class WithDict(Plain):
    def parameters(self):
        return dict(zip("xyz", self.params))


@pytest.mark.parametrize(
    ("build", "names", "found"),
    [
        (list, (None, None, None), ["0", "1", "2"]),
        (list, ("p", "q", "r"), ["p", "q", "r"]),
        (list, ("p", "q", "q"), ["0", "1", "2"]),
        (tuple, ("p", "q", None), ["0", "1", "2"]),
        (lambda params: dict(zip("abc", params)), ("p", "q", "r"), ["a", "b", "c"]),
        (Plain, (None, None, None), ["0", "1", "2"]),
        (Plain, ("p", "q", "r"), ["p", "q", "r"]),
        (WithAttribute, ("p", "q", "r"), ["p", "q", "r"]),
        (Named, ("p", "q", "r"), ["u.w", "u.b", "v"]),
        (WithDict, ("p", "q", "r"), ["x", "y", "z"]),
    ],
)
def test_models_of_every_kind(build, names, found):
    params = [optim.Parameter(np.full(size, 1.0), name=name) for size, name in zip((2, 3, 4), names)]
    model = build(params)
    averaged = AveragedModel(model)
    for value in (2.0, 4.0):
        for param in params:
            param.data = np.full(param.shape, value)
        averaged.update_parameters(model)
    saved = averaged.state_dict()
    assert list(saved) == ["n_averaged", *(f"module.{name}" for name in found)]
    assert [array.tolist() for array in list(saved.values())[1:]] == [[3.0] * 2, [3.0] * 3, [3.0] * 4]


def test_a_shared_parameter_is_averaged_once():
    shared = optim.Parameter([0.0])
    model = [shared, optim.Parameter([5.0]), shared]
    averaged = AveragedModel(model)
    for value in (1.0, 3.0):
        shared.data = np.array([value])
        averaged.update_parameters(model)
    assert averaged.module[0] is averaged.module[2]
    assert averaged.module[0].data == [2.0]
    assert len(list(averaged.parameters())) == 2


def test_the_model_and_its_gradients_are_left_alone():
    network = Network()
    for param in network.params:
        param.grad = np.ones(param.shape, param.dtype)
    before = content(network)
    averaged = AveragedModel(network)
    averaged.update_parameters(network)
    assert content(network) == before
    assert all(param.grad is not None for param in network.params)
    assert all(param.grad is None for param in averaged.parameters())
    for param in averaged.parameters():
        param.data[...] = 7
    assert content(network) == before


def test_a_call_is_a_call_of_the_copy():
    network = Network()
    averaged = AveragedModel(network)
    assert averaged(2.0, scale=3) == network(2.0, scale=3)

    class Forward(Plain):
        def forward(self, x):
            return x + self.params[0].data

    assert AveragedModel(Forward([optim.Parameter([1.0])]))(np.array([2.0])) == [3.0]


LAUNCHES = {
    "no optimizer": (list, 5),
    "one optimizer": (optim.SGD, 1),
    "two groups": (lambda params: optim.SGD([{"params": params[:2]}, {"params": params[2:]}]), 2),
    "another order": (lambda params: optim.SGD([*params[2:], *params[:2]]), 2),
    "arrays of their own": (lambda params: optim.SGD(params, differentiable=True), 5),
}


@pytest.mark.parametrize("name", LAUNCHES)
def test_neighbours_are_averaged_in_one_launch(monkeypatch, name):
    build, launches = LAUNCHES[name]
    params = [optim.Parameter(np.full(size, 1.0)) for size in (3, 5, 1, 4, 2)]
    averaged = AveragedModel(params, avg_fn=swa_utils.get_ema_avg_fn(0.5))
    averaged.update_parameters(params)  # a plan for parameters that lie apart, which the optimizer moves
    optimizer = build(params)
    sizes = []
    move = swa_utils.averaged_model.move
    monkeypatch.setattr(swa_utils.averaged_model, "move", lambda a, *rest: (sizes.append(a.size), move(a, *rest)))
    for step in range(3):
        for param in params:
            param.grad = np.full(param.shape, 1.0)
        if name != "no optimizer":
            optimizer.step()
        before = [param.data.copy() for param in averaged.parameters()]
        sizes.clear()
        averaged.update_parameters(params)
        assert len(sizes) == launches, f"step {step}"
        assert sum(sizes) == 15
        for own, old, param in zip(averaged.parameters(), before, params, strict=True):
            np.testing.assert_allclose(own.data, (old + param.data) / 2, **CLOSE["float64"])


def test_averages_may_be_optimized_and_averaged_again():
    params, averaged = simple([1.0, 2.0], [3.0])
    twice = AveragedModel(averaged)
    optimizer = optim.SGD(averaged.parameters(), lr=1.0)
    for _ in range(2):
        averaged.update_parameters(params)
        optimizer.step(grads=[np.ones(2), np.ones(1)])
        twice.update_parameters(averaged)
    # 1, after the step 0; averaged with 1 it is 1/2, after the step -1/2.
    assert next(averaged.parameters()).data.tolist() == [-0.5, 0.5]
    assert [param.data.tolist() for param in twice.parameters()] == [[-0.25, 0.75], [1.75]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_same_bits_by_threads_and_cuts(monkeypatch, name, dtype):
    rng = np.random.default_rng(1)
    values = rng.standard_normal((4, 3_001)).astype(dtype)

    def averages(cuts, build=list):
        params = [optim.Parameter(part) for part in np.split(values[0], cuts)]
        optimizer = build(params)
        averaged = AveragedModel(params, **FUNCTIONS[name])
        for row in values:
            for param, part in zip(params, np.split(row, cuts), strict=True):
                param.data = part
            averaged.update_parameters(params)
        del optimizer
        return b"".join(param.data.tobytes() for param in averaged.parameters())

    monkeypatch.setattr(jit, "SERIAL_BELOW", sys.maxsize)
    want = averages([])
    assert averages([1, 3, 82, 82, 1_106], optim.SGD) == averages(list(range(0, 200, 7))) == want
    monkeypatch.setattr(jit, "SERIAL_BELOW", 0)
    monkeypatch.setattr(jit, "GRAIN", 64)
    before = optim.get_num_threads()
    try:
        for count in range(1, 4):
            optim.set_num_threads(count)
            assert averages([]) == averages([5, 1_000], optim.SGD) == want
    finally:
        optim.set_num_threads(before)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda averaged: pickle.loads(pickle.dumps(averaged))])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_copies_and_pickles_go_on_alike(name, again):
    network = Network()
    averaged = AveragedModel(network, use_buffers=True, **FUNCTIONS[name])
    for seed in (1, 2):
        change(network, seed)
        averaged.update_parameters(network)
    other = again(averaged)
    assert (other.avg_fn, other.multi_avg_fn) == (averaged.avg_fn, averaged.multi_avg_fn)
    change(network, 3)
    for model in (averaged, other):
        model.update_parameters(network)
    assert content(other) == content(averaged)
    floats = [param for param in other.parameters() if param.dtype == np.float32]
    assert len({id(param.buffer) for param in floats}) == 1


def test_a_model_that_holds_its_optimizer():
    class Trained(Network):
        def __init__(self):
            super().__init__()
            self.optimizer = optim.SGD(self.params, lr=0.5)

    network = Trained()
    averaged = AveragedModel(network, avg_fn=swa_utils.get_ema_avg_fn(0.5))
    plain = AveragedModel(network.params, avg_fn=swa_utils.get_ema_avg_fn(0.5))
    for _ in range(3):
        for param in network.params:
            param.grad = np.ones(param.shape, param.dtype)
        network.optimizer.step()
        for one, model in ((averaged, network), (plain, network.params)):
            one.update_parameters(model)
    for left, right in zip(averaged.parameters(), plain.parameters(), strict=True):
        assert left.data.tobytes() == right.data.tobytes()
