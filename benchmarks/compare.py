"""The comparison: one step of refoptim beside other libraries, and beside moving the bytes that a step must move.

Run ``make bench EXTRAS=,torch``, or ``python benchmarks/compare.py --quick``. All take turns in one process, with the
same values and gradients. Before someone is timed, two steps are compared with the documented formula. What is
measured is written after every case, so that Ctrl-C loses one case at most: ``--resume`` goes on from there.
``python benchmarks/report.py`` makes tables and plots of it.
"""

import argparse
import gc
import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from algorithms import mover
from cases import EVERY, Case, Expected, check, expected, inputs, plan
from peers import LIBRARIES, Contender, how_to_install, is_installed, load
from timing import Samples, available_memory, bind_threads, calls_in, in_turn, machine, ratio, summarize, write_json
from tqdm import tqdm

Makers = dict[str, Callable[[], Contender]]

RESULTS = Path(__file__).parent / "results"
QUICK = {"optimizers": ["Adam", "SGD"], "sizes": [1_000, 100_000, 1_000_000], "tensors": [1, 100], "seconds": 0.4}
# Rounds: few where a step takes long.
FEWEST, MOST_ROUNDS = 3, 21
# Arrays as large as the parameters that a step may need beside those it must have.
TEMPORARIES = 3


def makers_of(case: Case, peers: Iterable[str], values: Any, grads: Any) -> Makers:
    """Return who can take part in a case, by name."""
    found: Makers = {}
    for peer in peers:
        found |= load(peer).contenders(case.algorithm, values, grads)
    return {name: found[name] for name in sorted(found, key=lambda name: not name.startswith("refoptim"))}


def batches(case: Case, names: Iterable[str], memory: float) -> Iterator[list[str]]:
    """Divide the contenders so that those who are there at once fit into so many bytes."""
    names, room = list(names), places(case, memory)
    for start in range(0, len(names), room):
        yield names[start : start + room]


def places(case: Case, memory: float) -> int:
    """Return how many contenders fit into so many bytes, beside inputs and mover."""
    arrays = case.algorithm.arrays
    return min(int((memory / max(case.bytes, 1) - 2 - arrays) / (arrays + TEMPORARIES)), 1_000)


def measure(case: Case, peers: Iterable[str], options: argparse.Namespace) -> dict[str, Any]:
    """Return a case's figures: each contender's time, and its ratio to the mover's in the same round."""
    record: dict[str, Any] = {"optimizer": case.name, "dtype": case.dtype, "tensors": case.tensors}
    record |= {"elements": case.elements, "rounds": 0, "mover": None, "contenders": {}, "left_out": {}}
    memory = options.memory * 2**30
    if places(case, memory) < 1:
        return record | {"left_out": {"all": f"one contender at a time needs more than {options.memory:.1f} GiB"}}
    values, grads = inputs(case)
    makers, moved = makers_of(case, peers, values, grads), []
    wanted = expected(case, values, grads)
    for names in batches(case, makers, memory):
        steps = {}
        for name in names:
            try:
                steps[name] = checked(case, name, makers[name], wanted)
            except Exception as error:  # noqa: BLE001  whatever a peer does, the others are measured
                record["left_out"][name] = f"{type(error).__name__}: {error}"[:200]
        steps["mover"] = mover(case.algorithm, case.tensors * case.elements, case.dtype)
        samples = timed(steps, options)
        record["rounds"] = len(samples["mover"])
        record["contenders"] |= {name: figures(samples, name) for name in steps if name != "mover"}
        moved += samples["mover"]
        # Who comes next needs the memory.
        steps.clear()
        gc.collect()
    return record | {"mover": rounded(summarize(moved))}


def checked(case: Case, name: str, make: Callable[[], Contender], wanted: Expected) -> Callable[[], Any]:
    """Return a contender's step, once it has been seen to compute the right numbers."""
    contender = make()
    check(case, name, contender, wanted)
    return contender.step


def timed(steps: dict[str, Callable[[], Any]], options: argparse.Namespace) -> Samples:
    """Time them in turn, in as many rounds as fit into the seconds that a case has."""
    found = {name: calls_in(step, options.block) for name, step in steps.items()}
    # A turn takes a block or a step, and half a block or a step before it.
    turns = sum(max(1.5 * options.block, 2 * seconds) for _, seconds in found.values())
    rounds = int(np.clip(options.seconds / turns, FEWEST, MOST_ROUNDS))
    with tqdm(disable=True) as silent:
        return in_turn(steps, rounds, options.block, silent, {name: count for name, (count, _) in found.items()})


def figures(samples: Samples, name: str) -> dict[str, list[float]]:
    """Return a contender's times and its ratios to the mover, as quartile, median and quartile."""
    return {"seconds": rounded(summarize(samples[name])), "to_mover": rounded(ratio(samples, name, "mover"))}


def rounded(found: Any) -> list[float]:
    """Return quartile, median and quartile with four digits."""
    return [float(f"{value:.4g}") for value in (found.low, found.median, found.high)]


def order(record: dict[str, Any]) -> tuple[Any, ...]:
    """Return where a case's record stands in the file."""
    return list(EVERY).index(record["optimizer"]), *key(record)[1:]


def key(record: dict[str, Any]) -> tuple[Any, ...]:
    """Return what tells one case's record from another's."""
    return record["optimizer"], record["dtype"], record["tensors"], record["elements"]


def key_of(case: Case) -> tuple[Any, ...]:
    """Return the key that a case's record will have."""
    return case.name, case.dtype, case.tensors, case.elements


