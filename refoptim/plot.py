"""Pictures of schedules: from a text such as ``OneCycleLR(max_lr=0.1, total_steps=300)`` to curves, and to a file."""

import ast
from collections.abc import Sequence
from io import BytesIO
from math import inf
from pathlib import Path
from textwrap import fill
from typing import Any, NamedTuple
from warnings import catch_warnings, simplefilter

import numpy as np

from . import lr_scheduler
from .optimizer import Optimizer
from .parameter import Parameter
from .swa_utils import SWALR

LONGEST = 1_000_000  # epochs; a curve is stepped through
LABEL = 95  # characters in a line of the legend
LARGEST = 1e300  # of what is drawn: axes reach further than their numbers
POINTS = 2_000  # of a curve that are drawn, if it is longer
PLATEAU = "ReduceLROnPlateau"
SCHEDULERS: dict[str, Any] = {
    name: kind for name, kind in vars(lr_scheduler).items() if isinstance(kind, type) and name != "LRScheduler"
} | {"SWALR": SWALR}


class SpecError(ValueError):
    """A text does not describe a scheduler, or not one that can be drawn."""


class Spec(NamedTuple):
    """A scheduler as a text describes it. A list of specs may be among the arguments."""

    text: str
    name: str
    positional: list[Any]
    named: dict[str, Any]


class Curve(NamedTuple):
    """What an optimizer gets from a schedule, epoch by epoch."""

    label: str
    lrs: list[float]
    momentums: list[float] | None  # None if the schedule leaves it alone


def parse(text: str) -> Spec:
    """Return what a text describes. Nothing in it is executed.

    Args:
        text: a scheduler's name and its arguments but the optimizer. Arguments are literals, and lists of schedulers.

    Raises:
        SpecError: it is something else.

    >>> parse("StepLR(30, gamma=0.5)").named
    {'gamma': 0.5}

    """
    text = " ".join(text.split())
    try:
        return _spec(ast.parse(text, mode="eval").body, text)
    except (SyntaxError, RecursionError, MemoryError):
        raise SpecError(f"{text!r} is not of the form Name(argument=value, ...)") from None


def _spec(node: ast.expr, text: str) -> Spec:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise SpecError(f"{text!r} is not of the form Name(argument=value, ...)")
    if node.func.id not in SCHEDULERS:
        raise SpecError(f"{node.func.id} is not a scheduler; there are {', '.join(sorted(SCHEDULERS))}")
    named = {}
    for keyword in node.keywords:
        if keyword.arg is None:
            raise SpecError(f"{text!r}: write every argument as name=value, not **")
        named[keyword.arg] = _value(keyword.value, text)
    return Spec(text, node.func.id, [_value(argument, text) for argument in node.args], named)


def _value(node: ast.expr, text: str) -> Any:
    if isinstance(node, ast.Call):
        return _spec(node, text)
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(item, text) for item in node.elts]
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError):
        written = ast.unparse(node)
    if isinstance(node, ast.Lambda):
        raise SpecError(f"{written}: functions cannot be given on the command line; draw it from Python")
    raise SpecError(f"{written}: arguments must be numbers, strings, True, False, None, or lists of these")


def build(spec: Spec, optimizer: Optimizer) -> Any:
    """Return the scheduler that was described.

    Raises:
        SpecError: its class does not take these arguments.

    """

    def built(value: Any) -> Any:
        if isinstance(value, list):
            return [built(item) for item in value]
        return build(value, optimizer) if isinstance(value, Spec) else value

    given = [] if spec.name == "ChainedScheduler" else [optimizer]
    try:
        return SCHEDULERS[spec.name](
            *given, *map(built, spec.positional), **{name: built(value) for name, value in spec.named.items()}
        )
    except SpecError:
        raise
    except (TypeError, ValueError, KeyError, ArithmeticError, AttributeError) as error:
        raise SpecError(f"{spec.name}: {error.args[0] if error.args else error}") from error


def curves(
    texts: Sequence[str], *, lr: float = 0.1, steps: int | None = None, metrics: Sequence[float] | None = None
) -> list[Curve]:
    """Return the curves of the schedulers that the texts describe.

    Args:
        texts: as of ``parse``.
        lr: the learning rate that the optimizer is built with (default: 0.1).
        steps: the last epoch; None is long enough to see the whole of each (default: None).
        metrics: the epochs' metrics, for ReduceLROnPlateau (default: None).

    Raises:
        SpecError: a text does not describe a scheduler, there are no metrics for one, or steps is out of range.

    """
    if steps is not None and not 1 <= steps <= LONGEST:
        raise SpecError(f"the number of steps must be from 1 to {LONGEST:,}, but is {steps}")
    specs = [parse(text) for text in texts]
    schedulers = [build(spec, _optimizer(lr)) for spec in specs]
    if metrics is None and any(map(_is_plateau, schedulers)):
        raise SpecError(f"{PLATEAU} depends on metrics: give them with --metrics 0.9,0.7,0.71,...")
    last = steps or max(len(metrics or ()) if _is_plateau(s) else length(s) for s in schedulers)
    return [curve(spec.text, scheduler, last, metrics) for spec, scheduler in zip(specs, schedulers, strict=True)]


