"""Rows of docs/deviations.md about update_bn and SWALR, with both numbers."""

from fractions import Fraction

import numpy as np
import pytest

import refoptim as optim
from refoptim import lr_scheduler, swa_utils

torch = pytest.importorskip("torch", reason="torch, whose numbers these are, is not installed")

BOTH = [swa_utils, torch.optim.swa_utils]


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
    """`update_bn`, layers in another mode than the model."""
    modes = []
    for utils, (model, layer, batch) in zip(BOTH, bn_models(), strict=True):
        utils.update_bn([batch], model)
        modes.append(layer.training)
    assert modes == [False, True]


@pytest.mark.parametrize("raises", ["loader", "model"])
def test_update_bn_leaves_everything_as_it_was(raises):
    """`update_bn`, a loader or model that raises."""

    def loader(batch):
        yield batch
        if raises == "loader":
            raise TypeError
        yield "no batch"

    found = []
    for utils, (model, layer, batch) in zip(BOTH, bn_models(), strict=True):
        with pytest.raises((TypeError, AttributeError)):
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
    """`SWALR(..., last_epoch=n)`."""
    found = []
    for utils, first, second in zip(BOTH, optimizers(), optimizers(), strict=True):
        whole = curve(first, utils.SWALR(first, 0.05, 5, "linear"), 3)
        second.load_state_dict(first.state_dict())
        resumed = utils.SWALR(second, 0.05, 5, "linear", last_epoch=3)
        found.append([round(lr, 9) for lr in (whole[3], *curve(second, resumed, 1))])
    assert found == [[0.15, 0.1, 0.05], [0.15, 0.15, 0.13]]


def test_swalr_does_not_drift():
    """`SWALR`, drift."""
    lr, swa_lr = Fraction(0.3), Fraction(0.05)
    exact = np.array([float(swa_lr + (lr - swa_lr) * (1_000 - t) / 1_000) for t in range(1_001)])
    ulps = []
    for utils, optimizer in zip(BOTH, optimizers(), strict=True):
        lrs = np.array(curve(optimizer, utils.SWALR(optimizer, 0.05, 1_000, "linear"), 1_000))
        ulps.append(np.max(np.abs(lrs - exact) / np.spacing(exact)))
    assert ulps[0] == 0
    assert ulps[1] > 20


def test_the_names_of_swalrs_arguments():
    """`SWALR`, names of arguments."""
    for utils, optimizer in zip(BOTH, optimizers(), strict=True):
        utils.SWALR(optimizer, swa_lr=0.05, anneal_epochs=5, anneal_strategy="linear")
        with pytest.raises(TypeError, match="swa_lrs"):
            utils.SWALR(optimizer, swa_lrs=0.05)
    documented = [utils.SWALR.__doc__ for utils in BOTH]
    assert ["swa_lr: " in text for text in documented] == [True, False]


@pytest.mark.parametrize("name", ["SWALR", "LambdaLR", "MultiplicativeLR"])
def test_something_else_than_an_optimizer(name):
    """SWALR, LambdaLR and MultiplicativeLR of something else than an optimizer."""
    for utils, schedulers, error, message in (
        (swa_utils, lr_scheduler, TypeError, "list is not an Optimizer"),
        (BOTH[1], torch.optim.lr_scheduler, AttributeError, "param_groups"),
    ):
        build = getattr(utils if name == "SWALR" else schedulers, name)
        with pytest.raises(error, match=message):
            build([], 0.1)
