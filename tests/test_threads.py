"""Steps in many threads, after forks, in children of every kind: they are safe, and their bits are the same."""

import multiprocessing
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import refoptim as optim
from refoptim.kernels import jit, jobs, pool
from refoptim.kernels.reductions import norm
from refoptim.kernels.scaling import scaled_cpu

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
    box = pool._Current.pool.box
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


def test_arrays_that_cannot_be_shared_are_computed_alone():
    # Strided, and not aligned: Numba compiles others for these, and there is no telling where their elements are.
    x = np.zeros(4 * 500 + 1, np.uint8)[1:].view(np.float32)
    strided = np.zeros(1000, np.float32)[::2]
    for array in (x, strided):
        array[:] = 1
        jit.CpuLoop.__call__(scaled_cpu, array, np.array([2.0]))
        assert (array == 2).all()
