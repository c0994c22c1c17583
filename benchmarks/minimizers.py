"""Time L-BFGS and CG beside torch's L-BFGS and SciPy's: whole minimizations, and an iteration on many parameters.

Run ``python benchmarks/minimizers.py --json benchmarks/results/minimizers.json``. All take turns in one process and ask
the same NumPy function for loss and gradient. The cost of an iteration is what a step takes beside its closure. The
limit of L-BFGS is to read the history twice, as no form of the direction can do with less. That of CG, in an iteration
whose search takes its first point, is to read the parameters, the gradient, the last one and the direction once, and to
write all but the gradient.
"""

import argparse
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from movers import move
from timing import bind_threads, duration, print_table, ratio, summarize, write_json
from tqdm import tqdm

import refoptim as optim
from refoptim.conformance.problems import Array, Problem, rosenbrock
from refoptim.kernels.jit import cpu_tasks
from refoptim.pages import long_zeros

MOST, TOLERANCE, HISTORY = 100_000, 1e-5, 10
OPTIONS = {"max_iter": MOST, "max_eval": MOST, "tolerance_grad": TOLERANCE, "tolerance_change": 0}
SEARCHED = OPTIONS | {"history_size": HISTORY, "line_search_fn": "strong_wolfe"}
ITERATIONS = 4
METHODS = ("polak_ribiere", "hager_zhang")
TARGET = 1.3  # an iteration to its limit


class End(NamedTuple):
    """Where a minimization ended, and after how many evaluations."""

    x: Array
    evaluations: int


def regression(data: Any) -> Problem:
    """Return the loss of logistic regression on standardized data, with a small penalty."""
    scaled = (data.data - data.data.mean(axis=0)) / (data.data.std(axis=0) + 1e-9)
    inputs = np.column_stack([scaled, np.ones(len(scaled))])
    right = np.eye(data.target.max() + 1)[data.target]
    penalty = 1e-3

    def computed(x: Array) -> tuple[Any, Array]:
        weights = x.reshape(inputs.shape[1], right.shape[1])
        scores = inputs @ weights
        scores -= scores.max(axis=1, keepdims=True)
        logs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        grad = inputs.T @ (np.exp(logs) - right) / len(inputs) + penalty * weights
        return -(right * logs).sum() / len(inputs) + 0.5 * penalty * (weights**2).sum(), grad.ravel()

    return Problem(np.zeros(inputs.shape[1] * right.shape[1]), lambda x: computed(x)[0], lambda x: computed(x)[1])


def problems() -> dict[str, Problem]:
    """Return what is minimized: a curved valley, and regressions on what scikit-learn has, if it is installed."""
    found = {f"Rosenbrock, {size:,}": rosenbrock(size) for size in (2, 10, 100, 1_000)}
    if find_spec("sklearn"):
        datasets = import_module("sklearn.datasets")
        found["digits, 650"] = regression(datasets.load_digits())
        found["breast cancer, 62"] = regression(datasets.load_breast_cancer())
    return found


def ours(kind: Any, **options: Any) -> Callable[[Problem], End]:
    """Return a minimization by one of our optimizers."""

    def run(problem: Problem) -> End:
        param = optim.Parameter(problem.start)
        optimizer, calls = kind([param], **options), 0

        def closure() -> float:
            nonlocal calls
            calls += 1
            param.grad = problem.grad(param.data)
            return float(problem.loss(param.data))

        optimizer.step(closure)
        return End(param.data.copy(), calls)

    return run


def torchs(problem: Problem) -> End:
    """Minimize by torch's L-BFGS."""
    torch = import_module("torch")
    param = torch.nn.Parameter(torch.tensor(problem.start))
    values, calls = param.detach().numpy(), 0
    optimizer = torch.optim.LBFGS([param], **SEARCHED)

    def closure() -> float:
        nonlocal calls
        calls += 1
        param.grad = torch.from_numpy(problem.grad(values))
        return float(problem.loss(values))

    optimizer.step(closure)
    return End(values.copy(), calls)


def scipys(method: str) -> Callable[[Problem], End]:
    """Return a minimization by SciPy."""
    limits = {"maxiter": MOST, "gtol": TOLERANCE}
    if method == "L-BFGS-B":
        limits |= {"maxfun": MOST, "maxcor": HISTORY, "ftol": 0}

    def run(problem: Problem) -> End:
        minimize = import_module("scipy.optimize").minimize
        found = minimize(problem.loss, problem.start, jac=problem.grad, method=method, options=limits)
        return End(found.x, found.nfev)

    return run


