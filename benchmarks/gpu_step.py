"""Time one step of refoptim on a GPU beside torch's implementations and beside copying memory on the device.

Run ``python benchmarks/gpu_step.py --json benchmarks/results/gpu_step.json`` on a machine with a GPU. Device events
measure; all contenders take turns in one process, with float32 gradients that are in place before the clock starts.
torch takes part where its CUDA build is installed. Under Numba's simulator (``NUMBA_ENABLE_CUDASIM=1``) everything runs
too, with small ``--sizes`` and torch on the CPU: the figures mean nothing then.
"""

import argparse
import gc
import shutil
import subprocess
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from algorithms import ALGORITHMS, TORCH, Algorithm, has
from numba.core import config
from step_time import size
from timing import Samples, duration, fastest, print_table, ratio, summarize, write_json
from tqdm import tqdm

import refoptim as optim
from refoptim import devices
from refoptim.kernels.jit import cuda, gpu_kernel

Call = Callable[[], Any]

SIMULATED = bool(config.ENABLE_CUDASIM)
ITEM = np.dtype(np.float32).itemsize
# RAdam rectifies from its sixth step on: before that it does less.
WARM_UP = 8
# Arrays of the parameters' size that torch's foreach makes on its way.
TEMPORARIES = 3
# The share of the copy's bandwidth that a step of one long array has to reach.
SHARE = 0.90
# What refoptim may take: of torch's fused kernel where that is its best, of its best otherwise, of foreach for many.
FUSED, BEST, MANY = 1.0, 0.5, 0.2
WITH_FUSED = ("Adam", "AdamW", "SGD", "Adagrad")
# What nvidia-smi is asked for.
ASKED = (
    "driver_version",
    "clocks.sm",
    "clocks.mem",
    "clocks.max.sm",
    "clocks.max.mem",
    "power.limit",
    "ecc.mode.current",
)


@gpu_kernel
def noise_gpu(array: Any, seed: int) -> None:
    """Fill an array with numbers in [-1, 1) that have no pattern."""
    for i in range(cuda.grid(1), array.size, cuda.gridsize(1)):
        x = ((i + 1) * 2654435761 + seed * 40503) & 0xFFFFFFFF
        x = ((x ^ (x >> 15)) * 739779965) & 0xFFFFFFFF
        array[i] = (x ^ (x >> 13)) / 2147483648 - 1


def noise(elements: int, seed: int) -> Any:
    """Return an array on the GPU, full of numbers."""
    array = cuda.device_array(elements, np.float32)
    noise_gpu.launch(array, seed)
    return array


def refoptim_step(algorithm: Algorithm, tensors: int, elements: int, arithmetic: str | None) -> Call:
    """Return refoptim's step for this many parameters on the GPU."""
    params = []
    for place in range(tensors):
        param = optim.Parameter(noise(elements, place))
        param.grad = noise(elements, place + tensors)
        params.append(param)
    return getattr(optim, algorithm.name)(params, **algorithm.options, arithmetic=arithmetic).step


def torch_steps(algorithm: Algorithm, tensors: int, elements: int, torch: Any) -> dict[str, Call]:
    """Return torch's steps for as many, by implementation. They share the parameters, which saves their memory."""
    kind, place = getattr(torch.optim, algorithm.name), torch.device("cpu" if SIMULATED else "cuda")
    torch.manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(elements, device=place)) for _ in range(tensors)]
    for param in params:
        param.grad = torch.randn(elements, device=place)
    steps: dict[str, Call] = {}
    for name, implementation in TORCH.items():
        if implementation["fused"] and not has(kind, "fused"):
            continue
        known = {key: value for key, value in implementation.items() if key != "fused" or has(kind, "fused")}
        try:
            step = kind(params, **algorithm.options, **known).step
            step()
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError) or not implementation["fused"]:
                raise
            continue  # it has no fused kernel on this device
        steps[name] = step
    return steps


def copy(elements: int) -> Call:
    """Return a copy of as many elements from one array on the GPU to another."""
    source, target = noise(elements, 0), noise(elements, 1)
    return lambda: target.copy_to_device(source)


