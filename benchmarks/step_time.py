"""Time one step of refoptim beside torch's three implementations and, for long arrays, beside moving the same bytes.

Run ``python benchmarks/step_time.py --json benchmarks/results/step_time.json``. All contenders take turns in one
process, with the same float32 values and gradients, which are in place before the clock starts.
"""

import argparse
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numba import get_num_threads, njit, prange
from timing import Samples, bind_threads, duration, fastest, in_turn, print_table, ratio, summarize, write_json
from tqdm import tqdm

import refoptim as optim
from refoptim.buffers import Array, aligned_zeros

Call = Callable[[], Any]

TORCH = {
    "torch for-loop": {"foreach": False, "fused": False},
    "torch foreach": {"foreach": True, "fused": False},
    "torch fused": {"foreach": False, "fused": True},
}


@njit(parallel=True, nogil=True, error_model="numpy")
def move_2_1(a: Array, b: Array, scale: np.float32) -> None:
    """Read two arrays and write one, as a step of SGD does."""
    for i in prange(a.size):
        a[i] = (a[i] + b[i]) * scale


@njit(parallel=True, nogil=True, error_model="numpy")
def move_3_2(a: Array, b: Array, c: Array, scale: np.float32) -> None:
    """Read three arrays and write two, as a step of SGD with momentum does."""
    for i in prange(a.size):
        mean = (a[i] + b[i] + c[i]) * scale
        a[i], c[i] = mean, mean


@njit(parallel=True, nogil=True, error_model="numpy")
def move_4_3(a: Array, b: Array, c: Array, d: Array, scale: np.float32) -> None:
    """Read four arrays and write three, as a step of Adam does."""
    for i in prange(a.size):
        mean = (a[i] + b[i] + c[i] + d[i]) * scale
        a[i], c[i], d[i] = mean, mean, mean


class Algorithm(NamedTuple):
    """An optimizer of both libraries, and the kernel that reads and writes as many arrays: all but the gradient."""

    name: str
    options: dict[str, Any]
    mover: Any
    arrays: int


ALGORITHMS = {
    "Adam": Algorithm("Adam", {}, move_4_3, 4),
    "AdamW": Algorithm("AdamW", {}, move_4_3, 4),
    "SGD": Algorithm("SGD", {}, move_2_1, 2),
    "SGD momentum": Algorithm("SGD", {"momentum": 0.9}, move_3_2, 3),
    "Adadelta": Algorithm("Adadelta", {}, move_4_3, 4),
    "Adagrad": Algorithm("Adagrad", {}, move_3_2, 3),
    "Adamax": Algorithm("Adamax", {}, move_4_3, 4),
    "ASGD": Algorithm("ASGD", {}, move_3_2, 3),
    "NAdam": Algorithm("NAdam", {}, move_4_3, 4),
    "RAdam": Algorithm("RAdam", {}, move_4_3, 4),
    "RMSprop": Algorithm("RMSprop", {}, move_3_2, 3),
    "Rprop": Algorithm("Rprop", {}, move_4_3, 4),
}

# What refoptim's default has to reach: ratios to torch's best, and to the mover.
TARGETS = {("Adam", 1, 1_000): 0.3, ("Adam", 100, 1_000): 1 / 14, ("Adam", 1, 20_000_000): 1.0}
MOVER_TARGETS = {("Adam", 1, 20_000_000): 1.10}


def refoptim_step(algorithm: Algorithm, values: Array, grads: Array, arithmetic: str | None) -> Call:
    """Return refoptim's step for these parameters, one for each row."""
    params = [optim.Parameter(row) for row in values]
    for param, grad in zip(params, grads, strict=True):
        param.grad = grad
    return getattr(optim, algorithm.name)(params, **algorithm.options, arithmetic=arithmetic).step


def torch_step(algorithm: Algorithm, values: Array, grads: Array, implementation: dict[str, bool]) -> Call | None:
    """Return torch's step for the same, or None if it has no such implementation."""
    torch = import_module("torch")
    kind = getattr(torch.optim, algorithm.name)
    if implementation["fused"] and not has_fused(kind):
        return None
    known = {name: value for name, value in implementation.items() if name != "fused" or has_fused(kind)}
    params = [torch.nn.Parameter(torch.tensor(row)) for row in values]
    for param, grad in zip(params, grads, strict=True):
        param.grad = torch.tensor(grad)
    return kind(params, **algorithm.options, **known).step


def has_fused(kind: Any) -> bool:
    """Return whether torch has a fused kernel for this class on a CPU."""
    return "fused" in signature(kind.__init__).parameters


def mover(algorithm: Algorithm, size: int) -> Call:
    """Return a call that moves the bytes of a step of this many elements, and computes next to nothing."""
    arrays = [aligned_zeros(size, np.float32) for _ in range(algorithm.arrays)]
    for array in arrays:
        array[:] = 1
    scale = np.float32(1 / algorithm.arrays)
    return lambda: algorithm.mover(*arrays, scale)


