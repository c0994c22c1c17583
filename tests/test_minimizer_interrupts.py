"""Ctrl-C leaves a step of L-BFGS or CG done or not begun, also while it is being undone or written down."""

import itertools
import signal
import sys
import threading
from contextlib import suppress

import numpy as np
import pytest
from interrupting import interrupting

import refoptim as optim

pytestmark = pytest.mark.usefixtures("python_hears_it")

OPTIMIZERS = {
    "lbfgs": (optim.LBFGS, {"history_size": 2}),
    "searched": (optim.LBFGS, {"history_size": 2, "line_search_fn": "strong_wolfe"}),
    "cg": (optim.CG, {}),
}
CURVATURE = np.linspace(1, 4, 12)
MODULES = (
    "minimizer",
    "objective",
    "interrupts",
    "recycler",
    "state",
    "optimizers.lbfgs",
    "optimizers.cg",
    "kernels.lbfgs",
)
OWN = {"contextlib", "_collections_abc", *(f"refoptim.{name}" for name in MODULES)}
DENSE, STRIDE = 30, 37


def built(name):
    kind, options = OPTIMIZERS[name]
    params = [optim.Parameter(np.linspace(1, 2, size)) for size in (5, 7)]
    return kind(params, max_iter=3, **options), params


def closure_of(params, fails=None):
    calls = itertools.count(1)

    def closure():
        if next(calls) == fails:
            raise ZeroDivisionError("no loss")
        loss = 0.0
        for param, curvature in zip(params, np.split(CURVATURE, [5])):
            param.grad = curvature * param.data**3
            loss += float(param.grad @ param.data) / 4
        return loss

    return closure


def snapshot(optimizer, params):
    """Return the bytes of everything that a step changes."""

    def plain(value):
        return [plain(item) for item in value] if isinstance(value, list) else np.asarray(value).tobytes()

    state = {name: plain(value) for name, value in optimizer.state[params[0]].items() if name != "al"}
    return [param.data.tobytes() for param in params], state


def moments(count):
    """Return some of the moments of a step: the first and the last ones, where state is written, and some between."""
    return sorted({*range(1, DENSE), *range(DENSE, count, STRIDE), *range(count - DENSE, count + 1)})


def interrupted(optimizer, closure, moment):
    """Take a step that is interrupted at this moment, and return how many there were and what was raised."""
    trace, been = interrupting(moment, OWN.__contains__)
    sys.settrace(trace)
    try:
        optimizer.step(closure)
    except (KeyboardInterrupt, ZeroDivisionError) as error:
        return been, error
    finally:
        sys.settrace(None)
    return been, None


@pytest.mark.parametrize("fails", [None, 2], ids=["goes on", "fails"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_interrupt_wherever_python_looks_for_one(name, fails):
    optimizer, params = built(name)
    optimizer.step(closure_of(params))
    reference, others = built(name)
    for step in (closure_of(others), closure_of(others, fails)):
        before = snapshot(reference, others)
        with suppress(ZeroDivisionError):
            reference.step(step)
    after = snapshot(reference, others)
    saved = optimizer.state_dict()

    def again(moment):
        optimizer.load_state_dict(saved)
        for param, data in zip(params, before[0]):
            param.data = np.frombuffer(data)
        return interrupted(optimizer, closure_of(params, fails), moment)

    again(0)  # the first one is a little shorter
    count, happened = len(again(0)[0]), []
    for moment in moments(count):
        _, error = again(moment)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert isinstance(error, KeyboardInterrupt), f"moment {moment} of {count}"
        found = snapshot(optimizer, params)
        assert found in (before, after), f"moment {moment} of {count}"
        happened.append(found == after)
    assert happened == sorted(happened)
    assert (happened[0], happened[-1]) == (before == after, True)


def test_a_thread_of_its_own_and_a_handler_of_its_own():
    optimizer, params = built("lbfgs")
    before, errors = snapshot(optimizer, params), []

    def fail():
        try:
            optimizer.step(closure_of(params, 2))
        except ZeroDivisionError as error:
            errors.append(error)

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    fail()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    assert len(errors) == 2
    assert snapshot(optimizer, params) == before
