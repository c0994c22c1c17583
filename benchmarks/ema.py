"""Time one update of an exponential moving average beside moving the same bytes, and beside torch's.

Run ``python benchmarks/ema.py --json benchmarks/results/ema.json``. All contenders take turns in one process, with the
same float32 values. The model's parameters lie in one flat buffer, as they do once an optimizer holds them.
"""

import argparse
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from movers import move
from timing import Samples, bind_threads, duration, in_turn, print_table, ratio, summarize, write_json
from tqdm import tqdm

import refoptim as optim
from refoptim.buffers import Array, aligned_zeros
from refoptim.swa_utils import AveragedModel, get_ema_multi_avg_fn

Call = Callable[[], Any]

DECAY = 0.999
# What refoptim's default has to reach: ratios to the mover.
TARGETS = {(1, 20_000_000): 1.15}


def refoptim_update(values: Array, arithmetic: str | None) -> Call:
    """Return refoptim's update for parameters of these values, one for each row."""
    params = [optim.Parameter(row) for row in values]
    optim.SGD(params)
    averaged = AveragedModel(params, multi_avg_fn=get_ema_multi_avg_fn(DECAY), arithmetic=arithmetic)
    averaged.update_parameters(params)
    return lambda: averaged.update_parameters(params)


def torch_update(values: Array) -> Call:
    """Return torch's update for the same."""
    torch = import_module("torch")
    utils = torch.optim.swa_utils
    model = torch.nn.Module()
    model.params = torch.nn.ParameterList([torch.nn.Parameter(torch.tensor(row)) for row in values])
    averaged = utils.AveragedModel(model, multi_avg_fn=utils.get_ema_multi_avg_fn(DECAY))
    averaged.update_parameters(model)
    return lambda: averaged.update_parameters(model)


def mover(size: int) -> Call:
    """Return a call that moves the bytes of an update of this many elements, and computes next to nothing."""
    a, b = aligned_zeros(size, np.float32), aligned_zeros(size, np.float32)
    a[:], b[:] = 1, 1
    return lambda: move(a, b)


def contenders(tensors: int, elements: int) -> dict[str, Call]:
    """Return who takes part, by name, with the same values."""
    values = np.random.default_rng(0).standard_normal((tensors, elements), np.float32)
    calls = {"refoptim": refoptim_update(values, None), "refoptim float64": refoptim_update(values, "float64")}
    if find_spec("torch"):
        calls["torch"] = torch_update(values)
    return calls | {"mover": mover(tensors * elements)}


def rows_of(tensors: int, elements: int, samples: Samples) -> list[dict[str, Any]]:
    """Return one row per contender: its time, and its ratios to torch and to the mover."""
    return [
        {
            "tensors": tensors,
            "elements": elements,
            "contender": name,
            "seconds": summarize(seconds)._asdict(),
            "to_torch": ratio(samples, name, "torch")._asdict() if "torch" in samples else None,
            "to_mover": ratio(samples, name, "mover")._asdict(),
            "target_to_mover": TARGETS.get((tensors, elements)) if name == "refoptim" else None,
        }
        for name, seconds in samples.items()
    ]


def table_line(row: dict[str, Any]) -> list[str]:
    """Return a row's cells; a ratio stands with its quartiles, and with the target where there is one."""

    def cell(found: dict[str, float] | None) -> str:
        return "" if found is None else f"{found['median']:.3f} ({found['low']:.3f}-{found['high']:.3f})"

    target = row["target_to_mover"]
    to_mover = cell(row["to_mover"]) + ("" if target is None else f" target {target:.2f}")
    title = f"{row['tensors']} x {row['elements']:,}: {row['contender']}"
    return [title, duration(row["seconds"]["median"]), cell(row["to_torch"]), to_mover]


def size(text: str) -> tuple[int, int]:
    """Read ``tensors x elements``, such as 100x1_000."""
    tensors, _, elements = text.partition("x")
    if int(tensors) < 1 or int(elements) < 1:
        raise ValueError(text)
    return int(tensors), int(elements)


def main(argv: list[str] | None = None) -> None:
    """Measure, print the table and write the JSON file."""
    parser = argparse.ArgumentParser(description="Time one update of an exponential moving average, float32.")
    sizes = [(1, 1_000), (100, 1_000), (1, 20_000_000)]
    parser.add_argument("--sizes", type=size, nargs="+", default=sizes, metavar="TENSORSxELEMENTS")
    parser.add_argument("--rounds", type=int, default=41, help="how often each contender has its turn (default: 41)")
    parser.add_argument("--block", type=float, default=0.01, help="seconds that a turn takes, at least (default: 0.01)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args(argv)
    bind_threads()
    torch = import_module("torch") if find_spec("torch") else None

    rows: list[dict[str, Any]] = []
    with tqdm(total=len(options.sizes) * options.rounds, unit="round") as progress:
        for tensors, elements in options.sizes:
            progress.set_description(f"{tensors} x {elements:,}")
            samples = in_turn(contenders(tensors, elements), options.rounds, options.block, progress)
            rows += rows_of(tensors, elements, samples)
    print_table(["one update, float32", "median", "to torch", "to the mover"], [table_line(row) for row in rows])
    settings = {"rounds": options.rounds, "block": options.block, "threads": optim.get_num_threads()}
    settings["torch_threads"] = None if torch is None else torch.get_num_threads()
    write_json(options.json, "ema", settings, rows)


if __name__ == "__main__":
    main()
