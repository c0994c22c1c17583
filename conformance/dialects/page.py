"""The page of dialects for the documentation, made of ``dialects.toml``."""

from collections.abc import Iterator

from refoptim.conformance.dialects import axes, explain
from refoptim.conformance.dialects.axes import Axis, Library

HEAD = """# Dialects

Optimizers of the same name compute different things. Each section below is one question on which documented libraries
part: who answers it how, where to read that, and how to take hyperparameters from one to the other. Made from
`conformance/dialects/dialects.toml` by `refoptim explain --page docs/dialects.md`; a test keeps it up to date.

`refoptim explain keras.Adam torch.Adam` prints the difference between two libraries. Where `refoptim check` finds an
answer wrong, it searches all of these values, and the mistakes at the end, for what would make it right.
`refoptim.Adam(params, dialect="keras")` computes what Keras does, and so do SGD, AdamW, RMSprop, Adagrad, Adamax and
NAdam: each docstring says which dialects its class has.
"""

MISTAKES = """## Mistakes that are searched too

Of trajectories: the update, the gradient or the learning rate of another step; gradients that are not cleared; missing
gradients taken for zeros; groups that share options or a learning rate; steps counted from 0, from 2 or for all
parameters together; `maximize` or any other option ignored; weight decay with the wrong sign; swapped betas; epsilon
squared, or left out; of sparse gradients, rows taken for zeros, or repeated ones not summed; state kept in bfloat16 or
float16. Of schedules: an epoch late or early, constant, or rounded to float32.
"""


def text() -> str:
    """Return the page."""
    return "\n".join([HEAD, *_axes(), *_defaults(), MISTAKES])


def _axes() -> Iterator[str]:
    for number in sorted({axis.number for axis in axes.every()}):
        for axis in axes.every():
            if axis.number == number:
                yield from _axis(axis)


def _axis(axis: Axis) -> Iterator[str]:
    yield f"## D{axis.number}. {axis.title}\n"
    yield f"Of {', '.join(axis.optimizers)}.\n"
    yield "| value | formula | who | source |\n|---|---|---|---|"
    for value in axis.values:
        who = ", ".join(dict.fromkeys(map(_who, value.libraries))) or "nobody: a mistake"
        source = "<br>".join(map(_source, value.libraries))
        yield f"| `{axis.name}:{value.name}` | {_cell(value.formula)} | {who} | {source} |"
    yield f"\n{axis.recipe}\n"
    told = f"The vector `{axis.vector}` tells them apart." if axis.judged else "No vector tells them apart."
    yield f"{told}\n"


def _who(library: Library) -> str:
    since = f" since {library.since}" if library.since else ""
    return library.name + since + (f" until {library.until}" if library.until else "")


def _source(library: Library) -> str:
    return f"[{library.source}]({library.link})" if library.link else library.source


def _cell(formula: str) -> str:
    return formula.replace("|", "\\|")


def _defaults() -> Iterator[str]:
    yield "## Defaults\n\nUnder torch's names. What a library has no default for is left out.\n"
    yield "| optimizer | library | defaults | axes that are not torch's |\n|---|---|---|---|"
    for optimizer in axes.optimizers():
        dialects = axes.named(optimizer)
        for dialect in dialects:
            defaults = [f"{name}={explain.text(value)}" for name, value in explain.defaults_of(dialect).items()]
            apart = [] if dialect.library == "torch" else _apart(dialect, dialects[0])
            yield f"| {optimizer} | {dialect.library} | {', '.join(defaults)} | {', '.join(apart)} |"
    yield ""


def _apart(dialect: axes.Dialect, torch: axes.Dialect) -> list[str]:
    if torch.library != "torch":
        return [f"{name}:{value}" for name, value in dialect.axes.items()]
    return [f"{axis.name}:{left.name}" for axis, left, _ in explain.differences(dialect, torch)]