def contenders() -> dict[str, Callable[[Problem], End]]:
    """Return the ways to minimize; what is not installed is left out."""
    found = {"refoptim LBFGS": ours(optim.LBFGS, **SEARCHED), "refoptim CG": ours(optim.CG, **OPTIONS)}
    if find_spec("torch"):
        found["torch LBFGS"] = torchs
    if find_spec("scipy"):
        found |= {f"SciPy {method}": scipys(method) for method in ("L-BFGS-B", "CG")}
    return found


def whole(rounds: int) -> list[dict[str, Any]]:
    """Time whole minimizations, and count evaluations."""
    rows, every = [], contenders()
    for name, problem in tqdm(problems().items(), desc="minimizations"):
        ends = {who: run(problem) for who, run in every.items()}
        samples: dict[str, list[float]] = {who: [] for who in every}
        for _ in range(rounds):
            for who, run in every.items():
                begin = perf_counter()
                run(problem)
                samples[who].append(perf_counter() - begin)
        for who, end in ends.items():
            steepest = float(np.abs(problem.grad(end.x)).max())
            loss, seconds = float(problem.loss(end.x)), summarize(samples[who])._asdict()
            beside = ratio(samples, who, "refoptim LBFGS")._asdict()
            row = {"evaluations": end.evaluations, "loss": loss, "gradient": steepest, "seconds": seconds}
            rows.append({"problem": name, "contender": who, **row, "to refoptim LBFGS": beside})
    return rows


@cpu_tasks
def read(memory: Array, sums: Array, first: int, stop: int) -> None:
    """Read parts of the memory, whose numbers are whole: their sums have vector instructions in any order."""
    for i in range(first, stop):
        total = 0
        for value in memory[i * 16_384 : (i + 1) * 16_384]:
            total += value
        sums[i] = total


def our_iterations(size: int, history: int, dtype: Any) -> Callable[[], float]:
    """Return what goes some iterations on with a full history, and says how long one takes beside the closure."""
    param = optim.Parameter(np.ones(size, dtype))
    curvature, spent = np.linspace(1, 2, size, dtype=dtype), [0.0]
    param.grad = param.data
    optimizer = optim.LBFGS([param], lr=0.1, max_iter=history + 1, history_size=history, **_ENDLESS)

    def closure() -> float:
        begin = perf_counter()
        np.multiply(curvature, param.data, out=param.grad)
        spent[0] += perf_counter() - begin
        return 1.0

    return _timed(optimizer, closure, spent)


def torch_iterations(size: int, history: int, dtype: Any) -> Callable[[], float]:
    """Return the same of torch's."""
    torch = import_module("torch")
    param = torch.nn.Parameter(torch.ones(size, dtype=getattr(torch, np.dtype(dtype).name)))
    curvature, spent = torch.linspace(1, 2, size, dtype=param.dtype), [0.0]
    param.grad = torch.zeros_like(param)
    optimizer = torch.optim.LBFGS([param], lr=0.1, max_iter=history + 1, history_size=history, **_ENDLESS)

    def closure() -> float:
        begin = perf_counter()
        with torch.no_grad():
            torch.mul(curvature, param, out=param.grad)
        spent[0] += perf_counter() - begin
        return 1.0

    return _timed(optimizer, closure, spent)


def conjugate_iterations(size: int, dtype: Any, method: str) -> Callable[[], float]:
    """Return the same of CG, on what looks like a smooth function to a search: it takes the first point."""
    param = optim.Parameter(np.ones(size, dtype))
    values, spent, calls = np.random.default_rng(1).standard_normal(size).astype(dtype), [0.0], 0
    param.grad = param.data
    optimizer = optim.CG([param], max_iter=ITERATIONS, method=method, **_ENDLESS)

    def closure() -> float:
        nonlocal calls
        begin = perf_counter()
        np.multiply(values, values.dtype.type(0.05 ** (calls % (ITERATIONS + 1))), out=param.grad)
        calls += 1
        spent[0] += perf_counter() - begin
        return -float(calls)

    run = _timed(optimizer, closure, spent)
    if calls != ITERATIONS + 1:
        raise RuntimeError(f"{ITERATIONS} searches took {calls - 1} points: they cannot be compared with the limit")
    return run


_ENDLESS = {"max_eval": MOST, "tolerance_grad": -1.0, "tolerance_change": -1e300}