def curve(label: str, scheduler: Any, steps: int, metrics: Sequence[float] | None = None) -> Curve:
    """Return the curve of a scheduler that has just been built, whose optimizer has one group, up to its end."""
    (group,) = scheduler.optimizer.param_groups
    lrs, momentums = [float(group["lr"])], [group.get("momentum")]
    epochs = range(int(min(steps, _end(scheduler), len(metrics or ()) if _is_plateau(scheduler) else inf)))
    with catch_warnings():
        simplefilter("ignore", UserWarning)  # this optimizer never steps
        for epoch in epochs:
            try:
                scheduler.step(*([metrics[epoch]] if _is_plateau(scheduler) and metrics is not None else []))
            except (ValueError, ArithmeticError) as error:
                raise SpecError(f"{label}: {error}") from error
            lrs.append(float(group["lr"]))
            momentums.append(group.get("momentum"))
    for epoch, values in enumerate(zip(lrs, momentums, strict=True)):
        for value in values:
            if value is not None and not abs(value) <= LARGEST:
                raise SpecError(f"{label}: {value} at step {epoch} cannot be drawn, beyond {LARGEST}")
    return Curve(label, lrs, momentums if len(set(momentums)) > 1 else None)


def _optimizer(lr: float) -> Optimizer:
    """Return an optimizer that never steps."""
    if not 0 <= lr < inf:
        raise SpecError(f"the learning rate must be a finite number, at least 0, but is {lr}")
    return Optimizer([Parameter([0.0])], {"lr": lr, "momentum": 0.9})


def _is_plateau(scheduler: Any) -> bool:
    return isinstance(scheduler, SCHEDULERS[PLATEAU])


# After how many epochs all that a schedule does has been seen, by an attribute that tells.
_LENGTHS: dict[str, Any] = {
    "total_steps": lambda s: s.total_steps - 1,
    "step_size": lambda s: 5 * s.step_size - 1,
    "milestones": lambda s: 1.25 * max(s.milestones, default=0),
    "total_iters": lambda s: 1.25 * s.total_iters,
    "T_max": lambda s: 2 * s.T_max,
    "T_0": lambda s: s.T_0 * (1 + s.T_mult + s.T_mult**2) - 1,
    "step_size_up": lambda s: 3 * (s.step_size_up + s.step_size_down),
    "anneal_epochs": lambda s: 1.25 * s.anneal_epochs,
    "_milestones": lambda s: (
        s._milestones[-1] + length(s._schedulers[-1]) if s._milestones else length(s._schedulers[0])
    ),
    "_schedulers": lambda s: max(map(length, s._schedulers)),
}


def length(scheduler: Any) -> int:
    """Return for how many epochs a schedule should be drawn, at most LONGEST: 100 where nothing tells."""
    found = next((tell(scheduler) for name, tell in _LENGTHS.items() if hasattr(scheduler, name)), 100)
    return int(min(max(found, 1), LONGEST))


def _end(scheduler: Any) -> float:
    """Return the last epoch that a schedule has."""
    if hasattr(scheduler, "_milestones"):
        return sum(scheduler._milestones[-1:]) + _end(scheduler._schedulers[-1])
    if hasattr(scheduler, "_schedulers"):
        return min(map(_end, scheduler._schedulers))
    return getattr(scheduler, "total_steps", inf) - 1


def save(found: Sequence[Curve], file: Path, *, log: bool = False) -> None:
    """Draw curves into a file, whose ending chooses the format. The same curves give the same file.

    Args:
        found: the curves; those of the momentum get a panel of their own.
        file: where the picture goes, as PNG if its name has no ending. What was there is overwritten.
        log: whether the learning rates' axis is logarithmic (default: False).

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        ValueError: matplotlib does not know the format. Nothing is written then.

    """
    from matplotlib import rc_context  # noqa: PLC0415  needs an extra
    from matplotlib.figure import Figure  # noqa: PLC0415

    picture = BytesIO()
    kind = file.suffix.lstrip(".").lower() or "png"
    with rc_context({"svg.hashsalt": "refoptim", "svg.fonttype": "none", "font.size": 9}):
        panels = 1 + any(each.momentums is not None for each in found)
        figure = Figure(figsize=(6.4, 2.2 + 1.4 * panels), layout="constrained")
        axes = figure.subplots(panels, squeeze=False, sharex=True, height_ratios=(2, 1)[:panels]).ravel().tolist()
        _draw(axes, found, log=log)
        title = "\n".join(each.label for each in found)
        about = {"svg": {"Title": title, "Date": None, "Creator": None}, "pdf": {"Title": title, "CreationDate": None}}
        figure.savefig(picture, format=kind, dpi=120, metadata=about.get(kind, {"Title": title}))
    file.write_bytes(picture.getvalue())


def _draw(axes: list[Any], found: Sequence[Curve], *, log: bool) -> None:
    for each in found:
        epochs = np.unique(np.linspace(0, len(each.lrs) - 1, min(len(each.lrs), POINTS)).astype(int))
        (line,) = axes[0].plot(epochs, np.array(each.lrs)[epochs], label=fill(each.label, LABEL))
        if each.momentums is not None:
            axes[1].plot(epochs, np.array(each.momentums)[epochs], color=line.get_color())
    axes[0].set_ylabel("learning rate")
    axes[-1].set_xlabel("step")
    if log and any(lr > 0 for each in found for lr in each.lrs):
        axes[0].set_yscale("log", nonpositive="mask")
    if len(axes) > 1:
        axes[1].set_ylabel("momentum")
    for panel in axes:
        panel.grid(alpha=0.3)
    legend = axes[0].figure.legend(loc="outside upper left", frameon=False, fontsize="small")
    for label in legend.get_texts():
        label.set_parse_math(False)
