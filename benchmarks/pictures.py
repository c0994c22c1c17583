"""Pictures of the comparison: a panel for each optimizer, a line for each contender."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

COLUMNS = 4
# Colors that differ for everyone, and markers that differ in print.
STYLES: dict[str, dict[str, Any]] = {
    "refoptim": {"color": "#0072b2", "marker": "o", "linewidth": 2.0, "zorder": 3},
    "refoptim float64": {"color": "#56b4e9", "marker": "o", "zorder": 3},
    "optax": {"color": "#009e73", "marker": "s"},
    "torch for-loop": {"color": "#e69f00", "marker": "v"},
    "torch foreach": {"color": "#d55e00", "marker": "^"},
    "torch fused": {"color": "#a11b00", "marker": "D"},
    "thinc": {"color": "#cc79a7", "marker": "P"},
    "scikit-learn": {"color": "#b8a800", "marker": "X"},
    "NumPy": {"color": "#999999", "marker": "*"},
    "mover": {"color": "black", "linestyle": ":"},
}

Point = Callable[[dict[str, Any], str], float]


def seconds(row: dict[str, Any], name: str) -> float:
    """Return a contender's median, or the mover's."""
    return row["mover"][1] if name == "mover" else row["contenders"][name]["seconds"][1]


def per_element(row: dict[str, Any], name: str) -> float:
    """Return the nanoseconds of one element."""
    return 1e9 * seconds(row, name) / (row["tensors"] * row["elements"])


def microseconds(row: dict[str, Any], name: str) -> float:
    """Return the microseconds of a step."""
    return 1e6 * seconds(row, name)


def share(row: dict[str, Any], name: str) -> float:
    """Return what part of the mover's speed a contender has."""
    return 1.0 if name == "mover" else 1 / row["contenders"][name]["to_mover"][1]


def draw(
    file: Path, rows: list[dict[str, Any]], along: str, point: Point, labels: tuple[str, str], *, log: bool
) -> None:
    """Draw the cases of one type along their elements or their tensors, and write an SVG file."""
    names = list(dict.fromkeys(row["optimizer"] for row in rows))
    columns = min(COLUMNS, len(names))
    lines = -(-len(names) // columns)
    with rc_context({"svg.hashsalt": "refoptim", "svg.fonttype": "none", "font.size": 8}):
        figure = Figure(figsize=(1.2 + 2.3 * columns, 0.9 + 1.9 * lines), layout="constrained")
        axes = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).ravel().tolist()
        handles: dict[str, Any] = {}
        for ax, name in zip(axes, names, strict=False):
            handles |= panel(ax, [row for row in rows if row["optimizer"] == name], along, point)
            ax.set(title=name, xscale="log", yscale="log" if log else "linear")
            ax.minorticks_off()
            ax.grid(visible=True, color="0.9")
        for ax in axes[len(names) :]:
            ax.set_visible(False)
        figure.supxlabel(labels[0])
        figure.supylabel(labels[1])
        known = [name for name in STYLES if name in handles]
        figure.legend(
            [handles[name] for name in known], known, loc="outside upper center", ncols=columns + 1, frameon=False
        )
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, format="svg", metadata={"Title": labels[1], "Date": None, "Creator": None})


def panel(ax: Any, rows: list[dict[str, Any]], along: str, point: Point) -> dict[str, Any]:
    """Draw one optimizer's lines; return them by contender."""
    rows = sorted((row for row in rows if row["mover"]), key=lambda row: row[along])
    drawn = {}
    for name, style in STYLES.items():
        there = [row for row in rows if name == "mover" or name in row["contenders"]]
        if there:
            places, values = [row[along] for row in there], [point(row, name) for row in there]
            (drawn[name],) = ax.plot(places, values, **({"linewidth": 1.0, "markersize": 3} | style))
    return drawn
