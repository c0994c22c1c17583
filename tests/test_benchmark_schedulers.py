"""The schedulers' benchmark runs and reports what it promises. Nothing here depends on how fast anything is."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "benchmarks/scheduler_step.py"

pytest.importorskip("tqdm", reason="the benchmarks show progress bars")


def test_scheduler_step(tmp_path):
    path = tmp_path / "report.json"
    options = [
        "--rounds",
        "2",
        "--block",
        "1e-4",
        "--json",
        str(path),
        "--schedulers",
        "StepLR",
        "ReduceLROnPlateau",
        "SWALR",
    ]
    run = subprocess.run(
        [sys.executable, "-W", "error", str(SCRIPT), *options], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    rows = json.loads(path.read_text())["rows"]
    torch = ["torch"] * (importlib.util.find_spec("torch") is not None)
    assert [(row["scheduler"], row["contender"]) for row in rows] == [
        *(("StepLR", name) for name in ("refoptim", *torch, "refoptim, at 1,000 steps")),
        *(("ReduceLROnPlateau", name) for name in ("refoptim", *torch)),
        *(("SWALR", name) for name in ("refoptim", *torch, "refoptim, at 1,000 steps")),
    ]
    for row in rows:
        assert 0 < row["seconds"]["low"] <= row["seconds"]["median"] <= row["seconds"]["high"]
        assert (row["to_torch"] is not None) == (bool(torch) and row["contender"] == "refoptim")
    assert "StepLR: refoptim" in run.stdout
