"""Every row of docs/deviations_averages.md, with both numbers."""

import pickle
from fractions import Fraction

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
    values = np.linspace(0, 1, 1_000, dtype=np.float32)
    ours = swa_utils.get_ema_avg_fn()(values, values, 1)
    theirs = torch.optim.swa_utils.get_ema_avg_fn()(torch.tensor(values), torch.tensor(values), 1).numpy()
    assert (ours != values).sum() == 0
    assert (theirs != values).sum() > 100


def test_exponential_averages_after_300_updates():
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
    values = np.array([[np.inf], [1.0]])
    with np.errstate(invalid="ignore"):
        found = [parameters(side, values, function=f"get_ema_{form}avg_fn")[0] for side in (0, 1)]
    np.testing.assert_array_equal(found, [np.nan, theirs])


def test_the_weight_of_equal_averages_is_not_float32():
    found = [parameters(side, [1.0, 1.0, 2.0], function="get_swa_multi_avg_fn") for side in (0, 1)]
    assert abs(found[0] - 4 / 3) <= np.spacing(4 / 3)
    assert abs(found[1] - 4 / 3) > 1e-9


def test_integers_are_not_averaged_in_float32():
    counts = [2**24 + 1, 2**24 + 3]
    found = [int(averaged(side, [1.0, 1.0], counts).b) for side in (0, 1)]
    assert found == [2**24 + 2, 2**24]


def test_integers_are_averaged_by_every_function():
    assert averaged(0, [1.0, 1.0], [10, 17], "get_swa_multi_avg_fn").b == 13
    with pytest.raises(RuntimeError, match="Integer division with addcdiv"):
        averaged(1, [1.0, 1.0], [10, 17], "get_swa_multi_avg_fn")


def test_flags_are_averaged():
    for flags, want in (([True, False], True), ([False, False], False)):
        assert averaged(0, [1.0, 1.0], flags).b == want
        for side in (0, 1):
            assert bool(averaged(side, [1.0, 1.0], flags, "get_ema_avg_fn", [0.5]).b) == want
    with pytest.raises(RuntimeError, match="bool"):
        averaged(1, [1.0, 1.0], [True, True])


@pytest.mark.parametrize("count", [1, 3])
def test_a_model_with_other_parameters(count):
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
    ours, theirs = (utils.AveragedModel(model([1.0, 2.0])) for utils, model in zip(BOTH, MODELS, strict=True))
    with pytest.raises(ValueError, match=r"shape \(2,\) and dtype float64, but the model has shape \(1,\)"):
        ours.update_parameters(Ours([5.0]))
    theirs.update_parameters(Theirs([5.0]))
    assert [ours.module.w.data.tolist(), theirs.module.w.tolist()] == [[1.0, 2.0], [5.0, 5.0]]


def test_a_users_function_that_raises():
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
    ours, theirs = (getattr(utils, name)() for utils in BOTH)
    assert pickle.loads(pickle.dumps(ours)) == ours
    with pytest.raises((AttributeError, pickle.PicklingError)):
        pickle.dumps(theirs)


def test_decay_that_is_no_number():
    with pytest.raises(ValueError, match="Invalid decay value nan"):
        swa_utils.get_ema_avg_fn(float("nan"))
    assert torch.optim.swa_utils.get_ema_avg_fn(float("nan"))


def test_a_function_in_the_place_of_the_device():
    for utils, model, message in zip(
        BOTH, MODELS, ("write avg_fn= or multi_avg_fn=", "invalid combination"), strict=True
    ):
        with pytest.raises(TypeError, match=message):
            utils.AveragedModel(model([1.0]), utils.get_ema_multi_avg_fn(0.9), use_buffers=True)


def test_the_count_is_an_integer():
    ours, theirs = (utils.AveragedModel(model([1.0])) for utils, model in zip(BOTH, MODELS, strict=True))
    assert type(ours.state_dict()["n_averaged"]) is int
    assert torch.is_tensor(theirs.state_dict()["n_averaged"])


