"""Draw every scheduler and write the page that shows them: ``python docs/gallery.py``.

The sentence and the formula are the class's own, from its docstring.
"""

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from refoptim import SGD, Parameter, lr_scheduler, plot

HERE = Path(__file__).parent
PICTURES = HERE / "pictures"
LR = 0.1

_INTRO = """# Learning-rate schedulers

Each is drawn for an optimizer whose learning rate is {lr}. In the formulas $e$ is the epoch, `last_epoch`, and
$\\eta_0$ the group's `initial_lr`; the other symbols are explained in the docstrings. Every curve is within 2 ulps of
its formula for 10,000 epochs, stepped or asked for with `scheduler.at(steps)`: the conformance suite measures it.

To draw your own:

```
refoptim plot-schedule "OneCycleLR(max_lr=0.1, total_steps=300)" -o curve.png
```

This page and its pictures are written by `python docs/gallery.py`.
"""


class Entry(NamedTuple):
    """A scheduler's section."""

    spec: str
    formula: str | None = None  # where the docstring has none
    make: Callable[[SGD], Any] | None = None  # where arguments are functions, which a text cannot hold
    steps: int | None = None
    metrics: list[float] | None = None

    @property
    def name(self) -> str:
        """The scheduler's name."""
        return self.spec.partition("(")[0]


def _loss(epochs: int) -> list[float]:
    """Return a loss that gets better and then does not."""
    rng = np.random.default_rng(0)
    return (0.2 + np.exp(-np.arange(epochs) / 8) + rng.normal(0, 0.02, epochs)).round(3).tolist()


ENTRIES = [
    Entry(
        "LambdaLR(lambda epoch: 1 / (1 + epoch) ** 0.5)",
        make=lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda epoch: 1 / (1 + epoch) ** 0.5),
    ),
    Entry(
        "MultiplicativeLR(lambda epoch: 0.9 if epoch % 10 < 5 else 1.0)",
        make=lambda optimizer: lr_scheduler.MultiplicativeLR(optimizer, lambda epoch: 0.9 if epoch % 10 < 5 else 1.0),
    ),
    Entry("StepLR(step_size=20, gamma=0.5)"),
    Entry("MultiStepLR(milestones=[30, 80], gamma=0.1)"),
    Entry("ConstantLR(factor=0.25, total_iters=40)"),
    Entry("LinearLR(start_factor=0.1, total_iters=40)"),
    Entry("ExponentialLR(gamma=0.95)"),
    Entry("PolynomialLR(total_iters=80, power=2.0)"),
    Entry("CosineAnnealingLR(T_max=50, eta_min=0.001)"),
    Entry("CosineAnnealingWarmRestarts(T_0=20, T_mult=2)"),
    Entry("CyclicLR(base_lr=0.01, max_lr=0.1, step_size_up=20, step_size_down=30, mode='triangular2')"),
    Entry("OneCycleLR(max_lr=0.1, total_steps=300)"),
    Entry("SWALR(swa_lr=0.02, anneal_epochs=40)"),
    Entry(
        "ReduceLROnPlateau(factor=0.5, patience=3, cooldown=5)",
        metrics=_loss(80),
    ),
    Entry(
        "SequentialLR([LinearLR(start_factor=0.01, total_iters=10), CosineAnnealingLR(T_max=90)], milestones=[10])",
        steps=100,
    ),
    Entry(
        "ChainedScheduler([LinearLR(start_factor=0.1, total_iters=20), ExponentialLR(gamma=0.97)])",
        formula=r"\eta_e = \eta_0 \prod_i \frac{\eta_e^{(i)}}{\eta_0} \quad\text{for schedulers that multiply}",
        steps=100,
    ),
]


def curve(entry: Entry) -> plot.Curve:
    """Return what is drawn for an entry."""
    if entry.make is not None:
        scheduler = entry.make(SGD([Parameter([0.0])], lr=LR))
        return plot.curve(entry.spec, scheduler, entry.steps or plot.length(scheduler))
    (found,) = plot.curves([entry.spec], lr=LR, steps=entry.steps, metrics=entry.metrics)
    return found


def draw(entry: Entry, folder: Path = PICTURES) -> Path:
    """Draw an entry's picture and return its path."""
    file = folder / f"{entry.name}.svg"
    plot.save([curve(entry)], file)
    return file


def described(name: str) -> tuple[str, str | None]:
    """Return a scheduler's sentence and its formula, in one line, from the docstring."""
    text = inspect.getdoc(plot.SCHEDULERS[name]) or ""
    sentence = " ".join(text.partition("\n\n")[0].replace("``", "`").split())
    formula = re.search(r"^\.\. math::\n((?: +.*\n)+)", text, re.MULTILINE)
    return sentence, formula and " ".join(formula[1].split())


def page() -> str:
    """Return the page."""
    sections = [_INTRO.format(lr=LR)]
    for entry in ENTRIES:
        sentence, formula = described(entry.name)
        sections.append(
            f"## {entry.name}\n\n{sentence}\n\n```math\n{entry.formula or formula}\n```\n\n"
            f"```\n{entry.spec}\n```\n\n![{entry.name}](pictures/{entry.name}.svg)\n"
        )
    return "\n".join(sections)


def main() -> None:
    """Write the page and its pictures."""
    PICTURES.mkdir(exist_ok=True)
    for entry in ENTRIES:
        draw(entry)
    (HERE / "schedulers.md").write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
