"""Tables and pictures of what ``compare.py`` measured.

``python benchmarks/report.py`` reads ``benchmarks/results/comparison.json`` and writes every figure to
``comparison.md`` beside it, three pictures to ``docs/pictures``, and the part of ``docs/performance.md`` that stands
between two markers.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from jsonschema import validate
from timing import duration

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
SCHEMA = json.loads((HERE / "comparison.schema.json").read_text(encoding="utf-8"))
BEGIN, END = "<!-- comparison: written by benchmarks/report.py -->", "<!-- end of comparison -->"
OURS = ("refoptim", "refoptim float64")
# What part of the median may lie between the quartiles of a figure that is to be trusted.
NOISE = 0.25
# Of many tensors, the size that is shown.
ELEMENTS = 1_000


def load(path: Path) -> dict[str, Any]:
    """Return what was measured; raise where the file is not of this form."""
    found = json.loads(path.read_text(encoding="utf-8"))
    validate(found, SCHEMA)
    return found


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """Return a table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def contenders(rows: list[dict[str, Any]]) -> list[str]:
    """Return who takes part in any of these cases: refoptim, then the others, in the order in which they appear."""
    names = dict.fromkeys(name for row in rows for name in row["contenders"])
    return sorted(names, key=lambda name: (name not in OURS, list(names).index(name)))


def best_other(row: dict[str, Any]) -> str | None:
    """Return the fastest of the others."""
    times = {name: found["seconds"][1] for name, found in row["contenders"].items() if name not in OURS}
    return min(times, key=lambda name: times[name], default=None)


def times_cell(row: dict[str, Any], name: str, *, spread: bool = False) -> str:
    """Return a contender's median; the fastest of all is bold, a noisy one has a tilde. On request with quartiles."""
    if name not in row["contenders"]:
        return "left out" if name in row["left_out"] else ""
    low, median, high = row["contenders"][name]["seconds"]
    text = duration(median)
    if high - low > NOISE * median:
        text = f"~{text}"
    if median == min(found["seconds"][1] for found in row["contenders"].values()):
        text = f"**{text}**"
    return f"{text} ({duration(low)} - {duration(high)})" if spread else text


def ratio_cell(row: dict[str, Any], name: str) -> str:
    """Return a contender's ratio to the mover, with its quartiles."""
    if name not in row["contenders"]:
        return ""
    low, median, high = row["contenders"][name]["to_mover"]
    return f"{median:.2f} ({low:.2f}-{high:.2f})"


def table(rows: list[dict[str, Any]]) -> str:
    """Return a line for each optimizer, at one shape and type."""
    names, lines = contenders(rows), []
    for row in rows:
        other = best_other(row)
        ahead = ""
        if other and "refoptim" in row["contenders"]:
            ahead = f"{row['contenders'][other]['seconds'][1] / row['contenders']['refoptim']['seconds'][1]:.3g} x"
        mover = duration(row["mover"][1]) if row["mover"] else "too large"
        cells = [times_cell(row, name) for name in names]
        lines.append([row["optimizer"], *cells, mover, ratio_cell(row, "refoptim"), ahead])
    return markdown(["one step", *names, "mover", "refoptim to it", "ahead of the best other"], lines)


def shapes(found: dict[str, Any]) -> list[tuple[str, int, int]]:
    """Return which types and shapes the page shows: one tensor, small, middle and large; and many."""
    rows = [row for row in found["rows"] if row["contenders"]]
    chosen = []
    for dtype in sorted({row["dtype"] for row in rows}):
        there = {(row["tensors"], row["elements"]) for row in rows if row["dtype"] == dtype}
        single = sorted(elements for tensors, elements in there if tensors == 1)
        middle = [elements for elements in (ELEMENTS, 1_000_000) if elements in single]
        many = sorted(tensors for tensors, elements in there if tensors > 1 and elements == ELEMENTS)
        chosen += [(dtype, 1, elements) for elements in sorted({*middle, *single[-1:]})]
        chosen += [(dtype, tensors, ELEMENTS) for tensors in many]
    return chosen


def at(found: dict[str, Any], dtype: str, tensors: int, elements: int) -> list[dict[str, Any]]:
    """Return the cases of one type and shape. A square matrix has a few elements less than were asked for."""
    rows = [row for row in found["rows"] if (row["dtype"], row["tensors"]) == (dtype, tensors)]
    return [row for row in rows if 0.9 * elements <= row["elements"] <= elements]


