"""The example of weight averaging runs as a user runs it, and what it says is true."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from refoptim.conformance.tolerances import CLOSE

EXAMPLE = Path(__file__).parent.parent / "examples" / "swa_digits.py"

pytest.importorskip("sklearn", reason="the examples need the extra 'examples'")
pytest.importorskip("tqdm", reason="the examples need the extra 'examples'")


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("swa_digits", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_averages_need_statistics_and_then_win(example):
    found = [list(example.main(["--seed", str(seed)]).values()) for seed in range(3)]
    last, averaged, updated = np.mean(found, axis=0)
    assert averaged < last < updated
    assert updated >= 0.98


def test_same_seed_same_result(example):
    runs = [example.main(["--epochs", "3", "--start", "1", "--seed", "5"]) for _ in range(2)]
    assert runs[0] == runs[1]
    assert runs[0] != example.main(["--epochs", "3", "--start", "1", "--seed", "6"])


def test_gradients_match_finite_differences(example):
    rng = np.random.default_rng(1)
    network = example.Network(rng)
    for layer in network.layers:
        for name, value in vars(layer).items():
            if isinstance(value, example.optim.Parameter):
                # In float64 a difference of losses has digits to compare.
                setattr(layer, name, example.optim.Parameter(value.data + rng.normal(0, 0.1, value.shape)))
    x, labels = rng.normal(size=(11, 64)), rng.integers(0, 10, 11)

    def loss():
        scores = network(x)
        return np.mean(np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(11), labels])

    network.backward(x, labels)
    for param in network.parameters():
        gradient, start = param.grad.copy(), param.data.copy()
        direction = rng.normal(size=param.shape)
        losses = []
        for side in (1e-6, -1e-6):
            param.data = start + side * direction
            losses.append(loss())
        param.data = start
        np.testing.assert_allclose((losses[0] - losses[1]) / 2e-6, (gradient * direction).sum(), **CLOSE["derivative"])


def test_batch_norm_is_what_update_bn_asks_for(example):
    from refoptim.swa_utils import BatchNorm

    layers = example.Network(np.random.default_rng(0)).layers
    assert sum(isinstance(layer, BatchNorm) for layer in layers) == 2


@pytest.mark.parametrize("arguments", [["--epochs", "0"], ["--epochs", "2", "--start", "2"], ["--start", "-1"]])
def test_arguments_that_make_no_sense(example, capsys, arguments):
    with pytest.raises(SystemExit):
        example.main(arguments)
    assert "--start must be at least 0 and less than --epochs" in capsys.readouterr().err


def test_from_the_command_line(tmp_path):
    command = [sys.executable, "-W", "error", str(EXAMPLE)]
    run = subprocess.run(command, cwd=tmp_path, env=os.environ, text=True, capture_output=True, check=False)
    assert run.returncode == 0, run.stderr
    names = ["last weights", "averaged weights", "averaged weights, update_bn"]
    found = [
        re.search(rf"^{name}: test accuracy (\d+\.\d\d)% \(450 images\)$", run.stdout, re.MULTILINE) for name in names
    ]
    assert float(found[2][1]) > max(float(found[0][1]), float(found[1][1])), run.stdout
