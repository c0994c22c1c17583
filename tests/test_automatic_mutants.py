"""Automatic mutants: each operator makes what it should, nothing right is rejected, and every survivor is explained."""

import ast
import inspect
import signal
from functools import cache
from importlib import import_module
from itertools import count
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("flint", reason="python-flint, extra conformance, is not installed")

import refoptim
from refoptim import cli
from refoptim.conformance import automatic, mutants, report
from refoptim.conformance.cases import stems
from refoptim.conformance.deadline import deadline
from refoptim.conformance.operators import slips
from refoptim.conformance.survivors import SURVIVORS
from refoptim.implementations import Variant
from refoptim.kernels import sgd

EXPLAINED = [name for names in SURVIVORS.values() for name in names]
RMSPROP = ["conformance", "--quiet", "--jobs", "1", "--mutants", "--filter", "RMSprop(centered) float32"]
CENTERED = {
    reason: kept
    for reason, names in SURVIVORS.items()
    if (kept := tuple(name for name in names if name.startswith("rmsprop: centered: ")))
}


@pytest.fixture(scope="module")
def all_exams():
    """Return the exams, first those in float32."""
    return {stem: mutants.exams_of(stem) for stem in stems()}


@pytest.fixture(scope="module")
def exams(all_exams):
    """Return the exams in float32, which are half of all."""
    return {stem: [exam for exam in each if exam.dtype == np.float32] for stem, each in all_exams.items()}


@cache
def every(stem):
    """Return an algorithm's automatic mutants by their names."""
    return {f"{stem}: {mutant.name}": mutant for mutant in automatic.automatic_mutants(stem)}


@cache
def verdicts():
    """Return what becomes of the mutants of one rule."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(automatic, "rules", lambda _: ["centered"])
        patch.setattr(automatic, "classes", lambda _: [])
        return automatic.verdicts("rmsprop")


def made_of(expression, scalars=()):
    """Return what the operators make of a function's result."""
    found = slips(f"def function(x, y, z):\n    return {expression}", scalars)
    return [ast.unparse(ast.parse(slip.source).body[0].body[-1].value) for slip in found]


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("x + y", ["x - y", "x", "y"]),
        ("x - y", ["x + y", "x", "y", "y - x"]),
        ("x * y", ["x / y", "x", "y"]),
        ("x / y", ["x * y", "x", "y", "y / x"]),
        ("x >> y", ["x << y", "x", "y"]),
        ("x ** y", ["x * y", "x", "y"]),
        ("-x", ["x"]),
        ("sqrt(x)", ["x"]),
        ("absolute(x)", ["x"]),
        ("maximum(x, y)", ["minimum(x, y)", "x", "y"]),
        ("max(x, y)", ["min(x, y)", "x", "y"]),
        ("x < y", ["x <= y", "x >= y"]),
        ("x != y", ["x == y"]),
        ("x if y else z", ["x", "z", "z if y else x"]),
        ("x and y", ["x or y", "x", "y"]),
        ("x + 1", ["x - 1", "x", "1", "x + 2"]),  # x + 0 is x
        ("2.5", ["3.5", "1.5"]),
        ("f(t, x)", ["f(t + 1, x)", "f(t - 1, x)"]),
        ("h.a", ["h.b", "h.c"]),
        (
            "fma(x, y, z)",
            [
                "x * y",
                "x + z",
                "y + z",
                "x",
                "y",
                "z",
                "fma(-x, y, z)",
                "fma(x, y, -z)",
                "fma(z, y, x)",
                "fma(x, z, y)",
            ],
        ),
        (
            "by_sign(x, 0, y, z)",
            [
                "0",
                "y",
                "z",
                "by_sign(0, x, y, z)",
                "by_sign(y, 0, x, z)",
                "by_sign(z, 0, y, x)",
                "by_sign(x, y, 0, z)",
                "by_sign(x, z, y, 0)",
                "by_sign(x, 0, z, y)",
                "by_sign(x, 1, y, z)",
                "by_sign(x, -1, y, z)",
            ],
        ),
        ("k.Scalars(x, y, z)", ["k.Scalars(y, x, z)", "k.Scalars(x, z, y)"]),
    ],
)
def test_an_operator_makes_all_that_it_should_and_nothing_else(expression, wanted):
    assert made_of(expression, ("a", "b", "c")) == wanted


@pytest.mark.parametrize(
    ("expression", "alike"),
    [("x + x", "x + x"), ("fma(-x, y, z)", "fma(-(-x), y, z)"), ("x * 1", "x / 1"), ("x - 0", "x + 0")],
)
def test_what_means_the_same_is_made_once_or_not_at_all(expression, alike):
    found = made_of(expression)
    assert len(found) == len(set(found))
    assert alike not in found


def test_conditions_are_met_always_and_never():
    found = [slip.name for slip in slips("def f(x, y):\n    if x > y:\n        x = y\n    return x")]
    assert found == ["x > y -> x >= y", "x > y -> x <= y", "x > y -> True", "x > y -> False"]


def test_checks_are_left_to_the_tests_of_errors():
    source = (
        "def f(x):\n    'Say it.'\n    limit = 2 * x\n    if limit < 3:\n        raise ValueError(limit)\n    return -x"
    )
    assert [slip.name for slip in slips(source)] == ["-x -> x"]


def test_a_rule_forgets_each_of_its_results():
    found = {
        slip.name: slip.source for slip in slips("def rule(theta, g, m, h):\n    m, theta = g, m\n    return theta, m")
    }
    assert set(found) == {"theta stays as it was", "m stays as it was"}
    names = {}
    exec(found["m stays as it was"], names)
    assert names["rule"](1, 2, 3, None) == (3, 3)