def about(found: dict[str, Any]) -> str:
    """Return where the figures come from, in a few sentences."""
    machine, settings = found["machine"], found["settings"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["packages"].items() if version)
    caches = ", ".join(f"{name} {size}" for name, size in machine["caches"].items())
    threads = ", ".join(f"{name} {count}" for name, count in settings["threads"].items())
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores ({caches}), {machine['memory_gib']} GiB, {machine['system']}.",
        f"Python {machine['python']}, {versions}. {machine['date'][:10]}.",
        f"Threads: {threads}.",
        f"A tilde says that the quartiles are further apart than {NOISE:.0%} of the median: that figure is weak.",
        *(f"{name} took no part: {why}." for name, why in settings["absent"].items()),
    ]
    return "\n".join(lines)


def pictures(found: dict[str, Any], folder: Path, dtype: str) -> list[tuple[Path, str]]:
    """Draw what there is to draw; return files and what they show."""
    from pictures import draw, microseconds, per_element, share  # noqa: PLC0415  needs an extra

    rows = [row for row in found["rows"] if row["dtype"] == dtype and row["mover"]]
    single = [row for row in rows if row["tensors"] == 1]
    many = [row for row in rows if 0.9 * ELEMENTS <= row["elements"] <= ELEMENTS]
    drawn = []
    for name, cases, along, point, labels, log in (
        ("steps", single, "elements", per_element, ("elements of one tensor", "ns for each element"), True),
        ("limit", single, "elements", share, ("elements of one tensor", "speed, as a part of the mover's"), False),
        ("tensors", many, "tensors", microseconds, (f"tensors of {ELEMENTS:,} elements", "us for a step"), True),
    ):
        if len({row[along] for row in cases}) > 1:
            draw(folder / f"{name}.svg", cases, along, point, labels, log=log)
            drawn.append((folder / f"{name}.svg", f"{labels[1]} against {labels[0]}, {dtype}"))
    return drawn


def section(found: dict[str, Any], drawn: list[tuple[Path, str]]) -> str:
    """Return the part of the page that stands between the markers."""
    parts = [about(found), *(f"![{text}](pictures/{file.name})" for file, text in drawn)]
    for dtype, tensors, elements in shapes(found):
        parts += [f"### {dtype}, {tensors:,} x {elements:,}", table(at(found, dtype, tensors, elements))]
    return "\n\n".join(parts)


def everything(found: dict[str, Any]) -> str:
    """Return a page with every figure."""
    rows = found["rows"]
    names = contenders(rows)
    lines = []
    for row in rows:
        shape = f"{row['optimizer']}, {row['dtype']}, {row['tensors']:,} x {row['elements']:,}"
        mover = duration(row["mover"][1]) if row["mover"] else "; ".join(row["left_out"].values())
        lines.append([shape, mover, *(times_cell(row, name, spread=True) for name in names)])
    why = sorted({f"- {name}, {row['optimizer']}: {text}" for row in rows for name, text in row["left_out"].items()})
    parts = ["# The comparison, every figure", about(found), "Median (quartiles) of one step."]
    parts += [markdown(["case", "mover", *names], lines), *(["Left out:", "\n".join(why)] if why else [])]
    return "\n\n".join(parts) + "\n"


def inserted(page: str, text: str) -> str:
    """Return a page with this text between the markers, in place of what stood there."""
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise ValueError(f"the page must have {BEGIN!r} and, after it, {END!r}, each once")
    return f"{page[: page.index(BEGIN)]}{BEGIN}\n\n{text}\n\n{page[page.index(END) :]}"


def main(argv: list[str] | None = None) -> None:
    """Write tables, pictures and page."""
    parser = argparse.ArgumentParser(description="Make tables and pictures of what compare.py measured.")
    parser.add_argument("results", nargs="?", type=Path, default=HERE / "results/comparison.json")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="of the pictures")
    parser.add_argument("--page", type=Path, default=DOCS / "performance.md", help="the page with the markers")
    options = parser.parse_args(argv)
    found = load(options.results)
    table_file = options.results.with_suffix(".md")
    table_file.write_text(everything(found), encoding="utf-8")
    drawn = pictures(found, options.page.parent / "pictures", options.dtype)
    page = inserted(options.page.read_text(encoding="utf-8"), section(found, drawn))
    options.page.write_text(page, encoding="utf-8")
    for file in (table_file, options.page, *(file for file, _ in drawn)):
        print(file)


if __name__ == "__main__":
    main()