def moved(algorithm: Algorithm, count: int) -> int:
    """Return the bytes that a step must read and write: all arrays, and all but the gradient."""
    return (2 * algorithm.arrays - 1) * count * ITEM


def needed(algorithm: Algorithm, count: int, with_torch: bool) -> int:
    """Return the bytes on the GPU that a case takes: ours and the float64 one's, the copy's, torch's."""
    arrays = 2 * algorithm.arrays + 2 + 1
    if with_torch:
        arrays += 2 + len(TORCH) * (algorithm.arrays - 2) + TEMPORARIES
    return arrays * count * ITEM


def fitting(algorithm: Algorithm, elements: int, tensors: int, with_torch: bool) -> int:
    """Return the number of elements, halved as often as the memory of the GPU asks for."""
    free = cuda.current_context().get_memory_info().free
    while elements > 1 and needed(algorithm, tensors * elements, with_torch) > free:
        elements //= 2
    return elements


def contenders(algorithm: Algorithm, tensors: int, elements: int, torch: Any) -> dict[str, Call]:
    """Return who takes part, by name, each warmed up."""
    calls: dict[str, Call] = {
        "refoptim": refoptim_step(algorithm, tensors, elements, None),
        "refoptim float64": refoptim_step(algorithm, tensors, elements, "float64"),
    }
    release(torch)
    if torch is not None:
        calls |= torch_steps(algorithm, tensors, elements, torch)
    calls["copy"] = copy(tensors * elements)
    for call in calls.values():
        for _ in range(WARM_UP):
            call()
    cuda.synchronize()
    return calls


def seconds(call: Call, count: int) -> float:
    """Return how long a call takes on the device, as the mean of this many."""
    # The device is busy with this one while the host hands over the next: no gap comes before the first that counts.
    call()
    if SIMULATED:
        begin = perf_counter()
        for _ in range(count):
            call()
        return (perf_counter() - begin) / count
    start, stop = cuda.event(), cuda.event()
    start.record()
    for _ in range(count):
        call()
    stop.record()
    stop.synchronize()
    return start.elapsed_time(stop) / 1e3 / count


def in_turn(calls: dict[str, Call], rounds: int, block: float, progress: "tqdm[Any]") -> Samples:
    """Time each call once per round, as the mean of a block of calls that takes about this many seconds."""
    counts = {name: max(1, round(block / seconds(call, 3))) for name, call in calls.items()}
    samples: Samples = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            samples[name].append(seconds(call, counts[name]))
        progress.update()
    return samples


def rows_of(name: str, tensors: int, elements: int, asked: int, samples: Samples) -> list[dict[str, Any]]:
    """Return one row per contender: its time, its share of the copy's bandwidth, and its ratio to torch."""
    algorithm = ALGORITHMS[name]
    bandwidth = [2 * tensors * elements * ITEM / taken for taken in samples["copy"]]
    other, target = reference(algorithm, tensors, samples)
    rows = []
    for contender, taken in samples.items():
        count = 2 * tensors * elements * ITEM if contender == "copy" else moved(algorithm, tensors * elements)
        ours = contender == "refoptim"
        row: dict[str, Any] = {"algorithm": name, "tensors": tensors, "elements": elements, "asked": asked}
        row |= {"contender": contender, "seconds": summarize(taken)._asdict(), "bytes": count}
        row["share"] = summarize([count / one / most for one, most in zip(taken, bandwidth, strict=True)])._asdict()
        row["target_share"] = SHARE if ours and tensors == 1 else None
        row["torch"] = other
        row["to_torch"] = ratio(samples, contender, other)._asdict() if other else None
        row["target_to_torch"] = target if ours else None
        rows.append(row)
    return rows


def reference(algorithm: Algorithm, tensors: int, samples: Samples) -> tuple[str | None, float | None]:
    """Return which of torch's implementations is the one to beat, and what part of its time may be taken."""
    best = fastest(samples, [name for name in TORCH if name in samples])
    if best is None:
        return None, None
    if tensors > 1:
        return "torch foreach", MANY
    if algorithm.name in WITH_FUSED and "torch fused" in samples:
        return "torch fused", FUSED
    return best, BEST


