"""The CUDA kernels of matrices: the CPU's bits under Numba's simulator, and nothing contracted in their PTX.

The simulator is chosen when Numba is imported, so this file runs itself in a second process, once for all kernels, with
tiles and bands of a few elements.
"""

import itertools
import json
import re
import sys
import warnings
from collections import Counter
from importlib import import_module

import numpy as np
import pytest
from numba import njit, types
from ptx import EACH_CAPABILITY

from refoptim.kernels import adafactor, bfloat16, factored, factored_gpu, matmul, matmul_gpu, memory, muon, scaling
from refoptim.kernels.jit import cuda
from refoptim.kernels.lanes_gpu import ROWS

PRODUCTS = [(9, 17, 7), (2, 0, 3), (8, 8, 16)]
PRECISIONS = {"float32": (np.float32, np.float32), "float64": (np.float64, np.float64)}
PRECISIONS |= {"wide": (np.float32, np.float64)}
# Fewer and more than the lanes, bands and segments of tests/simulated.py; vectors, matrices, many matrices.
# Rows that begin where 16 bytes do, and others.
SHAPES = [(7,), (), (5, 3), (2, 3, 2), (2, 19), (9, 20)]
# Sign, decay, eps, the size of the gradients.
STEPS = [(1.0, 0.1, -1.0, 1.0), (-1.0, 0.0, 1e-30, 1.0), (1.0, 0.1, 1e-3, 0.0)]
ADAFACTOR = [*((shape, STEPS[0]) for shape in SHAPES), *itertools.product([(7,), (5, 3)], STEPS[1:])]
# Shapes; nesterov, match_rms, steps.
MUON = [((5, 3), (1.0, 0.0, 2.0)), ((3, 11), (0.0, 1.0, 1.0)), ((3, 3), (0.0, 1.0, 0.0))]
FACTORS = (0.1, np.nan, 0.0, -0.0, np.inf, 3.0)
BOUNDS = (0.1, 1e300, 1.0, 0.0, np.inf)


def numbers(*shape):
    """Return numbers of both signs and of different sizes."""
    rng = np.random.default_rng([7, *shape])
    return rng.standard_normal(shape) * 10.0 ** rng.uniform(-3, 3, shape)


def differ(function, arrays, *others):
    """Call a function with arrays on both sides, and return whether any of them is other bits afterwards."""
    cpu, gpu = [array.copy() for array in arrays], [cuda.to_device(array) for array in arrays]
    function(*cpu, *others)
    function(*gpu, *others)
    return any(a.tobytes() != b.copy_to_host().tobytes() for a, b in zip(cpu, gpu, strict=True))


def compare_products(kind, _):
    """Return the shapes for which product, Gram matrix or transpose differ."""
    different = []
    for rows, depth, columns in PRODUCTS:
        a, b = numbers(rows, depth).astype(kind), numbers(depth, columns).astype(kind)
        if differ(matmul.matmul, [np.empty((rows, columns), kind), a, b]):
            different.append(f"product of {rows}, {depth}, {columns}")
        if differ(matmul.gram, [np.empty((rows, rows), kind), a]):
            different.append(f"Gram matrix of {rows}, {depth}")
        if matmul.transposed(cuda.to_device(a), cuda.device_array).copy_to_host().tobytes() != a.T.tobytes():
            different.append(f"transpose of {rows}, {depth}")
    return different


def compare_adafactor(kind, wide):
    """Return the steps of Adafactor that differ."""
    different = []
    for shape, (sign, decay, eps, size) in ADAFACTOR:
        theta, g = (numbers(*shape, 2)[..., i].astype(kind) for i in (0, 1))
        state = [np.square(theta), np.empty(0, kind)]
        arrays = [theta, g * kind(size), state[1], state[1], state[0]]
        if len(shape) > 1:
            arrays[2:] = [np.square(theta)[..., :1].copy(), np.square(theta)[..., :1, :].copy(), state[1]]
        h = adafactor.Scalars(sign, 0.3, 0.7, 0.01, eps, 0.0 if size == 0 else 1e-3, 1.0, decay)
        if differ(adafactor.adafactor, [np.ascontiguousarray(array) for array in arrays], np.array(h, wide)):
            different.append(f"{shape}, {h}")
    return different


