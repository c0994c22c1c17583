"""``refoptim compile``: what it compiles is what later processes use, and all of it."""

import json
import os
import subprocess
import sys

import pytest

from refoptim import cli
from refoptim.cli import compile as command

ALL = """
import json, pkgutil
from importlib import import_module
from refoptim import kernels
from refoptim.cli import first_steps
from refoptim.kernels.caching import uses
from refoptim.kernels.jit import CpuLoop

for name in [*first_steps.optimizers(), *first_steps.TOOLS]:
    first_steps.compile_now(first_steps.Work(name, "float32", None))
for name in ("Adafactor", "utils", "swa_utils"):
    first_steps.compile_now(first_steps.Work(name, "float16", None))
modules = [import_module(f"refoptim.kernels.{info.name}") for info in pkgutil.iter_modules(kernels.__path__)]
loops = {loop.name for module in modules for loop in vars(module).values() if isinstance(loop, CpuLoop)}
rows = [f"{loop.name}_rows" for file in (kernels.sgd, kernels.adagrad, kernels.sparse_adam)
        for loop in vars(file).values() if isinstance(loop, CpuLoop)]
print(json.dumps([sorted(loops) + rows, sorted(use.kernel.partition(".")[2] for use in uses)]))
"""

FIRST_STEPS = """
import json
import numpy as np
import refoptim as optim

for shape in [(10,), (3, 5), (), (1000, 100)]:
    for options in [{}, {"amsgrad": True}, {"weight_decay": 0.1, "maximize": True}]:
        param = optim.Parameter(np.ones(shape, np.float32))
        optim.Adam([param, optim.Parameter(np.ones(7, np.float32))], **options).step(grads=[param.data, None])
from refoptim.kernels.caching import uses
print(json.dumps([[use.kernel, use.was_there] for use in uses]))
"""

OTHER_STEPS = """
import json, sys
import numpy as np
import refoptim as optim

name, dtype = sys.argv[1:]
for options in [{}, {"master_weights": True}, {"rounding": "stochastic"}] if dtype == "float16" else [{}]:
    for shape in [(3, 5), (1000, 100)]:
        param = optim.Parameter(np.ones(shape, dtype))
        optimizer = getattr(optim, name)([param], **options)
        if name != "SparseAdam":
            optimizer.step(grads=[param.data])
        if name in ("SparseAdam", "Adagrad") and not options:
            optimizer.step(grads=[optim.SparseGrad([[2, 0]], np.ones((2, shape[1]), dtype), shape)])
from refoptim.kernels.caching import uses
print(json.dumps([[use.kernel, use.was_there] for use in uses]))
"""

# The CPU divides and negates with NumPy; what steps rows contains what steps whole arrays.
ELSEWHERE = {"divided_cpu", "multiple_cpu", "sparse_adam_cpu"}


def printed(*command, **environment):
    """Return what a fresh process prints."""
    run = subprocess.run(
        [sys.executable, "-W", "error", *command],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_later_processes_find_what_they_need(tmp_path):
    cache = {"NUMBA_CACHE_DIR": str(tmp_path)}
    line = "import sys; from refoptim.cli import main; sys.exit(main())"
    first = printed("-c", line, "compile", "Adam", "--jobs", "2", **cache)
    assert "Adam, float32: 4 compiled, 0 there already" in first
    assert first.splitlines()[-1].startswith("4 compiled, 0 there already: ")
    assert str(tmp_path) in first
    used = json.loads(printed("-c", FIRST_STEPS, **cache))
    assert {name for name, _ in used} == {f"adam.{name}_cpu" for name in ("adam", "amsgrad")}
    assert all(was_there for _, was_there in used)
    # A second time nothing is left to do, and only the last line is said.
    again = printed("-c", line, "compile", "Adam", "--quiet", **cache)
    assert again.startswith("0 compiled, 4 there already, with the parts they are made of: ")
    assert again.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "dtype", "kernels"),
    [
        ("Adadelta", "float16", {f"adadelta.adadelta_half_{how}" for how in ("nearest", "master", "stochastic")}),
        ("Adagrad", "float32", {"adagrad.adagrad_cpu", "adagrad.adagrad_cpu_rows"}),
        ("SparseAdam", "float32", {"sparse_adam.sparse_adam_cpu_rows"}),
    ],
)
def test_16_bits_and_rows_are_found_too(tmp_path, name, dtype, kernels):
    cache = {"NUMBA_CACHE_DIR": str(tmp_path)}
    line = "import sys; from refoptim.cli import main; sys.exit(main())"
    printed("-c", line, "compile", name, "--dtype", dtype, "--quiet", **cache)
    used = json.loads(printed("-c", OTHER_STEPS, name, dtype, **cache))
    assert {found for found, _ in used} == kernels
    assert all(was_there for _, was_there in used)


def test_bfloat16_needs_ml_dtypes(monkeypatch, capsys):
    monkeypatch.setattr(command, "find_spec", {}.get)
    assert cli.main(["compile", "Adam", "--dtype", "bfloat16"]) == 2
    assert "pip install ml_dtypes" in capsys.readouterr().err
    done = []
    monkeypatch.setattr(command, "compile_now", lambda work: done.append(work) or [])
    assert cli.main(["compile", "--all", "--quiet", "--jobs", "1"]) == 0
    assert {work.dtype for work in done} == {"float32", "float64", "float16"}
    assert not any(work.name == "LBFGS" and work.dtype == "float16" for work in done)


@pytest.mark.slow
def test_everything_is_compiled():
    loops, used = json.loads(printed("-c", ALL))
    # Where scalars have more digits than arrays, a loop is another, and for 16 bits there are more.
    found = {name.replace("_tiled", "_cpu") for name in used if "_half_" not in name}
    assert found | ELSEWHERE == {*loops, "work"} | ELSEWHERE


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either names or --all; names are Adadelta"),
        (["Adam", "--all"], "give either names or --all"),
        (["adam"], "there is no adam; names are"),
        (["SGD", "Nope"], "there is no Nope"),
        (["Adam", "CG", "--dtype", "float16"], "CG takes no parameters of float16"),
    ],
)
def test_what_cannot_be_compiled(arguments, message, capsys):
    assert cli.main(["compile", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--jobs", "0"], ["--dtype", "float8"], ["--arithmetic", "float32"]])
def test_options_out_of_range(arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main(["compile", "Adam", *arguments])
    assert ended.value.code == 2


def test_code_that_cannot_be_kept_is_a_failure(monkeypatch, capsys):
    from refoptim.kernels.caching import Use

    uses = [Use("adam.adam_cpu", None, was_there=False)]
    monkeypatch.setattr(command, "compile_now", lambda _: uses)
    assert cli.main(["compile", "Adam", "--quiet"]) == 1
    found = capsys.readouterr()
    assert found.out == "1 compiled, 0 there already\n"
    assert "1 could not be kept" in found.err
