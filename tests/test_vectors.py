"""The vectors: files that come out the same every time, say what they test, and cannot be changed unnoticed."""

import json
import shutil
from hashlib import sha256

import numpy as np
import pytest

pytest.importorskip("flint", reason="python-flint, extra conformance, is not installed")

from refoptim import cli
from refoptim.conformance import truth
from refoptim.conformance.vectors import encoding, entry, flags, generate, recipes, store, witness
from refoptim.conformance.vectors.options import asked, complete
from refoptim.conformance.vectors.vector import content_hash, decoded

MOST = 8_000_000  # bytes
ALL = store.load()


LONG = [pytest.param(name, marks=pytest.mark.slow) for name in generate.makers() if ".trajectory." in name]
SHORT = [name for name in generate.makers() if ".trajectory." not in name]


@pytest.mark.parametrize("name", LONG + SHORT)
def test_a_file_comes_out_as_it_is(name):
    assert generate.content_of(name) == (store.PACKAGED / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("optimizer", recipes.optimizers())
def test_some_trajectories_come_out_as_they_are(optimizer):
    text = (store.PACKAGED / f"{optimizer.lower()}.trajectory.json").read_text(encoding="utf-8")
    there = {entry["id"]: entry for entry in json.loads(text)["vectors"]}
    made = list(generate.entries_of(optimizer, every=10))
    assert made
    assert made == [there[each["id"]] for each in made]


def test_the_index_comes_out_as_it_is():
    files = {name: (store.PACKAGED / name).read_text(encoding="utf-8") for name in generate.makers()}
    assert generate.index(files) == (store.PACKAGED / "index.json").read_text(encoding="utf-8")


def test_they_are_not_too_large():
    assert sum(path.stat().st_size for path in store.PACKAGED.glob("*.json")) < MOST


def test_no_id_is_used_twice():
    assert len({vector.id for vector in ALL}) == len(ALL)


@pytest.mark.parametrize("optimizer", recipes.optimizers())
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_every_option_is_flagged_somewhere_with_a_witness(optimizer, dtype):
    module, own = recipes.optimizers()[optimizer]
    del module
    wanted = {name for case in own for name in asked(optimizer, complete(case))}
    seen = {
        flag
        for vector in ALL
        if vector.algorithm == optimizer and vector.dtype == dtype
        for flag, moved in vector.witness.items()
        if moved > witness.LEAST
    }
    assert {flags.of_option(name.removeprefix("option:")) for name in wanted} <= seen


@pytest.mark.parametrize("vector", [v for v in ALL if "LeftOut" in v.flags and v.dtype == "f64"], ids=lambda v: v.id)
def test_every_default_would_be_missed(vector):
    documented = {name.partition("[")[0] for name in vector.witness if name.startswith("default:")}
    wanted = set(complete(recipes.optimizers()[vector.algorithm][1][0]))
    idle = set(witness.IDLE.get(vector.algorithm, ()))
    assert {f"default:{name}" for name in wanted - idle} <= documented


@pytest.mark.parametrize("flag", ["ParamGroups", "NoneGrad", "LrPerStep", "ZeroGrad"])
def test_bookkeeping_has_witnesses(flag):
    without = {"SparseAdam"} | ({"Rprop"} if flag == "LrPerStep" else set())
    found = {v.algorithm for v in ALL if flag in v.flags and v.witness[flag] > witness.LEAST}
    assert found >= set(recipes.optimizers()) - without


def test_all_decisions_have_a_margin_but_at_the_boundary():
    for vector in ALL:
        if vector.margin is not None and vector.tier != "boundary":
            assert vector.margin > 2.0**-40, vector.id


@pytest.mark.parametrize("vector", ALL[::23], ids=lambda v: v.id)
def test_nothing_expected_is_in_what_is_sent(vector):
    assert set(vector.problem) <= {"algorithm", "dtype", "params", "groups", "steps", "record", "options", "lr"} | {
        "epochs",
        "metrics",
        "calls",
    }


@pytest.mark.parametrize("dtype", encoding.DTYPES)
def test_bits_survive(dtype):
    kind = encoding.DTYPES[dtype]
    values = np.array([[0.0, -0.0, 1.5], [np.inf, -np.inf, np.nan]]).astype(kind)
    again = encoding.from_hex(encoding.to_hex(values), dtype, (2, 3))
    assert again.tobytes() == values.tobytes()
    assert again.flags.writeable


@pytest.mark.parametrize(
    ("text", "shape"), [("3f80000", None), ("3f800000", (2,)), ("3f80000g", (1,)), ("3f 80 00 00 ", None)]
)
def test_what_is_not_bits_is_refused(text, shape):
    with pytest.raises(ValueError, match=r"hexadecimal|non-hex"):
        encoding.from_hex(text, "f32", shape)


def test_options_survive():
    options = {"lr": 0.1, "betas": (0.9, 0.999), "amsgrad": True, "ns_steps": 5, "eps": (None, 1e-3), "mode": "min"}
    assert encoding.decoded_options(json.loads(json.dumps(encoding.encoded_options(options)))) == options


def test_the_comment_and_the_decimals_are_not_hashed():
    vector = json.loads((store.PACKAGED / "sgd.trajectory.json").read_text(encoding="utf-8"))["vectors"][0]
    before = content_hash(vector)
    vector["comment"] = "other words"
    vector["problem"]["groups"][0]["options"]["lr"]["dec"] = "1.00"
    assert content_hash(vector) == before == vector["sha256"]
    vector["problem"]["groups"][0]["options"]["lr"]["f64"] = "3ff0000000000001"
    assert content_hash(vector) != before


def test_expected_values_are_the_exact_ones_rounded_once():
    with truth.precision():
        third = truth.balls(np.array([1.0])) / 3
        high, low = entry.split(third)
    assert high[0] == 1 / 3
    assert low[0] == 2.0**-54 / 3


def test_a_value_that_is_not_known_is_not_written():
    with truth.precision(53), pytest.raises(truth.WideBallError):
        entry.split(truth.balls(np.array([1.0])) / 3 - 1 / 3)


@pytest.fixture
def copied(tmp_path):
    for path in store.PACKAGED.glob("*.json"):
        shutil.copy(path, tmp_path)
    return tmp_path


def rehash(folder):
    """Make the index right again for whatever the files are."""
    files = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.json") if path.name != "index.json"}
    (folder / "index.json").write_text(generate.index(files), encoding="utf-8")


def change(folder, what, by, name="sgd.trajectory.json"):
    path = folder / name
    path.write_text(path.read_text(encoding="utf-8").replace(what, by, 1), encoding="utf-8")


@pytest.mark.parametrize(
    ("what", "by", "again", "error", "words"),
    [
        ('"f64":"3f', '"f64":"3e', False, store.HashError, "not the one that the index has"),
        ('"f64":"3f', '"f64":"3e', True, store.HashError, "has not the content"),
        ('"comment":"', '"comment":"! ', False, store.HashError, "the file was changed"),
        ('"format": 1', '"format": 2', False, store.UnknownFormatError, "format is 2"),
        ('"format": 1', '"format": 2', True, store.UnknownFormatError, "format is 2"),
        ("trajectory_v1.json", "poem_v1.json", True, store.UnknownFormatError, "poem_v1"),
        ('"vectors": [', '"vectors": [[', False, store.DamagedFileError, "not JSON"),
    ],
)
def test_a_changed_file_is_noticed(copied, what, by, again, error, words):
    change(copied, what, by)
    if again:
        rehash(copied)
    with pytest.raises(error, match=words):
        store.load(copied)


def test_a_field_too_many_breaks_the_schema(copied):
    # The first that is looked at.
    change(copied, '"comment":"', '"colour":"red","comment":"', min(path.name for path in copied.glob("a*.json")))
    rehash(copied)
    with pytest.raises(store.StoreError):
        store.verify(copied)


def test_files_that_are_missing_or_too_many_are_noticed(copied):
    shutil.copy(copied / "sgd.trajectory.json", copied / "other.trajectory.json")
    with pytest.raises(store.MismatchedIndexError, match=r"other\.trajectory\.json is not in the index"):
        store.load(copied)
    (copied / "other.trajectory.json").unlink()
    (copied / "adam.trajectory.json").unlink()
    with pytest.raises(store.MismatchedIndexError, match=r"adam\.trajectory\.json is in the index but not there"):
        store.load(copied)


def test_a_folder_without_vectors(tmp_path):
    with pytest.raises(store.MissingVectorsError, match=r"index\.json"):
        store.load(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["list", "--filter", "adam.f32.probe.*"], 0, "adam.f32.probe.plain"),
        (["list", "--filter", "nothing"], 2, "matches none"),
        (["show", "sgd.f32.probe.plain"], 0, '"algorithm": "SGD"'),
        (["show", "sgd"], 2, "there is no vector 'sgd'"),
        (["verify"], 0, f"{len(ALL)} vectors, all as they were made"),
        (["list", "--filter", "Adam.F32.probe.*"], 0, "adam.f32.probe.plain"),
        (["verify", "--vectors", "not-there"], 2, "--vectors not-there: there are no vectors here"),
        (["export", "--lang", "c", str(store.PACKAGED)], 2, "is not empty: nothing is overwritten"),
    ],
)
def test_the_command_line(capsys, arguments, code, words):
    assert cli.main(["vectors", *arguments]) == code
    assert words in "".join(capsys.readouterr())


def test_generate_writes_what_is_there(tmp_path, capsys, monkeypatch):
    name = "linearlr.schedule.json"
    only = {name: generate.makers()[name]}
    monkeypatch.setattr(generate, "makers", lambda: only)
    assert cli.main(["vectors", "generate", "--quiet", "--vectors", str(tmp_path)]) == 0
    assert cli.main(["vectors", "generate", "--check", "--quiet", "--vectors", str(tmp_path)]) == 0
    change(tmp_path, '"comment":"', '"comment":"! ', name)
    assert cli.main(["vectors", "generate", "--check", "--quiet", "--vectors", str(tmp_path)]) == 1
    assert "is not what the formulas give" in capsys.readouterr().err


def test_problems_can_be_read_back():
    for vector in ALL[::11]:
        problem = decoded(vector.type, vector.problem)
        assert problem.algorithm == vector.algorithm


def test_a_hash_is_of_the_bytes():
    index = json.loads((store.PACKAGED / "index.json").read_text(encoding="utf-8"))
    for name, right in index["files"].items():
        assert sha256((store.PACKAGED / name).read_bytes()).hexdigest() == right
