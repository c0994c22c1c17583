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

import refoptim as optim

Samples = dict[str, list[float]]

# Seconds. The milliseconds in which threads wake and fall asleep are little beside this.
LONG = 0.2

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
    ends while the other waits, and everything takes a multiple of the slice. That concerns torch. OpenMP also binds the
    thread that loads it, and whatever that starts later: so refoptim's own threads, which are not bound, start first.
    """
    os.environ.setdefault("OMP_PROC_BIND", "true")
    param = optim.Parameter(np.zeros(1 << 20, np.float32))
    optim.SGD([param], lr=0.0).step(grads=[param.data])


def in_turn(
    contenders: dict[str, Callable[[], Any]],
    rounds: int,
    block: float,
    progress: "tqdm[Any]",
    counts: dict[str, int] | None = None,
) -> Samples:
    """Time each call once per round, as the mean of a block of calls that takes about this many seconds.

    Every block follows untimed calls for half as long: each library's threads are asleep when its turn comes, another's
    may still be spinning, and the scheduler takes milliseconds to spread them over the cores. Calls that take far
    longer do without. What :func:`calls_in` found for each call may be given.
    """
    counts = counts or {name: calls_in(call, block)[0] for name, call in contenders.items()}
    samples: Samples = {name: [] for name in contenders}
    collects = gc.isenabled()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, call in contenders.items():
                if not (samples[name] and samples[name][-1] > LONG):
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


def calls_in(call: Callable[[], Any], block: float) -> tuple[int, float]:
    """Return how many calls take about so many seconds, and what one takes."""
    # The first call compiles and makes the state.
    call()
    if (taken := _seconds(call, 1)) > block:
        return 1, taken
    _settle(call, block / 2)
    count = 1
    while (taken := min(_seconds(call, count) for _ in range(3))) < block / 4:
        count *= 2
    return max(1, round(count * block / taken)), taken / count


def machine(packages: Sequence[str] = ("refoptim", "numpy", "numba", "torch")) -> dict[str, Any]:
    """Return what a reader needs to know about where the figures come from."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu_name(),
        "cores": _CORES,
        "caches": _caches(),
        "memory_gib": round(_meminfo("MemTotal") / 2**30, 1),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "platform": f"{platform.system()} {platform.machine()}",
        "system": _system(),
        "python": platform.python_version(),
        "environment": {name: value for name, value in os.environ.items() if name.startswith(_THREADING)},
        "packages": {name: _version(name) for name in packages},
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _caches() -> dict[str, str]:
    """Return the sizes of one core's caches, where Linux tells them."""
    found = {}
    for cache in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = ((cache / name).read_text().strip() for name in ("level", "type", "size"))
        found[f"L{level}" + {"Data": "d", "Instruction": "i"}.get(kind, "")] = size
    return found


def _meminfo(name: str) -> int:
    """Return a line of Linux's /proc/meminfo in bytes; elsewhere all of the memory."""
    info = Path("/proc/meminfo")
    if not info.exists():
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 2**33
    (line,) = [line for line in info.read_text().splitlines() if line.startswith(f"{name}:")]
    return int(line.split()[1]) * 1024


def available_memory() -> int:
    """Return how many bytes can be had without swapping."""
    return _meminfo("MemAvailable")


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


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


def write_json(
    path: Path | None,
    benchmark: str,
    settings: dict[str, Any],
    rows: Sequence[dict[str, Any]],
    packages: Sequence[str] | None = None,
) -> None:
    """Write the figures and where they come from, unless no path is given.

    A row is a line. The file is whole at every moment, for who stops the program.
    """
    if path is not None:
        described = machine() if packages is None else machine(packages)
        report = {"benchmark": benchmark, "machine": described, "settings": settings, "rows": []}
        head, lines = json.dumps(report, indent=2).removesuffix("[]\n}"), ",\n".join(map(json.dumps, rows))
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.partial")
        partial.write_text(f"{head}[\n{lines}\n]}}\n", encoding="utf-8")
        partial.replace(path)
