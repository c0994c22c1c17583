"""Rows of docs/deviations.md about SequentialLR, with both numbers."""

import numpy as np
import pytest

import refoptim as optim
from refoptim import lr_scheduler as ours
from refoptim.conformance.tolerances import FEW_DIGITS

torch = pytest.importorskip("torch", reason="torch, whose numbers these are, is not installed")
theirs = torch.optim.lr_scheduler

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

MODULES = [ours, theirs]
# The schedulers of a sequence. The second begins at epoch 3.
PARTS = {
    "chain first": lambda m, o: [
        m.ChainedScheduler([m.ExponentialLR(o, 0.5), m.ConstantLR(o, 1.0, 9)]),
        m.ExponentialLR(o, 0.9),
    ],
    "chain later": lambda m, o: [m.ExponentialLR(o, 0.9), m.ChainedScheduler([m.ExponentialLR(o, 0.5)])],
    "multiplicative": lambda m, o: [m.ConstantLR(o, 0.5, 9), m.MultiplicativeLR(o, lambda _: 0.5)],
    "one cycle": lambda m, o: [m.LinearLR(o, 0.5, 1.0, 2), m.OneCycleLR(o, 0.1, 10, cycle_momentum=False)],
    "exponential": lambda m, o: [m.ConstantLR(o, 0.5, 9), m.ExponentialLR(o, 0.1)],
}


def sgd(module):
    """Return an optimizer with learning rate 1 for the schedulers of this module."""
    if module is ours:
        return optim.SGD([optim.Parameter([1.0])], lr=1.0)
    return torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)


def sequential(module, kind, optimizer=None, **options):
    optimizer = optimizer or sgd(module)
    return module.SequentialLR(optimizer, PARTS[kind](module, optimizer), [3], **options)


def curve(scheduler, steps):
    """Return the learning rates now and after each of so many steps."""
    found = list(scheduler.get_last_lr())
    for _ in range(steps):
        scheduler.step()
        found += scheduler.get_last_lr()
    return found


def close(values):
    return pytest.approx(values, **FEW_DIGITS)


def test_a_chain_as_the_first():
    """SequentialLR of composites: as the first, torch's is an epoch ahead."""
    mine, other = (curve(sequential(module, "chain first"), 3) for module in MODULES)
    assert (mine, other) == ([1.0, 0.5, 0.25, 1.0], [0.5, 0.25, 0.125, 1.0])


def test_a_chain_as_a_later_one():
    """SequentialLR of composites: as a later one, torch's cannot begin."""
    assert curve(sequential(ours, "chain later"), 5)[3:] == [1.0, 0.5, 0.25]
    with pytest.raises(NotImplementedError):
        curve(sequential(theirs, "chain later"), 5)


def test_multiplicative_starts_from_its_own_base():
    """SequentialLR, MultiplicativeLR as a later one: torch's multiplies what there is."""
    mine, other = (curve(sequential(module, "multiplicative"), 4)[3:] for module in MODULES)
    assert (mine, other) == ([1.0, 0.5], [0.25, 0.125])


def test_those_before_one_cycle_start_from_their_own_base():
    """SequentialLR, OneCycleLR as a later one."""
    mine, other = (curve(sequential(module, "one cycle"), 1) for module in MODULES)
    assert mine == [0.5, 0.75]
    assert other == close([0.002, 0.003])


def test_one_cycle_leaves_the_initial_learning_rate():
    """SequentialLR with a later OneCycleLR, `initial_lr`: what a new process reads from the loaded group."""
    found = []
    for module in MODULES:
        optimizer, again = sgd(module), sgd(module)
        sequential(module, "one cycle", optimizer)
        again.load_state_dict(optimizer.state_dict())
        resumed = sequential(module, "one cycle", again, last_epoch=0)
        found.append([optimizer.param_groups[0]["initial_lr"], *resumed.get_last_lr()])
    assert np.round(found, 12).tolist() == [[1.0, 0.75], [0.004, 0.002]]


def test_sequential_goes_on_at_last_epoch():
    """SequentialLR, `last_epoch`: epoch 5 is the third of the second scheduler."""
    mine, other = (sequential(module, "exponential", last_epoch=4).get_last_lr() for module in MODULES)
    assert mine == close([0.01])
    assert other == close([0.5])


def test_every_cycle_has_its_own_bounds():
    """SequentialLR of several OneCycleLR: torch's read the groups, where the last one has overwritten the bounds."""
    found = []
    for module in MODULES:
        optimizer = sgd(module)
        cycles = [module.OneCycleLR(optimizer, max_lr, 10, cycle_momentum=False) for max_lr in (1.0, 0.5)]
        scheduler = module.SequentialLR(optimizer, cycles, [10])
        optimizer.step()
        seen = []
        for _ in range(20):
            seen.append(optimizer.param_groups[0]["lr"])
            scheduler.step()
        found.append([max(seen[:10]), max(seen[10:])])
    assert found == [[1.0, 0.5], [0.5, 0.5]]
