"""The report of ``refoptim conformance``: a table for people and a JSON file for programs."""

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from refoptim.conformance import mutants as wrong
from refoptim.conformance import suite
from refoptim.conformance.suite import Row

_GROUPS = ("", "", "", "1 step", "", "", "probe", "9 steps", "1,000", "steps", "", "", "")
_HEAD = ("optimizer and options", "dtype", "computed by", "worst", "mean", "torch", "worst", "worst", "median", "torch")
_HEAD += ("scaled", "torch", "")
_WIDTHS = (50, 11, 12, 7, 7, 7, 7, 9, 8, 8, 8, 8, 7)


class Outcome(NamedTuple):
    """Everything that a run of the suite found."""

    rows: list[Row]
    rejected: dict[str, str]  # mutants, and what gave each away
    survivors: list[str]

    @property
    def passed(self) -> bool:
        """Whether every implementation is within its limits and every mutant is rejected."""
        return not self.survivors and not any(row.failures for row in self.rows)


def run(pattern: str = "", *, quiet: bool = False) -> Outcome:
    """Run the suite: the exams whose description contains the pattern, then the mutants."""
    found: list[Row] = []
    for module, case, dtype in tqdm(
        suite.plan(pattern), desc="implementations", unit="exam", disable=quiet, leave=False
    ):
        found += suite.rows(module, case, dtype)
    rejected: dict[str, str] = {}
    survivors: list[str] = []
    exams = wrong.exams()
    for mutant in tqdm(wrong.mutants(), desc="mutants", unit="mutant", disable=quiet, leave=False):
        name = f"{mutant.optimizer or mutant.stem}: {mutant.name}"
        reason = wrong.examine(mutant, exams)
        if reason is None:
            survivors.append(name)
        else:
            rejected[name] = reason
    return Outcome(found, rejected, survivors)


def text(outcome: Outcome, *, with_mutants: bool = False) -> str:
    """Return the report for a terminal. Distances are in ulps of the larger of before and after."""
    about = (
        "Errors in ulps of the larger of the exact value and the one before; torch's on the same inputs in brackets."
    )
    lines = [about, "", _cells(_GROUPS), _cells(_HEAD), *(_line(row) for row in outcome.rows)]
    bad = [row for row in outcome.rows if row.failures]
    lines += ["", f"{len(outcome.rows) - len(bad)} of {len(outcome.rows)} implementations are within their limits."]
    for row in bad:
        label = f"{row.optimizer}({row.options}) {row.dtype} {row.implementation}"
        lines += [f"  FAILED {label}: {failure}" for failure in row.failures]
    total = len(outcome.rejected) + len(outcome.survivors)
    lines.append(f"{len(outcome.rejected)} of {total} wrong optimizers are rejected.")
    if with_mutants:
        lines += [f"  rejected  {name}  [{reason}]" for name, reason in outcome.rejected.items()]
    lines += [f"  SURVIVED  {name}" for name in outcome.survivors]
    if outcome.rows and outcome.rows[0].torch is None:
        lines.append("torch is not installed: no figures to compare with (pip install 'refoptim[torch]').")
    return "\n".join(lines)


def _line(row: Row) -> str:
    ours, torch = row.measured, row.torch
    beside = ["", "", ""] if torch is None else [f"({x:.3g})" for x in (torch.step_mean, torch.median, torch.scaled)]
    return _cells(
        (
            f"{row.optimizer}({row.options})",
            row.dtype,
            row.implementation,
            f"{ours.step:.3f}",
            f"{ours.step_mean:.3f}",
            beside[0],
            f"{ours.probe:.2f}",
            f"{ours.short:.2f}",
            f"{ours.median:.2f}",
            beside[1],
            f"{ours.scaled:.2f}",
            beside[2],
            "FAILED" if row.failures else "ok",
        )
    )


def _cells(texts: tuple[str, ...]) -> str:
    """Return a line of the table: words to the left, figures to the right."""
    cells = [
        f"{text:{'<' if i < 3 else '>'}{width}.{width}}"
        for i, (text, width) in enumerate(zip(texts, _WIDTHS, strict=True))
    ]
    return " ".join(cells).rstrip()


def as_json(outcome: Outcome) -> dict[str, Any]:
    """Return the report as plain data."""
    return {
        "passed": outcome.passed,
        "unit": "ulps of the larger of the value before and after",
        "versions": {name: _version(name) for name in ("refoptim", "numpy", "numba", "python-flint", "torch")},
        "python": platform.python_version(),
        "machine": platform.machine(),
        "rows": [
            row._asdict()
            | {"measured": row.measured._asdict(), "torch": None if row.torch is None else row.torch._asdict()}
            for row in outcome.rows
        ],
        "mutants": {"rejected": outcome.rejected, "survivors": outcome.survivors},
    }


def write_json(outcome: Outcome, path: Path) -> None:
    """Write the report as JSON."""
    path.write_text(json.dumps(as_json(outcome), indent=1) + "\n", encoding="utf-8")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
