"""When Numba compiles: at the first step of a kind, never again, and into a cache that keeps the variants apart."""

import json
import os
import pkgutil
import subprocess
import sys
from importlib import import_module
from itertools import count, product

import numpy as np
import pytest
from numba import njit
from numba.core import event

import refoptim as optim
from refoptim import kernels
from refoptim.conformance.subjects import as_sparse
from refoptim.kernels import jit
from refoptim.kernels.jit import CpuKernel
from refoptim.utils import clip_grad_norm_, clip_grad_value_


class SparselyFed(optim.SparseAdam):
    """SparseAdam, given gradients of every element."""

    def step(self, closure=None, *, grads):
        return super().step(closure, grads=[None if grad is None else as_sparse(grad) for grad in grads])


def closure_fed(kind):
    """Return a minimizer that is given gradients: of where it is first, and smaller ones wherever it looks next."""

    class ClosureFed(kind):
        def step(self, closure=None, *, grads):
            calls = count()

            def closure():
                call = next(calls)
                for param, grad in zip(self.param_groups[0]["params"], grads, strict=True):
                    param.grad = None if grad is None else (grad / 32**call).astype(param.dtype)
                return -call

            return super().step(closure)

    return ClosureFed


OPTIMIZERS = {
    "sgd": (optim.SGD, {}),
    "momentum": (optim.SGD, {"momentum": 0.9}),
    "nesterov": (optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "adam": (optim.Adam, {}),
    "adamw": (optim.AdamW, {}),
    "amsgrad": (optim.Adam, {"amsgrad": True}),
    "adamax": (optim.Adamax, {}),
    "rprop": (optim.Rprop, {}),
    "nadam": (optim.NAdam, {}),
    "radam": (optim.RAdam, {}),
    "asgd": (optim.ASGD, {"t0": 0}),
    "adagrad": (optim.Adagrad, {}),
    "adadelta": (optim.Adadelta, {}),
    "rmsprop": (optim.RMSprop, {}),
    "rmsprop-momentum": (optim.RMSprop, {"momentum": 0.9}),
    "rmsprop-centered": (optim.RMSprop, {"centered": True}),
    "rmsprop-both": (optim.RMSprop, {"momentum": 0.9, "centered": True}),
    "adam-keras": (optim.Adam, {"dialect": "keras"}),
    "amsgrad-optax": (optim.Adam, {"amsgrad": True, "dialect": "optax"}),
    "adagrad-optax": (optim.Adagrad, {"dialect": "optax"}),
    "adamax-keras": (optim.Adamax, {"dialect": "keras"}),
    "momentum-keras": (optim.SGD, {"momentum": 0.9, "dialect": "keras"}),
    "nesterov-keras": (optim.SGD, {"momentum": 0.9, "nesterov": True, "dialect": "keras"}),
    "rmsprop-keras": (optim.RMSprop, {"dialect": "keras"}),
    "rmsprop-keras-momentum": (optim.RMSprop, {"momentum": 0.9, "dialect": "keras"}),
    "rmsprop-keras-centered": (optim.RMSprop, {"centered": True, "dialect": "keras"}),
    "rmsprop-keras-both": (optim.RMSprop, {"momentum": 0.9, "centered": True, "dialect": "keras"}),
    "sparse-adam": (SparselyFed, {}),
    "lbfgs": (closure_fed(optim.LBFGS), {"max_iter": 3, "tolerance_change": 0}),
    "cg": (closure_fed(optim.CG), {"max_iter": 3, "tolerance_change": 0}),
}
PRECISIONS = {"float32": (np.float32, None), "float64": (np.float64, None), "wide": (np.float32, "float64")}
# The CPU divides and negates with NumPy.
ON_A_GPU_ALONE = {"divided_cpu", "multiple_cpu"}
# What a user may write for a number.
NUMBERS = [1, 0, 0.5, np.float64(0.25), np.float32(0.125), np.array(0.0625), np.array([0.03125], np.float32), True]
CHANGES = (
    [{"lr": value} for value in NUMBERS]
    + [{"weight_decay": value} for value in NUMBERS if not isinstance(value, np.ndarray)]
    + [{"maximize": True}, {"maximize": 1}, {"dampening": 0}, {"eps": 1}, {"betas": (np.float32(0.5), 0.25)}]
)


def cpu_kernels():
    """Return every CPU kernel of every file, by name."""
    modules = [import_module(f"refoptim.kernels.{info.name}") for info in pkgutil.iter_modules(kernels.__path__)]
    return {
        name: kernel for module in modules for name, kernel in vars(module).items() if isinstance(kernel, CpuKernel)
    }


def signatures():
    loops = {name: (kernel, vars(kernel).get("tiled")) for name, kernel in cpu_kernels().items()}
    return {name: [loop.serial.signatures for loop in both if loop] for name, both in loops.items()}


def steps(optimizer, params, count=2):
    for _ in range(count):
        optimizer.step(grads=[np.full(param.shape, 0.5, param.dtype) for param in params])


def average(param, **options):
    averaged = optim.swa_utils.AveragedModel([param], **options)
    for _ in range(3):
        averaged.update_parameters([param])


def build(name, precision, shapes=((3, 4), (5,))):
    kind, options = OPTIMIZERS[name]
    dtype, arithmetic = PRECISIONS[precision]
    params = [optim.Parameter(np.ones(shape, dtype)) for shape in shapes]
    return kind(params, arithmetic=arithmetic, **options), params


def test_the_recorder_sees_compilations():
    with event.install_recorder("numba:compile") as recorder:
        njit(lambda x: x + 1)(1.0)
    assert recorder.buffer


# Who has loops for long vectors that short ones do not need.
LONG_ALONE = {("lbfgs", jit.SERIAL_BELOW // 4)}


@pytest.mark.parametrize("size", [10, jit.SERIAL_BELOW // 4], ids=["one thread", "several"])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_nothing_compiles_after_the_first_step(name, precision, size):
    optimizer, params = build(name, precision, [(size,), (7,), (2, 3)])
    steps(optimizer, params, count=1)
    if name == "cg":  # whose short vectors have loops of their own, compiled when they come
        steps(*build(name, precision), count=1)
    before = signatures()
    with event.install_recorder("numba:compile") as recorder:
        steps(optimizer, params)
        for change in CHANGES:
            group = optimizer.param_groups[0]
            if change.keys() <= group.keys():
                kept = dict(group)
                group.update(change)
                steps(optimizer, params)
                group.update(kept)
        # Runs of their own, and arrays that do not start on a cache line.
        grads = [np.ones(param.shape, param.dtype) for param in params]
        optimizer.step(grads=[grads[0], None, grads[2]])
        optimizer.step(grads=[None, grads[1], grads[2]])
        steps(optimizer, params)
        saved = optimizer.state_dict()
        optimizer.load_state_dict(saved)
        steps(optimizer, params)
        if (name, size) not in LONG_ALONE:
            steps(*build(name, precision, [(), (0,), (1, 1, 4)]))
    assert [str(e[1].data["dispatcher"]) for e in recorder.buffer if e[1].is_start] == []
    assert signatures() == before


def test_numbers_of_every_kind_share_a_signature():
    cases = list(product(OPTIMIZERS, PRECISIONS))
    for case in cases:
        steps(*build(*case), count=1)
    for kind, shape in product([optim.Adafactor, optim.Muon], [(3,), (2, 3)]):
        if kind is optim.Adafactor or len(shape) == 2:
            param = optim.Parameter(np.ones(shape))
            steps(kind([param]), [param], count=1)
    average(optim.Parameter([1.0]))
    param.grad = np.full(param.shape, 2.0, param.dtype)
    clip_grad_norm_([param], 1.0)
    clip_grad_value_([param], 1.0)
    before = signatures()
    for name, found in before.items():
        assert found or name in ON_A_GPU_ALONE, f"{name} has not run: add its optimizer to the table above"
    for case, change in product(cases, CHANGES):
        optimizer, params = build(*case)
        if change.keys() <= optimizer.param_groups[0].keys():
            optimizer.param_groups[0].update(change)
            steps(optimizer, params, count=1)
    for decay in (np.float32(0.25), 0.75, True, 0):
        average(optim.Parameter([1.0]), avg_fn=optim.swa_utils.get_ema_avg_fn(decay))
    assert signatures() == before


CACHED = """
import json, sys
import numba, numpy as np
import refoptim as optim
from refoptim import kernels
from refoptim.kernels import jit, pool

several = sys.argv[1] == "several"
optim.set_num_threads(2)
if several:
    jit.SERIAL_BELOW, jit.GRAIN = 0, 64
param = optim.Parameter(np.ones(1000, np.float32))
optim.SGD([param]).step(grads=[np.ones(1000, np.float32)])
try:
    layer = bool(numba.threading_layer())
except ValueError:  # Numba has not started one
    layer = False
stats = kernels.sgd.sgd_cpu.serial.stats
counts = {"hits": sum(stats.cache_hits.values()), "misses": sum(stats.cache_misses.values())}
json.dump({**counts, "threads": len(pool._Current.pool._workers), "layer": layer}, sys.stdout)
"""


def in_a_new_process(code, *arguments, **environment):
    """Return what a fresh interpreter prints, which must be JSON."""
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    run = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_one_compilation_serves_any_number_of_threads_and_numba_starts_none(tmp_path):
    for hits, how in enumerate(("several", "alone", "several")):
        found = in_a_new_process(CACHED, how, NUMBA_CACHE_DIR=str(tmp_path))
        first = {"hits": min(hits, 1), "misses": 1 - min(hits, 1)}
        assert found == first | {"threads": how == "several", "layer": False}, how
    assert len([path for path in tmp_path.rglob("*.nbc") if "sgd_cpu" in path.name]) == 1


IMPORTED = """
import json, sys
import refoptim as optim
print(json.dumps(sorted(sys.modules)))
"""


def test_importing_refoptim_imports_no_compiler():
    modules = set(in_a_new_process(IMPORTED))
    heavy = {"numba", "llvmlite", "numba_cuda", "torch", "scipy", "flint", "matplotlib", "autograd", "jax", "tqdm"}
    assert "refoptim" in modules
    assert not heavy & {name.partition(".")[0] for name in modules}
    below = {name for name in modules if name.startswith(("refoptim.kernels.", "refoptim.conformance"))}
    assert below == {"refoptim.kernels.interrupts"}


STEPPED = """
import json, sys
import numpy as np
import refoptim as optim
param = optim.Parameter(np.ones(4))
optim.Adam([param]).step(grads=[np.ones(4)])
print(json.dumps(sorted(sys.modules)))
"""


def test_a_step_imports_its_own_kernels_and_neither_cuda_nor_torch(tmp_path):
    modules = set(in_a_new_process(STEPPED, NUMBA_CACHE_DIR=str(tmp_path)))
    assert "numba" in modules
    assert not {"torch", "numba_cuda", "numba.cuda", "cuda"} & modules
    own = {name for name in modules if name.startswith("refoptim.kernels.")}
    half = ("elements", "half", "half_numbers", "philox", "registers")  # which strips on a GPU may be of
    stems = (
        *half,
        "adam",
        "addresses",
        "arithmetic",
        "caching",
        "calls",
        "chunks",
        "forks",
        "interrupts",
        "intrinsics",
        "jit",
        "jobs",
        "kept",
        "operations",
        "pool",
        "strips",
        "threads",
    )
    assert own == {f"refoptim.kernels.{stem}" for stem in stems}


def test_creating_gpu_kernels_needs_no_numba_cuda():
    code = """
import json, sys
sys.modules["numba.cuda"] = sys.modules["numba_cuda"] = None
import refoptim.kernels.adam as adam
print(json.dumps([adam.adam_gpu.name, adam.amsgrad_gpu.name]))
"""
    assert in_a_new_process(code) == ["adam_gpu", "amsgrad_gpu"]
