"""Time the first step of a fresh process: importing refoptim and one step of each optimizer, beside torch's.

Run ``python benchmarks/first_step.py --json benchmarks/results/first_step.json``. Every measurement is a process of its
own, and the cases alternate. The clock runs inside the process, from before the import: the interpreter's own start is
left out. Cold is an empty kernel cache, warm one that an earlier process has filled.
"""

import argparse
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from timing import Samples, duration, print_table, ratio, summarize, write_json
from tqdm import tqdm

TIMED = "from time import perf_counter\nstart = perf_counter()\n{body}\nprint(perf_counter() - start)"

REFOPTIM_STEP = """
import numpy as np
import refoptim as optim
p = optim.Parameter(np.ones((50, 20), np.float32))
p.grad = {gradient}
optim.{optimizer}([p]).step({closure})
"""

TORCH_STEP = """
import torch
p = torch.nn.Parameter(torch.ones(50, 20))
p.grad = {gradient}
torch.optim.{optimizer}([p]).step({closure})
"""

NAMES = [
    *("SGD", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "Adagrad", "Adadelta", "RMSprop", "Rprop", "ASGD"),
    *("Adafactor", "Muon", "SparseAdam", "LBFGS", "CG"),
]
OURS_ONLY = {"CG"}
SPARSE = {
    "refoptim": "optim.SparseGrad(np.arange(50)[None], np.ones((50, 20), np.float32), (50, 20))",
    "torch": "torch.ones(50, 20).to_sparse(1)",
}
DENSE = {"refoptim": "np.ones((50, 20), np.float32)", "torch": "torch.ones(50, 20)"}
WARM, COLD, TORCH = "warm", "cold", "torch"
TARGET_TO_TORCH, TARGET_COLD = 0.3, 2.5
IMPORTS = {"import refoptim": "import refoptim", "import torch": "import torch"}


def cases(names: list[str], has_torch: bool) -> dict[tuple[str, str], str]:
    """Return the code to time, by what it does and how."""
    found = {(name, "import"): code for name, code in IMPORTS.items() if has_torch or "torch" not in name}
    for name in names:
        closure = "lambda: 1.0" if name in ("LBFGS", "CG") else ""
        for how in (WARM, COLD, *([TORCH] if has_torch and name not in OURS_ONLY else [])):
            library, step = ("torch", TORCH_STEP) if how == TORCH else ("refoptim", REFOPTIM_STEP)
            gradient = (SPARSE if name == "SparseAdam" else DENSE)[library]
            found[name, how] = step.format(optimizer=name, gradient=gradient, closure=closure)
    return found


def seconds(body: str, cache: Path) -> float:
    """Return what this code takes in a process of its own, with compiled kernels in this folder."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache)}
    # Users have compiled modules, which the first run writes and this variable would forbid.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", TIMED.format(body=body)]
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def measure(codes: dict[tuple[str, str], str], repeats: int) -> dict[str, Samples]:
    """Return the seconds of every case, by name; a step that is not counted fills the cache."""
    samples: dict[str, Samples] = {name: {} for name, _ in codes}
    first = {case: code for case, code in codes.items() if case[1] == WARM}
    total = len(first) + repeats * len(codes)
    with TemporaryDirectory() as warm, tqdm(total=total, unit="process") as progress:
        for counted, some in enumerate([first, *[codes] * repeats]):
            for (name, how), code in some.items():
                progress.set_description(f"{name}, {how}")
                with TemporaryDirectory() as empty:
                    taken = seconds(code, Path(empty if how == COLD else warm))
                if counted:
                    samples[name].setdefault(how, []).append(taken)
                progress.update()
    return samples


def rows_of(name: str, samples: Samples) -> list[dict[str, Any]]:
    """Return one row per case: its time, and its ratio to torch's first step."""
    rows = []
    for how, taken in samples.items():
        compared = ratio(samples, how, TORCH) if TORCH in samples else None
        rows.append(
            {
                "optimizer": name,
                "case": how,
                "seconds": summarize(taken)._asdict(),
                "to_torch": None if compared is None else compared._asdict(),
                "target_to_torch": TARGET_TO_TORCH if how == WARM else None,
                "target_seconds": TARGET_COLD if how == COLD else None,
            }
        )
    return rows


def table_line(row: dict[str, Any]) -> list[str]:
    """Return a row's cells."""
    spent, found = row["seconds"], row["to_torch"]
    spread = f"{duration(spent['low'])} - {duration(spent['high'])}"
    to_torch = f"{found['median']:.3f} ({found['low']:.3f}-{found['high']:.3f})" if found else ""
    return [f"{row['optimizer']}, {row['case']}", duration(spent["median"]), spread, to_torch]


def main(argv: list[str] | None = None) -> None:
    """Measure, print the table and write the JSON file."""
    parser = argparse.ArgumentParser(description="Time import and first step in fresh processes.")
    parser.add_argument("--optimizers", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--repeats", type=int, default=5, help="processes per case (default: 5)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args(argv)
    if options.repeats < 1:
        parser.error("--repeats must be at least 1")

    has_torch = find_spec("torch") is not None
    if not has_torch:
        print("torch is not installed: refoptim is measured alone")
    samples = measure(cases(options.optimizers, has_torch), options.repeats)
    rows = [row for name, taken in samples.items() for row in rows_of(name, taken)]
    print_table(["a fresh process", "median", "quartiles", "to torch's first step"], [table_line(row) for row in rows])
    write_json(options.json, "first_step", {"repeats": options.repeats}, rows)


if __name__ == "__main__":
    main()