def compare_muon(kind, wide):
    """Return the steps of Muon that differ, in the parameters' precision and rounded to bfloat16."""
    different = []
    for shape, (nesterov, match_rms, steps) in MUON:
        arrays = [numbers(*shape, 3)[..., i].astype(kind) for i in range(3)]
        h = muon.Scalars(nesterov, 0.9, 0.1, 3.4445, -4.775, 2.0315, 0.1, 0.02, 1e-7, steps, match_rms)
        kernels = (muon.muon, muon.muon_bfloat16)
        different += [f"{f.__name__} of {shape}" for f in kernels if differ(f, arrays, np.array(h, wide))]
    return different


def compare_elements(kind, _):
    """Return what differs of what changes arrays by a number, rounds or converts them."""
    x = np.r_[numbers(30), np.nan, np.inf, -np.inf, 0.0, -0.0, 1e30].astype(kind)
    different = [f"scale by {factor}" for factor in FACTORS if differ(scaling.scale, [x], factor)]
    different += [f"clamp to {bound}" for bound in BOUNDS if differ(scaling.clamp, [x], bound)]
    different += [f"divide by {number}" for number in FACTORS if differ(scaling.divide, [x, np.array([number], kind)])]
    bits = np.random.default_rng(5).integers(0, 2**32, 100, np.uint32)
    if differ(bfloat16.round_to_bfloat16, [bits.view(np.float32)]):
        different.append("rounding to bfloat16")
    for target in (np.float32, np.float64):
        if differ(memory.assign, [np.empty(x.size, target), x]):
            different.append(f"conversion to {target.__name__}")
    return different


COMPARISONS = {"products": compare_products, "elements": compare_elements}
COMPARISONS |= {"adafactor": compare_adafactor, "muon": compare_muon}
CASES = [
    (name, precision)
    for name in COMPARISONS
    for precision in PRECISIONS
    if precision != "wide" or name in ("adafactor", "muon")
]


def main():
    """Print what differs, as JSON."""
    import_module("simulated").shrink()
    warnings.simplefilter("ignore", RuntimeWarning)  # in the simulator's threads
    found = {f"{name}-{precision}": COMPARISONS[name](*PRECISIONS[precision]) for name, precision in CASES}
    json.dump(found, sys.stdout)


@pytest.mark.parametrize(("name", "precision"), CASES)
def test_simulator_has_the_bits_of_the_cpu(simulation, name, precision):
    assert simulation[f"{name}-{precision}"] == []


@njit
def add_terms(sums, rows, columns, down, across):
    matmul_gpu.add_terms(sums, rows, columns, down, across)


@njit
def add_term(sums, rows, columns, down, across, k):
    matmul_gpu.add_term(sums, rows, columns, down, across, k)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize(("compiled", "place"), [(add_terms, ()), (add_term, (5,))])
def test_the_straight_code_of_a_tile_adds_what_the_plain_functions_add(compiled, place, kind):
    # The simulator runs the plain functions; this is the code of the others, compiled for the CPU.
    tile = (matmul_gpu.DEPTH, matmul_gpu.SIDE + 1)
    rows, columns = numbers(*tile).astype(kind), numbers(*tile)[::-1].astype(kind)
    start = numbers(matmul_gpu.OWN, matmul_gpu.OWN).astype(kind)
    want, found = start.copy(), start.copy()
    getattr(matmul_gpu, compiled.__name__)(want, rows, columns, 3, 7, *place)
    compiled(found, rows, columns, 3, 7, *place)
    assert found.tobytes() == want.tobytes() != start.tobytes()


def array(kind, dimensions):
    return types.Array(types.float32 if kind == "float32" else types.float64, dimensions, "C")


def signatures(kind):
    """Return the kernels with the types of their arguments."""
    real, number, count = types.float32 if kind == "float32" else types.float64, types.float64, types.intp
    truth = types.boolean
    flat, matrix, stack = (array(kind, dimensions) for dimensions in (1, 2, 3))
    one, wide, bands, sums = (array("float64", dimensions) for dimensions in (1, 2, 3, 4))
    step = types.NamedUniTuple(real, 3, factored.StepScalars)
    return {
        "matmul": (matmul_gpu.matmul_gpu, (matrix, matrix, matrix)),
        "gram": (matmul_gpu.gram_gpu, (matrix, matrix)),
        "transpose": (matmul_gpu.transpose_gpu, (matrix, matrix)),
        "row_squares": (factored_gpu.row_squares_gpu, (stack, truth, wide)),
        "scaled_squares": (factored_gpu.scaled_squares_gpu, (stack, wide, truth, wide, number, wide)),
        "column_bands": (factored_gpu.column_bands_gpu, (flat, truth, sums, count)),
        "column_factors": (factored_gpu.column_factors_gpu, (wide, sums, matrix, count, number, number)),
        "row_moments": (factored_gpu.row_moments_gpu, (wide, bands, matrix, count, number, number)),
        "row_factors": (factored_gpu.row_factors_gpu, (wide, bands, number)),
        "step_columns": (factored_gpu.step_columns_gpu, (flat, one, one)),
        "step": (factored_gpu.step_gpu, (stack, stack, matrix, count, wide, one, number, step)),
        "squared": (adafactor._squared_gpu, (one, wide, wide, *[number] * 4)),
        "update_scalars": (adafactor._update_scalars_gpu, (flat, one, number, number)),
        "round": (bfloat16.round_gpu, (types.Array(types.uint32, 1, "C"),)),
        "convert": (memory.convert_gpu, (one, flat)),
    }


