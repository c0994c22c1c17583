"""What AveragedModel and its functions refuse, and that nothing has changed then; saved states."""

import numpy as np
import pytest

import refoptim as optim
from refoptim import swa_utils
from refoptim.swa_utils import AveragedModel


class Network:
    """A model with parameters of two dtypes, and buffers."""

    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        self.params = [optim.Parameter(rng.standard_normal(shape).astype(np.float32)) for shape in ((2, 3), (), (0,))]
        self.params.append(optim.Parameter(rng.standard_normal(4)))
        self.mean, self.count = rng.standard_normal(4), np.array(seed)

    def parameters(self):
        return self.params

    def buffers(self):
        return [self.mean, self.count]


def change(network, seed):
    other = Network(seed)
    for param, source in zip(network.params, other.params, strict=True):
        param.data = source.data
    network.mean[...], network.count[...] = other.mean, other.count


def started(**options):
    network = Network()
    averaged = AveragedModel(network, use_buffers=True)
    for seed in (1, 2):
        change(network, seed)
        averaged.update_parameters(network)
    change(network, 3)
    vars(averaged).update(options)
    return network, averaged


def content(averaged):
    return [averaged.n_averaged, *(np.asarray(x).tobytes() for x in (*averaged.parameters(), *averaged.buffers()))]


def with_other(change):
    """Return a network that differs from the averaged one."""
    network = Network(4)
    change(network)
    return network


def fail(*_):
    raise KeyError("no average today")


def fail_late(averaged, current, n):
    if averaged.dtype == np.float64:
        raise KeyError("no average today")
    averaged += 1
    return averaged


def fail_late_multi(averaged, current, n):
    averaged[0] += 1
    if averaged[0].dtype == np.float64:
        raise KeyError("no average today")


def shorten(averaged, current, n):
    return averaged if averaged.dtype == np.float32 else averaged.reshape(-1)[:-1]


def forget(averaged, current, n):
    averaged += 1


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (([1.0],), {}, TypeError, r"'0' is a float: write Parameter\(array\)"),
        (({"w": np.ones(2)},), {}, TypeError, "'w' is a ndarray"),
        ((np.ones(2),), {}, TypeError, "must be a list or dict of Parameters.* but is a ndarray"),
        ((optim.Parameter([1.0]),), {}, TypeError, "but is a Parameter"),
        ((None,), {}, TypeError, "but is a NoneType"),
        (([],), {"device": "tpu"}, ValueError, "device must be 'cpu', 'cuda' or 'cuda:' and a number, but is 'tpu'"),
        (([], swa_utils.get_ema_multi_avg_fn(0.9)), {}, TypeError, "write avg_fn= or multi_avg_fn="),
        (([],), {"arithmetic": "float16"}, ValueError, "Invalid arithmetic: 'float16'"),
        (([],), {"avg_fn": fail, "multi_avg_fn": fail}, AssertionError, "Only one of avg_fn and multi_avg_fn"),
        (([],), {"avg_fn": 3}, TypeError, "^avg_fn must be a function or None, but is 3"),
        (([],), {"multi_avg_fn": "x"}, TypeError, "^multi_avg_fn must be a function or None, but is 'x'"),
    ],
)
def test_the_constructor_refuses(arguments, options, error, message):
    with pytest.raises(error, match=message):
        AveragedModel(*arguments, **options)


def test_the_constructor_refuses_buffers_that_cannot_be_written():
    network = Network()
    network.buffers = lambda: [network.mean, 3]
    with pytest.raises(TypeError, match=r"'buffers.1' is a int: write np.array\(value\)"):
        AveragedModel(network)


def test_the_constructor_refuses_one_name_for_two():
    network = Network()
    network.named_buffers = lambda: [("3", network.mean)]
    with pytest.raises(ValueError, match=r"both have \['3'\]"):
        AveragedModel(network)
    with pytest.raises(ValueError, match=r"different names, but have \['1', '1'\]"):
        AveragedModel({1: optim.Parameter([1.0]), "1": optim.Parameter([2.0])})


def test_the_constructor_refuses_arrays_of_other_libraries():
    autograd = pytest.importorskip("autograd", reason="autograd is not installed")
    found = []

    def loss(x):
        param = optim.Parameter(x, name="w")
        with pytest.raises(TypeError, match="Parameter 'w', which holds a ArrayBox"):
            AveragedModel([param])
        found.append(param)
        return x.sum()

    autograd.grad(loss)(np.ones(2))
    assert found


