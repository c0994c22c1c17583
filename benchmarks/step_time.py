"""Time one step of refoptim beside torch's three implementations and, for long arrays, beside moving the same bytes.

Run ``python benchmarks/step_time.py --json benchmarks/results/step_time.json``. All contenders take turns in one
process, with the same float32 values and gradients, which are in place before the clock starts.
"""

import argparse
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from algorithms import ALGORITHMS, Algorithm, mover
from peers import is_installed, load
from timing import Samples, bind_threads, duration, fastest, in_turn, print_table, ratio, summarize, write_json
from tqdm import tqdm

import refoptim as optim

# What refoptim's default has to reach: ratios to torch's best, and to the mover.
TARGETS = {("Adam", 1, 1_000): 0.3, ("Adam", 100, 1_000): 1 / 14, ("Adam", 1, 20_000_000): 1.0}
MOVER_TARGETS = {("Adam", 1, 20_000_000): 1.10}


def contenders(algorithm: Algorithm, tensors: int, elements: int, with_mover: bool) -> dict[str, Callable[[], Any]]:
    """Return who takes part, by name, with the same values and gradients."""
    rng = np.random.default_rng(0)
    values, grads = rng.standard_normal((2, tensors, elements), np.float32)
    makers = load("refoptim").contenders(algorithm, values, grads)
    if is_installed("torch"):
        makers |= load("torch").contenders(algorithm, values, grads)
    calls: dict[str, Callable[[], Any]] = {name: make().step for name, make in makers.items()}
    if with_mover:
        calls["mover"] = mover(algorithm, tensors * elements)
    return calls


def rows_of(algorithm: str, tensors: int, elements: int, samples: Samples) -> list[dict[str, Any]]:
    """Return one row per contender: its time, and its ratio to torch's best and to the mover."""
    case = (algorithm, tensors, elements)
    best = fastest(samples, [name for name in samples if name.startswith("torch")])
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
    torch = import_module("torch") if is_installed("torch") else None
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
    settings = {"rounds": options.rounds, "block": options.block, "threads": optim.get_num_threads()}
    settings["torch_threads"] = None if torch is None else torch.get_num_threads()
    write_json(options.json, "step_time", settings, rows)


if __name__ == "__main__":
    main()
