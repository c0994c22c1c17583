"""Tools of the tests that run in the CUDA simulator, as programs of their own: small trees and tiles, parameters, bits.

A few hundred elements are many chunks, bands and blocks then, of few simulated threads. ``shrink`` is called first of
all in a process with a cache of its own: what is compiled later, for the CPU too, sums and multiplies in these sizes.
"""

import json
import shutil
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

import refoptim as optim
from refoptim.kernels import caching, factored, factored_gpu, folds_gpu, matmul_gpu, pairs, reductions, reductions_gpu

LANES, CHUNK, BAND = 4, 16, 4
SHAPES = [(5, 3), (7,), (2, 2, 3)]


def shrink() -> None:
    """Make trees, bands and tiles small. What knows nothing of them need not be compiled for that."""
    changed = pairs, reductions, reductions_gpu, folds_gpu, factored, factored_gpu, matmul_gpu
    copy_kernels_without({module.__name__.rpartition(".")[2] for module in changed})
    for module in (pairs, reductions, reductions_gpu, folds_gpu):
        module.LANES, module.CHUNK = LANES, CHUNK
    reductions.BLOCK = CHUNK * LANES
    for module in (factored, factored_gpu):
        module.LANES, module.BAND = LANES, BAND
    factored_gpu.THREADS, factored_gpu.SEGMENT = 8, 16
    matmul_gpu.OWN, matmul_gpu.DEPTH = 2, 4
    matmul_gpu.SIDE, matmul_gpu._PADDED, matmul_gpu._LONGER = 8, 9, 5


def copy_kernels_without(changed: set[str]) -> None:
    """Copy what is compiled already to the folder of this process, but for kernels that these files are a part of."""
    usual = Path(caching.__file__).parent / "__pycache__"
    own = Path(reductions.dot_cpu.serial._cache.cache_path)
    assert own != usual, "the kernels of other processes would be those of small trees: set NUMBA_CACHE_DIR"
    own.mkdir(parents=True, exist_ok=True)
    stems = {path.stem for path in usual.parent.glob("*.py")}
    for entry in usual.glob("*.nbc"):
        stem = entry.name.partition(".")[0]
        if stem in stems and not changed & caching.parts(stem).keys() and not (own / entry.name).exists():
            shutil.copyfile(entry, own / entry.name)


def params(device, dtype=np.float64, shapes=SHAPES, seed=3):
    rng = np.random.default_rng(seed)
    return [optim.Parameter(rng.standard_normal(shape).astype(dtype), device=device) for shape in shapes]


def set_grads(some, seed=5, size=1.0):
    rng = np.random.default_rng(seed)
    for param in some:
        values = size * rng.standard_normal(param.shape)
        if param.dtype.kind == "c":
            values = values + 1j * rng.standard_normal(param.shape)
        param.grad = param.place.uploaded(np.asarray(values, param.dtype))


def on_host(array):
    return array.copy_to_host() if hasattr(array, "copy_to_host") else np.asarray(array)


def bits(values):
    """Return what is to be equal, of any depth, with arrays as bytes."""
    if isinstance(values, dict):
        return {name: bits(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [bits(value) for value in values]
    if isinstance(values, optim.Parameter):
        return bits(np.asarray(values))
    return on_host(values).tobytes() if hasattr(values, "dtype") else values


def run_all(scenarios: Sequence[Callable[[], None]]) -> None:
    """Run scenarios, or those that the command line names. Print what each raises, as JSON."""
    shrink()
    warnings.simplefilter("ignore", RuntimeWarning)  # in the simulator's threads
    found = {}
    for scenario in scenarios:
        if not sys.argv[1:] or scenario.__name__ in sys.argv[1:]:
            try:
                scenario()
                found[scenario.__name__] = ""
            except Exception:  # noqa: BLE001
                found[scenario.__name__] = traceback.format_exc()
    json.dump(found, sys.stdout)
