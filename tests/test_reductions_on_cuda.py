"""Sums on a GPU: the CPU's bits under Numba's simulator, however arrays are cut, and nothing contracted in their PTX.

The simulator is chosen when Numba is imported, so this file runs itself in other processes: once with the tree as it
is, and once with a small one, which has many chunks and levels for a few hundred elements.
"""

import json
import math
import os
import re
import subprocess
import sys
import warnings
from collections import Counter
from importlib import import_module

import numpy as np
import pytest
from numba import types
from ptx import EACH_CAPABILITY

from refoptim.kernels import folds_gpu, memory, reductions_gpu
from refoptim.kernels.jit import cuda
from refoptim.kernels.lanes_gpu import ROWS
from refoptim.kernels.products import products
from refoptim.kernels.reductions import CHUNK, dot, largest_magnitude, norm, sum_of_magnitudes

TYPES = [np.float32, np.float64]
INF = math.inf
CUTS = [[0, 0, 1], [1, 2, 3, 7, 16, 40], [16], [5, 53, 69], list(range(0, 80, 9))]


def run(name, **cache):
    """Return what a function of this file gives in the simulator."""
    pytest.importorskip("numba_cuda", reason="numba-cuda, which has the simulator, is not installed")
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "1"} | cache
    command = [sys.executable, "-W", "error", __file__, name]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


def compare():
    """Return the cases in which the simulator's bits are not the CPU's, and how many were compared."""
    numbers, cancelling = (getattr(import_module("test_reductions"), name) for name in ("numbers", "cancelling"))
    x, y = cancelling(CHUNK + 1), numbers(CHUNK + 1)
    cases = [(dot, (x, y)), (norm, (x,)), (sum_of_magnitudes, (x.astype(np.float32),))]
    cases += [(product, (a, b)) for a, b in [(x, y), (x.astype(np.float32), y.astype(np.float32))]]
    return [str(case) for case in cases if differ(*case)]


def product(x, y):
    """Return the product as that of one of many vectors."""
    return products([x], [y])[0, 0]


def compare_small():
    """Return the cases that differ, with chunks of a few elements."""
    import_module("simulated").shrink()
    others = import_module("test_reductions")
    numbers, cancelling = others.numbers, others.cancelling
    warnings.simplefilter("ignore", RuntimeWarning)  # in the simulator's threads
    found = []
    for size, dtype in [(0, TYPES[0]), (5, TYPES[0]), (17, TYPES[1]), (150, TYPES[0])]:
        x, y = cancelling(size, dtype), numbers(size, dtype)
        cases = [(dot, (x, y)), (dot, (x, np.ones(size, dtype))), (sum_of_magnitudes, (x,)), (largest_magnitude, (x,))]
        cases += [(norm, (x, p)) for p in (2, 1, 0, INF, -INF, 3)]
        found += [
            f"{function.__name__} of {size} {dtype.__name__}" for function, given in cases if differ(function, given)
        ]
    x = cancelling(80)
    for cuts, p in [*((cuts, 2) for cuts in CUTS), *((CUTS[1], p) for p in (1, 0, INF, -INF))]:
        parts = np.split(x, cuts)
        parts[-1] = parts[-1].astype(np.float32)  # arrays of two types
        if not same(norm(list(map(cuda.to_device, parts)), p), norm(parts, p)):
            found.append(f"{p}-norm, cut at {cuts}")
    mixed = [part if place % 2 else cuda.to_device(part) for place, part in enumerate(parts)]
    if not same(norm(mixed), norm(parts)):
        found.append("norm of arrays on both")
    large = np.split(x * 1e200, CUTS[1])
    if not same(norm(list(map(cuda.to_device, large))), norm(large)):
        found.append("norm of squares that leave the range")
    for elements, p, _ in others.NORMS:
        if p == 2 and elements:
            found += compare_norm_that_stays(np.array(elements))
    return found + compare_norm_that_stays(x * 1e200) + compare_norm_that_stays(numbers(40, np.float32))


def compare_norm_that_stays(x):
    """Return the array if the norm that is left on the GPU is another."""
    there, left = cuda.to_device(x), cuda.to_device(np.zeros(2, x.dtype))
    with memory.temporaries(there) as empty:
        reductions_gpu.norm_into(left, there, empty)
        reductions_gpu.norm_into(left[1:], there, empty, least=5.0)
    expected = [norm(x), max(norm(x), 5.0) if norm(x) == norm(x) else norm(x)]
    return [] if all(map(same, left.copy_to_host(), map(x.dtype.type, expected))) else [f"norm of {x} that stays"]


def differ(function, given):
    """Return whether a function has other bits for arrays in the simulator."""
    on_gpu = (cuda.to_device(x) if isinstance(x, np.ndarray) else x for x in given)
    return not same(function(*on_gpu), function(*given))


