"""``refoptim plot-schedule``: a picture of learning-rate schedulers."""

import argparse
from pathlib import Path
from typing import Any

from refoptim.cli.refusals import RefusedError, check_file, writing


def add(commands: Any) -> None:
    """Add the command."""
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
        help="default: schedule.png; or .svg, .pdf; PNG if the name has no ending",
    )
    plot.add_argument("--steps", type=int, metavar="N", help="the last step; default: enough to see all of each curve")
    plot.add_argument("--lr", type=float, default=0.1, help="the optimizer's learning rate (default: 0.1)")
    plot.add_argument("--log", action="store_true", help="a logarithmic axis for the learning rate")
    plot.add_argument("--metrics", type=_numbers, metavar="X,X,...", help="each epoch's metric, for ReduceLROnPlateau")


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"invalid list of numbers: {text!r}; write 0.9,0.7,0.71,...") from None


def run(options: argparse.Namespace) -> int:
    """Draw the curves."""
    from refoptim import plot

    file: Path = options.output
    check_file("-o", file)
    try:
        found = plot.curves(options.specs, lr=options.lr, steps=options.steps, metrics=options.metrics)
        with writing("-o", file):
            plot.save(found, file, log=options.log)
    except ValueError as error:
        raise RefusedError(" ".join(str(error).split())) from error
    print(file)
    return 0
