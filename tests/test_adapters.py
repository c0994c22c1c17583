"""Adapters: refoptim and torch against the vectors, and what an adapter says where it has nothing to say."""

import contextlib
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("flint", reason="needs refoptim[conformance]")
pytest.importorskip("jsonschema", reason="needs refoptim[conformance]")

from refoptim.conformance.adapters import NAMES, MissingLibraryError, UnknownAdapterError, make
from refoptim.conformance.runner.adapter import Base, Unsupported
from refoptim.conformance.runner.answer import answer
from refoptim.conformance.runner.judge import judged
from refoptim.conformance.runner.outcome import Status
from refoptim.conformance.vectors.store import load
from refoptim.conformance.vectors.vector import Group, Rows, Schedule, Step, Trace, Trajectory, decoded

VECTORS = load()
COMMANDS = {"trajectory": "run", "schedule": "schedule", "trace": "trace"}
OPTIMIZERS = sorted({vector.algorithm for vector in VECTORS if vector.type == "trajectory"})


def adapter_of(name):
    if name != "refoptim":
        pytest.importorskip(name.split("-", maxsplit=1)[0], reason="cross-checks against it")
    return make(name)


def result(adapter, vector):
    return judged(vector, answer(adapter, {"cmd": COMMANDS[vector.type], "seq": 1, "problem": vector.problem}))


def asked(adapter, pattern=""):
    return [result(adapter, vector) for vector in VECTORS if pattern in vector.id]


def wrong(results):
    right = (Status.CONFORMS, Status.UNSUPPORTED)
    return [f"{one.id}: {one.status}, {one.divergence or one.message}" for one in results if one.status not in right]


@pytest.mark.parametrize("name", ["refoptim", "refoptim-foreach", "refoptim-for-loop"])
def test_refoptim_conforms(name):
    results = asked(make(name), "" if name == "refoptim" else ".dyadic.")
    assert not wrong(results)
    assert name != "refoptim" or {one.status for one in results} == {Status.CONFORMS}


def test_refoptim_in_float64_conforms():
    assert not wrong(asked(make("refoptim-float64"), "f32.dyadic."))


# Where torch computes otherwise: numbers that go along with the state in float32, and all of Muon in bfloat16.
TORCH = {("ASGD", "f64"), ("ASGD", "c128"), ("NAdam", "f64"), ("NAdam", "c128"), ("Muon", "f32"), ("Muon", "f64")}


def test_torchs_optimizers_conform_but_for_three():
    adapter = adapter_of("torch")
    found = [result(adapter, vector) for vector in VECTORS if vector.type != "schedule"]
    bad = [one for one in found if wrong([one])]
    assert not wrong([one for one in bad if (one.algorithm, one.dtype) not in TORCH])
    assert {one.algorithm for one in bad} == {"ASGD", "NAdam", "Muon"}
    assert not any(one.status is Status.ERRORED for one in bad)


@pytest.mark.slow
def test_torchs_schedulers_conform():
    assert not wrong(asked(adapter_of("torch"), ".schedule."))


@pytest.mark.parametrize("algorithm", ["asgd", "nadam"])
def test_torchs_numbers_are_float32_by_default_alone(algorithm):
    adapter, torch = adapter_of("torch"), pytest.importorskip("torch")
    pattern = f"{algorithm}.f64.probe."
    assert wrong(asked(adapter, pattern))
    torch.set_default_dtype(torch.float64)
    try:
        assert not wrong(asked(adapter, pattern))
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", ["torch-foreach", "torch-fused"])
def test_torchs_implementations_conform(name):
    found = [one for one in asked(adapter_of(name), "f32.probe.") if one.algorithm != "Muon"]
    assert not wrong(found)
    assert any(one.status is Status.CONFORMS for one in found)


def test_torch_fused_has_four_optimizers():
    found = {one.algorithm for one in asked(adapter_of("torch-fused"), "f64.probe.") if one.status is Status.CONFORMS}
    assert found == {"SGD", "Adam", "AdamW", "Adagrad"}


def problem(algorithm, dtype=np.float32, options=None, grads=(), names=("w", "b")):
    rng = np.random.default_rng(5)
    params = {name: rng.normal(size=(3, 2)).astype(dtype) for name in names}
    groups = tuple(Group((name,), {"lr": 0.01, **(options or {})}) for name in names)
    return Trajectory(algorithm, "f64" if dtype is np.float64 else "f32", params, groups, tuple(grads), frozenset())


