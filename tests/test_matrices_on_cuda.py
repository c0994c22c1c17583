"""The CUDA kernels of matrices: the CPU's bits under Numba's simulator, and nothing contracted in their PTX.

The simulator is chosen when Numba is imported, so this file runs itself in a second process, once for all kernels.
"""

import json
import os
import re
import subprocess
import sys
from importlib import import_module

import numpy as np
import pytest
from numba import types

from refoptim.kernels import bfloat16, factored, matmul
from refoptim.kernels.jit import cuda

TILE = matmul.TILE
PRODUCTS = [(3, 5, 2), (TILE + 1, 2 * TILE + 1, TILE - 1), (2, 0, 3)]
# Matrices, rows, columns: less and more than the lanes of a row. A thread of the simulator is one of the system's.
STACKS = [((2, 2, 3), 1.0, 0.0), ((1, 1, factored.LANES + 3), -1.0, 0.1)]
TALL = (2, factored.BAND + 2, 3)
PRECISIONS = {"float32": (np.float32, np.float32), "float64": (np.float64, np.float64)}
PRECISIONS |= {"wide": (np.float32, np.float64)}


def numbers(*shape):
    """Return numbers of both signs and of different sizes."""
    rng = np.random.default_rng([7, *shape])
    return rng.standard_normal(shape) * 10.0 ** rng.uniform(-3, 3, shape)


def same(cpu, gpu):
    return cpu.dtype == gpu.dtype and cpu.tobytes() == gpu.tobytes()


