"""What several files of tests share, and pytest hands to them."""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest


def kernels_with(trees, tmp_path_factory):
    """Return the folder of kernels that files share which change trees alike: the kernels do not know of the change."""
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    return str(folder / f"kernels_with_{trees}_trees")


@contextmanager
def one_core():
    """Have processes that are started meanwhile stay on one core.

    The simulator starts a thread for each of the GPU's, of which Python runs one at a time: on several cores they take
    a quarter longer.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    os.sched_setaffinity(0, {sorted(before)[worker % len(before)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@pytest.fixture(scope="module")
def simulation(request, tmp_path_factory):
    """Run a file of tests as a program in Numba's CUDA simulator, and return what it prints, which is JSON.

    The simulator is chosen when Numba is imported, so it takes another process, once for all tests of the file.
    """
    pytest.importorskip("numba_cuda", reason="numba-cuda, which has the simulator, is not installed")
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "1"}
    trees = getattr(request.module, "TREES", "small")
    if trees != "usual":
        environment["NUMBA_CACHE_DIR"] = kernels_with(trees, tmp_path_factory)
    program = [sys.executable, request.module.__file__]
    with one_core():
        run = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.fixture
def small_trees(tmp_path_factory):
    """The folder of kernels compiled after ``simulated.shrink``."""
    return kernels_with("small", tmp_path_factory)


@pytest.fixture
def python_hears_it():
    """Handle SIGINT as Python does: who starts the tests in the background of a script has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
