"""Time one step of every element-wise optimizer on long arrays beside moving the same bytes in the same memory.

Run ``python benchmarks/large_step.py --json benchmarks/results/large_step.json``. Where arrays lie in memory, and how
they lie to each other, changes a mover's time by a tenth: here it moves the optimizer's own arrays, between its steps.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from movers import move
from timing import Samples, bind_threads, duration, in_turn, print_table, ratio, summarize, write_json
from tqdm import tqdm

import refoptim as optim

Call = Callable[[], Any]


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "Adam": ("Adam", {}),
    "Adam weight_decay": ("Adam", {"weight_decay": 0.01}),
    "Adam amsgrad": ("Adam", {"amsgrad": True}),
    "Adam maximize": ("Adam", {"maximize": True}),
    "AdamW": ("AdamW", {}),
    "SGD": ("SGD", {}),
    "SGD weight_decay": ("SGD", {"weight_decay": 0.01}),
    "SGD momentum": ("SGD", {"momentum": 0.9}),
    "SGD momentum weight_decay": ("SGD", {"momentum": 0.9, "weight_decay": 0.01}),
    "SGD nesterov": ("SGD", {"momentum": 0.9, "nesterov": True}),
    "Adadelta": ("Adadelta", {}),
    "Adagrad": ("Adagrad", {}),
    "Adagrad weight_decay": ("Adagrad", {"weight_decay": 0.01}),
    "Adamax": ("Adamax", {}),
    "ASGD": ("ASGD", {}),
    "NAdam": ("NAdam", {}),
    "RAdam": ("RAdam", {}),
    "RMSprop": ("RMSprop", {}),
    "RMSprop momentum": ("RMSprop", {"momentum": 0.9}),
    "RMSprop centered": ("RMSprop", {"centered": True}),
    "RMSprop centered momentum": ("RMSprop", {"centered": True, "momentum": 0.9}),
    "Rprop": ("Rprop", {}),
}

# What refoptim has to reach: the ratio to the mover.
TARGET = 1.05
# RAdam divides by a root from its sixth step on.
WARM_UP = 7


def contenders(case: str, size: int, dtype: str, others: dict[str, Any]) -> dict[str, Call]:
    """Return a step of this many elements, and what moves the bytes of that step in the same arrays."""
    name, options = CASES[case]
    rng, kind = np.random.default_rng(0), np.dtype(getattr(ml_dtypes, dtype, dtype))
    param = optim.Parameter(rng.standard_normal(size, np.float32).astype(kind))
    optimizer = getattr(optim, name)([param], **options, **others)
    param.grad = rng.standard_normal(size, np.float32).astype(kind)
    for _ in range(WARM_UP):
        optimizer.step()
    arrays = [param.data, param.grad]
    arrays += [value for value in optimizer.state[param].values() if np.shape(value) == param.shape]
    if kind.itemsize == 2:
        arrays = [array.view(np.uint16) for array in arrays]
    return {"refoptim": optimizer.step, "mover": partial(move, *arrays)}


def row_of(case: str, size: int, dtype: str, samples: Samples) -> dict[str, Any]:
    """Return one case's figures."""
    return {
        "case": case,
        "elements": size,
        "dtype": dtype,
        "seconds": summarize(samples["refoptim"])._asdict(),
        "mover_seconds": summarize(samples["mover"])._asdict(),
        "to_mover": ratio(samples, "refoptim", "mover")._asdict(),
        "best_to_best": min(samples["refoptim"]) / min(samples["mover"]),
        "target_to_mover": TARGET,
    }


def table_line(row: dict[str, Any]) -> list[str]:
    """Return a row's cells."""
    found = row["to_mover"]
    cells = [duration(row["seconds"]["median"]), duration(row["mover_seconds"]["median"])]
    spread = f"{found['low']:.3f}-{found['high']:.3f}"
    return [row["case"], *cells, f"{found['median']:.3f} ({spread})", f"{row['best_to_best']:.3f}"]


def main(argv: list[str] | None = None) -> None:
    """Measure, print the table and write the JSON file."""
    parser = argparse.ArgumentParser(description="Time one optimizer step on long arrays beside a mover.")
    parser.add_argument("--elements", type=int, default=20_000_000)
    parser.add_argument("--dtype", choices=["float32", "float64", "bfloat16", "float16"], default="float32")
    parser.add_argument("--arithmetic", choices=["float64"], help="what to compute in (default: the dtype)")
    parser.add_argument("--rounding", choices=["stochastic"], help="of 16 bits (default: to the nearest)")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE")
    parser.add_argument("--rounds", type=int, default=21, help="how often each has its turn (default: 21)")
    parser.add_argument("--threads", type=int, default=optim.get_num_threads(), help="default: all")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args(argv)
    bind_threads()
    optim.set_num_threads(options.threads)

    others = {"arithmetic": options.arithmetic, "rounding": options.rounding}
    others = {name: value for name, value in others.items() if value}
    rows: list[dict[str, Any]] = []
    with tqdm(total=len(options.cases) * options.rounds, unit="round") as progress:
        for case in options.cases:
            progress.set_description(case)
            calls = contenders(case, options.elements, options.dtype, others)
            samples = in_turn(calls, options.rounds, 0.0, progress)
            rows.append(row_of(case, options.elements, options.dtype, samples))
    header = [f"{options.elements:,} {options.dtype}", "step", "mover", "to the mover", "best to best"]
    print_table(header, [table_line(row) for row in rows])
    settings = {"rounds": options.rounds, "threads": options.threads, **others}
    write_json(options.json, "large_step", settings, rows)


if __name__ == "__main__":
    main()
