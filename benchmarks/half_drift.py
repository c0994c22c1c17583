"""How far 1,000 steps of 16-bit parameters are from float64's on the same inputs, beside torch's.

Run ``python benchmarks/half_drift.py``: it prints the table of ``docs/half_precision.md``. Nothing is timed. torch's
for-loop, foreach and fused implementations are there if torch is.
"""

import argparse
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from itertools import product
from typing import Any

import ml_dtypes
import numpy as np
from timing import print_table

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


def inputs(dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """Return where parameters start, and the gradients of all steps: noise of sizes from 1e-3 to 3."""
    rng = np.random.default_rng(0)
    start = rng.uniform(-2, 2, SIZE)
    grads = np.logspace(-3, np.log10(3), SIZE) * rng.standard_normal((STEPS, SIZE))
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


def row(name: str, dtype: str, *, with_torch: bool) -> list[str]:
    """Return a line of the table: how far it goes, and the largest errors."""
    algorithm, options = OPTIMIZERS[name]
    start, grads = inputs(DTYPES[dtype])
    exact = refoptim_end(algorithm, options, start.astype(np.float64), grads.astype(np.float64))

    def error(end: Array) -> str:
        largest = np.abs(end - exact).max()
        return f"{largest:.2g}" if np.isfinite(largest) else "not finite"

    moved = f"{np.abs(exact - start.astype(np.float64)).max():.2g}"
    ours = [error(refoptim_end(algorithm, options | way, start, grads)) for way in WAYS.values()]
    theirs = torch_ends(algorithm, options, start, grads, dtype) if with_torch else ()
    return [f"{name}, {dtype}", moved, *ours, ", ".join(f"{chosen} {error(end)}" for chosen, end in theirs)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    with_torch, shown = find_spec("torch") is not None, []
    for dtype, name in product(DTYPES, OPTIMIZERS):
        shown.append(row(name, dtype, with_torch=with_torch))
    print_table(["1,000 steps", "moved", *WAYS, "torch"], shown)


if __name__ == "__main__":
    main()
