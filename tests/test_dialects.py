"""The table of dialects, the page made of it, and what explains two of them."""

from pathlib import Path

import pytest

from refoptim import cli
from refoptim.conformance.dialects import axes, explain, forms, page, separators
from refoptim.conformance.vectors.options import documented

ROOT = Path(__file__).parents[1]
DIALECTS = [dialect for optimizer in axes.optimizers() for dialect in axes.named(optimizer)]


def test_the_24_axes_of_the_facts():
    assert {axis.number for axis in axes.every()} == set(range(1, 25))


def test_ids_are_unique():
    ids = [axis.id for axis in axes.every()]
    assert len(set(ids)) == len(ids)
    for optimizer in axes.optimizers():
        names = [axis.name for axis in axes.of(optimizer)]
        assert len(set(names)) == len(names), optimizer


@pytest.mark.parametrize("axis", axes.every(), ids=lambda axis: axis.id)
def test_an_axis_is_complete(axis):
    assert axis.title
    assert axis.recipe.endswith((".", "!"))
    assert len({value.name for value in axis.values}) == len(axis.values) > 1
    assert any(value.libraries for value in axis.values)
    for value in axis.values:
        assert value.formula
        assert not value.words.endswith(".")
        assert all(library.source for library in value.libraries)
        assert all(library.link.startswith("https://") for library in value.libraries if library.link)
    assert bool(axis.vector) == axis.judged


def test_every_judged_axis_has_its_separator():
    found = {one.axis.id: one.id for one in separators.problems()}
    assert found == {axis.id: axis.vector for axis in axes.every() if axis.judged}


@pytest.mark.parametrize("dialect", DIALECTS, ids=str)
def test_a_dialect_names_values_that_there_are(dialect):
    known = {axis.name: axis for axis in axes.of(dialect.optimizer)}
    for name, value in dialect.axes.items():
        assert name in known
        if name != "defaults":
            known[name].value(value)
    if dialect.library != "torch" and dialect.optimizer in forms.known():
        assert set(dialect.defaults) <= set(documented(dialect.optimizer))


@pytest.mark.parametrize("dialect", [one for one in DIALECTS if one.library != "torch"], ids=str)
def test_where_a_dialect_is_not_torchs_the_axis_says_so(dialect):
    torch = axes.base(dialect.optimizer)
    for axis in axes.of(dialect.optimizer):
        value = dialect.axes.get(axis.name)
        if axis.name != "defaults" and value not in (None, torch.get(axis.name)):
            assert dialect.library in [library.name for library in axis.value(value).libraries], axis.id


@pytest.mark.parametrize("optimizer", forms.known())
def test_torch_has_a_value_on_every_judged_axis(optimizer):
    judged = {axis.name for axis in axes.of(optimizer) if axis.judged}
    assert judged - {"decay"} <= set(axes.base(optimizer))


def test_the_page_is_up_to_date():
    assert (ROOT / "docs/dialects.md").read_text(encoding="utf-8") == page.text(), (
        "refoptim explain --page docs/dialects.md"
    )


@pytest.mark.parametrize("dialect", DIALECTS, ids=str)
def test_every_dialect_is_explained(dialect):
    text = explain.explain(str(dialect))
    assert text.startswith(f"{dialect}: {dialect.title}")
    assert "{" not in text


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        (
            "keras.Adam",
            "torch.Adam",
            ["ε_hat = ε_outside", "eps: 1e-07 in keras.Adam, 1e-08 in torch.Adam", "learning_rate"],
        ),
        ("KERAS.adam", "Torch.ADAM", ["keras/src/optimizers/adam.py", "torch/optim/adam.py"]),
        ("torch.Adam", "torch.AdamW", ["Weight decay: torch.Adam adds λθ", "weight_decay: 0 in torch.Adam"]),
        ("torch-2.5-docs.Adam", "torch.Adam", ["AMSGrad's maximum", "pull/142351"]),
        ("keras.NAdam", "torch.NAdam", ["momentum_decay=1.0 is Keras's"]),
        ("optax.RMSprop", "torch.RMSprop", ["eps_in_sqrt=False"]),
        ("tinygrad.AdamW", "torch.AdamW", ["compute the same"]),
    ],
)
def test_explanations(one, other, words):
    text = explain.explain(one, other)
    for word in words:
        assert word in " ".join(text.split()), text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "got 0"),
        (["keras.Adam", "torch.Adam", "optax.Adam"], "got 3"),
        (["Adam"], "write LIBRARY.OPTIMIZER"),
        (["foo.Adam"], "Adam is known of torch"),
        (["foo.Bar"], "the libraries are torch"),
        (["keras.foo"], "there is no optimizer 'foo'"),
        (["apex.SGD"], "SGD is known of torch"),
        (["torch.Adam", "torch.SGD"], "two optimizers"),
        (["--page", "nowhere/dialects.md"], "--page nowhere/dialects.md"),
        (["--page", "x.md", "keras.Adam"], "takes no dialects"),
    ],
)
def test_what_cannot_be_explained(arguments, message, capsys):
    assert _run(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert not captured.out


def test_the_command_prints_and_writes(tmp_path, capsys):
    assert _run(["keras.Adam", "torch.Adam"]) == 0
    assert capsys.readouterr().out.startswith("keras.Adam: Keras")
    assert _run(["--page", str(tmp_path / "page.md")]) == 0
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == page.text()


def _run(arguments):
    return cli.main(["explain", *arguments])
