"""The comparison's parts: cases, peers that agree, what is left out, the file, tables, pictures. Nothing is timed."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema, extra conformance, is not installed")
pytest.importorskip("tqdm", reason="the benchmarks show progress bars")

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True, scope="module")
def modules():
    """Import the benchmarks as their scripts do: from their folder."""
    sys.path.insert(0, str(BENCHMARKS))
    import cases
    import compare
    import peers
    import report
    import timing

    yield SimpleNamespace(cases=cases, compare=compare, peers=peers, report=report, timing=timing)
    sys.path.remove(str(BENCHMARKS))


def loaded(modules, peer):
    """Return a peer's file, or skip the test."""
    pytest.importorskip(modules.peers.LIBRARIES[peer].module, reason=f"{peer} is not installed")
    return modules.peers.load(peer)


def options(**others):
    return SimpleNamespace(**({"block": 1e-5, "seconds": 1e-4, "memory": 1.0} | others))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("peer", ["numpy", "refoptim", "torch", "sklearn", "thinc"])
def test_a_peer_computes_the_formula(modules, peer, dtype):
    module, seen = loaded(modules, peer), []
    for name in modules.cases.EVERY:
        case = modules.cases.Case(name, dtype, 2, 30)
        values, grads = modules.cases.inputs(case)
        wanted = modules.cases.expected(case, values, grads)
        for contender, make in module.contenders(case.algorithm, values, grads).items():
            modules.cases.check(case, contender, make(), wanted)
            seen.append((name, contender))
    assert seen or (peer, dtype) == ("thinc", "float64")


@pytest.mark.parametrize("name", ["Adam", "Adafactor", "Rprop", "Muon", "SGD momentum"])
def test_optax_computes_the_formula(modules, name):
    module = loaded(modules, "optax")
    case = modules.cases.Case(name, "float32", 2, 30)
    values, grads = modules.cases.inputs(case)
    found = module.contenders(case.algorithm, values, grads)
    assert found.keys() == (set() if name == "Rprop" else {"optax"})
    for contender, make in found.items():
        modules.cases.check(case, contender, make(), modules.cases.expected(case, values, grads))


