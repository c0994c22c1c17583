"""Skip files: reasons are needed, and what makes no sense is refused."""

from datetime import date

import pytest

pytest.importorskip("flint", reason="python-flint, extra conformance, is not installed")

from refoptim.conformance.runner import skips
from refoptim.conformance.runner.outcome import Result, Status
from refoptim.conformance.vectors import store


def read(tmp_path, text):
    file = tmp_path / "skips.toml"
    file.write_text(text, encoding="utf-8")
    return skips.read(file)


def test_an_entry(tmp_path):
    (found,) = read(tmp_path, '[[skip]]\nid = "adam.*"\nreason = "eps"\nissue = "https://x.org/1"\nuntil = "2026-12"\n')
    assert found == skips.Skipped("adam.*", "eps", "https://x.org/1", date(2026, 12, 1))
    assert (found.is_over(date(2026, 11, 30)), found.is_over(date(2026, 12, 1))) == (False, True)
    assert str(found) == "eps, https://x.org/1, until 2026-12-01"


def test_an_empty_file(tmp_path):
    assert read(tmp_path, "") == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[[skip]]\nid = "a"\n', "it needs a reason"),
        ('[[skip]]\nid = "a"\nreason = " "\n', "it needs a reason"),
        ('[[skip]]\nreason = "b"\n', "it needs an id"),
        ('[[skip]]\nid = "a"\nreason = "b"\nuntli = 1\n', "unknown untli"),
        ('[[skip]]\nid = "a"\nreason = "b"\nuntil = "soon"\n', "'soon', not a day"),
        ('[[skip]]\nid = "a"\nreason = "b"\nuntil = 2026-12-31T12:00:00\n', "'2026-12-31 12:00:00', not a day"),
        ("skip = [1]", "entry 1: it is 1; only [[skip]] entries"),
        ('[skip]\nid = "a"\n', "only [[skip]] entries"),
        ('[[skips]]\nid = "a"\n', "only [[skip]] entries"),
        ("id = ", "Invalid value"),
    ],
)
def test_what_makes_no_sense(tmp_path, text, words):
    with pytest.raises(skips.SkipFileError) as caught:
        read(tmp_path, text)
    assert words in str(caught.value)


def test_an_entry_about_nothing():
    with pytest.raises(skips.SkipFileError, match="matches no vector"):
        skips.check_ids([skips.Skipped("adam.f16.*", "no half precision")], store.load())


def test_todays_list_can_be_read(tmp_path):
    result = Result("adam.f32.probe.plain", "Adam", "probe", "f32", Status.MISMATCH, message='says "no"\n\\')
    right = result._replace(id="x", status=Status.CONFORMS)
    (found,) = read(tmp_path, skips.as_toml([result, right]))
    assert (found.id, found.reason) == ("adam.f32.probe.plain", 'says "no"\n\\')
