"""Schedulers to save, and to go on with."""

import json

import refoptim as optim

STEPS = 24


def third(epoch):
    return 1 / (1 + epoch / 3)


class Falling:
    """A callable object: its attributes are saved."""

    def __init__(self, rate):
        self.rate = rate

    def __call__(self, epoch):
        return self.rate**epoch


def rate_of(optimizer):
    return [(group["lr"], group.get("momentum")) for group in optimizer.param_groups]


def sgd():
    groups = [{"params": [optim.Parameter([1.0])], "lr": lr} for lr in (0.1, 0.3)]
    optimizer = optim.SGD(groups, momentum=0.9)
    optimizer._opt_called = True
    return optimizer


def disturb(optimizer, epoch):
    # Somebody else has a hand in it, too.
    if epoch % 5 == 2:
        optimizer.param_groups[0]["lr"] *= 0.9


def run(optimizer, scheduler, first, last):
    curve = []
    for epoch in range(first, last):
        scheduler.step()
        disturb(optimizer, epoch)
        curve.append((rate_of(optimizer), scheduler.get_last_lr()))
    return curve


def resumed(build, state, saved, optimizer_first):
    """Return optimizer and scheduler as they are built in another process, and loaded in either order."""
    optimizer = sgd()
    scheduler = build(optimizer)
    loads = [lambda: optimizer.load_state_dict(saved), lambda: scheduler.load_state_dict(json.loads(state))]
    for load in loads if optimizer_first else reversed(loads):
        load()
    return optimizer, scheduler
