"""The example for GPUs: the same program with NumPy learns, its gradients are right, and it says what it misses.

With CuPy it runs in ``tests/gpu/test_example.py``.
"""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from refoptim.conformance.tolerances import CLOSE

SCRIPT = Path(__file__).parent.parent / "examples/digits_cupy.py"

pytest.importorskip("sklearn", reason="the examples need the extra 'examples'")
pytest.importorskip("tqdm", reason="the examples need the extra 'examples'")


@pytest.fixture(scope="module")
def digits():
    spec = importlib.util.spec_from_file_location("digits_cupy", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_needs_no_cupy_to_be_imported():
    code = f"import sys, runpy; sys.modules['cupy'] = None; runpy.run_path({str(SCRIPT)!r})"
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_it_learns_with_numpy(digits, capsys):
    accuracy = digits.main(["--device", "cpu"])
    assert accuracy >= 0.97
    assert f"test accuracy {accuracy:.2%} (450 images) on cpu" in capsys.readouterr().out


def test_the_same_seed_gives_the_same_result(digits):
    runs = [digits.main(["--device", "cpu", "--epochs", "2", "--seed", "5"]) for _ in range(2)]
    assert runs[0] == runs[1]


def test_gradients_match_finite_differences(digits):
    rng = np.random.default_rng(1)
    network = digits.Network(np, (5, 7, 3), rng)
    for name in ("w1", "b1", "w2", "b2"):
        # In float64 a difference of losses has digits to compare.
        values = rng.normal(size=getattr(network, name).shape)
        setattr(network, name, digits.optim.Parameter(values, name=name))
        getattr(network, name).grad = np.zeros(values.shape)
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
        np.testing.assert_allclose((losses[0] - losses[1]) / 2e-5, (gradient * direction).sum(), **CLOSE["derivative"])


@pytest.mark.parametrize(
    ("arguments", "cupy", "words"),
    [
        (["--epochs", "0"], None, "--epochs must be at least 1"),
        ([], None, "--device cuda needs CuPy"),
        ([], SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: False)), "--device cuda needs a GPU"),
    ],
)
def test_what_it_misses(digits, monkeypatch, capsys, arguments, cupy, words):
    # None in sys.modules is how Python itself says that a module cannot be imported.
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    with pytest.raises(SystemExit):
        digits.main(arguments)
    assert words in capsys.readouterr().err