def steps(algorithm, dtype, count):
    rng = np.random.default_rng(7)
    for t in range(count):
        grads = {name: rng.normal(size=(3, 2)).astype(dtype) for name in "wb"}
        if algorithm == "SparseAdam":
            grads = {name: Rows(np.array([0, 2]), grad[:2]) for name, grad in grads.items()}
        yield Step((0.01, 0.02), grads | ({"b": None} if t == 1 else {}))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("algorithm", OPTIMIZERS)
@pytest.mark.parametrize("name", ["refoptim", "refoptim-for-loop", "torch", "torch-foreach"])
def test_a_loaded_state_goes_on_as_if_nothing_had_happened(name, algorithm, dtype):
    whole, resumed = adapter_of(name), adapter_of(name)
    options = {"momentum": 0.9} if algorithm in ("SGD", "RMSprop") else {}
    taken = list(steps(algorithm, dtype, 5))
    try:
        whole.start(problem(algorithm, dtype, options))
    except Unsupported:
        pytest.skip("not there")
    for step in taken[:4]:
        whole.step(step.grads, step.lrs)
    params = {key: value.copy() for key, value in whole.params().items()}
    state = {key: {q: a.copy() for q, a in own.items()} for key, own in whole.state().items()}
    resumed.start(problem(algorithm, dtype, options))
    # ASGD's step size is the one of the step before.
    resumed.step({"w": None, "b": None}, taken[3].lrs)
    resumed.load(params, state, {"w": 4, "b": 3})
    for adapter in (whole, resumed):
        adapter.step(taken[4].grads, taken[4].lrs)
    for key, value in whole.params().items():
        np.testing.assert_array_equal(resumed.params()[key], value)
        for quantity, array in whole.state()[key].items():
            np.testing.assert_array_equal(resumed.state()[key][quantity], array)


def test_loading_before_the_first_step_sets_values_alone():
    adapter = make("refoptim")
    adapter.start(problem("Adam"))
    adapter.load(
        {"w": np.ones((3, 2), np.float32), "b": np.zeros((3, 2), np.float32)}, {"w": {}, "b": {}}, {"w": 0, "b": 0}
    )
    assert adapter.params()["w"].tolist() == [[1.0, 1.0]] * 3
    assert adapter.state() == {"w": {}, "b": {}}


@pytest.mark.parametrize(
    ("asks", "parts"),
    [
        (problem("Nonsense"), ("optimizer:Nonsense",)),
        (problem("Adam", options={"centered": True, "dampening": 0.5}), ("option:centered", "option:dampening")),
    ],
)
@pytest.mark.parametrize("name", ["refoptim", "torch"])
def test_what_is_not_there_is_unsupported(name, asks, parts):
    with pytest.raises(Unsupported) as found:
        adapter_of(name).start(asks)
    assert found.value.args == parts


def test_options_that_are_off_need_not_be_there():
    make("refoptim").start(problem("SGD", options={"amsgrad": False, "lr_decay": 0.0}))


@pytest.mark.parametrize("name", ["refoptim", "torch"])
def test_unknown_schedulers_and_minimizers_are_unsupported(name):
    adapter = adapter_of(name)
    with pytest.raises(Unsupported, match="scheduler:NoLR"):
        adapter.schedule(Schedule("NoLR", {}, (0.1,), 3, (0,), None))
    with pytest.raises(Unsupported, match="optimizer:NoBFGS"):
        adapter.trace(Trace("NoBFGS", "f32", {}, {}, 1, (0.0,), ({},)))


@pytest.mark.parametrize("name", ["refoptim", "torch"])
def test_the_last_value_of_a_table_holds_on(name):
    asks = Schedule("LambdaLR", {"lr_lambda": {"table": (1.0, 0.5)}}, (0.1,), 4, (0, 1, 2, 4), None)
    assert adapter_of(name).schedule(asks) == [[0.1, 0.05, 0.05, 0.05]]


@pytest.mark.parametrize("name", ["refoptim", "torch"])
def test_a_closure_that_is_called_too_often_says_its_last_words_again(name):
    vector = next(v for v in VECTORS if v.type == "trace")
    asks = decoded("trace", vector.problem)
    calls = adapter_of(name).trace(asks._replace(losses=asks.losses[:2], grads=asks.grads[:2], steps=3))
    assert len(calls.per_step) == 3
    assert sum(calls.per_step) == len(calls.points)


