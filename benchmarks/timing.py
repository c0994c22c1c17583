"""What the benchmarks share: measuring in turn, comparing round by round, tables, and the machine's description."""

import gc
import json
import os
import platform
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

Samples = dict[str, list[float]]

_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()

# Variables that change how threads are used and what is compiled.
_THREADING = ("OMP_", "GOMP_", "KMP_", "MKL_", "NUMBA_")


class Summary(NamedTuple):
    """Median and quartiles of what was measured."""

    median: float
    low: float
    high: float


def summarize(values: Sequence[float]) -> Summary:
    """Return median and quartiles."""
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return Summary(median, low, high)


def ratio(samples: Samples, name: str, other: str) -> Summary:
    """Compare two contenders round by round: what slows the machine for a while slows both."""
    return summarize([a / b for a, b in zip(samples[name], samples[other], strict=True)])


def fastest(samples: Samples, names: Sequence[str]) -> str | None:
    """Return the name with the smallest median, or None if there is no such contender."""
    present = [name for name in names if name in samples]
    return min(present, key=lambda name: summarize(samples[name]).median, default=None)


def bind_threads() -> None:
    """Give every OpenMP thread a core of its own, unless the user has decided. Call it before a library starts threads.

    Where cores are few the system may wake two threads on one core: the one that is done spins until its time slice
    ends while the other waits, and everything takes a multiple of the slice. This concerns both libraries alike.
    """
    os.environ.setdefault("OMP_PROC_BIND", "true")


def in_turn(contenders: dict[str, Callable[[], Any]], rounds: int, block: float, progress: "tqdm[Any]") -> Samples:
    """Time each call once per round, as the mean of a block of calls that takes about this many seconds.

    Every block follows untimed calls for half as long: each library's threads are asleep when its turn comes, another's
    may still be spinning, and the scheduler takes milliseconds to spread them over the cores.
    """
    counts = {name: _calls_in(call, block) for name, call in contenders.items()}
    samples: Samples = {name: [] for name in contenders}
    collects = gc.isenabled()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, call in contenders.items():
                _settle(call, block / 2)
                samples[name].append(_seconds(call, counts[name]) / counts[name])
            progress.update()
    finally:
        if collects:
            gc.enable()
    return samples


def _seconds(call: Callable[[], Any], count: int) -> float:
    start = perf_counter()
    for _ in range(count):
        call()
    return perf_counter() - start


def _settle(call: Callable[[], Any], seconds: float) -> None:
    start = perf_counter()
    call()
    while perf_counter() - start < seconds:
        call()


def _calls_in(call: Callable[[], Any], block: float) -> int:
    # The first call compiles and makes the state.
    call()
    _settle(call, block / 2)
    count = 1
    while (taken := min(_seconds(call, count) for _ in range(3))) < block / 4:
        count *= 2
    return max(1, round(count * block / taken))


def machine() -> dict[str, Any]:
    """Return what a reader needs to know about where the figures come from."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu_name(),
        "cores": _CORES,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "platform": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "environment": {name: value for name, value in os.environ.items() if name.startswith(_THREADING)},
        "packages": {name: _version(name) for name in ("refoptim", "numpy", "numba", "torch")},
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def duration(seconds: float) -> str:
    """Write a time with three digits and a fitting unit."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns as wide as they need to be: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for line in (header, ["-" * width for width in widths], *rows):
        others = [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        print("  ".join([line[0].ljust(widths[0]), *others]).rstrip())


def write_json(path: Path | None, benchmark: str, settings: dict[str, Any], rows: Sequence[dict[str, Any]]) -> None:
    """Write the figures and where they come from, unless no path is given."""
    if path is not None:
        report = {"benchmark": benchmark, "machine": machine(), "settings": settings, "rows": list(rows)}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=2) + "\n")