def _timed(optimizer: Any, closure: Callable[[], float], spent: list[float]) -> Callable[[], float]:
    optimizer.step(closure)
    optimizer.param_groups[0]["max_iter"] = ITERATIONS

    def run() -> float:
        spent[0], begin = 0.0, perf_counter()
        optimizer.step(closure)
        return (perf_counter() - begin - spent[0]) / ITERATIONS

    return run


def beside(
    runs: dict[str, Callable[[], float]], name: str, limit: Callable[[], float], rounds: int, about: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return a row for each of these and their limit, which take turns. Each call returns how long it took."""
    runs = {**runs, name: limit}
    samples: dict[str, list[float]] = {contender: [] for contender in runs}
    limit()
    for _ in range(rounds):
        for contender, run in runs.items():
            samples[contender].append(run())
    return [
        {**about, "contender": contender, "seconds": summarize(values)._asdict()}
        | {f"to {name}": ratio(samples, contender, name)._asdict()}
        for contender, values in samples.items()
    ]


def iteration(size: int, history: int, dtype: str, rounds: int) -> list[dict[str, Any]]:
    """Time an iteration beside reading the history twice."""
    memory = np.ones(2 * history * size * np.dtype(dtype).itemsize // 8, np.int64)
    sums = np.empty(-(-memory.size // 16_384), np.int64)
    runs = {"refoptim": our_iterations(size, history, dtype)}
    if find_spec("torch"):
        runs["torch"] = torch_iterations(size, history, dtype)

    def limit() -> float:
        begin = perf_counter()
        for _ in range(2):
            read.run(sums.size, 1, memory.nbytes, memory, sums)
        return perf_counter() - begin

    about = {"elements": size, "history": history, "dtype": dtype}
    return beside(runs, "reading", limit, rounds, about)


def conjugate(size: int, dtype: str, rounds: int) -> list[dict[str, Any]]:
    """Time an iteration of CG beside moving the vectors that it cannot do without."""
    length = size * np.dtype(dtype).itemsize
    arrays = [long_zeros(length).view(dtype) for _ in range(4)]
    runs = {f"refoptim CG, {method}": conjugate_iterations(size, dtype, method) for method in METHODS}

    def limit() -> float:
        begin = perf_counter()
        move(*arrays)
        return perf_counter() - begin

    return beside(runs, "moving", limit, rounds, {"elements": size, "dtype": dtype})


def main() -> None:
    """Time, print two tables, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="how often each is timed (default: %(default)s)")
    parser.add_argument(
        "--sizes", nargs="*", type=int, default=[1_000_000, 10_000_000], help="elements of an iteration"
    )
    parser.add_argument("--histories", nargs="*", type=int, default=[10], help="pairs of an iteration (default: 10)")
    parser.add_argument("--without-problems", action="store_true", help="time iterations only")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    bind_threads()
    rows = [] if options.without_problems else whole(options.rounds)
    if rows:
        header = ["problem", "contender", "evaluations", "gradient", "time", "to refoptim LBFGS"]
        print_table(header, [_whole_cells(row) for row in rows])
    plan = [(n, h, kind) for n in options.sizes for h in options.histories for kind in ("float32", "float64")]
    timed = [row for case in tqdm(plan, desc="iterations") for row in iteration(*case, options.rounds)]
    sizes = [(n, kind) for n in options.sizes for kind in ("float32", "float64")]
    timed += [row for case in tqdm(sizes, desc="conjugate") for row in conjugate(*case, options.rounds)]
    print_table(["iteration", "contender", "time", f"to its limit (target {TARGET})"], [_cells(row) for row in timed])
    settings = {"rounds": options.rounds, "tolerance": TOLERANCE, "iterations": ITERATIONS, "target": TARGET}
    write_json(options.json, "minimizers", settings, [*rows, *timed])


def _whole_cells(row: dict[str, Any]) -> list[str]:
    figures = [str(row["evaluations"]), f"{row['gradient']:.1e}", duration(row["seconds"]["median"])]
    return [row["problem"], row["contender"], *figures, _spread(row["to refoptim LBFGS"])]


def _cells(row: dict[str, Any]) -> list[str]:
    history = f" x {row['history']}" if "history" in row else ""
    limit = row["to reading"] if history else row["to moving"]
    what = f"{row['elements']:,}{history} {row['dtype']}"
    return [what, row["contender"], duration(row["seconds"]["median"]), _spread(limit)]


def _spread(found: dict[str, float]) -> str:
    return f"{found['median']:.2f} ({found['low']:.2f} to {found['high']:.2f})"


if __name__ == "__main__":
    main()
