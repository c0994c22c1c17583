"""Time a step along a sparse gradient beside a dense step of the same parameter, and beside torch's sparse step.

Run ``python benchmarks/sparse_step.py --json benchmarks/results/sparse_step.json``. All contenders take turns in one
process, in float32. The rows are not in order, as a batch of tokens would give them.
"""

import argparse
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from timing import Samples, bind_threads, duration, in_turn, print_table, ratio, summarize, write_json
from tqdm import tqdm

import refoptim as optim

# The sparse optimizer, its options, and what steps densely beside it.
ALGORITHMS: dict[str, tuple[str, dict[str, Any], str]] = {
    "SGD": ("SGD", {"lr": 0.1}, "SGD"),
    "SGD momentum": ("SGD", {"lr": 0.1, "momentum": 0.9}, "SGD"),
    "Adagrad": ("Adagrad", {}, "Adagrad"),
    "SparseAdam": ("SparseAdam", {}, "Adam"),
}


def contenders(name: str, height: int, width: int, count: int) -> dict[str, Callable[[], Any]]:
    """Return the steps to time, by name, each of a parameter of its own."""
    sparse, options, dense = ALGORITHMS[name]
    rng = np.random.default_rng(0)
    rows = rng.choice(height, count, replace=False)
    values = rng.standard_normal((count, width)).astype(np.float32)
    start = np.ones((height, width), np.float32)
    params = [optim.Parameter(start), optim.Parameter(start)]
    optimizers = [getattr(optim, kind)([p], **options) for kind, p in zip((sparse, dense), params, strict=True)]

    def sparsely() -> None:
        # A new gradient each time, as in training: its rows are put in order anew.
        params[0].grad = optim.SparseGrad(rows, values, params[0].shape)
        optimizers[0].step()

    params[1].grad = np.full((height, width), 0.5, np.float32)
    found = {"sparse": sparsely, "dense": optimizers[1].step}
    if find_spec("torch"):
        found["torch sparse"] = _torch_step(sparse, options, rows, values, start)
    return found


def _torch_step(name: str, options: dict[str, Any], rows: Any, values: Any, start: Any) -> Callable[[], Any]:
    torch: Any = import_module("torch")
    torch.sparse.check_sparse_tensor_invariants.disable()  # as it does by itself, with a warning
    param = torch.nn.Parameter(torch.tensor(start))
    optimizer = getattr(torch.optim, name)([param], **options)
    indices, contents = torch.tensor(rows)[None], torch.tensor(values)

    def step() -> None:
        param.grad = torch.sparse_coo_tensor(indices, contents, param.shape)
        optimizer.step()

    return step


def row_of(name: str, settings: dict[str, Any], samples: Samples) -> dict[str, Any]:
    """Return what is kept of one algorithm."""
    return {
        "algorithm": name,
        "seconds": {contender: summarize(values)._asdict() for contender, values in samples.items()},
        "dense to sparse": ratio(samples, "dense", "sparse")._asdict(),
        "to torch": ratio(samples, "sparse", "torch sparse")._asdict() if "torch sparse" in samples else None,
    } | {key: settings[key] for key in ("height", "width", "rows")}


def main() -> None:
    """Measure, print the table and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--height", type=int, default=1_000_000, help="rows of the parameter")
    parser.add_argument("--width", type=int, default=64, help="elements of a row")
    parser.add_argument("--rows", type=int, default=1_000, help="rows that have a gradient")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--block", type=float, default=0.1, help="seconds of calls to average over")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()
    bind_threads()
    settings = {key: value for key, value in vars(options).items() if key != "json"}
    rows: list[dict[str, Any]] = []
    with tqdm(total=len(ALGORITHMS) * options.rounds, unit="round") as progress:
        for name in ALGORITHMS:
            progress.set_description(name)
            calls = contenders(name, options.height, options.width, options.rows)
            rows.append(row_of(name, settings, in_turn(calls, options.rounds, options.block, progress)))
    table = [
        [
            row["algorithm"],
            *(duration(seconds["median"]) for seconds in row["seconds"].values()),
            f"{row['dense to sparse']['median']:.1f}",
            f"{row['to torch']['median']:.3f}" if row["to torch"] else "",
        ]
        for row in rows
    ]
    print_table(["one step", *rows[0]["seconds"], "dense to sparse", "sparse to torch's"], table)
    write_json(options.json, "sparse_step", settings, rows)


if __name__ == "__main__":
    main()
