"""CUDA kernels over parameters of 16 bits as they are linked, without a GPU: the rule's operations, and wide accesses.

What a rule takes is counted in its kernel for float32, which ``test_cuda_ptx`` compares with the rule: a strip of 8
elements and the single one beside it hold nine times that of an element, where a strip of float32 has five.
"""

import pkgutil
import re
from collections import Counter
from importlib import import_module

import numpy as np
import pytest
from numba import types
from ptx import CAPABILITIES, EACH_CAPABILITY, registers

from refoptim import kernels
from refoptim.kernels.jit import THREADS, Row, cuda
from refoptim.kernels.philox import ROUNDS, Draws
from refoptim.kernels.strips import ACCESS, RuleKernel

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
try:
    import_module("cuda.bindings.nvrtc").nvrtcVersion()
    import_module("cuda.bindings.nvvm").version()
except RuntimeError:
    pytest.skip("the CUDA toolkit is not installed: pip install numba-cuda[cu13]", allow_module_level=True)

FLOAT32, FORMATS = np.dtype(np.float32), {"bfloat16": np.dtype(np.uint16), "float16": np.dtype(np.int16)}
# Of a multiprocessor of an H200, as in test_cuda_ptx.
REGISTERS, MOST_THREADS, BYTES_ON_THE_WAY = 65_536, 2048, 32_768
# Without the rules of whole matrices and of minimizers, which take float32 and more.
WIDER = {"adafactor", "factored", "muon", "lbfgs", "cg"}
MODULES = {
    name: import_module(f"refoptim.kernels.{name}")
    for _, name, _ in pkgutil.iter_modules(kernels.__path__)
    if name not in WIDER
}
RULES = {
    f"{stem}.{kernel.name}": (module, kernel)
    for stem, module in MODULES.items()
    if hasattr(module, "Scalars")
    for kernel in vars(module).values()
    if isinstance(kernel, RuleKernel)
}
FEW = ["sgd.momentum_gpu", "adam.amsgrad_gpu", "rprop.rprop_gpu"]
OPERATIONS = ("fma", "mul", "add", "sub", "div", "sqrt")
# What stochastic rounding to float16 takes beside the rule, for each result: small numbers are counted and drawn.
DRAWING = {"bfloat16": Counter(), "float16": Counter({"mul": 1})}


@pytest.fixture
def ptx_of(monkeypatch):
    """Return what compiles a kernel as a launch does, on a machine without a driver, to PTX of each capability."""
    dispatcher = import_module("numba.cuda.dispatcher")
    codegen = import_module("numba.cuda.codegen")
    monkeypatch.setattr(dispatcher._Kernel, "bind", lambda _: None)
    monkeypatch.setattr(codegen.CUDACodeLibrary, "_ensure_cc", lambda _, cc: cc or CAPABILITIES[-1])
    device = type("Device", (), {"compute_capability": CAPABILITIES[-1]})
    monkeypatch.setattr(dispatcher, "get_current_device", lambda: device)

    def ptx_of(module, kernel, dtypes, *others, scalar=np.float32, reads=False):
        h = module.Scalars(*[scalar(0.3)] * len(module.Scalars._fields))
        h = Row(module.Scalars, np.array(h)) if reads else h
        (compiled,) = kernel.compiled(dtypes, h, *others).overloads.values()
        library = compiled.library
        return [library.get_lto_ptx(cc=cc) if library._lto else library.get_asm_str(cc=cc) for cc in CAPABILITIES]

    return ptx_of


def arithmetic(ptx, kind="f32"):
    """Count the operations of rules."""
    return Counter(re.findall(rf"^\s*({'|'.join(OPERATIONS)})(?:\.rn)?\.{kind}\b", ptx, re.MULTILINE))


