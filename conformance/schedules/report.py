"""The report on schedules: a table for people."""

from typing import Any

from refoptim.conformance.schedules.cases import LONG
from refoptim.conformance.schedules.exam import Errors, Row

_COLUMNS = (
    ("", "schedule", 72),
    ("", "epochs", 6),
    ("at()", "worst", 6),
    ("", "mean", 6),
    ("stepped", "worst", 7),
    ("", "mean", 6),
    ("torch", "worst", 10),
    ("", "mean", 10),
    ("saved,", "loaded", 6),
    ("goes", "on", 6),
    ("", "", 6),
)


def text(found: list[Row]) -> str:
    """Return the report for a terminal."""
    about = "Whole schedules: errors in ulps of the larger of the exact value and the one an epoch before."
    lines = [
        about,
        "",
        _cells(*(group for group, _, _ in _COLUMNS)),
        _cells(*(name for _, name, _ in _COLUMNS)),
        *map(_line, found),
    ]
    bad = [row for row in found if row.failures]
    lines += ["", f"{len(found) - len(bad)} of {len(found)} schedules are within their limits."]
    lines += [f"  FAILED {row.case}: {failure}" for row in bad for failure in row.failures]
    long = [row for row in found if row.case.epochs == LONG]
    if long:
        drift = max(row.measured.stepped.worst for row in long)
        theirs = [row.torch.worst for row in long if row.torch is not None]
        beside = f" (torch: {max(theirs):.4g} ulp)" if theirs else ""
        lines.append(f"Over {LONG:,} epochs stepping drifts by at most {drift:.3g} ulp{beside}.")
    return "\n".join(lines)


def as_json(found: list[Row]) -> list[dict[str, Any]]:
    """Return the report as plain data."""
    return [
        {
            "schedule": str(row.case),
            "epochs": row.case.epochs,
            "measured": {way: _plain(errors) for way, errors in row.measured._asdict().items()},
            "torch": _plain(row.torch),
            "failures": row.failures,
        }
        for row in found
    ]


def _plain(errors: Errors | None) -> dict[str, float] | None:
    return None if errors is None else errors._asdict()


def _line(row: Row) -> str:
    closed, stepped, resumed, continued = row.measured
    return _cells(
        str(row.case),
        str(row.case.epochs),
        *_figures(closed, "{:.3f}"),
        *_figures(stepped, "{:.3f}"),
        *_figures(row.torch, "({:.3g})"),
        _figures(resumed, "{:.3f}")[0],
        _figures(continued, "{:.3f}")[0],
        "FAILED" if row.failures else "ok",
    )


def _figures(errors: Errors | None, form: str) -> list[str]:
    return ["", ""] if errors is None else [form.format(figure) for figure in errors]


def _cells(first: str, *others: str) -> str:
    """Return a line of the table: words to the left, figures to the right."""
    cells = [f"{text:>{width}.{width}}" for text, (*_, width) in zip(others, _COLUMNS[1:], strict=True)]
    width = _COLUMNS[0][2]
    return " ".join([f"{first if len(first) <= width else first[: width - 3] + '...':{width}}", *cells]).rstrip()
