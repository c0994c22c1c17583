"""Time the first step of a fresh process: importing refoptim and one Adam step, beside torch's.

Run ``python benchmarks/first_step.py --json benchmarks/results/first_step.json``. Every measurement is a process of its
own, and the cases alternate. The clock runs inside the process, from before the import: the interpreter's own start is
left out.
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
p = optim.Parameter(np.ones(1000, np.float32))
optimizer = optim.Adam([p])
p.grad = np.ones(1000, np.float32)
optimizer.step()
"""

TORCH_STEP = """
import torch
p = torch.nn.Parameter(torch.ones(1000))
optimizer = torch.optim.Adam([p])
p.grad = torch.ones(1000)
optimizer.step()
"""

CASES = {
    "import refoptim": "import refoptim",
    "refoptim, first step": REFOPTIM_STEP,
    "refoptim, first step, cold kernel cache": REFOPTIM_STEP,
    "import torch": "import torch",
    "torch, first step": TORCH_STEP,
}
COLD, REFERENCE = "refoptim, first step, cold kernel cache", "torch, first step"
TARGETS = {"refoptim, first step": 0.4}


def seconds(body: str, cache: Path) -> float:
    """Return what this code takes in a process of its own, with compiled kernels in this folder."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache)}
    # Users have compiled modules, which the first run writes and this variable would forbid.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", TIMED.format(body=body)]
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def measure(names: list[str], repeats: int) -> Samples:
    """Return the seconds of every case; a round that is not counted fills the caches."""
    samples: Samples = {name: [] for name in names}
    with TemporaryDirectory() as warm, tqdm(total=(repeats + 1) * len(names), unit="process") as progress:
        for counted in range(repeats + 1):
            for name in names:
                with TemporaryDirectory() as empty:
                    taken = seconds(CASES[name], Path(empty if name == COLD else warm))
                if counted:
                    samples[name].append(taken)
                progress.update()
    return samples


def main(argv: list[str] | None = None) -> None:
    """Measure, print the table and write the JSON file."""
    parser = argparse.ArgumentParser(description="Time import and first step in fresh processes.")
    parser.add_argument("--repeats", type=int, default=9, help="processes per case (default: 9)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args(argv)
    if options.repeats < 1:
        parser.error("--repeats must be at least 1")

    has_torch = find_spec("torch") is not None
    if not has_torch:
        print("torch is not installed: refoptim is measured alone")
    samples = measure([name for name in CASES if has_torch or "torch" not in name], options.repeats)

    rows: list[dict[str, Any]] = []
    lines = []
    for name, taken in samples.items():
        spent = summarize(taken)
        compared = ratio(samples, name, REFERENCE) if has_torch else None
        target = TARGETS.get(name)
        row = {"case": name, "seconds": spent._asdict(), "target_to_torch": target}
        rows.append(row | {"to_torch": None if compared is None else compared._asdict()})
        text = "" if compared is None else f"{compared.median:.3f} ({compared.low:.3f}-{compared.high:.3f})"
        if target is not None:
            text += f" target {target}"
        lines.append([name, duration(spent.median), f"{duration(spent.low)} - {duration(spent.high)}", text])
    print_table(["a fresh process", "median", "quartiles", "to torch's first step"], lines)
    write_json(options.json, "first_step", {"repeats": options.repeats}, rows)


if __name__ == "__main__":
    main()