def accesses(ptx):
    """Count loads and stores by their width in bytes."""
    found = Counter()
    for direction, wide, bits in re.findall(r"\b(ld|st)\.global(?:\.v(\d))?\.[a-z](\d+)", ptx):
        found[direction, int(wide or 1) * int(bits) // 8] += 1
    return found


def times(counts, number):
    return Counter({name: count * number for name, count in counts.items()})


def check_plain(ptx, kind="f32"):
    """Assert that nothing but this arithmetic takes part, all of it exact and in registers."""
    assert ".local" not in ptx
    assert not re.findall(r"\S*(?:\.approx|\.full|\.ftz)\S*", ptx)
    assert not re.findall(r"^\s*call\b.*", ptx, re.MULTILINE)
    other = "f64" if kind == "f32" else "f32"
    assert not sum(arithmetic(ptx, other).values())
    assert kind == "f64" or ".f64" not in ptx


def bytes_on_the_way(ptx, capability):
    """Return how many bytes a multiprocessor full of these threads has asked for at once."""
    blocks = min(MOST_THREADS, REGISTERS // registers(ptx, capability)) // THREADS
    return blocks * THREADS * sum(wide * n for (way, wide), n in accesses(ptx).items() if way == "ld" and wide > 4)


def shape_of(kernel):
    """Return how many arrays a rule takes."""
    return kernel.rule.__code__.co_argcount - 1


FAST = [*FEW, "scaling.clamped_gpu", "swa.average_gpu"]
CASES = [
    pytest.param(name, form, id=f"{name}-{form}", marks=[] if name in FAST else pytest.mark.slow)
    for name in RULES
    for form in FORMATS
]


@pytest.mark.parametrize(("name", "form"), CASES)
def test_what_rounds_to_the_nearest_moves_16_bytes_and_computes_no_more_than_the_rule(ptx_of, name, form):
    module, kernel = RULES[name]
    dtypes = [FORMATS[form]] * shape_of(kernel)
    known, found = (ptx_of(module, kernel, kinds) for kinds in ([FLOAT32] * len(dtypes), dtypes))
    for capability, wide, ptx in zip(CAPABILITIES, known, found):
        check_plain(ptx)
        assert times(arithmetic(wide), 9) == times(arithmetic(ptx), 5)
        before = accesses(wide)
        assert accesses(ptx) == {
            (way, size): before[way, {16: 16, 2: 4}[size]] for way in ("ld", "st") for size in (16, 2)
        }
        assert bytes_on_the_way(ptx, capability) >= BYTES_ON_THE_WAY


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", FEW)
def test_master_weights_move_16_bytes_of_float32_and_8_of_the_parameters(ptx_of, name, form):
    module, kernel = RULES[name]
    others = shape_of(kernel) - 2
    dtypes = [FORMATS[form], FLOAT32, FORMATS[form], *[FLOAT32] * others]
    known = ptx_of(module, kernel, [FLOAT32] * (2 + others))
    for wide, ptx in zip(known, ptx_of(module, kernel.half._master, dtypes)):
        check_plain(ptx)
        assert arithmetic(wide) == arithmetic(ptx)
        got, before = accesses(ptx), accesses(wide)
        loads, stores = before["ld", 16], before["st", 16]
        assert got == {
            ("ld", 16): loads - 1, ("ld", 8): 2, ("ld", 4): loads - 1, ("ld", 2): 2,
            ("st", 16): stores, ("st", 8): 1, ("st", 4): stores, ("st", 2): 1,
        }  # fmt: skip


@pytest.mark.parametrize("reads", [False, True], ids=["given", "reading"])
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", FEW)
def test_stochastic_rounding_draws_once_for_all_results(ptx_of, name, form, reads):
    module, kernel = RULES[name]
    dtypes, draws = [FORMATS[form]] * shape_of(kernel), Draws(1, 2, 3, 4, 5)
    position = (np.zeros(3, np.int64),) if reads else ()
    known = ptx_of(module, kernel, [FLOAT32] * len(dtypes))
    for wide, ptx in zip(known, ptx_of(module, kernel.half._drawn, dtypes, draws, *position, reads=reads)):
        check_plain(ptx)
        before, got = accesses(wide), accesses(ptx)
        drawn = times(DRAWING[form], before["st", 16] * 9)
        assert {k: v * 9 // 5 for k, v in arithmetic(wide).items()} == arithmetic(ptx) - drawn
        assert (got["ld", 16], got["st", 16], got["st", 2]) == (before["ld", 16], before["st", 16], before["st", 16])
        assert got["ld", 8] == 2 * reads  # how many rows were taken, and the count before
        # Two blocks for a strip and one for an element, whatever a rule returns, of two products a round.
        assert ptx.count("mul.lo.s64") == 3 * 2 * ROUNDS


@pytest.mark.parametrize("form", FORMATS)
def test_what_stores_copies_reads_nothing_but_them(ptx_of, form):
    own = FORMATS[form]
    (vectors, multiple), (scaling, scaled) = RULES["vectors.multiple_gpu"], RULES["scaling.scaled_gpu"]
    for ptx in ptx_of(vectors, multiple.half._drawn, [own, FLOAT32], Draws(1, 2, 3, 4, 5)):
        check_plain(ptx)
        assert accesses(ptx) == {("ld", 16): 1, ("ld", 4): 1, ("st", 8): 1, ("st", 2): 1}
    for ptx in ptx_of(scaling, scaled.half._master, [own, FLOAT32]):
        check_plain(ptx)
        moved = {16: 1, 8: 1, 4: 1, 2: 1}
        assert accesses(ptx) == {(way, size): count for way in ("ld", "st") for size, count in moved.items()}


@pytest.mark.parametrize("form", FORMATS)
def test_float64_arithmetic_is_of_float64_alone(ptx_of, form):
    module, kernel = RULES["adam.adam_gpu"]
    known = ptx_of(module, kernel, [np.dtype(np.float64)] * 4, scalar=np.float64)
    for wide, ptx in zip(known, ptx_of(module, kernel, [FORMATS[form]] * 4, scalar=np.float64)):
        check_plain(ptx, "f64")
        assert times(arithmetic(wide, "f64"), 9) == times(arithmetic(ptx, "f64"), 3)


@pytest.mark.parametrize("capability", EACH_CAPABILITY)
@pytest.mark.parametrize("form", FORMATS)
def test_sums_read_16_bytes_at_a_time(monkeypatch, form, capability):
    device = type("Device", (), {"compute_capability": capability})
    monkeypatch.setattr(import_module("numba.cuda.dispatcher"), "get_current_device", lambda: device)
    bits = types.Array({"bfloat16": types.uint16, "float16": types.int16}[form], 1, "C")
    sums = types.Array(types.float64, 2, "C")
    ptx, _ = cuda.compile_ptx(
        kernels.folds_gpu.squares_gpu.function, (bits, types.boolean, sums, types.int64), cc=capability
    )
    found = accesses(ptx)
    assert found["ld", 16] == kernels.lanes_gpu.ROWS
    assert found["ld", ACCESS // 8] == 8  # what is left in a row, lane by lane
    assert ".local" not in ptx
