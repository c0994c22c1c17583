"""The examples run as a user runs them, and what they say is true."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from refoptim.conformance.tolerances import CLOSE

EXAMPLES = Path(__file__).parent.parent / "examples"

pytest.importorskip("sklearn", reason="the examples need the extra 'examples'")
pytest.importorskip("matplotlib", reason="the examples need the extra 'examples'")
pytest.importorskip("tqdm", reason="the examples need the extra 'examples'")


@pytest.fixture(scope="module")
def digits():
    import matplotlib as mpl

    mpl.use("Agg")
    spec = importlib.util.spec_from_file_location("digits", EXAMPLES / "digits.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def assert_picture(path):
    from matplotlib.image import imread

    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    pixels = imread(path)
    assert 600 <= pixels.shape[1] <= 2000
    assert 400 <= pixels.shape[0] <= 2000
    assert len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) > 10


def test_digits_learns(digits, tmp_path, capsys):
    picture = tmp_path / "curve.png"
    accuracy = digits.main(["--output", str(picture)])
    assert accuracy >= 0.97
    assert f"test accuracy {accuracy:.2%} (450 images)" in capsys.readouterr().out
    assert_picture(picture)


def test_digits_same_seed_same_result(digits, tmp_path):
    runs = [digits.main(["--epochs", "2", "--seed", "5", "--output", str(tmp_path / "x.png")]) for _ in range(2)]
    assert runs[0] == runs[1]


def test_digits_gradients_match_finite_differences(digits):
    rng = np.random.default_rng(1)
    network = digits.Network(inputs=5, hidden=7, classes=3, rng=rng)
    for param in (network.w1, network.b1, network.w2, network.b2):
        # In float64 a difference of losses has digits to compare.
        values = rng.normal(size=param.shape)
        setattr(network, param.name, digits.optim.Parameter(values, name=param.name))
        getattr(network, param.name).grad = np.zeros(param.shape)
    x, labels = rng.normal(size=(11, 5)), rng.integers(0, 3, 11)
    for name in ("w1", "b1", "w2", "b2"):
        network.backward(x, labels)
        param = getattr(network, name)
        gradient, direction = param.grad.copy(), rng.normal(size=param.shape)
        start = param.data.copy()
        losses = []
        for side in (1e-5, -1e-5):
            param.data = start + side * direction
            losses.append(network.backward(x, labels))
        param.data = start
        slope = (losses[0] - losses[1]) / 2e-5
        np.testing.assert_allclose(slope, (gradient * direction).sum(), **CLOSE["derivative"])


def test_digits_rejects_no_epochs(digits, capsys):
    with pytest.raises(SystemExit):
        digits.main(["--epochs", "0"])
    assert "--epochs must be at least 1" in capsys.readouterr().err


def test_digits_from_the_command_line(tmp_path):
    command = [sys.executable, "-W", "error", str(EXAMPLES / "digits.py")]
    environment = os.environ | {"MPLBACKEND": "Agg"}
    run = subprocess.run(command, cwd=tmp_path, env=environment, text=True, capture_output=True, check=False)
    assert run.returncode == 0, run.stderr
    found = re.search(r"test accuracy (\d+\.\d\d)% \(450 images\); learning curve in digits\.png", run.stdout)
    assert float(found[1]) >= 97, run.stdout
    assert_picture(tmp_path / "digits.png")