class Norm:
    """Batch normalization, as far as update_bn goes."""

    def __init__(self):
        self.momentum, self.training = 0.1, True
        self.running_mean, self.running_var = np.zeros(2), np.ones(2)

    def reset_running_stats(self):
        self.running_mean[...] = 0

    def __call__(self, x):
        self.running_mean += (x.mean(axis=0) - self.running_mean) / 2
        return x


class Layers:
    def __init__(self, *layers):
        self.layers, self.training = layers, True

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)


def bn_models():
    ours = Layers(Norm(), Norm())
    theirs = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2))
    ours.layers[0].training = False
    theirs[0].eval()
    return (ours, ours.layers[0], np.ones((4, 2))), (theirs, theirs[0], torch.ones(4, 2))


def test_update_bn_keeps_the_mode_of_every_layer():
    modes = []
    for utils, (model, layer, batch) in zip(BOTH, bn_models(), strict=True):
        utils.update_bn([batch], model)
        modes.append(layer.training)
    assert modes == [False, True]


def test_update_bn_leaves_everything_as_it_was_when_the_loader_raises():
    def loader(batch):
        yield batch
        raise KeyError

    found = []
    for utils, (model, layer, batch) in zip(BOTH, bn_models(), strict=True):
        with pytest.raises(KeyError):
            utils.update_bn(loader(batch), model)
        found.append((layer.momentum, layer.training, layer.running_mean.tolist()))
    assert found == [(0.1, False, [0.0, 0.0]), (None, True, [1.0, 1.0])]


def optimizers(lr=0.3):
    """Return an optimizer of each library."""
    params = optim.Parameter([1.0]), torch.nn.Parameter(torch.ones(1))
    return [module.SGD([param], lr=lr) for module, param in zip((optim, torch.optim), params, strict=True)]


def curve(optimizer, scheduler, count):
    """Return the learning rates now and after each of so many steps."""
    optimizer.step()
    found = [optimizer.param_groups[0]["lr"]]
    for _ in range(count):
        scheduler.step()
        found.append(optimizer.param_groups[0]["lr"])
    return found


def test_swalr_goes_on_from_its_last_epoch():
    found = []
    for utils, first, second in zip(BOTH, optimizers(), optimizers(), strict=True):
        whole = curve(first, utils.SWALR(first, 0.05, 5, "linear"), 3)
        second.load_state_dict(first.state_dict())
        resumed = utils.SWALR(second, 0.05, 5, "linear", last_epoch=3)
        found.append([round(lr, 9) for lr in (whole[3], *curve(second, resumed, 1))])
    assert found == [[0.15, 0.1, 0.05], [0.15, 0.15, 0.13]]


def test_swalr_does_not_drift():
    lr, swa_lr = Fraction(0.3), Fraction(0.05)
    exact = np.array([float(swa_lr + (lr - swa_lr) * (1_000 - t) / 1_000) for t in range(1_001)])
    ulps = []
    for utils, optimizer in zip(BOTH, optimizers(), strict=True):
        lrs = np.array(curve(optimizer, utils.SWALR(optimizer, 0.05, 1_000, "linear"), 1_000))
        ulps.append(np.max(np.abs(lrs - exact) / np.spacing(exact)))
    assert ulps[0] == 0
    assert ulps[1] > 20


def test_the_names_of_swalrs_arguments():
    for utils, optimizer in zip(BOTH, optimizers(), strict=True):
        utils.SWALR(optimizer, swa_lr=0.05, anneal_epochs=5, anneal_strategy="linear")
        with pytest.raises(TypeError, match="swa_lrs"):
            utils.SWALR(optimizer, swa_lrs=0.05)
    documented = [utils.SWALR.__doc__ for utils in BOTH]
    assert ["swa_lr: " in text for text in documented] == [True, False]


def test_something_else_than_an_optimizer():
    for utils, error in zip(BOTH, (TypeError, AttributeError), strict=True):
        with pytest.raises(error):
            utils.SWALR([], 0.1)
