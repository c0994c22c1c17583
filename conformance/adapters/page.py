"""The page that says who conforms."""

import math
import re
from collections.abc import Mapping, Sequence

from refoptim.conformance.adapters.scipy import STOP, minima
from refoptim.conformance.adapters.table import Cell, Judged, Who, cells
from refoptim.conformance.runner.outcome import Grade, Result, Status

# Explanations of what an implementation makes of an algorithm.
_SHOWN = 4

_TOP = """# Who conforms

Made by `refoptim table --output docs/conformance.md` from {count} vectors, suite {suite}. Each library is asked as it
comes: where it computes another formula, nothing is converted. `docs/dialects.md` has the formulas,
`refoptim explain keras.Adam torch.Adam` says how to convert hyperparameters, and
`refoptim check --adapter keras --filter adam` has the whole answer.

Grades, the worst of all vectors: **exact**, the exact values rounded once; **A**, within the budget of an ordinary
implementation; **B**, within that of one with hyperparameters in the parameters' precision; **C**, the right formula
with weak numbers, within 64 budgets; **D**, another formula, or weaker numbers. A number beside a grade is the largest
error, in ulps of the largest value so far. Where float32 and float64 have not the same grade, both are given.

torch's own differences are in `docs/deviations.md`: ASGD and NAdam keep numbers in float32 for float64 parameters too,
and conform under `torch.set_default_dtype(torch.float64)`; Muon computes in bfloat16.
"""

_MINIMA = """
## SciPy

`scipy.optimize.minimize` is no optimizer with a step, and its trial points are its own: nothing that a trace of
`torch.optim.LBFGS` asks could be wrong of it. Both find the same minima. How often the loss is evaluated until no
element of the gradient is above {stop:g}, and the loss there (its minimum is 0); `docs/minimizers.md` has more.
"""


def text(found: Sequence[Judged], suite: str) -> str:
    """Return the page, for implementations that were put to the same vectors."""
    rows = {judged.who.name: {cell.algorithm: cell for cell in cells(judged)} for judged in found}
    kinds = {vector.algorithm: vector.type for judged in found for vector, _ in judged.results}
    count = len(found[0].results) if found else 0
    parts = [_TOP.format(count=count, suite=suite), _overview(found)]
    for title, wanted in (("Optimizers", {"trajectory", "trace"}), ("Schedulers", {"schedule"})):
        parts.append(_matrix(rows, title, sorted(name for name, kind in kinds.items() if kind in wanted)))
    for judged in found:
        own = list(rows[judged.who.name].values())
        if any(cell.parts or cell.failed for cell in own):
            parts.append(_section(judged.who, own))
    return "\n".join([*parts, _minima()])


def _overview(found: Sequence[Judged]) -> str:
    lines = [
        "| implementation | version | language | conform | differ | errors | not there |",
        "|---|---|---|---|---|---|---|",
    ]
    for judged in found:
        status = [result.status for _, result in judged.results]
        conform, errors = status.count(Status.CONFORMS), status.count(Status.ERRORED) + status.count(Status.PROTOCOL)
        differ = status.count(Status.MISMATCH) + status.count(Status.REJECTED)
        who = judged.who
        absent = status.count(Status.UNSUPPORTED) + status.count(Status.SKIPPED)
        lines.append(f"| {who.name} | {who.version} | {who.language} | {conform} | {differ} | {errors} | {absent} |")
    return "\n".join(lines)


def _matrix(rows: Mapping[str, Mapping[str, Cell]], title: str, algorithms: Sequence[str]) -> str:
    """Return the grades of some algorithms, by implementation; those that have none of them are left out."""
    columns = [name for name, own in rows.items() if own.keys() & set(algorithms)]
    lines = [f"\n## {title}\n", f"| | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    for algorithm in algorithms:
        cells_of = (rows[name].get(algorithm) for name in columns)
        lines.append(f"| {algorithm} | {' | '.join(map(_graded, cells_of))} |")
    return "\n".join(lines)


def _graded(cell: Cell | None) -> str:
    if cell is None:
        return ""
    failed = sum(map(len, cell.failed.values()))
    errors = [f"{failed} error{'s' * (failed > 1)}"] if failed else []
    if len({grade for grade, _ in cell.worst.values()}) > 1:
        return ", ".join([*(f"{dtype} {_shown(*worst)}" for dtype, worst in cell.worst.items()), *errors])
    largest = sorted(cell.worst.values(), key=lambda worst: worst[1])[-1:]
    return ", ".join([*(_shown(*worst) for worst in largest), *errors])


def _shown(grade: Grade, sulp: float) -> str:
    return f"{grade} {sulp:.2g}" if grade in (Grade.A, Grade.B) else str(grade)


def _section(who: Who, own: Sequence[Cell]) -> str:
    lines = [
        f"\n## {who.name} {who.version}, where it differs\n",
        "| | numbers | torch's defaults | infinity, NaN | refusals | what explains it; how often; one that shows it |",
        "|---|---|---|---|---|---|",
    ]
    for cell in own:
        if cell.parts or cell.failed or cell.refused[0] < cell.refused[1]:
            counts = (cell.right, cell.asked), cell.defaults, cell.special, cell.refused
            shares = " | ".join(f"{right} of {asked}" if asked else "" for right, asked in counts)
            lines.append(f"| {cell.algorithm} | {shares} | {'<br>'.join(_explanations(cell))} |")
    return "\n".join(lines)


def _explanations(cell: Cell) -> list[str]:
    """Return the commonest explanations."""
    found = sorted((cell.parts | cell.failed).items(), key=lambda part: -len(part[1]))
    lines = [_explanation(words, results) for words, results in found[:_SHOWN]]
    rest = sum(len(results) for _, results in found[_SHOWN:])
    return [*lines, *([f"others; {rest}"] if rest else [])]


def _explanation(words: str, results: Sequence[Result]) -> str:
    # What torch computes instead, and what numbers are weak by, is in the page of dialects.
    said = re.sub(r"; torch .*|, such as .*", "", words).replace("|", "\\|")
    shows = results[0]
    off = f", {shows.sulp:.2g} ulp" if shows.sulp and math.isfinite(shows.sulp) else ""
    return f"{said}; {len(results)}; `{shows.id}`{off}"


def _minima() -> str:
    found = minima()
    minimizers = list(dict.fromkeys(one.minimizer for one in found))
    lines = [_MINIMA.format(stop=STOP), f"| | {' | '.join(minimizers)} |", f"|---|{'---|' * len(minimizers)}"]
    for problem in dict.fromkeys(one.problem for one in found):
        own = {one.minimizer: f"{one.evaluations} ({one.loss:.0e})" for one in found if one.problem == problem}
        lines.append(f"| {problem} | {' | '.join(own[name] for name in minimizers)} |")
    return "\n".join(lines) + "\n"
