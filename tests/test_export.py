"""Exports say what the vectors say, compile without a warning, and never leave half of themselves behind."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("flint", reason="python-flint, extra conformance, is not installed")
pytest.importorskip("jsonschema", reason="jsonschema, extra conformance, is not installed")

from refoptim.conformance.vectors import store
from refoptim.conformance.vectors.encoding import from_hex, wide_from_hex
from refoptim.conformance.vectors.export import LANGUAGES, export, flat, npz
from refoptim.conformance.vectors.vector import decoded

EXAMPLE = Path(__file__).parents[1] / "examples" / "c_adam" / "adam.c"
VECTORS = {vector.id: vector for vector in store.load()}
FEW = [vector for vector in VECTORS.values() if vector.id.startswith(("adam.f32.probe", "adam.f32.special", "steplr"))]


def ran(*command):
    """Return what a program says and ends with."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def c(tmp_path_factory):
    """Return what compiles an implementation against the exported vectors of Adam, and the folder that they are in."""
    compiler = shutil.which("cc") or pytest.skip("there is no C compiler")
    folder = tmp_path_factory.mktemp("c") / "vectors"
    assert export("c", store.load(pattern="adam*.f32.*"), folder) > 50

    def compiled(source):
        path = folder.parent / "mine.c"
        path.write_text(source, encoding="utf-8")
        warnings = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", f"-I{folder}")
        assert ran(compiler, *warnings, "-o", folder.parent / "check", folder / "refoptim_main.c", path, "-lm") == (
            0,
            "",
        )
        return folder.parent / "check"

    return compiled


def test_adam_in_c_conforms(c):
    check = c(EXAMPLE.read_text(encoding="utf-8"))
    mine = [v for v in VECTORS.values() if v.algorithm in ("Adam", "AdamW") and v.dtype == "f32"]
    code, said = ran(check)
    assert code == 0
    assert f"{len(mine)} conform, 0 do not" in said
    assert ran(check, "adam.f32.probe.plain")[1].startswith("1 conform, 0 do not, 0 are unsupported")
    assert ran(check, "adam.f32.invalid")[0] == 0
    assert ran(check, "nonesuch")[0] == 2


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("sqrtf(v) / root + eps", "(sqrtf(v) + eps) / root", "adam.f32.probe.plain: step 1, w[0], theta: got 1.59"),
        ("o->maximize ? -grad[i] : grad[i]", "grad[i]", "adam.f32.probe.maximize: step 1, w[0], exp_avg: got 5.5"),
        ("!(v <= p->max_exp", "(v > p->max_exp", "adam.f32.special.amsgrad: step 2, w[3], max_exp_avg_sq: got 0.003"),
        ("o->beta2 < 1;", "o->beta2 <= 1;", "adam.f32.invalid.beta2-of-one: must be rejected"),
        ("o->lr >= 0 &&", "o->lr > 1 &&", "adam.f32.dyadic.plain: rejected, though it makes sense"),
        ("x = p->theta;", "x = NULL;", "adam.f32.probe.plain: step 1, w: there is no theta"),
        ('strcmp(vector->algorithm, "Adam")', "1", "0 conform"),  # nothing that was compared is no success
    ],
)
def test_a_wrong_one_in_c_does_not(c, old, new, says):
    source = EXAMPLE.read_text(encoding="utf-8")
    assert source.count(old) == 1
    code, said = ran(c(source.replace(old, new)), "adam.f32")
    assert code == 1
    assert says in said


