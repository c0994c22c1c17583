"""The report of ``refoptim conformance``: a table for people and a JSON file for programs."""

import json
import platform
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import chain
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from refoptim.conformance import cases, formats, minimizers, roundings, schedules, suite
from refoptim.conformance import mutants as wrong
from refoptim.conformance.automatic import SHARE, Score, score
from refoptim.conformance.suite import Each, Measured, Row

_COLUMNS = (
    ("", "optimizer and options", 46),
    ("", "dtype", 10),
    ("", "computed by", 11),
    ("1 step", "worst", 7),
    ("", "mean", 7),
    ("", "torch", 7),
    ("probe", "worst", 6),
    ("", "state", 6),
    ("9 steps", "worst", 7),
    ("1,000", "median", 7),
    ("steps", "torch", 7),
    ("", "scaled", 7),
    ("", "torch", 7),
    ("", "state", 6),
    ("", "torch", 7),
    ("", "", 6),
)


# What does not take one gradient and one step, or is known to the bit, has exams and a table of its own: modules with
# ``plan``, ``rows``, ``text``, ``as_json``, ``exams``, ``mutants`` and ``examine``. Their rows have ``failures`` too.
OTHERS: dict[str, Any] = {"minimizers": minimizers, "roundings": roundings, "schedules": schedules}


# How many mutants of these a process takes at a time.
_PART = 50


class Outcome(NamedTuple):
    """Everything that a run of the suite found."""

    rows: list[Row]
    others: dict[str, list[Any]]  # the rows of other tables
    rejected: dict[str, str]  # mutants, and what gave each away
    survivors: list[str]
    automatic: Score | None = None  # of the mutants that are made automatically, if they were asked for

    @property
    def passed(self) -> bool:
        """Whether every implementation is within its limits and every mutant is rejected, or its survival explained."""
        judged = self.automatic is None or self.automatic.passed
        rows = [*self.rows, *chain.from_iterable(self.others.values())]
        return judged and not self.survivors and not any(row.failures for row in rows)


def is_empty(pattern: str) -> bool:
    """Return whether there is no exam whose description contains the pattern."""
    return not any(judge.plan(pattern) for judge in (suite, *OTHERS.values()))


def left_out() -> list[str]:
    """Return what has no rows, and why; nothing if there is nothing."""
    return [] if len(formats.halves()) > 1 else [formats.LEFT_OUT]


def run(pattern: str = "", *, quiet: bool = False, with_automatic: bool = False, each: Each = map) -> Outcome:
    """Run the suite: the exams whose description contains the pattern, then the mutants of what has such exams.

    The automatic mutants, if they are asked for, are those of the algorithms of these exams.
    """
    bar = partial(tqdm, disable=quiet, leave=False)
    works = [(pattern, number) for number in range(len(suite.plan(pattern)))]
    found = list(chain(*bar(each(suite.rows_of, works), "implementations", len(works), unit="exam")))
    planned = [(name, pattern, number) for name, judge in OTHERS.items() for number in range(len(judge.plan(pattern)))]
    others: dict[str, list[Any]] = {name: [] for name in OTHERS}
    for (name, _, _), rows in zip(planned, bar(each(_rows_of_others, planned), "others", len(planned), unit="exam")):
        others[name] += rows
    verdicts: dict[str, str | None] = {}
    if found:
        every = list(cases.stems())
        for own in bar(each(wrong.verdicts, every), "wrong optimizers", len(every), unit="algorithm"):
            verdicts |= own
    judged = {name: judge for name, judge in OTHERS.items() if others[name]}
    parts = [(name, first) for name, judge in judged.items() for first in range(0, len(judge.mutants()), _PART)]
    for own in bar(each(_verdicts_of_others, parts), "wrong others", len(parts), unit="part"):
        verdicts |= own
    rejected = {name: reason for name, reason in verdicts.items() if reason is not None}
    survivors = [name for name, reason in verdicts.items() if reason is None]
    chosen = {id(module) for module, _, _ in suite.plan(pattern)}
    stems = [stem for stem, module in cases.stems().items() if id(module) in chosen]
    automatic = score(stems, each=each, quiet=quiet) if with_automatic and stems else None
    return Outcome(found, others, rejected, survivors, automatic)


def _rows_of_others(work: tuple[str, str, int]) -> list[Any]:
    name, pattern, number = work
    return list(OTHERS[name].rows(pattern, number, number + 1))


def _verdicts_of_others(part: tuple[str, int]) -> dict[str, str | None]:
    """Return why each mutant in a part of another table's is rejected, or None if it survives."""
    name, first = part
    judge, exams = OTHERS[name], _exams_of_others(name)
    return {str(mutant): judge.examine(mutant, exams) for mutant in judge.mutants()[first : first + _PART]}


@cache
def _exams_of_others(name: str) -> Any:
    return OTHERS[name].exams()


