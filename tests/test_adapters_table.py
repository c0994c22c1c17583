"""The page that says who conforms: what it says of whom, and what the command does where it cannot be made."""

import shutil
from pathlib import Path

import pytest

pytest.importorskip("flint", reason="needs refoptim[conformance]")
pytest.importorskip("jsonschema", reason="needs refoptim[conformance]")

from refoptim.cli import main
from refoptim.conformance.adapters import NAMES, page, table
from refoptim.conformance.adapters.table import Judged, Who, cells
from refoptim.conformance.runner.outcome import Divergence, Grade, Result, Status
from refoptim.conformance.vectors.store import load

VECTORS = {vector.id: vector for vector in load(pattern="sgd.")}


def result(identifier, status=Status.CONFORMS, **more):
    vector = VECTORS[identifier]
    return vector, Result(vector.id, vector.algorithm, vector.tier, vector.dtype, status, **more)


WRONG = Divergence(1, "w", (0,), "theta", "7fc00000 (nan in float32)", "infinity", 0.0, 0.0)
OTHER = "matches dialect velocity:inside within 2 ulp (keras); torch keeps it outside"
FOUND = Judged(
    Who("Some library", "3", "Rust"),
    [
        result("sgd.f32.probe.plain", grade=Grade.A, sulp=3.0),
        result("sgd.f32.dyadic.plain", grade=Grade.B, sulp=12.0),
        result("sgd.f64.probe.momentum", Status.MISMATCH, grade=Grade.D, sulp=1e9, dialect=OTHER),
        result(
            "sgd.f64.dyadic.momentum",
            Status.MISMATCH,
            grade=Grade.D,
            sulp=1e12,
            dialect=OTHER.replace("2 ulp", "4 ulp"),
        ),
        result("sgd.f32.defaults.left-out", Status.MISMATCH, grade=Grade.D, sulp=1e6, message="odd"),
        result("sgd.f32.special.plain", Status.MISMATCH, grade=Grade.D, divergence=WRONG),
        result("sgd.f64.special.plain", grade=Grade.A),
        result("sgd.f32.invalid.negative-lr"),
        result("sgd.f32.invalid.negative-momentum", Status.MISMATCH, message="answered"),
        result("sgd.f64.long.plain", Status.ERRORED, message="OSError: gone | away"),
        result("sgd.f32.sparse.plain", Status.UNSUPPORTED, message="feature:sparse, feature:none_grad"),
    ],
)


def test_a_cell_keeps_apart_what_is_wrong_in_different_ways():
    (cell,) = cells(FOUND)
    assert (cell.right, cell.asked) == (2, 4)
    assert cell.worst == {"f32": (Grade.B, 12.0), "f64": (Grade.D, 1e12)}
    assert (cell.defaults, cell.special, cell.refused) == ((0, 1), (1, 2), (1, 2))
    assert {words: len(found) for words, found in cell.parts.items()} == {
        "matches dialect velocity:inside (keras); torch keeps it outside": 2,
        "odd": 1,
        "theta: nan in float32 for infinity": 1,
    }
    assert list(cell.failed) == ["OSError: gone | away"]


def test_who_has_nothing_of_an_algorithm_has_no_cell():
    assert not cells(FOUND._replace(results=FOUND.results[-1:]))


def test_the_page_says_all_of_it(monkeypatch):
    monkeypatch.setattr(page, "minima", list)
    text = page.text([FOUND, FOUND._replace(who=Who("Another", "1", "C"), results=FOUND.results[:1])], "2026.11")
    lines = text.splitlines()
    assert "| Some library | 3 | Rust | 4 | 5 | 1 | 1 |" in lines
    assert "| SGD | f32 B 12, f64 D, 1 error | A 3 |" in lines
    row = next(line for line in lines if line.startswith("| SGD | 2 of 4 | 0 of 1 | 1 of 2 | 1 of 2 |"))
    assert "matches dialect velocity:inside (keras); 2; `sgd.f64.probe.momentum`, 1e+09 ulp<br>" in row
    assert "torch keeps" not in row
    assert r"gone \| away; 1; `sgd.f64.long.plain`" in row
    assert "## Another 1, where it differs" not in lines


def test_the_page_in_the_documentation_has_every_algorithm_of_the_vectors():
    text = (Path(__file__).parent.parent / "docs" / "conformance.md").read_text(encoding="utf-8")
    algorithms = {vector.algorithm for vector in load()}
    assert {name for name in algorithms if f"\n| {name} | " not in text} == set()
    assert "| refoptim fused | " in text


def test_the_minima_are_minima():
    found = page.minima()
    assert {one.minimizer for one in found} == {"refoptim.LBFGS", "refoptim.CG", "SciPy L-BFGS-B", "SciPy CG"}
    assert all(one.gradient <= page.STOP and one.loss < page.STOP for one in found)


def test_the_command_writes_a_page(tmp_path, capsys):
    written = tmp_path / "page.md"
    assert main(["table", "refoptim", "--filter", "sgd.f32.probe", "--quiet", "--output", str(written)]) == 0
    assert "| SGD | A " in written.read_text()
    assert main(["table", "refoptim", "--filter", "sgd.f32.probe", "--quiet"]) == 0
    assert capsys.readouterr().out == written.read_text()


def test_what_is_not_installed_is_left_out_unless_it_was_asked_for(monkeypatch, capsys):
    monkeypatch.setattr(table, "names", lambda: ["refoptim", "keras"])
    monkeypatch.setitem(NAMES, "keras", "no_such_library_here:Keras")
    assert main(["table", "--filter", "sgd.f32.probe.plain", "--quiet"]) == 0
    assert "left out: the adapter 'keras' needs no_such_library_here" in capsys.readouterr().err
    assert main(["table", "keras", "--filter", "sgd.f32.probe.plain", "--quiet"]) == 2


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["nonsense"], "there is no adapter 'nonsense'"),
        (["--filter", "nothing-has-this"], "matches no vector"),
        (["refoptim", "--filter", "sgd.f32.probe.plain", "--output", "no/such/folder/page.md"], "there is no folder"),
    ],
)
def test_what_cannot_be_done_is_said(arguments, why, capsys):
    assert main(["table", "--quiet", *arguments]) == 2
    assert why in capsys.readouterr().err


@pytest.mark.parametrize(("harness", "tool"), [("harness.c", "cc"), ("harness.js", "node")])
def test_the_example_harnesses_are_rows_too(harness, tool):
    if shutil.which(tool) is None:
        pytest.skip(f"there is no {tool}")
    found = table.judge(harness, [VECTORS["sgd.f32.probe.plain"]])
    assert [one.status for _, one in found.results] == [Status.CONFORMS]


def test_a_missing_compiler_is_named(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(table.MissingLibraryError, match=r"harness\.c needs cc"):
        table.judge("harness.c", [])
