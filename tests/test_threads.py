"""Steps in many threads, after forks, in children of every kind: they are safe, and their bits are the same."""

import gc
import multiprocessing
import os
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import refoptim as optim
from refoptim.kernels import jit, jobs, kept, pool
from refoptim.kernels.reductions import norm

OPTIMIZERS = {
    "sgd": (optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    "adam": (optim.Adam, {"lr": 0.01}),
    "adagrad": (optim.Adagrad, {"lr": 0.1}),
    "adafactor": (optim.Adafactor, {"lr": 0.1}),
    "muon": (optim.Muon, {"lr": 0.1}),
}
SHAPE, STEPS = (60, 75), 4
FORKS = hasattr(os, "fork")


def trajectory(name, steps=STEPS):
    """Return the bytes of a parameter after some steps."""
    kind, options = OPTIMIZERS[name]
    rng = np.random.default_rng(5)
    param = optim.Parameter(rng.standard_normal(SHAPE).astype(np.float32))
    optimizer = kind([param], **options)
    for _ in range(steps):
        param.grad = rng.standard_normal(SHAPE).astype(np.float32)
        optim_norm = norm(param.grad.reshape(-1))
        optimizer.step()
    return param.data.tobytes() + np.float64(optim_norm).tobytes()


def all_trajectories():
    return {name: trajectory(name) for name in OPTIMIZERS}


def share_everything(count):
    """Make every loop one that threads share, from the next step on."""
    optim.set_num_threads(count)
    jit.SERIAL_BELOW, jit.GRAIN = 0, 64


def in_a_child(connection):
    share_everything(2)
    connection.send((all_trajectories(), len(pool._Current.pool._workers)))


@pytest.fixture(scope="module")
def wanted():
    return all_trajectories()


@pytest.fixture(autouse=True)
def shared(monkeypatch, wanted):
    """Share everything among three threads until the test ends."""
    monkeypatch.setattr(jit, "SERIAL_BELOW", 0)
    monkeypatch.setattr(jit, "GRAIN", 64)
    before = optim.get_num_threads()
    optim.set_num_threads(3)
    yield
    optim.set_num_threads(before)


@pytest.mark.parametrize("count", [1, pytest.param(2, marks=pytest.mark.slow), 3, 5])
def test_any_number_of_threads_gives_the_same_bits(wanted, count):
    optim.set_num_threads(count)
    assert all_trajectories() == wanted
    if count > 1:
        assert len(pool._Current.pool._workers) == count - 1


def test_several_threads_take_chunks():
    seen, kernel = set(), np.zeros(200_000)
    before = norm(kernel)
    for _ in range(20):
        trajectory("adam", 1)
        seen.add(len(pool._Current.pool._workers))
    assert seen == {2}
    assert before == 0


@pytest.mark.parametrize("callers", [2, 8])
def test_steps_of_many_threads_at_once(wanted, callers):
    names = list(OPTIMIZERS) * 4
    with ThreadPoolExecutor(callers) as executor:
        found = list(executor.map(trajectory, names))
    assert found == [wanted[name] for name in names]


def test_thread_pools_in_thread_pools(wanted):
    def inner(name):
        with ThreadPoolExecutor(2) as executor:
            return list(executor.map(trajectory, [name, name]))

    with ThreadPoolExecutor(3) as executor:
        found = list(executor.map(inner, OPTIMIZERS))
    assert found == [[bits, bits] for bits in wanted.values()]


def test_who_finds_the_pool_busy_runs_alone(wanted):
    box = pool._Current.pool._box
    box[jobs.BUSY], job = 1, box[jobs.NUMBER]
    assert trajectory("adam") == wanted["adam"]
    assert (box[jobs.BUSY], box[jobs.NUMBER]) == (1, job)
    box[jobs.BUSY] = 0
    assert trajectory("adam") == wanted["adam"]
    assert box[jobs.NUMBER] != job


@pytest.mark.skipif(not FORKS, reason="there is no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("busy", [pytest.param(False, marks=pytest.mark.slow), True])
def test_steps_after_a_fork(wanted, busy):
    assert trajectory("adam") == wanted["adam"]  # there are threads now, which the child will not have
    stop, failed = threading.Event(), []

    def step_on():
        while not stop.is_set():
            if trajectory("sgd") != wanted["sgd"]:
                failed.append("sgd")

    other = threading.Thread(target=step_on)
    if busy:
        other.start()
    for _ in range(4):
        child = os.fork()
        if not child:
            same = all_trajectories() == wanted and len(pool._Current.pool._workers) == 2
            os._exit(0 if same else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert all_trajectories() == wanted
    stop.set()
    if busy:
        other.join()
    assert not failed


FORKS_WHILE_COMPILING = """
import os, signal, threading, warnings
import numba, numpy as np
import refoptim as optim

warnings.simplefilter("ignore", DeprecationWarning)  # of forks in processes with threads

def step(dtype):
    param = optim.Parameter(np.ones(10, dtype))
    optim.SGD([param], lr=0.5).step(grads=[np.ones(10, dtype)])
    return param.data.tolist() == [0.5] * 10

def compile_one():
    return numba.njit("f8(f8)")(lambda x: x / 2)(1.0) == 0.5

def compile_on():
    while True:
        compile_one()
        compiled.append(None)

compiled = []
assert step("f4")
threading.Thread(target=compile_on, daemon=True).start()
for number in range(4):
    while len(compiled) < number:
        pass
    child = os.fork()
    if not child:
        signal.alarm(30)  # what hangs is killed
        os._exit(not (step("f4") and step("f8") and compile_one()))
    assert os.waitpid(child, 0)[1] == 0
print("done", flush=True)
os._exit(0)
"""


@pytest.mark.skipif(not FORKS, reason="there is no fork")
def test_forks_while_another_thread_compiles():
    command = [sys.executable, "-c", FORKS_WHILE_COMPILING]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("method", [
    pytest.param(method, marks=pytest.mark.slow) if method == "forkserver" else method
    for method in multiprocessing.get_all_start_methods()
])  # fmt: skip
def test_children_of_every_kind(wanted, method):
    trajectory("adam")
    context = multiprocessing.get_context(method)
    here, there = context.Pipe()
    child = context.Process(target=in_a_child, args=(there,))
    child.start()
    there.close()  # a child that fails at once is an error, and nobody waits for it
    found, workers = here.recv()
    child.join()
    assert (found, workers, child.exitcode) == (wanted, 1, 0)


ENDS = """
import atexit, sys, threading
import numpy as np
import refoptim as optim
from refoptim.kernels import jit

optim.set_num_threads(3)
jit.SERIAL_BELOW, jit.GRAIN = 0, 64
param = optim.Parameter(np.ones(1000))
optimizer = optim.Adam([param])
step = lambda: optimizer.step(grads=[np.ones(1000)])
atexit.register(step)
step()
atexit.register(step)
if sys.argv[1] == "daemon":
    threading.Thread(target=lambda: [step() for _ in iter(int, 1)], daemon=True).start()
"""


@pytest.mark.parametrize("how", [pytest.param("alone", marks=pytest.mark.slow), "daemon"])
def test_a_process_ends_whatever_steps_there_are(how):
    run = subprocess.run([sys.executable, "-c", ENDS, how], capture_output=True, text=True, timeout=100, check=False)
    assert (run.returncode, run.stdout) == (0, ""), run.stderr


@pytest.mark.parametrize(("variables", "count"), [
    ({"NUMBA_NUM_THREADS": "3"}, 3),
    ({"OMP_NUM_THREADS": "5"}, 5),
    ({"NUMBA_NUM_THREADS": "2", "OMP_NUM_THREADS": "5"}, 2),
    ({"OMP_NUM_THREADS": "0", "NUMBA_NUM_THREADS": ""}, None),
    ({}, None),
])  # fmt: skip
def test_the_number_of_threads_at_the_start(variables, count):
    environment = {
        name: value for name, value in os.environ.items() if name not in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS")
    }
    code = "import refoptim, sys; print(refoptim.get_num_threads(), 'numba' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment | variables, capture_output=True, text=True, check=True
    )
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert run.stdout.split() == [str(count or usable), "False"]


@pytest.mark.parametrize(("count", "error", "message"), [
    (0, ValueError, "must be at least 1, but is 0"),
    (-2, ValueError, "must be at least 1, but is -2"),
    (1.5, TypeError, "must be an integer, but is 1.5"),
    (True, TypeError, "must be an integer, but is True"),
    ("2", TypeError, "must be an integer, but is '2'"),
    (None, TypeError, "must be an integer, but is None"),
])  # fmt: skip
def test_numbers_that_are_none(count, error, message):
    with pytest.raises(error, match=message):
        optim.set_num_threads(count)
    assert optim.get_num_threads() == 3


def test_a_numpy_integer_is_an_integer():
    optim.set_num_threads(np.int64(2))
    assert optim.get_num_threads() == 2


class Clock:
    """A clock that shows what it is told, and a pool that takes as long as it is told."""

    def __init__(self, monkeypatch):
        self.now, self.takes, self.shared = 10**12, 1_000, []
        monkeypatch.setattr(kept, "monotonic_ns", lambda: self.now)
        monkeypatch.setattr(pool._Current, "pool", self)
        self.asked = self.since = self.alone_until = 0
        self.awake = self.closed = False

    def is_awake(self):
        return self.awake

    def run(self, job, once):
        if self.closed:
            return 0
        next(once)
        self.shared.append(self.now)
        return self.takes


MS = 1_000_000


def kept_loop(is_long=False):
    """Return a kept loop, its arguments, and how often it has run alone."""
    alone, loop = [], scale().serial
    arguments = (np.ones(1000, np.float32), np.array([1.0]))
    held = kept.Kept(loop, 1, 1000, 64, is_long=is_long)
    held._loop = lambda *given: alone.append(given)
    held._job = jobs.described(loop, arguments, 1, 1000, 64)
    return held, arguments, alone


@pytest.mark.parametrize(("is_long", "awake", "gap", "shared"), [
    (True, False, 5 * MS, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
    (False, False, 5 * MS, []),
    (False, True, 5 * MS, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
    (False, False, 150_000, [7, 8, 9]),  # after a millisecond
    (False, False, 250_000, []),
])  # fmt: skip
def test_short_loops_are_shared_where_they_follow_each_other_or_threads_are_awake(
    monkeypatch, is_long, awake, gap, shared
):
    clock = Clock(monkeypatch)
    clock.awake = awake
    held, arguments, alone = kept_loop(is_long)
    begin = clock.now
    for number in range(10):
        clock.now = begin + number * gap
        held(*arguments)
    assert clock.shared == [begin + number * gap for number in shared]
    assert len(alone) == 10 - len(shared)


def test_short_loops_run_alone_for_a_while_after_one_that_has_waited_for_a_processor(monkeypatch):
    clock = Clock(monkeypatch)
    clock.awake = True
    held, arguments, alone = kept_loop()
    begin = clock.now
    held(*arguments)
    clock.takes = MS
    for gap in (1, 5, 10, 20, 22):
        clock.now = begin + gap * MS
        held(*arguments)
        clock.takes = 1_000
    assert [now - begin for now in clock.shared] == [0, MS, 22 * MS]
    assert len(alone) == 3


def test_who_finds_the_pool_closed_runs_a_kept_loop_alone(monkeypatch):
    clock = Clock(monkeypatch)
    clock.closed = clock.awake = True
    held, arguments, alone = kept_loop()
    held(*arguments)
    assert (len(alone), clock.shared) == (1, [])


def test_a_kept_loop_is_described_anew_for_nothing_and_keeps_no_array_alive():
    param = optim.Parameter(np.ones(1000, np.float32))
    optimizer = optim.SGD([param], lr=0.5)
    for _ in range(3):
        optimizer.step(grads=[np.ones(1000, np.float32)])
    (launch,) = optimizer._layouts[0].slots[0].ready.launches
    assert isinstance(launch[0], kept.Kept)
    assert pool.current().has(launch[0]._job)
    watched = weakref.ref(launch[1][0].base)
    del optimizer, launch, param
    gc.collect()
    assert watched() is None


@pytest.mark.parametrize("options", [{}, {"rounding": "stochastic"}, {"master_weights": True}], ids=str)
def test_a_kept_step_of_16_bits_is_shared_and_has_the_same_bits(options):
    grads = np.random.default_rng(7).standard_normal((5, 1003)).astype(np.float16)
    found, shared = [], []
    for count in (1, 3):
        optim.set_num_threads(count)
        param = optim.Parameter(np.ones(1003, np.float16))
        optimizer = optim.SGD([param], lr=0.1, momentum=0.9, **options)
        for grad in grads:
            optimizer.step(grads=[grad])
        (launch,) = optimizer._layouts[0].slots[0].ready.launches
        found.append(param.data.tobytes())
        shared.append(launch[0]._job is not None and pool.current().has(launch[0]._job))
    assert found[0] == found[1]
    assert shared == [False, True]


def test_arrays_that_cannot_be_shared_are_computed_alone():
    # Strided, and not aligned: Numba compiles others for these, and there is no telling where their elements are.
    x = np.zeros(4 * 500 + 1, np.uint8)[1:].view(np.float32)
    strided = np.zeros(1000, np.float32)[::2]
    for array in (x, strided):
        array[:] = 1
        jit.CpuLoop.__call__(scale(), array, np.array([2.0]))
        assert (array == 2).all()


def scale():
    from refoptim.kernels.scaling import scaled_cpu

    return scaled_cpu