def weight(case: Case, seconds: float) -> float:
    """Return about how long a case takes, in seconds on two cores: what the progress bar counts."""
    return 2 * seconds + 0.004 * case.tensors + 40 * case.bytes * case.algorithm.arrays / 1e9


def kept(path: Path, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the cases that a file has, unless they were measured elsewhere or in another way."""
    found = json.loads(path.read_text(encoding="utf-8"))
    here = machine(packages())
    for name, theirs, ours in (
        ("settings", found["settings"], settings),
        *((name, found["machine"].get(name), here[name]) for name in ("cpu", "cores", "packages")),
    ):
        if theirs != ours:
            raise ValueError(f"{path} was measured with other {name}: {theirs}; here they are {ours}")
    return found["rows"]


def present(peers: Iterable[str]) -> tuple[dict[str, int], dict[str, str]]:
    """Return the threads of those who can take part, and why the others cannot."""
    threads, absent = {}, {}
    for peer in peers:
        if not is_installed(peer):
            absent[peer] = f"it is not installed: {how_to_install(peer)}"
            continue
        try:
            threads[peer] = load(peer).threads()
        except Exception as error:  # noqa: BLE001  whatever is wrong with it
            absent[peer] = f"{type(error).__name__}: {error}"[:200]
    return threads, absent


def packages() -> list[str]:
    """Return the packages whose versions stand in the report."""
    return [*(library.name for library in LIBRARIES.values()), "numba", "scipy", "jax"]


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Return what is asked for."""
    parser = argparse.ArgumentParser(description="Time one optimizer step of refoptim beside other libraries'.")
    parser.add_argument("--quick", action="store_true", help="two optimizers and a few shapes, in about two minutes")
    parser.add_argument("--optimizers", nargs="+", choices=EVERY, metavar="NAME", help="all by default")
    parser.add_argument("--sizes", nargs="+", type=partial(positive, int), metavar="ELEMENTS", help="of one tensor")
    parser.add_argument("--tensors", nargs="+", type=partial(positive, int), metavar="COUNT")
    parser.add_argument("--dtypes", nargs="+", choices=("float32", "float64"), default=["float32", "float64"])
    parser.add_argument("--peers", nargs="+", choices=LIBRARIES, metavar="LIBRARY", help="all by default")
    parser.add_argument("--seconds", type=partial(positive, float), help="that a case's rounds take (default: 0.6)")
    parser.add_argument("--block", type=partial(positive, float), default=0.003, help="seconds of a turn, at least")
    parser.add_argument("--memory", type=partial(positive, float), help="GiB to use (default: half of what is free)")
    parser.add_argument("--minutes", type=partial(positive, float), default=25.0, help="begin no case later")
    parser.add_argument("--json", type=Path, help="where to write (default: in benchmarks/results)")
    parser.add_argument("--resume", action="store_true", help="measure only what the file does not have yet")
    options = parser.parse_args(argv)
    chosen = QUICK if options.quick else {"optimizers": list(EVERY), "seconds": 0.6}
    for name, value in chosen.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    options.json = options.json or RESULTS / ("comparison_quick.json" if options.quick else "comparison.json")
    options.memory = options.memory or available_memory() / 2**31
    return options


def positive(kind: Callable[[str], float], text: str) -> float:
    """Read a number above zero, such as 1e6 where a whole number is asked for."""
    value = float(text)
    if not 0 < value < float("inf") or (kind is int and value != int(value)):
        raise ValueError(text)
    return int(value) if kind is int else value


def main(argv: list[str] | None = None) -> int:
    """Measure case by case and write the file after each; return the exit code."""
    options = parse(argv)
    bind_threads()
    # In the order of LIBRARIES, which says why.
    threads, absent = present(peer for peer in LIBRARIES if peer in (options.peers or LIBRARIES))
    for peer, why in absent.items():
        print(f"{LIBRARIES[peer].name} takes no part: {why}")
    settings = {"block": options.block, "seconds": options.seconds, "absent": absent}
    settings["threads"] = {LIBRARIES[peer].name: count for peer, count in threads.items()}
    try:
        rows = kept(options.json, settings) if options.resume and options.json.exists() else []
    except ValueError as error:
        print(error)
        return 2

    cases = plan(options.optimizers, options.dtypes, options.sizes, options.tensors)
    done = {key(row) for row in rows}
    left = [case for case in cases if key_of(case) not in done]
    # Short ones first: who stops early has most of them.
    left.sort(key=lambda case: weight(case, options.seconds))
    end, code = monotonic() + 60 * options.minutes, 0
    print(f"{len(left)} cases; threads: {settings['threads']}; results: {options.json}")
    unit = "{l_bar}{bar}| {elapsed}, about {remaining} left"
    with tqdm(total=sum(weight(case, options.seconds) for case in left), smoothing=0.05, bar_format=unit) as progress:
        try:
            for case in left:
                if monotonic() > end:
                    break
                progress.set_description(str(case))
                record = measure(case, threads, options)
                for name, why in record["left_out"].items():
                    progress.write(f"{case}: {name} takes no part: {why}")
                rows = sorted([*rows, record], key=order)
                write_json(options.json, "comparison", settings, rows, packages())
                progress.update(weight(case, options.seconds))
        except KeyboardInterrupt:
            code = 130
    missing = len(cases) - len({key(row) for row in rows} & {key_of(case) for case in cases})
    if missing:
        print(f"{missing} of {len(cases)} cases are not in {options.json}; --resume goes on from there")
    print(f"python benchmarks/report.py {options.json} shows tables and plots")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
