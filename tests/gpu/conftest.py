"""What needs a GPU. ``make test-gpu`` runs this folder; elsewhere nothing collects it, so that nobody waits for skips.

Under Numba's simulator (``NUMBA_ENABLE_CUDASIM=1``) all that it can do runs too, with sizes that suit it:
``tests/test_gpu_folder.py`` does that, which shows that these tests can pass and fail where there is no GPU.
"""

import json
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pytest
from numba.core import config

from refoptim import devices
from refoptim.kernels.jit import cuda

FOLDER = Path(__file__).parent
SIMULATED = bool(config.ENABLE_CUDASIM)


def why_not():
    """Return why there is no GPU to test on, or nothing if there is one."""
    try:
        devices.device("cuda")
    except RuntimeError as error:
        return str(error).replace("\n", " ")
    return ""


def pytest_addoption(parser):
    parser.addoption("--gpu-report", type=Path, help="write how the tests ended, and where, to this file as JSON")


def pytest_configure(config):
    config.addinivalue_line("markers", "gpu: needs a GPU, or Numba's simulator of one; run by make test-gpu")
    config.addinivalue_line("markers", "driver: needs a GPU and its driver: the simulator has nothing of the kind")


def pytest_ignore_collect(collection_path, config):
    named = [Path(argument.partition("::")[0]).resolve() for argument in config.args]
    return None if any(path.is_relative_to(FOLDER) for path in named) else True


def pytest_collection_modifyitems(items):
    reason = why_not()
    for item in items:
        if not item.path.is_relative_to(FOLDER):
            continue
        item.add_marker(pytest.mark.gpu)
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))
        elif SIMULATED and item.get_closest_marker("driver"):
            item.add_marker(pytest.mark.skip(reason="the simulator has no driver"))


def pytest_terminal_summary(terminalreporter, config):
    path = config.getoption("--gpu-report", None)
    if path is None or why_not():
        return
    ended = {kind: terminalreporter.stats.get(kind, []) for kind in ("passed", "failed", "error", "skipped")}
    gpu = cuda.get_current_device()
    report = {
        "gpu": "simulator" if SIMULATED else str(gpu.name),
        "capability": list(gpu.compute_capability),
        "packages": {
            name: installed(name) for name in ("refoptim", "numba", "numba-cuda", "cupy-cuda13x", "torch", "jax")
        },
        "counts": {kind: len(reports) for kind, reports in ended.items()},
        "passed": Counter(report.location[0] for report in ended["passed"]),
        "skipped": Counter(report.longrepr[2].removeprefix("Skipped: ") for report in ended["skipped"]),
        "failed": [report.nodeid for report in (*ended["failed"], *ended["error"])],
    }
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def installed(package):
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@pytest.fixture(scope="session")
def sized():
    """Return the second number under the simulator, whose threads are the system's, and the first on a GPU."""
    return lambda real, simulated: simulated if SIMULATED else real


@pytest.fixture(scope="session")
def address():
    """Return what tells where an array of any library's on a GPU begins. The simulator's arrays are NumPy's."""
    return lambda array: array.ctypes.data if SIMULATED else array.__cuda_array_interface__["data"][0]


@pytest.fixture(scope="session")
def differing():
    """Return what counts the elements of two arrays that differ in a bit. NaN is one number, whatever its payload."""

    def differing(one, other):
        one, other = devices.to_host(one), devices.to_host(other)
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        flat = [np.ascontiguousarray(x).reshape(-1).view(x.real.dtype) for x in (one, other)]
        bits = [x.view(f"u{x.itemsize}") for x in flat]
        return int(((bits[0] != bits[1]) & ~(np.isnan(flat[0]) & np.isnan(flat[1]))).sum())

    return differing


@pytest.fixture(scope="session")
def differences(differing):
    """Return what lists where two optimizers differ: parameters and state, by name, with the number of elements."""

    def differences(one, other):
        found = {}
        pairs = zip(one.param_groups, other.param_groups, strict=True)
        params = [pair for left, right in pairs for pair in zip(left["params"], right["params"], strict=True)]
        for place, (left, right) in enumerate(params):
            found[f"{place}: theta"] = differing(left.data, right.data)
        states = [optimizer.state_dict()["state"] for optimizer in (one, other)]
        assert states[0].keys() == states[1].keys()
        for place, entry in states[0].items():
            assert entry.keys() == states[1][place].keys()
            for name, value in entry.items():
                found[f"{place}: {name}"] = deviation(value, states[1][place][name])
        return {name: count for name, count in found.items() if count}

    def deviation(value, other):
        if isinstance(value, np.ndarray):
            return differing(value, other)
        if isinstance(value, list):
            assert len(value) == len(other)
            return sum(deviation(*pair) for pair in zip(value, other))
        return int(value != other)

    return differences