def table_line(row: dict[str, Any]) -> list[str]:
    """Return a row's cells; what has a target stands beside it."""

    def cell(found: dict[str, float] | None, target: float | None) -> str:
        text = "" if found is None else f"{found['median']:.3f} ({found['low']:.3f}-{found['high']:.3f})"
        return text if target is None else f"{text} target {target:.2f}"

    seconds, other = row["seconds"], (row["torch"] or "").removeprefix("torch ")
    title = f"{row['algorithm']}, {row['tensors']:,} x {row['elements']:,}: {row['contender']}"
    share, to_torch = cell(row["share"], row["target_share"]), cell(row["to_torch"], row["target_to_torch"])
    return [title, duration(seconds["median"]), share, other, to_torch]


def described() -> dict[str, Any]:
    """Return what a reader needs to know about the GPU. Clocks are those of this moment, and the highest."""
    gpu = cuda.get_current_device()
    found = {"name": _text(getattr(gpu, "name", "simulator")), "capability": list(gpu.compute_capability)}
    found["numba-cuda"] = version("numba-cuda")
    program = shutil.which("nvidia-smi")
    if program is None or SIMULATED:
        return found
    command = [program, f"--id={gpu.uuid}", f"--query-gpu={','.join(ASKED)}", "--format=csv,noheader"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    values = run.stdout.strip().split(", ")
    return found | (dict(zip(ASKED, values, strict=True)) if len(values) == len(ASKED) else {})


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def usable_torch() -> Any:
    """Return torch if it can use the GPU; under the simulator its CPU build will do."""
    torch = import_module("torch") if find_spec("torch") else None
    if torch is None or not (SIMULATED or torch.cuda.is_available()):
        print("torch's CUDA build is not installed: refoptim is measured alone")
        return None
    return torch


def main(argv: list[str] | None = None) -> None:
    """Measure, print the table and write the JSON file."""
    parser = argparse.ArgumentParser(description="Time one optimizer step of refoptim and torch on a GPU, float32.")
    sizes = [(1, 1_000_000_000), (1_000, 10_000)]
    parser.add_argument("--sizes", type=size, nargs="+", default=sizes, metavar="TENSORSxELEMENTS")
    parser.add_argument("--algorithms", nargs="+", choices=ALGORITHMS, default=list(ALGORITHMS))
    parser.add_argument("--rounds", type=int, default=21, help="how often each contender has its turn (default: 21)")
    parser.add_argument("--block", type=float, default=0.05, help="seconds that a turn takes, at least (default: 0.05)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args(argv)
    try:
        devices.device("cuda")
    except RuntimeError as error:
        parser.exit(1, f"gpu_step.py needs a GPU: {error}\n")
    torch = usable_torch()

    rows: list[dict[str, Any]] = []
    cases = [(name, *shape) for shape in options.sizes for name in options.algorithms]
    with tqdm(total=len(cases) * options.rounds, unit="round") as progress:
        for name, tensors, asked in cases:
            elements = fitting(ALGORITHMS[name], asked, tensors, torch is not None)
            if elements < asked:
                progress.write(f"{name}: {asked:,} elements do not fit into the GPU's memory, {elements:,} do")
            progress.set_description(f"{name}, {tensors:,} x {elements:,}")
            calls = contenders(ALGORITHMS[name], tensors, elements, torch)
            samples = in_turn(calls, options.rounds, options.block, progress)
            rows += rows_of(name, tensors, elements, asked, samples)
            calls.clear()
            release(torch)
    if SIMULATED:
        print("simulated: these figures say nothing about any GPU")
    print_table(["one step, float32", "median", "share of the copy", "torch's", "to it"], list(map(table_line, rows)))
    settings = {"rounds": options.rounds, "block": options.block, "simulated": SIMULATED, "gpu": described()}
    write_json(options.json, "gpu_step", settings | {"torch": getattr(torch, "__version__", None)}, rows)


def release(torch: Any) -> None:
    """Give memory back to the GPU that nobody uses any more."""
    gc.collect()
    if SIMULATED:
        return
    cuda.current_context().memory_manager.deallocations.clear()
    if torch is not None:
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
