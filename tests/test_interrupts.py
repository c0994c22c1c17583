"""Ctrl-C leaves a step done or not begun, whatever moment it comes at."""

import json
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from interrupting import interrupting

import refoptim as optim
from refoptim import interrupts
from refoptim.kernels import jit, jobs, pool

pytestmark = pytest.mark.usefixtures("python_hears_it")

OPTIMIZERS = {
    "sgd": (optim.SGD, {"lr": 0.1}),
    "momentum": (optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    "adam": (optim.Adam, {"lr": 0.01}),
    "nadam": (optim.NAdam, {"lr": 0.01}),
    "adafactor": (optim.Adafactor, {"lr": 0.1}),
    "muon": (optim.Muon, {"lr": 0.1}),
    "foreach": (optim.Adam, {"lr": 0.01, "foreach": True}),
    "wide": (optim.AdamW, {"lr": 0.01, "arithmetic": "float64"}),
}


def build(name, groups=1, shape=(4, 5)):
    kind, options = OPTIMIZERS[name]
    params = [optim.Parameter(np.random.default_rng(i).standard_normal(shape)) for i in range(groups)]
    for param in params:
        param.grad = np.full(shape, 0.25)
    return kind([{"params": [param]} for param in params], **options), params


def snapshot(optimizer, params):
    """Return the bytes of everything that a step changes."""
    entries = [sorted(optimizer.state[param].items()) for param in params]
    state = [(name, np.asarray(value).tobytes()) for entry in entries for name, value in entry]
    return [param.data.tobytes() for param in params], state


# The moments tried: each of the first ones, then some.
DENSE, STRIDE = 60, 11


# With several groups Ctrl-C always waits. Muon has most moments.
EVERYWHERE = [(name, groups) for name in OPTIMIZERS for groups in (1, 3)]


@pytest.mark.parametrize(("name", "groups"), [
    pytest.param(*row, marks=pytest.mark.slow) if row == ("muon", 3) else row for row in EVERYWHERE
])  # fmt: skip
def test_an_interrupt_wherever_python_looks_for_one(name, groups):
    interrupt_everywhere(name, groups, (4, 5))


@pytest.mark.parametrize(("threshold", "count"), [(0, 1), (0, 2), (100_000, 2)], ids=["alone", "shared", "short"])
@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_an_interrupt_of_a_loop_that_is_kept_for_the_pool(monkeypatch, name, threshold, count):
    monkeypatch.setattr(jit, "SERIAL_BELOW", threshold)
    monkeypatch.setattr(pool, "STEADY", -1)  # short loops wake threads
    before = optim.get_num_threads()
    optim.set_num_threads(count)
    try:
        interrupt_everywhere(name, 1, (40, 50), sys.maxsize)
    finally:
        optim.set_num_threads(before)
    assert not pool.current().box[jobs.BUSY]


def interrupt_everywhere(name, groups, shape, dense=DENSE):
    optimizer, params = build(name, groups, shape)
    optimizer.step()
    moment, happened = 0, {False: 0, True: 0}
    while True:
        moment += 1 if moment < dense else STRIDE
        reference, others = build(name, groups, shape)
        reference.load_state_dict(optimizer.state_dict())
        for other, param in zip(others, params, strict=True):
            other.data = param.data
        before = snapshot(optimizer, params)
        reference.step()
        after = snapshot(reference, others)
        trace, been = interrupting(moment)
        sys.settrace(trace)
        try:
            optimizer.step()
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        found = snapshot(optimizer, params)
        assert found in (before, after), f"moment {moment}"
        happened[found == after] += 1
        if len(been) < moment:
            break
    assert min(happened.values()) > 0


STORM = """
import json, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
import numpy as np
import refoptim as optim
from refoptim.kernels import jit

jit.SERIAL_BELOW = int(sys.argv[2])
optim.set_num_threads(2)
params = [optim.Parameter(np.linspace(1, 2, size)) for size in (10, 40_000, 300)]
groups = [{"params": params[:2]}, {"params": params[2:]}] if sys.argv[1] == "two" else [{"params": params}]
optimizer = optim.Adam(groups, lr=0.01)
for param in params:
    param.grad = np.full(param.shape, 0.5)
optimizer.step()
interrupts = 0
while interrupts < 60:
    try:
        print(interrupts, flush=True)
        while True:
            optimizer.step()
    except KeyboardInterrupt:
        interrupts += 1
steps = {optimizer.state[param]["step"] for param in params}
other = [optim.Parameter(np.linspace(1, 2, size)) for size in (10, 40_000, 300)]
again = optim.Adam(other, lr=0.01)
for param in other:
    param.grad = np.full(param.shape, 0.5)
for _ in range(int(max(steps))):
    again.step()
names = ("exp_avg", "exp_avg_sq")
same = all(
    a.data.tobytes() == b.data.tobytes()
    and all(optimizer.state[a][name].tobytes() == again.state[b][name].tobytes() for name in names)
    for a, b in zip(params, other)
)
print(json.dumps({"counts": len(steps), "same": same}), flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")
@pytest.mark.parametrize(("groups", "threshold"), [
    pytest.param("one", 10**9, id="one-alone"),
    pytest.param("two", 0, id="two-shared"),
    pytest.param("one", 0, id="one-shared"),
    pytest.param("two", 10**9, id="two-alone", marks=pytest.mark.slow),
])  # fmt: skip
def test_many_interrupts_at_random_moments(groups, threshold):
    rng = np.random.default_rng(8)
    command = [sys.executable, "-c", STORM, groups, str(threshold)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        pause, watch = threading.Event(), threading.Timer(300, child.kill)
        watch.start()
        for number in range(60):
            assert child.stdout.readline() == f"{number}\n"
            pause.wait(rng.uniform(0, 0.003))
            child.send_signal(signal.SIGINT)
        assert json.loads(child.stdout.readline()) == {"counts": 1, "same": True}
        watch.cancel()
    assert child.returncode == 0


def test_other_threads_and_handlers_of_ones_own():
    asked = []
    before = signal.signal(signal.SIGINT, lambda *arguments: asked.append(arguments[0]))
    try:
        launches = [(signal.raise_signal, (signal.SIGINT,)), (lambda: asked.append("done"), ())]
        interrupts.carry_out(launches, iter(launches))
        thread = threading.Thread(target=interrupts.carry_out, args=(launches[1:], iter(launches[1:])))
        thread.start()
        thread.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert asked == ["done", signal.SIGINT, "done"]


def test_an_error_of_the_step_is_raised_and_the_handler_is_back():
    launches = [(int, ("x",)), (int, ("1",))]
    with pytest.raises(ValueError, match="invalid literal"):
        interrupts.carry_out(launches, iter(launches))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