def test_an_update_refuses_arrays_of_other_libraries():
    autograd = pytest.importorskip("autograd", reason="autograd is not installed")
    params = [optim.Parameter([1.0, 2.0])]
    averaged = AveragedModel(params)
    averaged.update_parameters(params)
    seen = []

    def loss(x):
        with pytest.raises(TypeError, match="which holds a ArrayBox"):
            averaged.update_parameters([optim.Parameter(x)])
        seen.append(x)
        return x.sum()

    autograd.grad(loss)(np.ones(2))
    assert seen
    assert [averaged.n_averaged, averaged.module[0].data.tolist()] == [1, [1.0, 2.0]]


def test_a_model_without_parameters_is_averaged():
    averaged = AveragedModel([])
    averaged.update_parameters([])
    assert averaged.state_dict() == {"n_averaged": 1}


@pytest.mark.parametrize("device", [None, "cpu"])
def test_the_device_there_is(device):
    assert AveragedModel([optim.Parameter([1.0])], device).n_averaged == 0


@pytest.mark.parametrize("decay", [-0.1, 1.1, np.nan, np.inf])
@pytest.mark.parametrize("get", [swa_utils.get_ema_avg_fn, swa_utils.get_ema_multi_avg_fn])
def test_decay_is_in_its_range(get, decay):
    with pytest.raises(ValueError, match=rf"Invalid decay value {decay} provided.* in \[0,1\] range"):
        get(decay)


@pytest.mark.parametrize("get", [swa_utils.get_ema_avg_fn, swa_utils.get_ema_multi_avg_fn])
def test_decay_is_a_number(get):
    with pytest.raises(TypeError, match=r"decay must be a number, but is '0\.9'"):
        get("0.9")


def test_a_state_that_is_no_dict_is_refused():
    with pytest.raises(TypeError, match="the state of AveragedModel must be a dict, but is None"):
        AveragedModel([optim.Parameter([1.0])]).load_state_dict(None)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda n: n.params.append(optim.Parameter([1.0])), "has 4 parameters, but the model has 5"),
        (lambda n: n.params.pop(), "has 4 parameters, but the model has 3"),
        (lambda n: n.params.__setitem__(0, optim.Parameter(np.ones((3, 2), np.float32))), r"parameters 0.*\(3, 2\)"),
        (lambda n: n.params.__setitem__(3, optim.Parameter(np.ones(4, np.float32))), "parameters 3.*dtype float32"),
        (lambda n: setattr(n, "mean", np.ones(5)), r"buffers 0.*\(5,\)"),
        (lambda n: setattr(n, "count", np.array(1.0)), "buffers 1.*dtype float64"),
        (lambda n: setattr(n, "buffers", list), "has 2 buffers, but the model has 0"),
    ],
)
@pytest.mark.parametrize("options", [{}, {"avg_fn": shorten}])
def test_an_update_refuses_another_model(edit, message, options):
    network, averaged = started(**options)
    before = content(averaged)
    with pytest.raises(ValueError, match=message):
        averaged.update_parameters(with_other(edit))
    assert content(averaged) == before
    averaged.avg_fn = None
    averaged.update_parameters(network)
    assert averaged.n_averaged == 3


@pytest.mark.parametrize(
    ("keyword", "function", "error"),
    [
        ("avg_fn", fail_late, KeyError),
        ("multi_avg_fn", fail_late_multi, KeyError),
        ("avg_fn", shorten, ValueError),
        ("avg_fn", forget, TypeError),
        ("avg_fn", lambda a: a, TypeError),
    ],
)
def test_a_function_that_fails_changes_nothing(keyword, function, error):
    network, averaged = started()
    setattr(averaged, keyword, function)
    before = content(averaged)
    with pytest.raises(error):
        averaged.update_parameters(network)
    assert content(averaged) == before