FUSED = {"matmul", "gram", "row_squares", "scaled_squares", "column_bands", "column_factors", "row_moments", "step"}


@pytest.mark.parametrize("capability", EACH_CAPABILITY)
@pytest.mark.parametrize("kind", ["float32", "float64"])
@pytest.mark.parametrize("name", signatures("float32"))
def test_ptx_has_nothing_that_rounds_in_another_way(monkeypatch, name, kind, capability):
    ptx = compiled(monkeypatch, *signatures(kind)[name], capability)
    assert not re.findall(r"\S*(?:\.approx|\.full|\.ftz|\.local)\S*", ptx)
    assert not re.findall(r"^\s*call\b.*", ptx, re.MULTILINE)
    # What is not an explicit fma here: sums of pairs, whose every rounding is wanted, and products without a sum.
    fmas = len(re.findall(r"\bfma\.rn\.f(?:32|64)", ptx))
    products = set(re.findall(r"^\s*mul(?:\.rn)?\.f(?:32|64)\s+(%\w+)", ptx, re.MULTILINE))
    sums = re.findall(r"^\s*(?:add|sub)\.f(?:32|64)\s+%\w+,(.*);", ptx, re.MULTILINE)
    assert not [operands for operands in sums if products & set(re.findall(r"%\w+", operands))]
    assert (fmas > 0) == (name in FUSED)


# What a thread loads at once, in accesses of 16 bytes: of elements, and of factors, which are float64.
WIDE_LOADS = {"row_squares": (1, 0), "scaled_squares": (1, 1), "column_bands": (1, 0)}


@pytest.mark.parametrize("capability", EACH_CAPABILITY)
@pytest.mark.parametrize("kind", ["float32", "float64"])
@pytest.mark.parametrize("name", [*WIDE_LOADS, "step"])
def test_rows_are_read_and_written_16_bytes_at_a_time(monkeypatch, name, kind, capability):
    ptx = compiled(monkeypatch, *signatures(kind)[name], capability)
    # A compiler may load numbers as the integers of their bits.
    accesses = re.findall(r"\b(ld|st)\.global\.v(\d)\.[a-z](\d+)", ptx)
    assert {int(count) * int(bits) for _, count, bits in accesses} == {128}
    found = Counter(access for access, *_ in accesses)
    if name == "step":
        # Three arrays are read, one is written; the loop may be unrolled.
        assert found["ld"] == 3 * found["st"] > 0
    else:
        elements, factors = WIDE_LOADS[name]
        assert found == {"ld": ROWS * (elements + factors * 8 // np.dtype(kind).itemsize)}


@pytest.mark.parametrize("kind", ["float32", "float64"])
@pytest.mark.parametrize("name", ["matmul", "gram"])
def test_terms_of_a_tile_are_straight_code(monkeypatch, name, kind):
    ptx = compiled(monkeypatch, *signatures(kind)[name], (9, 0))
    blocks = re.split(r"^\$L\w+:", ptx, flags=re.MULTILINE)
    most = max(block.count("fma.rn") for block in blocks)
    assert most == matmul_gpu.DEPTH * matmul_gpu.OWN**2


def compiled(monkeypatch, kernel, arguments, capability):
    """Return a kernel's PTX, compiled without a device."""
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
    try:
        import_module("cuda.bindings.nvrtc").nvrtcVersion()
    except RuntimeError:
        pytest.skip("the CUDA toolkit is not installed: pip install numba-cuda[cu13]")
    device = type("Device", (), {"compute_capability": capability})
    monkeypatch.setattr(import_module("numba.cuda.dispatcher"), "get_current_device", lambda: device)
    return cuda.compile_ptx(kernel.function, arguments, cc=capability)[0]


if __name__ == "__main__":
    main()
