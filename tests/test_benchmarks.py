"""The benchmarks run and report what they promise. Nothing here depends on how fast anything is."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
HAS_TORCH = importlib.util.find_spec("torch") is not None

pytest.importorskip("tqdm", reason="the benchmarks show progress bars")


def report(tmp_path, script, *arguments, without_torch=False):
    """Run a benchmark as a user does; return its JSON file and what it printed."""
    path = tmp_path / "report.json"
    start = [sys.executable, "-W", "error", str(BENCHMARKS / script)]
    if without_torch:
        # None in sys.modules is how Python itself says that a module cannot be imported.
        code = (
            "import sys, runpy; sys.modules['torch'] = None; sys.argv = sys.argv[1:]; "
            f"sys.path.insert(0, {str(BENCHMARKS)!r}); runpy.run_path(sys.argv[0], run_name='__main__')"
        )
        start = [sys.executable, "-W", "error", "-c", code, str(BENCHMARKS / script)]
    run = subprocess.run([*start, *arguments, "--json", str(path)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    found = json.loads(path.read_text())
    assert found["machine"].keys() >= {"cpu", "cores", "date", "packages", "platform", "python"}
    assert found["machine"]["packages"]["numba"]
    return found, run.stdout


def assert_summary(summary):
    assert 0 < summary["low"] <= summary["median"] <= summary["high"]


@pytest.mark.slow
def test_half_drift(tmp_path):
    pytest.importorskip("ml_dtypes", reason="ml_dtypes, extra half, is not installed")
    found, printed = report(tmp_path, "half_drift.py", "--steps", "100")
    assert len(found["rows"]) == 16
    for row in found["rows"]:
        assert f"{row['optimizer']}, {row['dtype']}" in printed
        assert row["errors"].keys() >= {"nearest", "stochastic", "master weights"}
        # Rounding the parameters every time loses more than rounding them at last.
        assert row["errors"]["master weights"] < min(
            row["errors"]["nearest"], row["errors"]["stochastic"], row["moved"]
        )
        assert ("torch for-loop" in row["errors"]) == HAS_TORCH


STEP_TIME = ("--sizes", "1x10", "3x7", "--rounds", "2", "--block", "1e-4", "--mover-from", "20")


def test_step_time(tmp_path):
    found, printed = report(tmp_path, "step_time.py", *STEP_TIME)
    assert found["benchmark"] == "step_time"
    assert found["settings"]["rounds"] == 2
    ours, torchs = ["refoptim", "refoptim float64"], ["torch for-loop", "torch foreach", "torch fused"] * HAS_TORCH
    expected = [
        (algorithm, *shape, contender)
        for algorithm in ("Adam", "AdamW", "SGD", "SGD momentum")
        for shape in ((1, 10), (3, 7))
        for contender in (*ours, *torchs, *(["mover"] if shape == (3, 7) else []))
    ]
    rows = found["rows"]
    assert [(row["algorithm"], row["tensors"], row["elements"], row["contender"]) for row in rows] == expected
    for row in rows:
        assert_summary(row["seconds"])
        assert (row["to_mover"] is not None) == (row["elements"] == 7)
        if HAS_TORCH:
            assert_summary(row["to_torch"])
        if row["contender"] == row["torch_best"]:
            assert row["to_torch"]["median"] == 1
        assert f"{row['algorithm']}, {row['tensors']} x {row['elements']}: {row['contender']}" in printed


def test_step_time_without_torch(tmp_path):
    found, printed = report(tmp_path, "step_time.py", *STEP_TIME, "--algorithms", "SGD", without_torch=True)
    assert "torch is not installed" in printed
    assert {row["contender"] for row in found["rows"]} == {"refoptim", "refoptim float64", "mover"}
    assert all(row["to_torch"] is None for row in found["rows"])


def test_large_step(tmp_path):
    cases = ("SGD", "Adam amsgrad", "RMSprop centered momentum")
    small = ("--elements", "50", "--rounds", "2", "--threads", "1", "--dtype", "float64")
    found, printed = report(tmp_path, "large_step.py", *small, "--cases", *cases)
    assert found["benchmark"] == "large_step"
    seen = [(row["case"], row["elements"], row["dtype"]) for row in found["rows"]]
    assert seen == [(case, 50, "float64") for case in cases]
    for row in found["rows"]:
        assert_summary(row["seconds"])
        assert_summary(row["to_mover"])
        assert row["best_to_best"] > 0
        assert row["case"] in printed


@pytest.mark.slow
def test_first_step(tmp_path):
    names = ["Adam", "SparseAdam", "CG"]
    found, printed = report(tmp_path, "first_step.py", "--repeats", "1", "--optimizers", *names)
    assert found["benchmark"] == "first_step"
    expected = {(name, how) for name in names for how in ("warm", "cold")} | {("import refoptim", "import")}
    if HAS_TORCH:
        expected |= {("Adam", "torch"), ("SparseAdam", "torch"), ("import torch", "import")}
    rows = {(row["optimizer"], row["case"]): row for row in found["rows"]}
    assert rows.keys() == expected
    for (name, how), row in rows.items():
        assert_summary(row["seconds"])
        assert (row["to_torch"] is not None) == ((name, "torch") in rows)
        assert f"{name}, {how}" in printed


def test_bookkeeping(tmp_path):
    small = ("--tensors", "3", "--elements", "2", "--rounds", "2", "--block", "1e-4")
    found, printed = report(tmp_path, "bookkeeping.py", *small)
    assert found["benchmark"] == "bookkeeping"
    assert len(found["rows"]) == 13 * (1 + HAS_TORCH)
    for row in found["rows"]:
        assert_summary(row["seconds"])
        assert (row["to_torch"] is not None) == (HAS_TORCH and row["contender"] == "refoptim")
        assert f"{row['job']}: {row['contender']}" in printed


def test_ema(tmp_path):
    found, printed = report(tmp_path, "ema.py", "--sizes", "1x10", "3x7", "--rounds", "2", "--block", "1e-4")
    assert found["benchmark"] == "ema"
    names = ["refoptim", "refoptim float64", *(["torch"] * HAS_TORCH), "mover"]
    expected = [(*shape, name) for shape in ((1, 10), (3, 7)) for name in names]
    assert [(row["tensors"], row["elements"], row["contender"]) for row in found["rows"]] == expected
    for row in found["rows"]:
        assert_summary(row["seconds"])
        assert_summary(row["to_mover"])
        assert (row["to_torch"] is not None) == HAS_TORCH
        assert f"{row['tensors']} x {row['elements']}: {row['contender']}" in printed


def test_sparse_step(tmp_path):
    small = ("--height", "50", "--width", "3", "--rows", "5", "--rounds", "2", "--block", "1e-4")
    found, printed = report(tmp_path, "sparse_step.py", *small)
    assert [row["algorithm"] for row in found["rows"]] == ["SGD", "SGD momentum", "Adagrad", "SparseAdam"]
    for row in found["rows"]:
        assert row["seconds"].keys() == {"sparse", "dense", *["torch sparse"] * HAS_TORCH}
        assert_summary(row["dense to sparse"])
        assert (row["to torch"] is not None) == HAS_TORCH
    assert "SparseAdam" in printed


def test_minimizers(tmp_path):
    found, printed = report(
        tmp_path, "minimizers.py", "--without-problems", "--sizes", "5000", "--histories", "2", "--rounds", "2"
    )
    lbfgs = ["refoptim", *["torch"] * HAS_TORCH, "reading"]
    cg = ["refoptim CG, polak_ribiere", "refoptim CG, hager_zhang", "moving"]
    assert [(row["dtype"], row["contender"]) for row in found["rows"]] == [
        (dtype, contender) for contenders in (lbfgs, cg) for dtype in ("float32", "float64") for contender in contenders
    ]
    limits = ["to reading"] * 2 * len(lbfgs) + ["to moving"] * 2 * len(cg)
    assert all(row[limit]["median"] > 0 for row, limit in zip(found["rows"], limits, strict=True))
    assert printed.count("5,000 x 2") == 2 * len(lbfgs)