def test_rust_has_the_same_bits(tmp_path):
    compiler = shutil.which("rustc") or pytest.skip("there is no rustc")
    kinds = ("sgd.f32.probe.momentum", "muon.f32.dyadic.plain", "sgd.f64.sparse", "adam.f32.special.amsgrad")
    vectors = [v for v in VECTORS.values() if v.id.startswith(kinds)]
    assert export("rust", vectors, tmp_path / "vectors") == len(vectors)
    main = tmp_path / "main.rs"
    main.write_text(
        """
        #[path = "vectors/refoptim_vectors.rs"] mod refoptim_vectors;
        fn main() {
            for v in refoptim_vectors::VECTORS {
                let numbers = v.params.iter().flat_map(|p| p.init).chain(v.expected.iter().flat_map(|e| e.high));
                println!("{} {:016x}", v.id, numbers.fold(0u64, |sum, bits| sum.wrapping_mul(3).wrapping_add(*bits)));
            }
        }""",
        encoding="utf-8",
    )
    assert ran(compiler, "-D", "warnings", "--out-dir", tmp_path, main) == (0, "")
    lines = []
    for trajectory in flat.trajectories(vectors):
        total = 0
        for bits in [b for p in trajectory.params for b in p.init] + [b for e in trajectory.expected for b in e.high]:
            total = (total * 3 + bits) % 2**64
        lines.append(f"{trajectory.id} {total:016x}")
    assert ran(tmp_path / "main") == (0, "\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    """Return all arrays of all vectors, by name."""
    folder = tmp_path_factory.mktemp("npz") / "vectors"
    assert export("npz", list(VECTORS.values()), folder) == len(VECTORS)
    found = {}
    for path in folder.iterdir():
        with np.load(path, allow_pickle=False) as file:
            found |= {name: file[name] for name in file.files}
    return found


def test_every_vector_is_in_the_npz(arrays):
    assert {name.partition("/")[0] for name in arrays} == set(VECTORS)


@pytest.mark.parametrize("identifier", [v.id for v in VECTORS.values() if v.type == "trajectory"][::29])
def test_arrays_of_trajectories(arrays, identifier):
    vector = VECTORS[identifier]
    problem = decoded("trajectory", vector.problem)
    mine = {name.partition("/")[2]: array for name, array in arrays.items() if name.startswith(f"{identifier}/")}
    for name, like in problem.params.items():
        assert mine[f"init/{name}"].tobytes() == like.tobytes()
        for t, step in enumerate(problem.steps):
            grad = step.grads[name]
            assert mine[f"has_grad/{name}"][t] == (grad is not None)
            if isinstance(grad, np.ndarray):
                assert mine[f"grad/{name}"][t].tobytes() == grad.tobytes()
            elif grad is not None:
                assert mine[f"grad/{name}/{t + 1}/rows"].tolist() == grad.indices.tolist()
                assert mine[f"grad/{name}/{t + 1}/values"].tobytes() == grad.values.tobytes()
    for k, after in enumerate(vector.expect["after"]):
        for name, quantities in after.items():
            for quantity, text in quantities.items():
                found = mine[f"expected/{name}/{quantity}"][k]
                if vector.expect["encoding"] == "class":
                    assert "".join(found.ravel()) == text
                    continue
                high, low = wide_from_hex(text, vector.expect["encoding"])
                assert found.tobytes() == high.tobytes()
                assert mine[f"low/{name}/{quantity}"][k].tobytes() == low.tobytes()
    assert mine["lr"].tolist() == [list(step.lrs) for step in problem.steps]
    assert mine["invalid"] == (vector.result == "invalid")
    groups = json.loads(str(mine["problem"]))["groups"]
    assert [g["options"] for g in groups] == json.loads(json.dumps([g.options for g in problem.groups]))


def test_arrays_of_schedules_and_traces(arrays):
    schedule = VECTORS["reducelronplateau.schedule.patience=4"]
    assert arrays[f"{schedule.id}/metrics"].tobytes() == from_hex(schedule.problem["metrics"], "f64").tobytes()
    assert arrays[f"{schedule.id}/expected/1"].tobytes() == from_hex(schedule.expect["lr"][1]["hi"], "f64").tobytes()
    trace = VECTORS["lbfgs.f64.trace.parabola"]
    points = arrays[f"{trace.id}/expected/w"]
    assert points[-1].tobytes() == from_hex(trace.expect["after"]["w"]["hi"], "f64").tobytes()
    assert len(points) == len(arrays[f"{trace.id}/loss"]) + 1 == sum(arrays[f"{trace.id}/per_step"]) + 1


def test_json_is_what_there_is(tmp_path):
    whole = [vector for vector in VECTORS.values() if vector.algorithm in ("SparseAdam", "StepLR", "LBFGS")]
    assert export("json", whole, tmp_path / "all") == len(whole)
    names = {"sparseadam.trajectory.json", "steplr.schedule.json", "lbfgs.trace.json"}
    assert {path.name for path in (tmp_path / "all").iterdir()} == names | {"index.json"}
    for name in names:
        assert (tmp_path / "all" / name).read_bytes() == (store.PACKAGED / name).read_bytes()
    assert export("json", FEW, tmp_path / "few") == len(FEW)
    assert store.load(tmp_path / "few") == FEW
    assert export("json", FEW[:2], tmp_path / "fewer", tmp_path / "few") == 2


@pytest.mark.parametrize("lang", LANGUAGES)
def test_an_empty_folder_will_do(tmp_path, lang):
    (tmp_path / "empty").mkdir()
    assert export(lang, FEW, tmp_path / "empty") > 0
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
    before = {path: path.read_bytes() for path in (tmp_path / "empty").iterdir()}
    with pytest.raises(FileExistsError, match="is not empty: nothing is overwritten"):
        export(lang, FEW, tmp_path / "empty")
    assert {path: path.read_bytes() for path in (tmp_path / "empty").iterdir()} == before


@pytest.mark.parametrize(
    ("lang", "vectors", "name", "error", "says"),
    [
        ("go", FEW, "new", ValueError, "lang is 'go', expected one of c, rust, npz, json"),
        ("c", [], "new", ValueError, "there are no vectors"),
        ("c", [FEW[-1]], "new", ValueError, "none of the 1 vectors is a trajectory: schedules and traces are for npz"),
        ("c", FEW, "file", FileExistsError, "is not a folder"),
        ("c", FEW, "file/new", FileExistsError, "exists"),
    ],
)
def test_what_cannot_be_exported(tmp_path, lang, vectors, name, error, says):
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(error, match=says):
        export(lang, vectors, tmp_path / name)
    assert [(path.name, path.read_text(encoding="utf-8")) for path in tmp_path.iterdir()] == [("file", "mine")]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_an_interrupted_export_leaves_nothing(tmp_path, monkeypatch, error):
    def half(vectors, folder, source):
        (folder / "half").write_text("half", encoding="utf-8")
        raise error

    monkeypatch.setattr(npz, "write", half)
    with pytest.raises(type(error)):
        export("npz", FEW, tmp_path / "new")
    assert not list(tmp_path.iterdir())
