"""The benchmark of the GPU says what it misses, and reports what it promises. Nothing depends on how fast anything is.

Under Numba's simulator it runs as it is, in a second process, with torch on the CPU.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

SCRIPT = Path(__file__).parent.parent / "benchmarks/gpu_step.py"
HAS_TORCH = importlib.util.find_spec("torch") is not None

pytest.importorskip("tqdm", reason="the benchmarks show progress bars")


def run(*arguments, **environment):
    command = [sys.executable, "-W", "error", str(SCRIPT), *arguments]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)


def test_without_a_gpu_it_says_so(tmp_path):
    path = tmp_path / "report.json"
    found = run("--json", str(path), CUDA_VISIBLE_DEVICES="-1")
    assert found.returncode == 1
    assert found.stderr.startswith("gpu_step.py needs a GPU: device 'cuda' ")
    assert "Traceback" not in found.stderr
    assert not path.exists()


def test_simulated(tmp_path):
    pytest.importorskip("numba_cuda", reason="numba-cuda, which has the simulator, is not installed")
    path, shapes = tmp_path / "report.json", [(1, 40), (3, 7)]
    arguments = ["--sizes", "1x40", "3x7", "--algorithms", "SGD", "Rprop", "--rounds", "2", "--block", "1e-4"]
    cache = str(tmp_path / "cache")
    ended = run(*arguments, "--json", str(path), NUMBA_ENABLE_CUDASIM="1", NUMBA_CACHE_DIR=cache)
    assert ended.returncode == 0, ended.stderr
    assert "these figures say nothing" in ended.stdout
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["settings"] | {"rounds": 2, "simulated": True} == found["settings"]
    assert found["settings"]["gpu"]["name"] == "simulator"

    ours, torchs = ["refoptim", "refoptim float64"], ["torch for-loop", "torch foreach", "torch fused"] * HAS_TORCH
    rows = {(row["algorithm"], row["tensors"], row["elements"], row["contender"]): row for row in found["rows"]}
    assert len(rows) == len(found["rows"])
    assert rows.keys() == {
        (name, *shape, contender)
        for name in ("SGD", "Rprop")
        for shape in shapes
        for contender in (*ours, *torchs, "copy")
        if (name, contender) != ("Rprop", "torch fused")
    }
    for (name, tensors, elements, contender), row in rows.items():
        assert row["asked"] == elements
        assert 0 < row["seconds"]["low"] <= row["seconds"]["median"] <= row["seconds"]["high"]
        # SGD reads parameters and gradients and writes parameters; Rprop has two arrays of state.
        arrays = 2 if contender == "copy" else {"SGD": 3, "Rprop": 7}[name]
        assert row["bytes"] == arrays * tensors * elements * 4
        assert row["share"]["median"] > 0
        assert row["target_share"] == (0.9 if contender == "refoptim" and tensors == 1 else None)
        assert f"{name}, {tensors} x {elements}: {contender}" in ended.stdout
        if HAS_TORCH:
            other = {(1, "SGD"): "torch fused", (3, "SGD"): "torch foreach", (3, "Rprop"): "torch foreach"}
            assert row["torch"] == other.get((tensors, name), row["torch"])
            wanted = {(1, "SGD"): 1.0, (1, "Rprop"): 0.5}.get((tensors, name), 0.2)
            assert row["target_to_torch"] == (wanted if contender == "refoptim" else None)
        if contender == row["torch"]:
            assert row["to_torch"]["median"] == 1
        if contender == "copy":
            assert row["share"] == {"median": 1.0, "low": 1.0, "high": 1.0}


def test_what_does_not_fit_is_halved(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    spec = importlib.util.spec_from_file_location("gpu_step", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    adam = module.ALGORITHMS["Adam"]
    needed = module.needed(adam, 1_000, with_torch=True)
    assert needed > module.needed(adam, 1_000, with_torch=False) > 4 * 4 * 1_000
    for free, elements in [(needed, 1_000), (needed - 1, 500), (needed // 2 - 1, 250), (0, 1)]:
        context = Mock(**{"get_memory_info.return_value.free": free})
        monkeypatch.setattr(module, "cuda", Mock(**{"current_context.return_value": context}))
        assert module.fitting(adam, 1_000, 1, with_torch=True) == elements
