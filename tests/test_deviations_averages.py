"""Rows of docs/deviations.md about averages of weights, with both numbers."""

import pickle

import numpy as np
import pytest

import refoptim as optim
from refoptim import swa_utils

torch = pytest.importorskip("torch", reason="torch, whose numbers these are, is not installed")

BOTH = [swa_utils, torch.optim.swa_utils]


class Ours:
    """A model with one parameter and perhaps a buffer, for refoptim."""

    def __init__(self, value, buffer=None):
        self.w, self.b = optim.Parameter(np.array(value)), np.array(buffer)

    def parameters(self):
        return [self.w]

    def buffers(self):
        return [self.b] if self.b.dtype != object else []

    def set(self, value=None, buffer=None):
        self.w.data = np.asarray(self.w.data if value is None else value, self.w.dtype)
        if buffer is not None:
            self.b[...] = buffer


class Theirs(torch.nn.Module):
    """The same for torch."""

    def __init__(self, value, buffer=None):
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor(np.array(value)))
        if buffer is not None:
            self.register_buffer("b", torch.tensor(buffer))

    def set(self, value=None, buffer=None):
        with torch.no_grad():
            self.w.copy_(self.w if value is None else torch.tensor(value))
            if buffer is not None:
                self.b.fill_(buffer)


MODELS = [Ours, Theirs]


def averaged(side, values, buffers=None, function=None, argument=(), **options):
    """Return the averaged model after updates with these values."""
    if function is not None:
        options["multi_avg_fn" if "multi" in function else "avg_fn"] = getattr(BOTH[side], function)(*argument)
    model = MODELS[side](values[0], None if buffers is None else buffers[0])
    average = BOTH[side].AveragedModel(model, use_buffers=buffers is not None, **options)
    for place, value in enumerate(values):
        model.set(value, None if buffers is None else buffers[place])
        average.update_parameters(model)
    return average.module


def parameters(side, *arguments, **options):
    return np.array(averaged(side, *arguments, **options).w.tolist() if side else averaged(0, *arguments, **options).w)


def test_an_average_of_equal_values_is_that_value():
    """`get_ema_avg_fn`: an average of equal values is that value."""
    values = np.linspace(0, 1, 1_000, dtype=np.float32)
    ours = swa_utils.get_ema_avg_fn()(values, values, 1)
    theirs = torch.optim.swa_utils.get_ema_avg_fn()(torch.tensor(values), torch.tensor(values), 1).numpy()
    assert (ours != values).sum() == 0
    assert (theirs != values).sum() > 100


def test_exponential_averages_after_300_updates():
    """`get_ema_avg_fn`: after 300 updates, and beside its multi form."""
    values = np.random.default_rng(0).standard_normal((300, 1_000)).astype(np.float32)
    exact = parameters(0, values.astype(np.float64), function="get_ema_avg_fn")
    wrong = [np.abs(parameters(side, values, function="get_ema_avg_fn") - exact).max() for side in (0, 1)]
    assert wrong[0] < 3e-6
    assert wrong[1] > 8e-6
    single, multi = (parameters(0, values, function=f"get_ema_{form}avg_fn") for form in ("", "multi_"))
    assert single.tobytes() == multi.tobytes()
    single, multi = (parameters(1, values, function=f"get_ema_{form}avg_fn") for form in ("", "multi_"))
    assert (single != multi).mean() > 0.5


@pytest.mark.parametrize(("form", "theirs"), [("", np.inf), ("multi_", np.nan)])
def test_an_infinite_average(form, theirs):
    """`get_ema_avg_fn`, an average that is infinite."""
    values = np.array([[np.inf], [1.0]])
    with np.errstate(invalid="ignore"):
        found = [parameters(side, values, function=f"get_ema_{form}avg_fn")[0] for side in (0, 1)]
    np.testing.assert_array_equal(found, [np.nan, theirs])


def test_the_weight_of_equal_averages_is_not_float32():
    """`get_swa_multi_avg_fn` in an `AveragedModel`."""
    found = [parameters(side, [1.0, 1.0, 2.0], function="get_swa_multi_avg_fn") for side in (0, 1)]
    assert abs(found[0] - 4 / 3) <= np.spacing(4 / 3)
    assert abs(found[1] - 4 / 3) > 1e-9


def test_integers_are_not_averaged_in_float32():
    """Averages of integer buffers: not in float32."""
    counts = [2**24 + 1, 2**24 + 3]
    found = [int(averaged(side, [1.0, 1.0], counts).b) for side in (0, 1)]
    assert found == [2**24 + 2, 2**24]


def test_integers_are_averaged_by_every_function():
    """Averages of integer buffers: by every function."""
    assert averaged(0, [1.0, 1.0], [10, 17], "get_swa_multi_avg_fn").b == 13
    with pytest.raises(RuntimeError, match="Integer division with addcdiv"):
        averaged(1, [1.0, 1.0], [10, 17], "get_swa_multi_avg_fn")


