"""The gallery: a section and a picture for every scheduler, made by the code that is there now."""

import importlib.util
from html import unescape
from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="matplotlib, extra plot, is not installed")

from refoptim import plot

DOCS = Path(__file__).parents[1] / "docs"
LARGEST = 40_000  # bytes
spec = importlib.util.spec_from_file_location("gallery", DOCS / "gallery.py")
gallery = importlib.util.module_from_spec(spec)
spec.loader.exec_module(gallery)


def test_every_public_scheduler_has_a_section():
    assert sorted(entry.name for entry in gallery.ENTRIES) == sorted(plot.SCHEDULERS)


def test_the_page_is_the_one_that_would_be_written_now():
    assert (DOCS / "schedulers.md").read_text(encoding="utf-8") == gallery.page()


def test_there_are_no_other_pictures():
    assert {file.stem for file in (DOCS / "pictures").iterdir()} >= {entry.name for entry in gallery.ENTRIES}


@pytest.mark.parametrize("entry", gallery.ENTRIES, ids=lambda entry: entry.name)
def test_a_picture_is_small_and_of_the_section_s_scheduler(entry, tmp_path):
    file = DOCS / "pictures" / f"{entry.name}.svg"
    kept = unescape(file.read_text(encoding="utf-8"))
    assert entry.spec in kept
    assert "<dc:date>" not in kept
    assert file.stat().st_size < LARGEST
    drawn = gallery.draw(entry, tmp_path)
    # Where things are put depends on matplotlib's version and the fonts, the number of points does not.
    assert curve_of(drawn.read_text(encoding="utf-8")) == curve_of(kept)


def curve_of(svg):
    """Return the path of the first curve that is drawn in matplotlib's first colour, without its coordinates."""
    path = next(part for part in svg.split("<path ") if "stroke: #1f77b4" in part)
    return [word for word in path.split('"')[1].split() if word in "ML"]


@pytest.mark.parametrize("entry", gallery.ENTRIES, ids=lambda entry: entry.name)
def test_specs_are_what_the_command_takes_or_functions(entry):
    if entry.make is None:
        assert plot.parse(entry.spec).name == entry.name
    else:
        with pytest.raises(plot.SpecError, match="functions cannot be given"):
            plot.parse(entry.spec)
        arguments = entry.spec.removeprefix(entry.name)[1:-1]
        given = gallery.SGD([gallery.Parameter([0.0])], lr=gallery.LR)
        same = plot.SCHEDULERS[entry.name](given, eval(arguments))
        assert plot.curve(entry.spec, same, 100) == gallery.curve(entry)


@pytest.mark.parametrize("entry", gallery.ENTRIES, ids=lambda entry: entry.name)
def test_every_section_has_a_sentence_and_a_formula(entry):
    sentence, formula = gallery.described(entry.name)
    assert sentence.endswith(".")
    assert (formula is None) == (entry.formula is not None)
