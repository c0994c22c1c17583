"""The command line: ``refoptim conformance`` and ``refoptim plot-schedule``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 all is well, 1 something failed, 2 it could not be run."""
    parser = argparse.ArgumentParser(prog="refoptim", description="torch.optim without torch, and the proof.")
    commands = parser.add_subparsers(dest="command", required=True)
    conformance = commands.add_parser(
        "conformance",
        help="measure every optimizer against its formula in exact arithmetic",
        description="Measure every optimizer, option set, dtype and implementation against the documented formula in "
        "exact arithmetic, with torch's figures beside them where it is installed, and put wrong optimizers to the "
        "same exam. The exit code is 1 if a limit is exceeded or a wrong optimizer is not rejected.",
    )
    conformance.add_argument("--filter", default="", metavar="TEXT", help="only rows that contain this, e.g. AdamW")
    conformance.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured there too")
    conformance.add_argument(
        "--mutants",
        action="store_true",
        help="list what gave each wrong optimizer away, and judge some thousand more that are made automatically",
    )
    conformance.add_argument("--quiet", action="store_true", help="no progress bar")
    _add_plot_schedule(commands)
    options = parser.parse_args(arguments)
    return _plot_schedule(options) if options.command == "plot-schedule" else _conformance(options)


def _conformance(options: argparse.Namespace) -> int:
    try:
        from refoptim.conformance import report  # noqa: PLC0415  needs an extra, and seconds
    except ModuleNotFoundError as error:
        if error.name not in ("flint", "tqdm"):
            raise
        print(f"refoptim conformance needs {error.name}: pip install 'refoptim[conformance]'", file=sys.stderr)
        return 2
    if options.json is not None and not options.json.parent.is_dir():
        print(f"--json {options.json}: there is no folder {options.json.parent}", file=sys.stderr)
        return 2
    if report.is_empty(options.filter):
        print(f"--filter {options.filter!r} matches nothing; try AdamW, float64 or StepLR", file=sys.stderr)
        return 2
    outcome = report.run(options.filter, quiet=options.quiet, with_automatic=options.mutants)
    print(report.text(outcome, with_mutants=options.mutants))
    if options.json is not None:
        report.write_json(outcome, options.json)
    return 0 if outcome.passed else 1


def _add_plot_schedule(commands: Any) -> None:
    plot = commands.add_parser(
        "plot-schedule",
        help="draw the curves of learning-rate schedulers",
        description="Draw the curves of learning-rate schedulers into one picture, the momentum below where it is "
        "cycled. The exit code is 2 if a scheduler cannot be built or the picture cannot be written.",
    )
    plot.add_argument(
        "specs",
        nargs="+",
        metavar="SPEC",
        help="a scheduler without its optimizer, e.g. 'OneCycleLR(max_lr=0.1, total_steps=300)' or "
        "'SequentialLR([LinearLR(total_iters=10), CosineAnnealingLR(T_max=90)], milestones=[10])'",
    )
    plot.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("schedule.png"),
        metavar="FILE",
        help="default: schedule.png; or .svg, .pdf",
    )
    plot.add_argument("--steps", type=int, metavar="N", help="the last step; default: enough to see all of each curve")
    plot.add_argument("--lr", type=float, default=0.1, help="the optimizer's learning rate (default: 0.1)")
    plot.add_argument("--log", action="store_true", help="a logarithmic axis for the learning rate")
    plot.add_argument("--metrics", type=_numbers, metavar="X,X,...", help="each epoch's metric, for ReduceLROnPlateau")


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def _plot_schedule(options: argparse.Namespace) -> int:
    from refoptim import plot  # noqa: PLC0415  only this command needs it

    file: Path = options.output
    if not file.parent.is_dir():
        print(f"-o {file}: there is no folder {file.parent}", file=sys.stderr)
        return 2
    try:
        found = plot.curves(options.specs, lr=options.lr, steps=options.steps, metrics=options.metrics)
        plot.save(found, file, log=options.log)
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        print("refoptim plot-schedule needs matplotlib: pip install 'refoptim[plot]'", file=sys.stderr)
    except (ValueError, OSError) as error:
        print(f"refoptim plot-schedule: {' '.join(str(error).split())}", file=sys.stderr)
    else:
        print(file)
        return 0
    return 2