@pytest.mark.parametrize(
    ("averaged", "current", "error", "message"),
    [
        ([np.ones(2)], [], ValueError, "got 1 averages, but 0 current values"),
        ([np.ones(2), np.ones(3)], [np.zeros(2), np.zeros(2)], ValueError, r"shape \(3,\), but .* \(2,\)"),
        ([np.ones(2), 1.0], [np.zeros(2), 0.0], TypeError, "must be a NumPy array, or on a GPU, but is a float"),
        ([np.ones(2), np.broadcast_to(1.0, 3)], [np.zeros(2), np.zeros(3)], ValueError, "is read-only"),
    ],
)
def test_our_functions_refuse_what_does_not_fit(averaged, current, error, message):
    for get in (swa_utils.get_ema_multi_avg_fn, swa_utils.get_swa_multi_avg_fn):
        with pytest.raises(error, match=message):
            get()(averaged, current, 1)
        assert averaged[0].tolist() == [1.0, 1.0]


def test_our_functions_take_arrays_that_are_not_contiguous():
    base = np.arange(12.0).reshape(3, 4)
    averaged, current = base.copy().T[::2], np.full((2, 3), 2.0)
    want = (averaged + current) / 2
    assert swa_utils.get_ema_avg_fn(0.5)(averaged, current, 1).tolist() == want.tolist()
    swa_utils.get_ema_multi_avg_fn(0.5)([averaged], [current], 1)
    assert averaged.tolist() == want.tolist()


def test_our_functions_take_numbers_and_other_dtypes():
    assert swa_utils.get_swa_avg_fn()(1.0, 4.0, 2) == 2.0
    assert swa_utils.get_ema_avg_fn(0.5)(np.array([1, 2]), np.array([4, 4]), 0).tolist() == [2.5, 3.0]
    half = [np.array([1.0, 2.0], np.float16)]
    swa_utils.get_swa_multi_avg_fn()(half, [np.array([4.0, 8.0], np.float16)], 2)
    assert half[0].tolist() == [2.0, 4.0]


EDITS = {
    "n_averaged missing": (lambda s: s.pop("n_averaged"), r"missing \['n_averaged'\]"),
    "a parameter missing": (lambda s: s.pop("module.1"), r"missing \['module.1'\]"),
    "one too many": (lambda s: s.update(more=1), r"unexpected \['more'\]"),
    "another shape": (lambda s: s.update({"module.3": np.ones(3)}), r"module.3 has shape \(3,\)"),
    "complex": (lambda s: s.update({"module.3": np.ones(4) + 1j}), "module.3 .* dtype complex128"),
    "a count of reals": (lambda s: s.update({"module.buffers.1": np.array(1.5)}), "module.buffers.1 .* float64"),
    "n_averaged negative": (
        lambda s: s.update(n_averaged=-1),
        "must be an integer of at least 0, but is -1",
    ),
    "n_averaged real": (lambda s: s.update(n_averaged=1.5), "but is 1.5"),
    "n_averaged an array": (lambda s: s.update(n_averaged=np.arange(2)), "but is array"),
}


@pytest.mark.parametrize("name", EDITS)
def test_a_state_that_does_not_fit_changes_nothing(name):
    edit, message = EDITS[name]
    _, averaged = started()
    _, other = started()
    saved = other.state_dict()
    for value in saved.values():
        np.asarray(value)[...] = 7
    edit(saved)
    before = content(averaged)
    with pytest.raises(RuntimeError, match=message):
        averaged.load_state_dict(saved)
    assert content(averaged) == before


def test_a_saved_state_goes_on_alike():
    network, averaged = started()
    other = AveragedModel(Network(9), use_buffers=True)
    saved = averaged.state_dict()
    other.load_state_dict(saved)
    averaged.update_parameters(network)
    assert saved["n_averaged"] == other.n_averaged == 2
    assert content(other) != content(averaged)
    other.update_parameters(network)
    assert content(other) == content(averaged)


def test_torchs_state_loads():
    torch = pytest.importorskip("torch", reason="torch, whose state this is, is not installed")
    module = torch.nn.Linear(2, 3)
    theirs = torch.optim.swa_utils.AveragedModel(module)
    theirs.update_parameters(module)
    shapes = {"weight": (3, 2), "bias": 3}
    ours = AveragedModel({name: optim.Parameter(np.zeros(shape, np.float32)) for name, shape in shapes.items()})
    ours.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})
    assert ours.n_averaged == 1
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert ours.module["weight"].data.tobytes() == module.weight.detach().numpy().tobytes()