def same(a, b):
    return float(a).hex() == float(b).hex()


def test_simulator_has_the_bits_of_the_cpu():
    assert run("compare") == []


def test_simulator_has_the_bits_of_the_cpu_with_small_trees(small_trees):
    assert run("compare_small", NUMBA_CACHE_DIR=small_trees) == []


# The arrays of elements that a kernel takes; whether it takes a column behind them; the fused multiplications and the
# additions of one term.
GPU_KERNELS = {
    "dot_gpu": (2, True, 2, 4),
    "squares_gpu": (1, True, 2, 4),
    "magnitudes_gpu": (1, True, 0, 4),
    "counts_gpu": (1, True, 0, 4),
    "pairs_gpu": (0, False, 0, 4),
    "extremes_gpu": (1, False, 0, 0),
    "extreme_pairs_gpu": (0, False, 0, 0),
}


@pytest.mark.parametrize("capability", EACH_CAPABILITY)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", GPU_KERNELS)
def test_ptx_holds_these_operations_and_no_others(monkeypatch, name, dtype, capability):
    arrays, column, fused, added = GPU_KERNELS[name]
    real, pairs = array_of(dtype, 1), array_of(np.float64, 2)
    arguments = [*[real] * arrays, types.boolean, pairs] if arrays else [pairs, pairs]
    ptx = compiled(monkeypatch, name, arguments + [types.intp] * column, capability)
    found = Counter(re.findall(r"^\s*(?:@!?%p\d+\s+)?(fma|mul|div|add|sub)(?:\.rn)?\.f(?:32|64)", ptx, re.MULTILINE))
    # The terms in the loops, which are unrolled, and one addition of pairs for each halving of the lanes.
    folds = 7 * 4 if added else 0
    terms = (found["add"] - folds) // added if added else 0
    assert found["sub"] == found["add"] == terms * added + folds
    assert found["mul"] == found["div"] == 0
    # On two ways to one place, the compiler may compute a product twice.
    assert 0 <= found["fma"] - terms * fused <= fused
    assert ptx.count("bar.sync") >= 2
    assert ".local" not in ptx
    # A thread asks for all that it takes from ROWS rows at once, 16 bytes of each.
    accesses = [(kind, int(count) * int(bits)) for kind, count, bits in re.findall(WIDE, ptx)]
    assert accesses == [("ld", 128)] * ROWS * arrays


@pytest.mark.parametrize("capability", EACH_CAPABILITY)
def test_ptx_of_chains_adds_a_product_in_one_operation(monkeypatch, capability):
    real, pairs = array_of(np.float32, 1), array_of(np.float64, 2)
    ptx = compiled(monkeypatch, "chains_gpu", [real, real, types.boolean, pairs, types.intp], capability)
    found = Counter(re.findall(r"^\s*(?:@!?%p\d+\s+)?(fma|mul|div|add|sub)(?:\.rn)?\.f(?:32|64)", ptx, re.MULTILINE))
    # Nothing beside the products but the halvings of the lanes.
    assert found == {"fma": found["fma"], "add": 7}
    assert found["fma"] >= 4 * ROWS
    assert ".local" not in ptx


# A compiler may load numbers as the integers of their bits.
WIDE = r"\b(ld|st)\.global\.v(\d)\.[a-z](\d+)"


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("scaled_squares_gpu", [types.boolean, types.float64[:, ::1], types.float64[:, ::1], types.intp]),
        ("root_gpu", [types.float64[:, ::1], types.float64]),
        ("norm_gpu", [*[types.float64[:, ::1]] * 3, types.float64]),
    ],
)
def test_ptx_approximates_nothing(monkeypatch, name, others, dtype):
    ptx = compiled(monkeypatch, name, [array_of(dtype, 1), *others], (9, 0))
    assert len(re.findall(WIDE, ptx)) == (ROWS if name == "scaled_squares_gpu" else 0)
    assert not re.findall(r"\S*(?:\.approx|\.full|\.ftz|\.local|\bcall\b)\S*", ptx)


def array_of(dtype, dimensions):
    return types.Array(types.float32 if dtype is np.float32 else types.float64, dimensions, "C")


def compiled(monkeypatch, name, arguments, capability):
    """Return a kernel's PTX, compiled without a device."""
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
    try:
        import_module("cuda.bindings.nvrtc").nvrtcVersion()
    except RuntimeError:
        pytest.skip("the CUDA toolkit is not installed: pip install numba-cuda[cu13]")
    device = type("Device", (), {"compute_capability": capability})
    monkeypatch.setattr(import_module("numba.cuda.dispatcher"), "get_current_device", lambda: device)
    return cuda.compile_ptx(getattr(folds_gpu, name).function, tuple(arguments), cc=capability)[0]


if __name__ == "__main__":
    json.dump({"compare": compare, "compare_small": compare_small}[sys.argv[1]](), sys.stdout)