def text(outcome: Outcome, *, with_mutants: bool = False) -> str:
    """Return the report for a terminal. Distances are in ulps of the larger of before and after."""
    about = (
        "Errors in ulps of the larger of the exact value and the one before; torch's on the same inputs in brackets."
    )
    head = [_cells(*(group for group, _, _ in _COLUMNS)), _cells(*(name for _, name, _ in _COLUMNS))]
    lines = [about, "", *head, *(_line(row) for row in outcome.rows)]
    bad = [row for row in outcome.rows if row.failures]
    lines += ["", f"{len(outcome.rows) - len(bad)} of {len(outcome.rows)} implementations are within their limits."]
    for row in bad:
        label = f"{row.optimizer}({row.options}) {row.dtype} {row.implementation}"
        lines += [f"  FAILED {label}: {failure}" for failure in row.failures]
    if not outcome.rows:
        lines = []
    for name, found in outcome.others.items():
        if found:
            lines += [*[""] * bool(lines), OTHERS[name].text(found), ""]
    total = len(outcome.rejected) + len(outcome.survivors)
    lines.append(f"{len(outcome.rejected)} of {total} wrong optimizers and schedulers are rejected.")
    if with_mutants:
        lines += [f"  rejected  {name}  [{reason}]" for name, reason in outcome.rejected.items()]
    lines += [f"  SURVIVED  {name}" for name in outcome.survivors]
    if outcome.automatic is not None:
        lines += _automatic(outcome.automatic)
    if find_spec("torch") is None:
        lines.append("torch is not installed: no figures to compare with (pip install 'refoptim[torch]').")
    return "\n".join([*lines, *left_out()])


def _automatic(found: Score) -> list[str]:
    rejected, total = len(found.rejected), len(found.rejected) + len(found.survivors)
    lines = [f"{rejected:,} of {total:,} automatic mutants are rejected: {100 * found.share:.2f} %."]
    if found.complete and found.share < SHARE:
        lines.append(f"  FAILED    at least {100 * SHARE:g} % must be")
    lines += [f"  survived  {name}  [{reason}]" for name, reason in found.survivors.items() if reason]
    lines += [f"  SURVIVED  {name}  [not explained in survivors.py]" for name in found.unexplained]
    return lines + [f"  STALE     {name}  [explained in survivors.py, and does not survive]" for name in found.stale]


def _line(row: Row) -> str:
    ours, torch = row.measured, row.torch
    theirs = (torch.step_mean, torch.median, torch.scaled, torch.worst_state("median")) if torch else ()
    mean, median, largest, state = [f"({x:.3g})" if x >= 0.1 else f"({x:.2f})" for x in theirs] or [""] * 4
    return _cells(
        f"{row.optimizer}({row.options})",
        row.dtype,
        row.implementation,
        f"{ours.step:.3f}",
        f"{ours.step_mean:.3f}",
        mean,
        f"{ours.probe:.2f}",
        f"{ours.worst_state('probe'):.2f}",
        f"{ours.short:.2f}",
        f"{ours.median:.2f}",
        median,
        f"{ours.scaled:.2f}",
        largest,
        f"{ours.worst_state('median'):.2f}",
        state,
        "FAILED" if row.failures else "ok",
    )


def _cells(*texts: str) -> str:
    """Return a line of the table: words to the left, figures to the right."""
    cells = [
        f"{text:{'<' if i < 3 else '>'}{width}.{width}}"
        for i, (text, (*_, width)) in enumerate(zip(texts, _COLUMNS, strict=True))
    ]
    return " ".join(cells).rstrip()


def as_json(outcome: Outcome) -> dict[str, Any]:
    """Return the report as plain data."""
    return {
        "passed": outcome.passed,
        "unit": "ulps of the larger of the value before and after",
        "versions": {
            name: _version(name) for name in ("refoptim", "numpy", "numba", "python-flint", "ml_dtypes", "torch")
        },
        "python": platform.python_version(),
        "machine": platform.machine(),
        "rows": [
            row._asdict() | {"measured": _plain(row.measured), "torch": row.torch and _plain(row.torch)}
            for row in outcome.rows
        ],
        **{name: OTHERS[name].as_json(found) for name, found in outcome.others.items()},
        "mutants": {"rejected": outcome.rejected, "survivors": outcome.survivors},
        "automatic_mutants": outcome.automatic and outcome.automatic._asdict() | {"share": outcome.automatic.share},
    }


def _plain(measured: Measured) -> dict[str, Any]:
    states = {name: _numbers(errors._asdict()) for name, errors in measured.states.items()}
    return _numbers(measured._asdict()) | {"states": states}


def _numbers(errors: dict[str, Any]) -> dict[str, Any]:
    # JSON has no infinity, which is what float16 makes of torch's Adam.
    return {name: error if isinstance(error, dict) or isfinite(error) else None for name, error in errors.items()}


def write_json(outcome: Outcome, path: Path) -> None:
    """Write the report as JSON."""
    path.write_text(json.dumps(as_json(outcome), indent=1) + "\n", encoding="utf-8")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
