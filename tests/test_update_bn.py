"""update_bn: the statistics of a pass over data, and everything else as it was."""

import numpy as np
import pytest

import refoptim as optim
from refoptim.conformance.tolerances import CLOSE
from refoptim.swa_utils import AveragedModel, BatchNorm, update_bn

BATCHES = list(np.random.default_rng(0).standard_normal((5, 8, 3)) * [1.0, 2.0, 3.0] + [5.0, 0.0, -5.0])


class Norm:
    """Batch normalization of the last axis."""

    def __init__(self, size=3, momentum=0.1):
        self.momentum, self.training = momentum, False
        self.running_mean, self.running_var = np.full(size, 7.0), np.full(size, 7.0)
        self.num_batches_tracked = np.array(4)

    def reset_running_stats(self):
        self.running_mean[...], self.running_var[...], self.num_batches_tracked[...] = 0, 1, 0

    def __call__(self, x):
        if not self.training:
            return (x - self.running_mean) / np.sqrt(self.running_var)
        self.num_batches_tracked += 1
        share = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
        self.running_mean += share * (x.mean(axis=0) - self.running_mean)
        self.running_var += share * (x.var(axis=0, ddof=1) - self.running_var)
        return (x - x.mean(axis=0)) / x.std(axis=0)


class WithForward:
    """A model with two such layers, one of them in a list, and a scale. It cannot be called."""

    def __init__(self, broken_at=None):
        self.first, self.layers, self.seen, self.broken_at = Norm(), [Norm(momentum=None), str], 0, broken_at
        self.scale, self.training = optim.Parameter([2.0]), False

    def parameters(self):
        return [self.scale]

    def buffers(self):
        norms = (self.first, self.layers[0])
        return [array for n in norms for array in (n.running_mean, n.running_var, n.num_batches_tracked)]

    def forward(self, x):
        self.seen += 1
        if self.seen == self.broken_at:
            raise KeyError("no such batch")
        return self.layers[0](self.scale.data * self.first(x))


class Model(WithForward):
    __call__ = WithForward.forward


class WithModules(Model):
    def modules(self):
        yield self
        yield self.first
        yield self.layers[0]
        yield self.first


def everything(model):
    norms = [model.first, model.layers[0]]
    content = [array.tobytes() for array in model.buffers()]
    return [*content, *(n.momentum for n in norms), *(x.training for x in (model, *norms))]


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: (x, 1), lambda x: [x, "label"]])
@pytest.mark.parametrize("kind", [Model, WithModules, WithForward, lambda: AveragedModel(WithModules())])
def test_statistics_are_the_means_over_all_batches(kind, wrap):
    model = kind()
    update_bn((wrap(x) for x in BATCHES), model)
    model = getattr(model, "module", model)
    norm = model.first
    np.testing.assert_allclose(norm.running_mean, np.mean([x.mean(0) for x in BATCHES], 0), **CLOSE["float64"])
    np.testing.assert_allclose(norm.running_var, np.mean([x.var(0, ddof=1) for x in BATCHES], 0), **CLOSE["float64"])
    assert model.layers[0].running_mean.max() < 1
    assert [norm.momentum, model.layers[0].momentum] == [0.1, None]
    assert norm.num_batches_tracked == model.layers[0].num_batches_tracked == model.seen == len(BATCHES)


def test_statistics_are_torchs():
    torch = pytest.importorskip("torch", reason="torch, which this is compared with, is not installed")
    ours, theirs = Norm(), torch.nn.BatchNorm1d(3, affine=False, dtype=torch.float64)
    update_bn(BATCHES, ours)
    torch.optim.swa_utils.update_bn([torch.tensor(x) for x in BATCHES], theirs)
    np.testing.assert_allclose(ours.running_mean, theirs.running_mean.numpy(), **CLOSE["float64"])
    np.testing.assert_allclose(ours.running_var, theirs.running_var.numpy(), **CLOSE["float64"])


def test_every_mode_is_what_it_was():
    model = WithModules()
    model.training = model.first.training = True
    modes = []

    def loader():
        for batch in BATCHES:
            modes.append([layer.training for layer in (model, model.first, model.layers[0])])
            yield batch

    update_bn(loader(), model)
    assert modes == [[True] * 3] * 5
    assert [model.training, model.first.training, model.layers[0].training] == [True, True, False]


def fails_to_load():
    yield BATCHES[0]
    raise KeyError("no such batch")


@pytest.mark.parametrize(
    ("model", "loader"),
    [(Model(broken_at=3), BATCHES), (Model(), fails_to_load()), (WithModules(), [BATCHES[0], np.ones((2, 4))])],
)
def test_a_pass_that_fails_changes_nothing(model, loader):
    model.first.training = True
    before, arrays = everything(model), model.buffers()
    with pytest.raises((KeyError, ValueError)):
        update_bn(loader, model)
    assert everything(model) == before
    assert all(left is right for left, right in zip(arrays, model.buffers(), strict=True))


def test_statistics_that_are_replaced_come_back():
    class Replacing(Norm):
        def reset_running_stats(self):
            self.running_mean, self.running_var, self.num_batches_tracked = np.zeros(3), np.ones(3), 0

    norm = Replacing()
    mean = norm.running_mean
    with pytest.raises(KeyError):
        update_bn(fails_to_load(), norm)
    assert norm.running_mean is mean
    assert norm.running_mean.tolist() == [7.0] * 3
    update_bn(BATCHES, norm)
    np.testing.assert_allclose(norm.running_mean, np.mean(BATCHES, (0, 1)), **CLOSE["float64"])


def test_an_empty_loader_leaves_reset_statistics():
    model = Model()
    update_bn([], model)
    assert model.first.running_mean.tolist() == [0.0] * 3
    assert model.first.running_var.tolist() == [1.0] * 3


@pytest.mark.parametrize("model", [lambda x: x, Model, [optim.Parameter([1.0])], {"w": optim.Parameter([1.0])}])
def test_without_layers_the_loader_is_not_touched(model):
    def loader():
        raise AssertionError("touched")
        yield

    update_bn(loader(), model)


@pytest.mark.parametrize("device", ["tpu", 0])
def test_another_device_is_refused(device):
    model = Model()
    before = everything(model)
    with pytest.raises(ValueError, match="device must be 'cpu', 'cuda'"):
        update_bn(BATCHES, model, device)
    assert everything(model) == before


def test_what_is_a_layer():
    assert isinstance(Norm(), BatchNorm)
    for name in ("running_mean", "running_var", "momentum"):
        norm = Norm()
        delattr(norm, name)
        assert not isinstance(norm, BatchNorm)


def test_modes_of_an_averaged_model():
    averaged = AveragedModel(WithModules())
    assert averaged.train().training
    assert averaged.module.layers[0].training
    assert not averaged.eval().training
    assert not averaged.module.first.training
    assert not AveragedModel([optim.Parameter([1.0])]).training
