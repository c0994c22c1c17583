"""Time everything around the steps of an optimizer with many parameters, beside torch's: building, saving, loading ...

Run ``python benchmarks/bookkeeping.py --json benchmarks/results/bookkeeping.json``. Both libraries take turns in one
process, on float32 parameters of which each has the same number of elements, and an Adam that has stepped.
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

bind_threads()

import refoptim  # noqa: E402

TARGET_TO_TORCH = 1.0

Job = Callable[[Any, int, int], Callable[[], Any]]  # from a library, tensors and elements to what is timed


class Ours:
    """What the jobs need, in refoptim's words."""

    optim, schedulers = refoptim, refoptim.lr_scheduler

    @staticmethod
    def params(tensors: int, elements: int) -> list[Any]:
        """Return new parameters."""
        return [refoptim.Parameter(np.ones(elements, np.float32)) for _ in range(tensors)]

    @staticmethod
    def grads(params: list[Any]) -> list[Any]:
        """Return a gradient for each."""
        return [np.full(param.shape, 0.5, np.float32) for param in params]

    @staticmethod
    def step(optimizer: Any, _params: list[Any], grads: list[Any]) -> None:
        """Step with these gradients."""
        optimizer.step(grads=grads)


class Torch:
    """The same in torch's."""

    def __init__(self) -> None:
        self.torch = import_module("torch")
        self.optim, self.schedulers = self.torch.optim, self.torch.optim.lr_scheduler

    def params(self, tensors: int, elements: int) -> list[Any]:
        """Return new parameters."""
        return [self.torch.nn.Parameter(self.torch.ones(elements)) for _ in range(tensors)]

    def grads(self, params: list[Any]) -> list[Any]:
        """Return a gradient for each."""
        return [self.torch.full(param.shape, 0.5) for param in params]

    def step(self, optimizer: Any, params: list[Any], grads: list[Any]) -> None:
        """Step with these gradients, which have to be assigned first."""
        assign(params, grads)
        optimizer.step()


def assign(params: list[Any], grads: list[Any]) -> None:
    """Give every parameter its gradient."""
    for param, grad in zip(params, grads, strict=True):
        param.grad = grad


