"""The example trains on the GPU."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "examples/digits_cupy.py"


@pytest.mark.driver
def test_digits_learn():
    for package in ("cupy", "sklearn", "tqdm"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    run = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    found = re.search(r"test accuracy (\d+\.\d\d)% \(450 images\) on cuda:0", run.stdout)
    assert float(found[1]) >= 97, run.stdout