def test_mutants_are_many_and_have_different_names():
    names = [f"{stem}: {mutant.name}" for stem in stems() for mutant in automatic.automatic_mutants(stem)]
    assert len(set(names)) == len(names) > 2500


def test_helpers_in_the_file_of_a_class_are_changed_too():
    found = automatic.host_functions(refoptim.ASGD)
    assert set(found) == {"_options", "_scalars", "_advance", "_weights"}


@pytest.mark.parametrize("stem", stems())
def test_the_machinery_that_makes_mutants_rejects_nothing_right(stem, exams):
    kernels = import_module(f"refoptim.kernels.{stem}")
    sources = {rule: inspect.getsource(getattr(kernels, rule)) for rule in automatic.rules(kernels)}
    subjects = [mutants.rule_subject(kernels, rule, source) for rule, source in sources.items()]
    subjects += [automatic.host_subject(owner, automatic.host_functions(owner)) for owner in automatic.classes(stem)]
    assert subjects
    for exam in exams[stem][::2]:
        assert [exam.rejects(subject) for subject in subjects] == [None] * len(subjects), exam.case


@pytest.mark.parametrize("stem", stems())
def test_a_sample_is_rejected(stem, all_exams):
    order = list(all_exams[stem])
    sample = list(every(stem).items())[::20]
    survivors = [name for name, mutant in sample if automatic.examine(mutant, order) is None]
    assert set(survivors) <= set(EXPLAINED)


def test_a_kernel_that_calls_the_loop_of_a_rule_calls_the_wrong_one(exams, monkeypatch):
    module = ModuleType("composed")
    vars(module).update(Scalars=sgd.Scalars, sgd=sgd.sgd, sgd_cpu=sgd.sgd_cpu)
    exec("def composed(theta, g, scalars):\n    sgd_cpu(theta, g, scalars)", vars(module))
    monkeypatch.setattr(refoptim.SGD, "_variant", lambda *_: Variant(module.composed, None, counts=False))
    right = inspect.getsource(sgd.sgd)
    wrong = right.replace("fma(-h.lr, g, theta)", "fma(-h.lr, g, g)")
    reasons = [exams["sgd"][0].rejects(mutants.rule_subject(module, "sgd", source)) for source in (right, wrong)]
    assert [reason is None for reason in reasons] == [True, False]


def test_to_raise_is_to_be_rejected(exams):
    def subject(optimizer, scenario):
        raise ZeroDivisionError("by nothing")

    raises = mutants.Mutant("sgd", "raises", None, subject)
    assert "ZeroDivisionError: by nothing" in automatic.examine(raises, list(exams["sgd"]))


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="the system has no alarms")
def test_work_without_end_has_one():
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(TimeoutError, match=r"more than 0\.01 seconds"), deadline(0.01):
        any(number < 0 for number in count())
    assert signal.getsignal(signal.SIGALRM) is before


@pytest.mark.parametrize(
    ("score", "passed"),
    [
        (automatic.Score({"a": "wrong"}, {}, [], complete=True), True),
        (automatic.Score({}, {}, [], complete=False), True),
        (automatic.Score({str(i): "wrong" for i in range(97)}, dict.fromkeys("abc", "why"), [], complete=True), True),
        (automatic.Score({str(i): "wrong" for i in range(97)}, dict.fromkeys("abcd", "why"), [], complete=True), False),
        (automatic.Score({"a": "wrong"}, {"b": "why"}, [], complete=False), True),
        (automatic.Score({str(i): "wrong" for i in range(97)}, {"b": None}, [], complete=True), False),
        (automatic.Score({"a": "wrong"}, {}, ["b"], complete=True), False),
    ],
)
def test_too_many_survivors_or_one_without_a_reason_or_a_reason_without_one_fail(score, passed):
    assert score.passed is passed


@pytest.mark.parametrize(
    ("reasons", "code", "said"),
    [
        (CENTERED, 0, "  survived  rmsprop: centered: fma(h.one, g, -a) -> g + -a  [A product with 1"),
        ({}, 1, "  SURVIVED  rmsprop: centered: fma(h.one, g, -a) -> g + -a  [not explained"),
        (CENTERED | {"": ("rmsprop: centered: no such mutant",)}, 1, "  STALE     rmsprop: centered: no such mutant"),
    ],
)
def test_the_command_says_how_many_are_rejected_and_why_the_others_are_not(reasons, code, said, monkeypatch, capsys):
    found, survivors = verdicts(), sum(map(len, CENTERED.values()))
    total = len(found)
    assert {name for name in every("rmsprop") if name.startswith("rmsprop: centered: ")} == set(found)
    monkeypatch.setattr(report.wrong, "verdicts", lambda _: {})
    monkeypatch.setattr(report.suite, "rows", lambda *_: [])
    monkeypatch.setattr(automatic, "verdicts", lambda _: found)
    monkeypatch.setattr(automatic, "SURVIVORS", reasons)
    assert cli.main(RMSPROP) == code
    printed = capsys.readouterr().out
    assert f"{total - survivors} of {total} automatic mutants are rejected: 98." in printed
    assert said in printed


def test_reasons_are_of_mutants_that_exist_and_each_has_one():
    assert len(set(EXPLAINED)) == len(EXPLAINED)
    assert [name for name in EXPLAINED if name not in every(name.partition(":")[0])] == []


@pytest.mark.slow
def test_nearly_all_are_rejected_and_the_others_are_explained():
    found = automatic.score(stems())
    assert found.passed, (found.share, found.unexplained, found.stale)
