"""The proof of the vectors: wrong optimizers are rejected, right ones are not, and every survivor has a verdict."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("flint", reason="python-flint, extra conformance, is not installed")

from refoptim import cli
from refoptim.conformance import automatic, cases, mutants, plumbing, subjects, survivors
from refoptim.conformance.runner.answer import answer
from refoptim.conformance.runner.judge import judged
from refoptim.conformance.runner.outcome import Grade, Status
from refoptim.conformance.vectors import foreign, mutation, store

ALL = store.load()


# These evaluate formulas, which are slower than kernels, and step as they do.
SLOW = {"for-loop", "foreach"}


@pytest.mark.parametrize(
    "implementation",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in subjects.IMPLEMENTATIONS],
)
def test_right_optimizers_have_grade_a(implementation):
    adapter = mutation.SubjectAdapter(subjects.refoptim_subject(implementation))
    for vector in ALL:
        if vector.type == "trajectory" and vector.result == "valid":
            result = judged(vector, answer(adapter, {"cmd": "run", "problem": vector.problem}))
            assert result.status is Status.CONFORMS, result
            assert result.grade in (Grade.EXACT, Grade.A), result


@pytest.mark.parametrize(
    "stem", ["sgd", "sparse_adam", *(pytest.param(stem, marks=pytest.mark.slow) for stem in ("asgd", "rprop"))]
)
def test_wrong_optimizers_are_rejected(stem):
    score = mutation.score([stem])
    assert not score.unexplained
    assert not score.stale
    assert len(score.rejected["formula"]) > 50
    assert score.rejected["plumbing"]
    assert score.rejected["precision"]


def test_all_is_compiled_before_a_mutants_time_is_taken(monkeypatch):
    asked = []
    monkeypatch.setattr(mutation, "answer", lambda _, request: asked.append(request["problem"]))
    monkeypatch.setattr(mutation, "rejects", lambda _, order: str(asked == [vector.problem for vector in order]))
    assert {verdict for _, _, verdict in mutation.verdicts("sgd", automatic=False)} == {"True"}


@pytest.mark.parametrize("stem", ["adagrad", "adam", "adamax", "rmsprop", "sgd"])
def test_what_only_dialects_compute_has_mutants_that_exams_reject(stem):
    made = [m for m in mutants.mutants() if m.stem == stem] + list(automatic.automatic_mutants(stem))
    names = {mutation.name_of(mutant) for mutant in made}
    listed = {name for name in foreign.FOREIGN if name.startswith(f"{stem}: ")}
    assert listed <= names
    assert not listed & {name for found in survivors.SURVIVORS.values() for name in found}


@pytest.mark.slow
def test_the_score_of_all():
    score = mutation.score(sorted(mutation.stems()))
    assert score.complete
    assert score.passed
    assert score.share() >= mutation.SHARE
    total = sum(map(len, (*score.rejected.values(), *score.survivors.values())))
    for page in ("README.md", "docs/vectors.md"):
        text = (Path(__file__).parent.parent / page).read_text(encoding="utf-8")
        assert f"{total:,} wrong optimizers" in text
        assert f"{score.share():.2%}".replace("%", " %") in text


def test_no_mutant_that_changes_nothing_is_rejected():
    harmless = mutants.Mutant("sgd", "changes nothing", "SGD", subjects.refoptim_subject("fused"))
    assert mutation.rejects(harmless, mutation.in_order(ALL, "sgd")) is None


class _Early(subjects.RefoptimRun):
    """A learning rate takes effect a step early."""

    def __init__(self, optimizer_class, scenario, options):
        super().__init__(optimizer_class, scenario, options)
        self._coming = [*scenario.lrs[1:], scenario.lrs[-1]]

    def step(self, grads, lrs):
        super().step(grads, self._coming.pop(0))


class _Aliased(subjects.RefoptimRun):
    """Parameters of the same size share their state."""

    def step(self, grads, lrs):
        super().step(grads, lrs)
        seen = {}
        for i in range(len(self._params)):
            for name, array in self.state(i).items():
                seen.setdefault((name, array.size), array)
                array[...] = seen[name, array.size].reshape(array.shape)


class _Shifted(subjects.RefoptimRun):
    """The update of the step before."""

    def __init__(self, optimizer_class, scenario, options):
        super().__init__(optimizer_class, scenario, options)
        self._shown = [np.array(start.theta) for start in scenario.starts]
        self._next = self._shown

    def step(self, grads, lrs):
        self._shown = self._next
        super().step(grads, lrs)
        self._next = [np.array(super(_Shifted, self).theta(i)) for i in range(len(self._params))]

    def theta(self, index):
        return self._shown[index]


@pytest.mark.parametrize("run", [_Early, _Aliased, _Shifted])
@pytest.mark.parametrize("stem", ["sgd", "adam", "rmsprop"])
def test_more_wrong_bookkeeping(run, stem):
    import refoptim

    optimizer = {"sgd": "SGD", "adam": "Adam", "rmsprop": "RMSprop"}[stem]
    mutant = mutants.Mutant(stem, "wrong", optimizer, lambda name, s: run(getattr(refoptim, name), s, {}))
    assert mutation.rejects(mutant, mutation.in_order(ALL, stem)) is not None


class _Silent(mutation.SubjectAdapter):
    """Shows no state, as implementations may."""

    def state(self):
        return {}


@pytest.mark.parametrize("run", [plumbing._ZeroIsNone, plumbing._Lazy], ids=lambda run: run.__name__)
@pytest.mark.parametrize("stem", mutation.stems())
def test_zero_is_a_gradient_even_where_nobody_sees_the_state(run, stem, monkeypatch):
    import refoptim

    monkeypatch.setattr(mutation, "SubjectAdapter", _Silent)
    for optimizer in {case.optimizer for case in cases.stems()[stem].CASES}:
        mutant = mutants.Mutant(stem, "wrong", optimizer, lambda name, s: run(getattr(refoptim, name), s, {}))
        numeric = [v for v in mutation.in_order(ALL, stem) if v.expect["encoding"] != "class"]
        assert mutation.rejects(mutant, numeric) is not None, optimizer


def test_kinds():
    kinds = {
        name: mutation.kind_of(mutants.Mutant("s", name, None, None))
        for name in (
            "adam: eps dropped",
            "Bookkeeping: every fourth step is skipped",
            "Precision: the state is stored in bfloat16",
            "scalars: powers in float32",
        )
    }
    assert list(kinds.values()) == ["formula", "plumbing", "precision", "precision"]


def test_a_survivor_without_a_verdict_fails_the_score():
    score = mutation.Score(
        {k: {} for k in mutation.KINDS},
        {"formula": {"x: y": None}, "plumbing": {}, "precision": {}},
        [],
        complete=False,
    )
    assert not score.passed
    assert not score._replace(survivors={k: {} for k in mutation.KINDS}, stale=["x: z"]).passed
    assert score._replace(survivors={k: {} for k in mutation.KINDS}).passed


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--filter", "rprop", "--by-hand", "--quiet"], 0, "100.00 %"),
        (["--filter", "nothing"], 2, "matches nothing"),
        (["--filter", "rprop", "--json", "nowhere/x.json"], 2, "there is no folder"),
        (["--filter", "rprop", "--json", "."], 2, "--json .: it is a folder"),
    ],
)
def test_the_command(capsys, arguments, code, words):
    assert cli.main(["mutants", *arguments]) == code
    assert words in "".join(capsys.readouterr())


def test_the_file(tmp_path, capsys):
    file = tmp_path / "score.json"
    assert cli.main(["mutants", "--filter", "rprop", "--by-hand", "--quiet", "--json", str(file)]) == 0
    assert json.loads(file.read_text(encoding="utf-8"))["rejected"]["formula"]
    assert "rejected" in capsys.readouterr().out