def stepped(library: Any, tensors: int, elements: int, groups: int = 1) -> tuple[Any, list[Any], list[Any]]:
    """Return an Adam that has state, its parameters and gradients for them."""
    params = library.params(tensors, elements)
    cut = -(-tensors // groups)
    optimizer = library.optim.Adam([{"params": params[i : i + cut]} for i in range(0, tensors, cut)])
    grads = library.grads(params)
    library.step(optimizer, params, grads)
    return optimizer, params, grads


def building(library: Any, tensors: int, elements: int) -> Callable[[], Any]:
    """Return what builds parameters and an Adam."""
    return lambda: library.optim.Adam(library.params(tensors, elements))


def rebuilding(library: Any, tensors: int, elements: int) -> Callable[[], Any]:
    """Return what builds an Adam of parameters that have had one."""
    params = library.params(tensors, elements)
    return lambda: library.optim.Adam(params)


def adding(library: Any, tensors: int, elements: int) -> Callable[[], Any]:
    """Return what builds parameters, an Adam of the first, and adds the others in ten groups."""

    def build() -> None:
        first, *others = library.params(tensors, elements)
        optimizer = library.optim.Adam([first])
        cut = max(1, -(-len(others) // 10))
        for i in range(0, len(others), cut):
            optimizer.add_param_group({"params": others[i : i + cut]})

    return build


def saving(library: Any, tensors: int, elements: int) -> Callable[[], Any]:
    """Return what saves as each library does unasked: torch's state_dict refers to the state, refoptim's is a copy."""
    return stepped(library, tensors, elements)[0].state_dict


def saving_references(library: Any, tensors: int, elements: int) -> Callable[[], Any]:
    """Return what saves with the state's own arrays."""
    optimizer = stepped(library, tensors, elements)[0]
    return (lambda: optimizer.state_dict(copy=False)) if library is Ours else optimizer.state_dict


def saving_copies(library: Any, tensors: int, elements: int) -> Callable[[], Any]:
    """Return what saves into memory of its own."""
    optimizer = stepped(library, tensors, elements)[0]
    if library is Ours:
        return optimizer.state_dict
    copy = import_module("copy").deepcopy
    return lambda: copy(optimizer.state_dict())


def loading(library: Any, tensors: int, elements: int) -> Callable[[], Any]:
    """Return what loads."""
    optimizer = stepped(library, tensors, elements)[0]
    saved = optimizer.state_dict()
    return lambda: optimizer.load_state_dict(saved)


def assigning(library: Any, tensors: int, elements: int) -> Callable[[], Any]:
    """Return what gives every parameter a gradient."""
    _, params, grads = stepped(library, tensors, elements)
    return lambda: assign(params, grads)


def clearing(library: Any, tensors: int, elements: int) -> Callable[[], Any]:
    """Return what gives every parameter a gradient and takes it away."""
    optimizer, params, grads = stepped(library, tensors, elements)

    def clear() -> None:
        assign(params, grads)
        optimizer.zero_grad()

    return clear


def zeroing(library: Any, tensors: int, elements: int) -> Callable[[], Any]:
    """Return what sets all gradients to zero in place."""
    optimizer = stepped(library, tensors, elements)[0]
    return lambda: optimizer.zero_grad(set_to_none=False)


def stepping(library: Any, tensors: int, elements: int) -> Callable[[], Any]:
    """Return a step with gradients that are handed over."""
    optimizer, params, grads = stepped(library, tensors, elements)
    return lambda: library.step(optimizer, params, grads)


def scheduling(groups: int) -> Job:
    """Return a job: the step of a scheduler whose optimizer has this many groups."""

    def job(library: Any, tensors: int, elements: int) -> Callable[[], Any]:
        optimizer = stepped(library, max(tensors, groups), elements, groups)[0]
        scheduler = library.schedulers.CosineAnnealingLR(optimizer, 100)
        optimizer.step()
        return scheduler.step

    return job


JOBS: dict[str, Job] = {
    "parameters and optimizer": building,
    "optimizer": rebuilding,
    "add_param_group": adding,
    "state_dict": saving,
    "state_dict, not copied": saving_references,
    "state_dict, copied": saving_copies,
    "load_state_dict": loading,
    "p.grad = g": assigning,
    "p.grad = g, zero_grad": clearing,
    "zero_grad(False)": zeroing,
    "step(grads)": stepping,
    "scheduler, 1 group": scheduling(1),
    "scheduler, 100 groups": scheduling(100),
}


def rows_of(job: str, samples: Samples) -> list[dict[str, Any]]:
    """Return one row per library: its time, and refoptim's ratio to torch."""
    rows = []
    for name, seconds in samples.items():
        compared = ratio(samples, name, "torch")._asdict() if name == "refoptim" and "torch" in samples else None
        row = {"job": job, "contender": name, "seconds": summarize(seconds)._asdict(), "to_torch": compared}
        rows.append(row | {"target_to_torch": TARGET_TO_TORCH if compared else None})
    return rows


def table_line(row: dict[str, Any]) -> list[str]:
    """Return a row's cells."""
    seconds, found = row["seconds"], row["to_torch"]
    spread = f"{duration(seconds['low'])} - {duration(seconds['high'])}"
    to_torch = f"{found['median']:.2f} ({found['low']:.2f}-{found['high']:.2f})" if found else ""
    return [f"{row['job']}: {row['contender']}", duration(seconds["median"]), spread, to_torch]


def main(argv: list[str] | None = None) -> None:
    """Measure, print the table and write the JSON file."""
    parser = argparse.ArgumentParser(description="Time what surrounds steps, of refoptim and torch.")
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS))
    parser.add_argument("--tensors", type=int, default=1000, help="how many parameters (default: 1000)")
    parser.add_argument("--elements", type=int, default=100, help="elements of each (default: 100)")
    parser.add_argument("--rounds", type=int, default=15, help="how often each library has its turn (default: 15)")
    parser.add_argument("--block", type=float, default=0.02, help="seconds that a turn takes (default: 0.02)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args(argv)
    libraries: dict[str, Any] = {"refoptim": Ours}
    if find_spec("torch"):
        libraries["torch"] = Torch()
    else:
        print("torch is not installed: refoptim is measured alone")

    rows: list[dict[str, Any]] = []
    size = options.tensors, options.elements
    with tqdm(total=len(options.jobs) * options.rounds, unit="round") as progress:
        for name in options.jobs:
            progress.set_description(name)
            calls = {library: JOBS[name](kind, *size) for library, kind in libraries.items()}
            rows += rows_of(name, in_turn(calls, options.rounds, options.block, progress))
    title = f"{options.tensors} x {options.elements}"
    print_table([title, "median", "quartiles", "to torch"], [table_line(row) for row in rows])
    settings = {name: getattr(options, name) for name in ("tensors", "elements", "rounds", "block")}
    write_json(options.json, "bookkeeping", settings, rows)


if __name__ == "__main__":
    main()