def test_points_of_a_trace_are_where_the_closure_was_called_not_where_it_ended():
    vector = next(v for v in VECTORS if v.type == "trace")
    points = make("refoptim").trace(decoded("trace", vector.problem)).points
    assert len({point["w"].tobytes() for point in points}) > 1


def test_torch_fused_refuses_what_it_is_documented_not_to_take():
    adapter = adapter_of("torch-fused")
    complex_numbers = next(v for v in VECTORS if v.algorithm == "Adam" and v.dtype == "c64")
    sparse = next(v for v in VECTORS if v.algorithm == "SGD" and v.tier == "sparse")
    for vector, why in ((complex_numbers, "dtype:c64"), (sparse, "feature:sparse")):
        assert result(adapter, vector).message == why


def test_adapters_have_names_of_their_own():
    there = []
    for name in NAMES:
        with contextlib.suppress(MissingLibraryError):
            there.append(make(name).info)
    assert len({info.name for info in there}) == len(there) >= 5
    assert all(info.version for info in there)


@pytest.mark.parametrize(
    "name", ["nonsense", "", ":", "torch:", ":Torch", "refoptim.conformance.adapters.refoptim:None_"]
)
def test_unknown_adapters_are_named(name):
    with pytest.raises(UnknownAdapterError, match=r"there is no adapter|has no 'None_'"):
        make(name)


def test_an_unknown_adapter_is_told_what_there_is():
    with pytest.raises(UnknownAdapterError, match=r"'kears'.*refoptim, .*keras.*package\.module:Class"):
        make("kears")


def test_an_adapter_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "my_adapter.py").write_text("class Mine:\n    info = 'mine'\n")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    (tmp_path / "my_odd.py").write_text("nothing = dict\ndef bad():\n    raise OSError('no disk')\n")
    assert make("my_adapter:Mine").info == "mine"
    with pytest.raises(UnknownAdapterError, match="'my_odd:nothing' is no adapter: it has no info"):
        make("my_odd:nothing")
    with pytest.raises(UnknownAdapterError, match="'my_odd:bad' cannot be made: OSError: no disk"):
        make("my_odd:bad")
    (tmp_path / "my_end.py").write_text("import sys\ndef leave():\n    sys.exit(0)\n")
    with pytest.raises(UnknownAdapterError, match="'my_end:leave' cannot be made: SystemExit: 0"):
        make("my_end:leave")
    with pytest.raises(UnknownAdapterError, match="no module 'my_adaptor'"):
        make("my_adaptor:Mine")
    assert sys.path == before


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import nowhere_to_be_found", "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("def (:", "SyntaxError: invalid syntax"),
        ("raise OSError('no\\ndisk')", "OSError: no disk"),
        ("import sys; sys.exit(0)", "SystemExit: 0"),
    ],
)
def test_a_module_that_cannot_be_imported(tmp_path, monkeypatch, source, words):
    (tmp_path / "my_broken.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownAdapterError) as found:
        make("my_broken:Mine")
    assert f"'my_broken:Mine': the module 'my_broken' cannot be imported: {words}" in str(found.value)
    assert "\n" not in str(found.value)


def test_a_missing_library_is_named():
    packages = {"torch": "torch", "optax": "'jax[cpu]'", "keras": "keras", "tinygrad": "tinygrad"}
    packages["sklearn"] = "scikit-learn"
    script = """
import sys
from refoptim.conformance.adapters import MissingLibraryError, make
sys.modules |= dict.fromkeys(["torch", "jax", "keras", "tinygrad", "sklearn"])
for name in sys.argv[1:]:
    try:
        make(name)
    except MissingLibraryError as error:
        print(error)
"""
    ran = subprocess.run([sys.executable, "-c", script, *packages], capture_output=True, text=True, check=True)
    for (name, package), line in zip(packages.items(), ran.stdout.splitlines(), strict=True):
        library = "jax" if name == "optax" else name
        assert line == f"the adapter {name!r} needs {library}: pip install {package}"


def test_scipy_says_that_it_has_no_optimizers():
    adapter = make("scipy")
    assert isinstance(adapter, Base)
    assert adapter.info.optimizers == {}
    assert {one.status for one in asked(adapter, "trace")} == {Status.UNSUPPORTED}