def compare_products(kind):
    """Return the shapes for which product or Gram matrix differ."""
    different = []
    for rows, depth, columns in PRODUCTS:
        a, b = numbers(rows, depth).astype(kind), numbers(depth, columns).astype(kind)
        for left, right, cpu in [(a, b, matmul.matmul), (a, a.T, matmul.gram)]:
            expected = np.empty((left.shape[0], right.shape[1]), kind)
            found = np.empty_like(expected)
            cpu(expected, *(left, right)[: 2 if cpu is matmul.matmul else 1])
            grid = tuple(-(-size // TILE) for size in found.shape[::-1])
            matmul.matmul_gpu.dispatcher[grid, (TILE, TILE)](found, left, right)
            if not same(expected, found):
                different.append(f"{cpu.__name__} of {rows}, {depth}, {columns}")
    return different


def compare_factors(kind, wide):
    """Return the stages of a factored step that differ, with the shapes for which they do."""
    different = []
    for shape, sign, decay in STACKS:
        matrices, height, width = shape
        x, theta = numbers(*shape).astype(kind), numbers(*shape[::-1]).reshape(shape).astype(kind)
        row_var, col_var = np.abs(numbers(matrices, height)).astype(kind), np.abs(numbers(matrices, width)).astype(kind)
        scalars = factored.StepScalars(*map(wide, (sign, 1e3, decay)))
        results = []
        for run in (on_cpu, on_gpu):
            arrays = [array.copy() for array in (x, theta, row_var, col_var)]
            results.append(run(*arrays, scalars))
        different += [f"{name} of {shape}" for name in results[0] if not same(results[0][name], results[1][name])]
    x = numbers(*TALL).astype(kind)
    expected, found = np.empty((TALL[0], TALL[2])), np.empty((TALL[0], TALL[2]))
    factored.sum_up(x, np.empty(TALL[:2]), expected)
    factored.column_sums_gpu.dispatcher[1, 8](x, found)
    return different + ["sums of tall columns"] * (not same(expected, found))


def on_cpu(x, theta, row_var, col_var, scalars):
    rows, columns, squares = np.empty(row_var.shape), np.empty(col_var.shape), np.empty(row_var.shape)
    factored.sum_up(x, rows, columns)
    sums = rows.copy(), columns.copy()
    factored.factors_cpu.serial(rows, columns, row_var, col_var, 0.3, 0.7, 1e-3)
    factored.sum_scaled(x, rows, columns, 10.0, squares)
    factored.step_cpu.serial(theta, x, rows, columns, np.array(scalars))
    return named(*sums, rows, columns, row_var, col_var, squares, theta)


def on_gpu(x, theta, row_var, col_var, scalars):
    rows, columns, squares = np.empty(row_var.shape), np.empty(col_var.shape), np.empty(row_var.shape)
    by_row, ones = (row_var.shape[1], row_var.shape[0]), (np.ones(row_var.shape), np.ones(col_var.shape))
    factored.squares_gpu.dispatcher[by_row, factored.LANES](x, *ones, np.inf, rows)
    factored.column_sums_gpu.dispatcher[-(-columns.size // 32), 32](x, columns)
    sums = rows.copy(), columns.copy()
    factored.factors_gpu.dispatcher[row_var.shape[0], 4](rows, columns, row_var, col_var, 0.3, 0.7, 1e-3)
    factored.squares_gpu.dispatcher[by_row, factored.LANES](x, rows, columns, 10.0, squares)
    factored.step_gpu.dispatcher[2, 8](theta, x, rows, columns, scalars)
    return named(*sums, rows, columns, row_var, col_var, squares, theta)


def named(*arrays):
    names = ("row sums", "column sums", "rows", "columns", "row_var", "col_var", "squares", "theta")
    return dict(zip(names, arrays, strict=True))


def compare_roundings():
    """Return the bits that are rounded differently."""
    bits = np.random.default_rng(5).integers(0, 2**32, 200, np.uint32)
    expected = bits.copy()
    bfloat16.round_cpu.serial(expected)
    found = bits.copy()
    bfloat16.round_gpu.dispatcher[2, 32](found)
    return [f"{before:08x}" for before, a, b in zip(bits, expected, found, strict=True) if a != b]


def main():
    """Print what differs, as JSON."""
    found = {f"factors-{name}": compare_factors(*kinds) for name, kinds in PRECISIONS.items()}
    found |= {f"products-{name}": compare_products(PRECISIONS[name][0]) for name in ("float32", "float64")}
    json.dump(found | {"roundings": compare_roundings()}, sys.stdout)


@pytest.fixture(scope="module")
def differences(tmp_path_factory):
    pytest.importorskip("numba_cuda", reason="numba-cuda, which has the simulator, is not installed")
    cache = str(tmp_path_factory.mktemp("cache"))
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "1", "NUMBA_CACHE_DIR": cache}
    run = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.parametrize(
    "what", ["products-float32", "products-float64", *(f"factors-{name}" for name in PRECISIONS), "roundings"]
)
def test_simulator_has_the_bits_of_the_cpu(differences, what):
    assert differences[what] == []


def array(kind, dimensions, layout="C"):
    return types.Array(types.float32 if kind == "float32" else types.float64, dimensions, layout)


def signatures(kind):
    """Return the kernels with the types of their arguments."""
    real = types.float32 if kind == "float32" else types.float64
    matrix, stack, wide = array(kind, 2), array(kind, 3), array("float64", 2)
    scalars = types.NamedUniTuple(real, 3, factored.StepScalars)
    number = types.float64
    return {
        "matmul": (matmul.matmul_gpu, (matrix, matrix, array(kind, 2, "A"))),
        "squares": (factored.squares_gpu, (stack, wide, wide, number, wide)),
        "column_sums": (factored.column_sums_gpu, (stack, wide)),
        "factors": (factored.factors_gpu, (wide, wide, matrix, matrix, number, number, number)),
        "step": (factored.step_gpu, (stack, stack, wide, wide, scalars)),
        "round": (bfloat16.round_gpu, (types.Array(types.uint32, 1, "C"),)),
    }


@pytest.mark.parametrize("kind", ["float32", "float64"])
@pytest.mark.parametrize("name", signatures("float32"))
def test_ptx_has_nothing_that_rounds_in_another_way(monkeypatch, name, kind):
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
    try:
        import_module("cuda.bindings.nvrtc").nvrtcVersion()
    except RuntimeError:
        pytest.skip("the CUDA toolkit is not installed: pip install numba-cuda[cu13]")
    device = type("Device", (), {"compute_capability": (9, 0)})
    monkeypatch.setattr(import_module("numba.cuda.dispatcher"), "get_current_device", lambda: device)
    kernel, arguments = signatures(kind)[name]
    ptx, _ = cuda.compile_ptx(kernel.function, arguments, cc=(9, 0))
    assert not re.findall(r"\S*(?:\.approx|\.full|\.ftz)\S*", ptx)
    assert not re.findall(r"^\s*call\b.*", ptx, re.MULTILINE)
    # What is not an explicit fma here: sums of pairs, whose every rounding is wanted, and products without a sum.
    fmas = len(re.findall(r"\bfma\.rn\.f(?:32|64)", ptx))
    products = set(re.findall(r"^\s*mul(?:\.rn)?\.f(?:32|64)\s+(%\w+)", ptx, re.MULTILINE))
    sums = re.findall(r"^\s*(?:add|sub)\.f(?:32|64)\s+%\w+,(.*);", ptx, re.MULTILINE)
    assert not [operands for operands in sums if products & set(re.findall(r"%\w+", operands))]
    assert (fmas > 0) == (name != "round")


if __name__ == "__main__":
    main()
