"""How far 1,000 steps of 16-bit parameters are from float64's on the same inputs, beside torch's.

Run ``python benchmarks/half_drift.py``: it prints the table of ``docs/half_precision.md``. Nothing is timed. torch's
for-loop, foreach and fused implementations are there if torch is.
"""

import argparse
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from itertools import product
from math import isfinite
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from timing import print_table, write_json

import refoptim as optim
from refoptim.buffers import Array

SIZE, STEPS = 64, 1_000
DTYPES = {"bfloat16": np.dtype(ml_dtypes.bfloat16), "float16": np.dtype(np.float16)}
OPTIMIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "SGD, momentum": ("SGD", {"lr": 1e-3, "momentum": 0.9}),
    **{name: (name, {}) for name in ("Adam", "Adagrad", "RMSprop", "Adadelta", "ASGD", "NAdam", "Rprop")},
}
WAYS: dict[str, dict[str, Any]] = {
    "nearest": {},
    "stochastic": {"rounding": "stochastic", "seed": 1},
    "master weights": {"master_weights": True},
}
IMPLEMENTATIONS = ("foreach", "fused")


def inputs(dtype: np.dtype[Any], steps: int) -> tuple[Array, Array]:
    """Return where parameters start, and the gradients of all steps: noise of sizes from 1e-3 to 3."""
    rng = np.random.default_rng(0)
    start = rng.uniform(-2, 2, SIZE)
    grads = np.logspace(-3, np.log10(3), SIZE) * rng.standard_normal((steps, SIZE))
    return start.astype(dtype), grads.astype(dtype)


def refoptim_end(name: str, options: dict[str, Any], start: Array, grads: Array) -> Array:
    """Return where refoptim's optimizer arrives, as float64."""
    p = optim.Parameter(start.copy())
    optimizer = getattr(optim, name)([p], **options)
    for grad in grads:
        optimizer.step(grads=[grad])
    return np.asarray(p.data).astype(np.float64)


def torch_ends(
    name: str, options: dict[str, Any], start: Array, grads: Array, dtype: str
) -> Iterator[tuple[str, Array]]:
    """Yield where torch's implementations arrive, by name."""
    torch = import_module("torch")
    values, slopes = (torch.tensor(x.astype(np.float32)).to(getattr(torch, dtype)) for x in (start, grads))
    for chosen in ("for-loop", *IMPLEMENTATIONS):
        p = torch.nn.Parameter(values.clone())
        use: dict[str, Any] = {"foreach": False} if chosen == "for-loop" else {chosen: True}
        try:
            optimizer = getattr(torch.optim, name)([p], **options, **use)
            for grad in slopes:
                p.grad = grad.clone()
                optimizer.step()
        except (TypeError, RuntimeError):  # there is no such implementation
            continue
        yield chosen, p.detach().to(torch.float64).numpy()


def errors(name: str, dtype: str, steps: int, *, with_torch: bool) -> dict[str, Any]:
    """Return how far an optimizer goes, and the largest error of each way and of torch's; None is not finite."""
    algorithm, options = OPTIMIZERS[name]
    start, grads = inputs(DTYPES[dtype], steps)
    exact = refoptim_end(algorithm, options, start.astype(np.float64), grads.astype(np.float64))
    ends = {way: refoptim_end(algorithm, options | chosen, start, grads) for way, chosen in WAYS.items()}
    if with_torch:
        ends |= {f"torch {chosen}": end for chosen, end in torch_ends(algorithm, options, start, grads, dtype)}
    found: dict[str, Any] = {"optimizer": name, "dtype": dtype}
    found["moved"] = float(np.abs(exact - start.astype(np.float64)).max())
    largest = {who: float(np.abs(end - exact).max()) for who, end in ends.items()}
    return found | {"errors": {who: error if isfinite(error) else None for who, error in largest.items()}}


def cells(row: dict[str, Any], names: list[str]) -> list[str]:
    """Return a line of the table."""
    shown = [row["moved"], *(row["errors"].get(name, "") for name in names)]
    texts = ["not finite" if value is None else f"{value:.2g}" if value else str(value) for value in shown]
    return [f"{row['optimizer']}, {row['dtype']}", *texts]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Compare steps of 16-bit parameters with float64's.")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--json", type=Path, help="where to write the errors")
    options = parser.parse_args()
    with_torch = sys.modules.get("torch", ...) is not None and find_spec("torch") is not None
    rows = [errors(name, dtype, options.steps, with_torch=with_torch) for dtype, name in product(DTYPES, OPTIMIZERS)]
    names = list(dict.fromkeys(name for row in rows for name in row["errors"]))
    print_table([f"{options.steps:,} steps", "moved", *names], [cells(row, names) for row in rows])
    write_json(options.json, "half_drift", {"steps": options.steps, "size": SIZE}, rows)


if __name__ == "__main__":
    main()
