"""``tests/gpu``, which needs a GPU: nobody collects it unasked, it is skipped where there is none, and it can fail.

What Numba's simulator can do of it runs here, small, in a second process: the simulator is chosen when Numba is
imported.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "tests/gpu"

pytest.importorskip("numba_cuda", reason="numba-cuda, which has the simulator, is not installed")


def outcome(*arguments, **environment):
    """Run tests of the folder as ``make test-gpu`` does. Return the exit status and what was said."""
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", *arguments]
    run = subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False)
    return run.returncode, run.stdout + run.stderr


@pytest.mark.parametrize(
    ("arguments", "ignored"),
    [
        ([ROOT / "tests", ROOT / "refoptim"], True),
        ([ROOT], True),
        ([ROOT / "tests/test_gpu_folder.py"], True),
        ([FOLDER], False),
        ([ROOT / "tests/test_house.py", f"{FOLDER / 'test_steps.py'}::test_no_bit_differs"], False),
    ],
)
def test_the_folder_is_collected_by_name_only(arguments, ignored):
    spec = importlib.util.spec_from_file_location("gpu_conftest", FOLDER / "conftest.py")
    conftest = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(conftest)
    config = SimpleNamespace(args=list(map(str, arguments)))
    assert conftest.pytest_ignore_collect(FOLDER / "test_steps.py", config) is (True if ignored else None)


def test_without_a_gpu_all_is_skipped_with_a_reason():
    code, said = outcome("tests/gpu", CUDA_VISIBLE_DEVICES="-1")
    assert code == 0, said
    assert "device 'cuda' cannot be used" in said
    (ended,) = re.findall(r"^(\d+) skipped in", said, re.MULTILINE)
    assert int(ended) > 400


# What takes little time: a thread of the simulator is one of the system's.
SHORT = [
    "test_arrays.py",
    "test_errors.py",
    "test_page.py",
    "test_streams.py::test_what_is_no_stream_is_refused",
    "test_checkpoints.py::test_a_checkpoint_goes_there_and_back[adamw]",
    "test_checkpoints.py::test_both_devices_in_one_optimizer[adamw]",
    "test_half.py::test_no_bit_differs[Adam(defaults)-master-bfloat16]",
    "test_minimizers.py::test_no_bit_differs[lbfgs-wolfe-float32]",
    "test_steps.py::test_a_bit_that_differs_is_seen",
    "test_steps.py::test_cuts_and_missing_gradients",
    "test_steps.py::test_no_bit_differs[SGD(defaults)-complex64]",
    "test_tools.py::test_averages[ema-None]",
    "test_tools.py::test_clipping_by_norm[2.0-float32]",
]


@pytest.mark.parametrize(
    ("names", "least"),
    [pytest.param(SHORT, 26, id="short"), pytest.param([""], 270, id="all", marks=pytest.mark.slow)],
)
def test_what_the_simulator_can_do_passes(tmp_path, names, least):
    report = tmp_path / "report.json"
    arguments = [*(f"tests/gpu/{name}" for name in names), f"--gpu-report={report}"]
    code, said = outcome(*arguments, NUMBA_ENABLE_CUDASIM="1")
    assert code == 0, said
    found = json.loads(report.read_text(encoding="utf-8"))
    assert found["gpu"] == "simulator"
    assert found["counts"]["passed"] >= least
    assert found["skipped"].keys() == {"the simulator has no driver"}
    assert found["failed"] == []
