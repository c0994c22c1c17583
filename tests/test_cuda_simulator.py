"""CUDA kernels under Numba's simulator: a launch steps every element once, and the bits are the CPU kernel's.

The simulator is chosen when Numba is imported, so this file runs itself in a second process, once for all kernels.
"""

import itertools
import json
import pkgutil
import sys
from importlib import import_module

import numpy as np
import pytest

from refoptim import kernels
from refoptim.kernels import jit
from refoptim.kernels.strips import ACCESS, RuleKernel

PRECISIONS = {
    "float32": (np.float32, np.float32),
    "float64": (np.float64, np.float64),
    "wide": (np.float32, np.float64),
}
# Around a strip, around a block, several blocks, none, one.
SIZES = [0, 1, 3, 4, 5, 32, 97]
# Several blocks and what is left over: with all options, the others with two sets of them.
USUAL = 97
# How many elements behind an aligned address the arrays start, in turn, and the sizes to try that with.
ALIGNMENTS = {(0,): SIZES, (1,): [2, 3, 4, 31], (3,): [4, 13], (0, 1): [4, 13], (2, 3, 1): [13]}
THREADS = 16  # of a block
TREES = "usual"  # so that the CPU's kernels need not be compiled again
# What is between the bounds stays there.
MAY_STAY = {"clamped_gpu"}
MARGIN = 8  # elements on both sides that stay as they are
# Scalars that are an option, by name: on and off, or both directions. All others are random numbers in (0, 1).
OPTIONS = {"weight_decay": (0.0, 0.3), "decay": (0.0, 0.1), "sign": (1.0, -1.0)}
OPTIONS |= {"smallest": (0.0, 0.5)}
OPTIONS |= {"keep": (0.0, 0.6)}
OPTIONS |= {"factor": (0.4, -0.6), "beta": (0.4, -0.6), "t": (0.4, -0.6), "number": (0.4, 0.6)}
OPTIONS |= {"rectification": (0.0, 0.4), "one_minus_mu": (0.0, 0.2)}


def gpu_kernels():
    """Return every kernel of every algorithm, as pairs of its module's name and its own."""
    found = []
    for info in pkgutil.iter_modules(kernels.__path__):
        module = import_module(f"refoptim.kernels.{info.name}")
        if hasattr(module, "Scalars"):
            found += [(info.name, name) for name, kernel in vars(module).items() if isinstance(kernel, RuleKernel)]
    return found


def option_sets(fields):
    choices = [OPTIONS.get(name, (None,)) for name in fields]
    return list(itertools.product(*choices))


def cases(fields):
    """Yield where arrays start, how long they are, and options: all sets for aligned arrays of the usual size."""
    found = option_sets(fields)
    for offsets, sizes in ALIGNMENTS.items():
        for size in sizes:
            every = size == USUAL and not any(offsets)
            yield from itertools.product([offsets], [size], found if every else [found[0], found[-1]])


def placed(values, offset):
    """Return an array that holds these values, so many elements behind an aligned address, and the memory around it."""
    size = (values.size + 2 * MARGIN) * values.itemsize
    raw = np.zeros(size + ACCESS, np.uint8)
    memory = raw[-raw.ctypes.data % ACCESS :][:size].view(values.dtype)
    array = memory[MARGIN + offset :][: values.size]
    array[...] = values
    return array, memory


def compare(stem, name, precision):
    """Run a kernel and its CPU twin on the same numbers. Return a line for each case that differs."""
    module = import_module(f"refoptim.kernels.{stem}")
    gpu, cpu = getattr(module, name), getattr(module, name.replace("_gpu", "_cpu"))
    array, scalar = PRECISIONS[precision]
    differences, compared = [], 0
    count = gpu.rule.__code__.co_argcount - 1
    rng = np.random.default_rng(7)
    for offsets, size, options in cases(module.Scalars._fields):
        values = [rng.random() if option is None else option for option in options]
        scalars = module.Scalars(*map(scalar, values))
        # Parameters and gradients of both signs; state is squared somewhere, so it is positive.
        before = [
            rng.standard_normal(size).astype(array) if i < 2 else rng.random(size).astype(array) for i in range(count)
        ]
        host = [placed(x, offset)[0] for x, offset in zip(before, itertools.cycle(offsets))]
        device, memory = zip(*(placed(x, offset) for x, offset in zip(before, itertools.cycle(offsets))))
        cpu.serial(*host, np.array(scalars))  # as an optimizer hands them over
        gpu.launch(*device, scalars)
        where = f"{size} elements from {offsets}, {scalars}"
        if any(x.tobytes() != y.tobytes() for x, y in zip(host, device)):
            differences.append(f"{where}: {host} on the CPU, {device} in the simulator")
        elif size and (device[0] == before[0]).any() and name not in MAY_STAY:
            differences.append(f"{where}: some parameters did not move")
        elif any(np.count_nonzero(x) != np.count_nonzero(y) for x, y in zip(memory, device)):
            differences.append(f"{where}: something beside the arrays changed")
        compared += 1
    return {"compared": compared, "differences": differences[:2]}


def main():
    """Print what every kernel gives, as JSON."""
    jit.THREADS = THREADS
    each = itertools.product(gpu_kernels(), PRECISIONS)
    json.dump({f"{name}-{precision}": compare(stem, name, precision) for (stem, name), precision in each}, sys.stdout)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", [name for _, name in gpu_kernels()])
def test_simulator_has_the_bits_of_the_cpu(simulation, name, precision):
    result = simulation[f"{name}-{precision}"]
    assert result["compared"] >= 2 * sum(map(len, ALIGNMENTS.values()))
    assert result["differences"] == []


if __name__ == "__main__":
    main()
