"""What docs/gpu.md shows runs, with every library that is there."""

import re
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest
from numba.core import config

PAGE = (Path(__file__).parents[2] / "docs/gpu.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^## ([\w ]+)\n(?:(?!^## ).)*?```python\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE)

# What needs no other library, and no driver.
ALONE = ("Numba", "float16 and bfloat16")


def test_there_is_a_block_for_each_library():
    assert [title for title, _ in BLOCKS] == ["CuPy", "Numba", "torch", "JAX", "float16 and bfloat16", "Graphs"]


@pytest.mark.parametrize(
    ("title", "code"),
    [pytest.param(*block, id=block[0], marks=[pytest.mark.driver] * (block[0] not in ALONE)) for block in BLOCKS],
)
def test_the_example_runs(title, code, tmp_path, capsys):
    missing = {"CuPy": ("cupy",), "Graphs": ("cupy",), "torch": ("torch",), "JAX": ("jax", "cupy")}.get(title, ())
    for package in missing:
        if not find_spec(package):
            pytest.skip(f"{package} is not installed")
    if title == "torch" and not pytest.importorskip("torch").cuda.is_available():
        pytest.skip("torch's CUDA build is not installed")
    if title == "JAX" and pytest.importorskip("jax").default_backend() != "gpu":
        pytest.skip("JAX has no GPU")
    # Numba reads the source of a kernel, and advises against grids as small as an example's.
    path = tmp_path / "example.py"
    path.write_text(code, encoding="utf-8")
    with warnings.catch_warnings():
        if not config.ENABLE_CUDASIM:
            warnings.simplefilter("ignore")
        exec(compile(code, str(path), "exec"), {"__name__": "example"})
    assert capsys.readouterr().out == "True\n"