def test_flags_are_averaged():
    """Averages of flags (bool buffers)."""
    for flags, want in (([True, False], True), ([False, False], False)):
        assert averaged(0, [1.0, 1.0], flags).b == want
        for side in (0, 1):
            assert bool(averaged(side, [1.0, 1.0], flags, "get_ema_avg_fn", [0.5]).b) == want
    with pytest.raises(RuntimeError, match="bool"):
        averaged(1, [1.0, 1.0], [True, True])


@pytest.mark.parametrize("count", [1, 3])
def test_a_model_with_other_parameters(count):
    """A model with more or fewer parameters than the average."""
    lists = [
        lambda values: [optim.Parameter([value]) for value in values],
        lambda values: torch.nn.ParameterList([torch.nn.Parameter(torch.tensor([value])) for value in values]),
    ]
    averages = [utils.AveragedModel(build([1.0, 2.0])) for utils, build in zip(BOTH, lists, strict=True)]
    others = [build([5.0, 6.0, 7.0][:count]) for build in lists]
    with pytest.raises(ValueError, match=f"has 2 parameters, but the model has {count}"):
        averages[0].update_parameters(others[0])
    assert [param.data.tolist() for param in averages[0].parameters()] == [[1.0], [2.0]]
    averages[1].update_parameters(others[1])
    assert [param.tolist() for param in averages[1].parameters()] == [[5.0], [6.0] if count > 2 else [2.0]]


def test_a_parameter_of_another_shape():
    """A parameter of another shape than its average."""
    ours, theirs = (utils.AveragedModel(model([1.0, 2.0])) for utils, model in zip(BOTH, MODELS, strict=True))
    with pytest.raises(ValueError, match=r"shape \(2,\) and dtype float64, but the model has shape \(1,\)"):
        ours.update_parameters(Ours([5.0]))
    theirs.update_parameters(Theirs([5.0]))
    assert [ours.module.w.data.tolist(), theirs.module.w.tolist()] == [[1.0, 2.0], [5.0, 5.0]]


def test_a_users_function_that_raises():
    """A user's averaging function that raises."""

    def function(average, current, n):
        if not average.shape:
            raise KeyError
        return average + 1

    found = []
    for side, (utils, model) in enumerate(zip(BOTH, MODELS, strict=True)):
        one = model([1.0], 1.0)
        average = utils.AveragedModel(one, avg_fn=function, use_buffers=True)
        average.update_parameters(one)
        with pytest.raises(KeyError):
            average.update_parameters(one)
        found.append(average.module.w.tolist() if side else average.module.w.data.tolist())
    assert found == [[1.0], [2.0]]


@pytest.mark.parametrize("name", ["get_ema_avg_fn", "get_swa_avg_fn", "get_ema_multi_avg_fn", "get_swa_multi_avg_fn"])
def test_functions_can_be_pickled(name):
    """Averaging functions in pickles."""
    ours, theirs = (getattr(utils, name)() for utils in BOTH)
    assert pickle.loads(pickle.dumps(ours)) == ours
    with pytest.raises((AttributeError, pickle.PicklingError)):
        pickle.dumps(theirs)


def test_averages_can_be_pickled():
    """Averaging functions in pickles: a model that has one can be pickled too."""
    ours, theirs = (
        utils.AveragedModel(model, multi_avg_fn=utils.get_ema_multi_avg_fn(0.5))
        for utils, model in zip(BOTH, ([optim.Parameter([1.0])], torch.nn.Linear(1, 1)), strict=True)
    )
    assert pickle.loads(pickle.dumps(ours)).multi_avg_fn == ours.multi_avg_fn
    with pytest.raises((AttributeError, pickle.PicklingError)):
        pickle.dumps(theirs)


def test_decay_that_is_no_number():
    """`decay=nan` of an average."""
    with pytest.raises(ValueError, match="Invalid decay value nan"):
        swa_utils.get_ema_avg_fn(float("nan"))
    assert torch.optim.swa_utils.get_ema_avg_fn(float("nan"))


def test_a_function_in_the_place_of_the_device():
    """`AveragedModel(model, get_ema_multi_avg_fn(0.9))`: both raise, and ours says what to write."""
    for utils, model, message in zip(
        BOTH, MODELS, ("write avg_fn= or multi_avg_fn=", "invalid combination"), strict=True
    ):
        with pytest.raises(TypeError, match=message):
            utils.AveragedModel(model([1.0]), utils.get_ema_multi_avg_fn(0.9), use_buffers=True)


def test_the_count_is_an_integer():
    """`n_averaged`."""
    ours, theirs = (utils.AveragedModel(model([1.0])) for utils, model in zip(BOTH, MODELS, strict=True))
    assert type(ours.state_dict()["n_averaged"]) is int
    ours.load_state_dict(ours.state_dict() | {"n_averaged": np.array(3)})
    assert ours.n_averaged == 3
    assert torch.is_tensor(theirs.state_dict()["n_averaged"])