def contenders(algorithm: Algorithm, tensors: int, elements: int, with_mover: bool) -> dict[str, Call]:
    """Return who takes part, by name, with the same values and gradients."""
    rng = np.random.default_rng(0)
    values, grads = rng.standard_normal((2, tensors, elements), np.float32)
    calls: dict[str, Call] = {
        "refoptim": refoptim_step(algorithm, values, grads, None),
        "refoptim float64": refoptim_step(algorithm, values, grads, "float64"),
    }
    if find_spec("torch"):
        for name, implementation in TORCH.items():
            step = torch_step(algorithm, values, grads, implementation)
            calls |= {} if step is None else {name: step}
    if with_mover:
        calls["mover"] = mover(algorithm, tensors * elements)
    return calls


def rows_of(algorithm: str, tensors: int, elements: int, samples: Samples) -> list[dict[str, Any]]:
    """Return one row per contender: its time, and its ratio to torch's best and to the mover."""
    case = (algorithm, tensors, elements)
    best = fastest(samples, [name for name in TORCH if name in samples])
    rows = []
    for name, seconds in samples.items():
        row: dict[str, Any] = {"algorithm": algorithm, "tensors": tensors, "elements": elements, "contender": name}
        row["seconds"] = summarize(seconds)._asdict()
        row["torch_best"] = best
        row["to_torch"] = ratio(samples, name, best)._asdict() if best else None
        row["to_mover"] = ratio(samples, name, "mover")._asdict() if "mover" in samples else None
        row["target_to_torch"] = TARGETS.get(case) if name == "refoptim" else None
        row["target_to_mover"] = MOVER_TARGETS.get(case) if name == "refoptim" else None
        rows.append(row)
    return rows


def table_line(row: dict[str, Any]) -> list[str]:
    """Return a row's cells; a ratio stands with its quartiles, and with the target where there is one."""

    def cell(kind: str) -> str:
        found, target = row[f"to_{kind}"], row[f"target_to_{kind}"]
        if found is None:
            return ""
        text = f"{found['median']:.3f} ({found['low']:.3f}-{found['high']:.3f})"
        return text if target is None else f"{text} target {target:.3f}"

    seconds = row["seconds"]
    spread = f"{duration(seconds['low'])} - {duration(seconds['high'])}"
    title = f"{row['algorithm']}, {row['tensors']} x {row['elements']:,}: {row['contender']}"
    return [title, duration(seconds["median"]), spread, cell("torch"), cell("mover")]


def size(text: str) -> tuple[int, int]:
    """Read ``tensors x elements``, such as 100x1_000."""
    tensors, _, elements = text.partition("x")
    if int(tensors) < 1 or int(elements) < 1:
        raise ValueError(text)
    return int(tensors), int(elements)


def main(argv: list[str] | None = None) -> None:
    """Measure, print the table and write the JSON file."""
    parser = argparse.ArgumentParser(description="Time one optimizer step of refoptim and torch, float32.")
    sizes = [(1, 1_000), (100, 1_000), (1, 20_000_000)]
    parser.add_argument("--sizes", type=size, nargs="+", default=sizes, metavar="TENSORSxELEMENTS")
    parser.add_argument("--algorithms", nargs="+", choices=ALGORITHMS, default=list(ALGORITHMS)[:4])
    parser.add_argument("--rounds", type=int, default=41, help="how often each contender has its turn (default: 41)")
    parser.add_argument("--block", type=float, default=0.01, help="seconds that a turn takes, at least (default: 0.01)")
    parser.add_argument("--mover-from", type=int, default=1_000_000, help="elements from which the mover takes part")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args(argv)
    bind_threads()
    torch = import_module("torch") if find_spec("torch") else None
    if torch is None:
        print("torch is not installed: refoptim is measured alone")

    rows: list[dict[str, Any]] = []
    cases = [(name, *shape) for name in options.algorithms for shape in options.sizes]
    with tqdm(total=len(cases) * options.rounds, unit="round") as progress:
        for name, tensors, elements in cases:
            progress.set_description(f"{name}, {tensors} x {elements:,}")
            calls = contenders(ALGORITHMS[name], tensors, elements, tensors * elements >= options.mover_from)
            samples = in_turn(calls, options.rounds, options.block, progress)
            rows += rows_of(name, tensors, elements, samples)
    header = ["one step, float32", "median", "quartiles", "to torch's best", "to the mover"]
    print_table(header, [table_line(row) for row in rows])
    settings = {"rounds": options.rounds, "block": options.block, "numba_threads": get_num_threads()}
    settings["torch_threads"] = None if torch is None else torch.get_num_threads()
    write_json(options.json, "step_time", settings, rows)


if __name__ == "__main__":
    main()