WRONG = {
    "nothing": lambda wanted: wanted.before,
    "twice as far": lambda wanted: 2 * wanted.after - wanted.before,
    "all but one element": lambda wanted: np.where(wanted.places == 0, wanted.before, wanted.after),
    "NaN": lambda wanted: wanted.after * np.nan,
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("name", ["Adam", "SGD", "Muon"])
def test_who_computes_something_else_is_not_timed(modules, name, wrong):
    case = modules.cases.Case(name, "float32", 3, 30)
    wanted = modules.cases.expected(case, *modules.cases.inputs(case))

    def contender(found):
        return modules.peers.Contender(lambda: None, lambda tensor, _: found[min(tensor, 1)])

    modules.cases.check(case, "right", contender(wanted.after), wanted)
    with pytest.raises(ValueError, match="other numbers"):
        modules.cases.check(case, "wrong", contender(WRONG[wrong](wanted)), wanted)


def test_inputs_are_seeded_and_no_gradient_is_near_zero(modules):
    case = modules.cases.Case("Muon", "float32", 3, 30)
    values, grads = modules.cases.inputs(case)
    assert values.shape == grads.shape == (3, 5, 5)
    assert case.elements == 25
    assert values.dtype == grads.dtype == np.float32
    assert (np.abs(grads) >= 0.5).all()
    assert len(np.unique(np.sign(grads))) == 2
    np.testing.assert_array_equal(values, modules.cases.inputs(case)[0])


def test_the_plan(modules):
    plan, case = modules.cases.plan, modules.cases.Case
    assert plan(["SGD"], ["float32"], [10, 20], [1]) == [case("SGD", "float32", 1, n) for n in (10, 20)]
    everything = plan(list(modules.cases.EVERY), ["float32", "float64"], None, None)
    assert len(set(everything)) == len(everything)
    assert {each.tensors for each in everything} == {1, 10, 100, 1_000}
    assert case("Adam", "float64", 1, 50_000_000) in everything
    assert case("Adam", "float64", 1_000, 1_000) in everything
    assert all(each.tensors * each.asked <= modules.cases.MOST for each in everything)
    assert max(each.asked for each in everything if each.name == "Muon") == modules.cases.MOST_OF_MUON


def test_contenders_share_the_memory(modules):
    case = modules.cases.Case("Adam", "float32", 1, 1_000_000)
    one, beside = 7 * case.bytes, 6 * case.bytes
    batches = modules.compare.batches
    assert list(batches(case, "abcde", beside + 2.5 * one)) == [["a", "b"], ["c", "d"], ["e"]]
    assert list(batches(case, "abcde", beside + 1e9 * one)) == [list("abcde")]
    record = modules.compare.measure(case, ["numpy"], options(memory=beside / 2**30))
    assert record["contenders"] == {}
    assert "GiB" in record["left_out"]["all"]
    assert record["mover"] is None


def test_a_peer_that_fails_does_not_end_the_run(modules, monkeypatch):
    def failing():
        raise RuntimeError("boom")

    numpy = modules.peers.load("numpy")
    makers = numpy.contenders(modules.cases.EVERY["SGD"], *np.ones((2, 1, 10), np.float32)) | {"bad": failing}
    monkeypatch.setattr(modules.compare, "makers_of", lambda *_: makers)
    record = modules.compare.measure(modules.cases.Case("SGD", "float32", 1, 10), [], options())
    assert record["left_out"] == {"bad": "RuntimeError: boom"} | record["left_out"]
    assert "bad" not in record["contenders"]
    assert record["mover"]


def test_who_is_not_installed_is_named(modules, monkeypatch):
    monkeypatch.setitem(sys.modules, "thinc", None)
    threads, absent = modules.compare.present(["numpy", "thinc"])
    assert threads == {"numpy": 1}
    assert absent == {"thinc": "it is not installed: pip install 'refoptim[bench]'"}


SCRIPT = [sys.executable, "-W", "error", str(BENCHMARKS / "compare.py"), "--peers", "refoptim", "numpy"]
SMALL = ["--optimizers", "SGD", "--dtypes", "float32", "--seconds", "1e-4", "--block", "1e-4"]


def run(path, *arguments):
    return subprocess.run(
        [*SCRIPT, *SMALL, "--json", str(path), *arguments], capture_output=True, text=True, check=False
    )


def test_the_file_fits_the_schema_and_is_continued(modules, tmp_path):
    path = tmp_path / "comparison.json"
    first = run(path, "--sizes", "10", "1e2", "--tensors", "1")
    assert first.returncode == 0, first.stderr
    found = modules.report.load(path)
    assert [row["elements"] for row in found["rows"]] == [10, 100]
    assert list(found["rows"][0]["contenders"]) == ["refoptim", "refoptim float64", "NumPy"]

    second = run(path, "--sizes", "100", "50", "--tensors", "1", "--resume")
    assert second.returncode == 0, second.stderr
    assert "1 cases;" in second.stdout
    rows = json.loads(path.read_text())["rows"]
    assert [rows[0], rows[2]] == found["rows"]
    assert [row["elements"] for row in rows] == [10, 50, 100]

    third = run(path, "--sizes", "10", "60", "--tensors", "1", "--resume", "--minutes", "1e-9")
    assert third.returncode == 0, third.stderr
    assert "1 of 2 cases are not in" in third.stdout
    assert json.loads(path.read_text())["rows"] == rows

    found["machine"]["cores"] += 1
    path.write_text(json.dumps(found))
    other = run(path, "--sizes", "10", "--resume")
    assert other.returncode == 2
    assert "other cores" in other.stdout
    assert json.loads(path.read_text()) == found


@pytest.mark.parametrize("wrong", [["--sizes", "0"], ["--sizes", "1.5"], ["--tensors", "nan"], ["--peers", "jax"]])
def test_arguments_that_make_no_sense(modules, wrong, capsys):
    with pytest.raises(SystemExit):
        modules.compare.parse(wrong)
    assert "invalid" in capsys.readouterr().err


def quartiles(median):
    return [0.9 * median, median, 1.1 * median]


def row(optimizer="Adam", tensors=1, elements=1_000, dtype="float32", **medians):
    found = {name: {"seconds": quartiles(each), "to_mover": quartiles(each / 1e-6)} for name, each in medians.items()}
    return {"optimizer": optimizer, "dtype": dtype, "tensors": tensors, "elements": elements, "rounds": 3} | {
        "mover": quartiles(1e-6),
        "contenders": found,
        "left_out": {},
    }


@pytest.fixture
def measured(modules):
    """Return a tiny file's content."""
    rows = [
        row(elements=10, NumPy=1e-5, refoptim=2e-6),
        row(NumPy=1e-5, refoptim=2e-6),
        row(tensors=100, NumPy=1e-3, refoptim=5e-6),
        row("SGD", elements=10, NumPy=1e-6, refoptim=2e-6),
        row("SGD", NumPy=1e-6, refoptim=2e-6),
    ]
    machine = modules.timing.machine(["numpy"])
    settings = {"block": 0.1, "seconds": 1.0, "threads": {"numpy": 1}, "absent": {"thinc": "it is not installed"}}
    found = {"benchmark": "comparison", "machine": machine, "settings": settings, "rows": rows}
    jsonschema.validate(found, modules.report.SCHEMA)
    return found


@pytest.mark.parametrize(
    "spoil",
    [
        lambda found: found.pop("machine"),
        lambda found: found["rows"][0].pop("mover"),
        lambda found: found["rows"][0].update(seconds=1),
        lambda found: found["rows"][0].update(tensors=0),
        lambda found: found["rows"][0]["contenders"]["NumPy"].update(seconds=[1, 2]),
        lambda found: found["settings"]["threads"].update(numpy=0),
    ],
)
def test_the_schema_rejects(modules, measured, spoil, tmp_path):
    spoil(measured)
    path = tmp_path / "spoilt.json"
    path.write_text(json.dumps(measured))
    with pytest.raises(jsonschema.ValidationError):
        modules.report.load(path)


def test_the_table(modules, measured):
    rows = modules.report.at(measured, "float32", 1, 1_000)
    assert modules.report.table(rows).splitlines() == [
        "| one step | refoptim | NumPy | mover | refoptim to it | ahead of the best other |",
        "| --- | --- | --- | --- | --- | --- |",
        "| Adam | **2 us** | 10 us | 1 us | 2.00 (1.80-2.20) | 5 x |",
        "| SGD | 2 us | **1 us** | 1 us | 2.00 (1.80-2.20) | 0.5 x |",
    ]


def test_a_weak_figure_is_marked(modules):
    noisy = row(NumPy=1e-5)
    noisy["contenders"]["NumPy"]["seconds"] = [1e-5, 1e-5, 2e-5]
    assert modules.report.times_cell(noisy, "NumPy") == "**~10 us**"
    assert modules.report.times_cell(noisy, "NumPy", spread=True) == "**~10 us** (10 us - 20 us)"
    noisy["left_out"]["thinc"] = "ValueError: other numbers"
    assert modules.report.times_cell(noisy, "thinc") == "left out"
    assert modules.report.times_cell(noisy, "optax") == ""


def test_the_page_gets_tables_and_pictures(modules, measured, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="matplotlib, extra plot, is not installed")
    results, page = tmp_path / "comparison.json", tmp_path / "performance.md"
    results.write_text(json.dumps(measured))
    page.write_text(f"before\n{modules.report.BEGIN}\nold\n{modules.report.END}\nafter\n")
    for _ in range(2):
        modules.report.main([str(results), "--page", str(page)])
        text = page.read_text()
        assert text.startswith("before\n")
        assert text.endswith("\nafter\n")
        assert "old" not in text
        assert "thinc took no part: it is not installed." in text
        assert text.count("### float32, 100 x 1,000") == 1
    for name in ("steps", "limit", "tensors"):
        picture = (tmp_path / f"pictures/{name}.svg").read_text()
        assert "Adam" in picture
        assert "NumPy" in picture
        assert "<dc:date>" not in picture
        assert f"(pictures/{name}.svg)" in text
    assert results.with_suffix(".md").read_text().count("1 x 10 ") == 2


@pytest.mark.parametrize("page", ["", "{END} {BEGIN}", "{BEGIN} {BEGIN} {END}", "{BEGIN}"])
def test_a_page_without_its_markers_is_left_alone(modules, page):
    text = page.format(BEGIN=modules.report.BEGIN, END=modules.report.END)
    with pytest.raises(ValueError, match="each once"):
        modules.report.inserted(text, "new")


def test_the_page_of_the_documentation_has_the_markers(modules):
    page = (BENCHMARKS.parent / "docs/performance.md").read_text(encoding="utf-8")
    assert "new" in modules.report.inserted(page, "new")


def test_points_of_a_picture(modules):
    pytest.importorskip("matplotlib", reason="matplotlib, extra plot, is not installed")
    import pictures

    found = row(elements=500, tensors=2, refoptim=4e-6)
    assert pictures.per_element(found, "refoptim") == 4
    assert pictures.per_element(found, "mover") == 1
    assert pictures.share(found, "refoptim") == 1 / 4
    assert pictures.share(found, "mover") == 1
    assert pictures.microseconds(found, "refoptim") == 4


def test_ratios_are_of_the_same_round(modules):
    # The machine was half as fast in the second round: the ratio is not.
    samples = {"a": [1.0, 2.0, 1.0], "b": [2.0, 4.0, 2.0]}
    assert modules.timing.ratio(samples, "a", "b") == (0.5, 0.5, 0.5)
    assert modules.timing.summarize([1.0, 2.0, 3.0, 4.0, 5.0]) == (3.0, 2.0, 4.0)
    assert modules.compare.figures({"a": samples["a"], "mover": samples["b"]}, "a")["to_mover"] == [0.5, 0.5, 0.5]
