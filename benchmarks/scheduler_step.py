"""Time one step of each learning-rate scheduler beside torch's, and one point of a whole curve.

Run ``python benchmarks/scheduler_step.py --json benchmarks/results/scheduler_step.json``. Both libraries take turns in
one process, on an optimizer with one group.
"""

import argparse
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from timing import Samples, duration, in_turn, print_table, ratio, summarize, write_json
from tqdm import tqdm

import refoptim

# No schedule ends while it is measured.
LONG = 10**9
# What refoptim has to reach: seconds, and the ratio to torch.
TARGET, TARGET_TO_TORCH = 2e-6, 1.0
CURVE = 1000

Build = Callable[[Any, Any], Any]  # from the module of the schedulers and an optimizer to a scheduler


def one(_epoch: int) -> float:
    """Return a factor."""
    return 1.0


def chained(schedulers: Any, optimizer: Any) -> Any:
    """Return two schedulers that step at once."""
    parts = schedulers.LinearLR(optimizer, total_iters=LONG), schedulers.ExponentialLR(optimizer, 0.999999)
    return schedulers.ChainedScheduler(parts)


def sequential(schedulers: Any, optimizer: Any) -> Any:
    """Return a scheduler that has come to its second part."""
    parts = schedulers.ConstantLR(optimizer), schedulers.CosineAnnealingLR(optimizer, 100)
    return schedulers.SequentialLR(optimizer, parts, [1])


def plateau(schedulers: Any, optimizer: Any) -> Any:
    """Return a scheduler whose step is given a metric that does not improve."""
    scheduler = schedulers.ReduceLROnPlateau(optimizer, patience=LONG)
    scheduler.step = partial(scheduler.step, 1.0)
    return scheduler


def averaging(strategy: str) -> Build:
    """Return a function that builds SWALR, which lives in a module beside that of the schedulers."""

    def build(schedulers: Any, optimizer: Any) -> Any:
        utils = import_module(schedulers.__name__.replace("lr_scheduler", "swa_utils"))
        return utils.SWALR(optimizer, 0.05, LONG, strategy)

    return build


def built(name: str, *arguments: Any, **options: Any) -> Build:
    """Return a function that builds the scheduler of this name."""
    return lambda schedulers, optimizer: getattr(schedulers, name)(optimizer, *arguments, **options)


SCHEDULERS: dict[str, Build] = {
    "LambdaLR": built("LambdaLR", one),
    "MultiplicativeLR": built("MultiplicativeLR", one),
    "StepLR": built("StepLR", 30, 0.99),
    "StepLR, each epoch": built("StepLR", 1, 0.999999),
    "MultiStepLR": built("MultiStepLR", [30, 80]),
    "ConstantLR": built("ConstantLR", total_iters=LONG),
    "LinearLR": built("LinearLR", total_iters=LONG),
    "ExponentialLR": built("ExponentialLR", 0.999999),
    "PolynomialLR": built("PolynomialLR", LONG),
    "PolynomialLR, power 0.9": built("PolynomialLR", LONG, 0.9),
    "CosineAnnealingLR": built("CosineAnnealingLR", 100),
    "CosineAnnealingLR, eta_min": built("CosineAnnealingLR", 100, 1e-3),
    "CosineAnnealingWarmRestarts": built("CosineAnnealingWarmRestarts", 10, 2),
    "CyclicLR": built("CyclicLR", 0.1, 0.2),
    "CyclicLR, triangular2": built("CyclicLR", 0.1, 0.2, mode="triangular2", cycle_momentum=False),
    "CyclicLR, exp_range": built("CyclicLR", 0.1, 0.2, mode="exp_range", gamma=0.9999),
    "OneCycleLR": built("OneCycleLR", 0.1, LONG),
    "OneCycleLR, linear": built("OneCycleLR", 0.1, LONG, anneal_strategy="linear", cycle_momentum=False),
    "ReduceLROnPlateau": plateau,
    "SWALR": averaging("cos"),
    "SWALR, linear": averaging("linear"),
    "SequentialLR": sequential,
    "ChainedScheduler of two": chained,
}


def refoptim_scheduler(build: Build) -> Any:
    """Return refoptim's scheduler, on an optimizer that has stepped."""
    optimizer = refoptim.SGD([refoptim.Parameter([0.0])], lr=0.1, momentum=0.9)
    scheduler = build(refoptim.lr_scheduler, optimizer)
    optimizer.step(grads=[np.zeros(1)])
    return scheduler


def torch_scheduler(build: Build) -> Any:
    """Return torch's scheduler, on an optimizer that has stepped."""
    torch = import_module("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    scheduler = build(torch.optim.lr_scheduler, optimizer)
    optimizer.step()
    return scheduler


def contenders(name: str) -> dict[str, Callable[[], Any]]:
    """Return who takes part, by name."""
    build = SCHEDULERS[name]
    ours = refoptim_scheduler(build)
    calls: dict[str, Callable[[], Any]] = {"refoptim": ours.step}
    if find_spec("torch"):
        calls["torch"] = torch_scheduler(build).step
    if build is not plateau:
        calls[f"refoptim, at {CURVE:,} steps"] = partial(refoptim_scheduler(build).at, range(CURVE))
    return calls


def rows_of(name: str, samples: Samples) -> list[dict[str, Any]]:
    """Return one row per contender: its time, and refoptim's ratio to torch."""
    rows = []
    for contender, seconds in samples.items():
        row: dict[str, Any] = {"scheduler": name, "contender": contender, "seconds": summarize(seconds)._asdict()}
        stepping = contender == "refoptim"
        row["to_torch"] = ratio(samples, contender, "torch")._asdict() if stepping and "torch" in samples else None
        row["target"] = TARGET if stepping else None
        row["target_to_torch"] = TARGET_TO_TORCH if row["to_torch"] else None
        rows.append(row)
    return rows


def table_line(row: dict[str, Any]) -> list[str]:
    """Return a row's cells."""
    seconds, found = row["seconds"], row["to_torch"]
    spread = f"{duration(seconds['low'])} - {duration(seconds['high'])}"
    to_torch = f"{found['median']:.2f} ({found['low']:.2f}-{found['high']:.2f})" if found else ""
    return [f"{row['scheduler']}: {row['contender']}", duration(seconds["median"]), spread, to_torch]


def main(argv: list[str] | None = None) -> None:
    """Measure, print the table and write the JSON file."""
    parser = argparse.ArgumentParser(description="Time one scheduler step of refoptim and torch.")
    parser.add_argument("--schedulers", nargs="+", choices=SCHEDULERS, default=list(SCHEDULERS))
    parser.add_argument("--rounds", type=int, default=41, help="how often each contender has its turn (default: 41)")
    parser.add_argument("--block", type=float, default=0.004, help="seconds that a turn takes (default: 0.004)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args(argv)
    if not find_spec("torch"):
        print("torch is not installed: refoptim is measured alone")

    rows: list[dict[str, Any]] = []
    with tqdm(total=len(options.schedulers) * options.rounds, unit="round") as progress:
        for name in options.schedulers:
            progress.set_description(name)
            rows += rows_of(name, in_turn(contenders(name), options.rounds, options.block, progress))
    print_table(["one step, one group", "median", "quartiles", "to torch"], [table_line(row) for row in rows])
    write_json(options.json, "scheduler_step", {"rounds": options.rounds, "block": options.block}, rows)


if __name__ == "__main__":
    main()
