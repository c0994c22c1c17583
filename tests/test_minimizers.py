"""The exam of LBFGS and CG: what is right passes, torch too, and every mutant is rejected."""

import math

import pytest

pytest.importorskip("flint", reason="python-flint, extra conformance, is not installed")

import numpy as np

import refoptim as optim
from refoptim import kernels
from refoptim.conformance import minimizers
from refoptim.conformance.situation import FunctionMutant
from refoptim.conformance.tolerances import MINIMIZER_LIMITS


@pytest.mark.parametrize("dtype", minimizers.DTYPES)
@pytest.mark.parametrize("stem", minimizers.OPTIMIZERS)
def test_what_is_right_passes(stem, dtype):
    (row,) = minimizers.rows(f"{minimizers.OPTIMIZERS[stem]}() {dtype}")
    assert row.failures == []
    assert row.situations > 8
    assert row.measured.direction > 0
    assert row.measured.theta > 0


@pytest.mark.parametrize("exam", minimizers.exams()["lbfgs"], ids=minimizers.DTYPES)
def test_torch_passes(exam):
    pytest.importorskip("torch", reason="torch, which is the witness, is not installed")
    assert minimizers.failures(exam.measure(minimizers.torchs)) == []


@pytest.mark.parametrize("mutant", minimizers.mutants(), ids=lambda mutant: f"{mutant.stem}: {mutant.name}")
def test_every_mutant_is_rejected(mutant):
    assert minimizers.examine(mutant, minimizers.exams())


def test_mutants_have_different_names():
    names = [(mutant.stem, mutant.name) for mutant in minimizers.mutants()]
    assert len(set(names)) == len(names) > 70


@pytest.mark.parametrize("mutant", [minimizers.mutants()[0], minimizers.mutants()[-1]], ids=lambda mutant: mutant.name)
def test_a_mutant_leaves_nothing_behind(mutant):
    def functions():
        return [vars(kernels.lbfgs), vars(kernels.cg), vars(kernels.vectors), vars(optim.CG), vars(optim.LBFGS)]

    before = [dict(names) for names in functions()]
    with minimizers.applied(mutant.change):
        assert [dict(names) for names in functions()] != before
    assert [dict(names) for names in functions()] == before


def test_a_mutant_that_does_not_apply_is_an_error():
    stale = FunctionMutant("stale", "kernels.lbfgs.pair", "no such text", "")
    with pytest.raises(minimizers.StaleMutantError, match="no such text"), minimizers.applied(stale):
        pass


@pytest.mark.parametrize("rule", ["kernels.vectors.combine", "kernels.lbfgs.lbfgs_step", "kernels.cg.cg_direction"])
def test_the_machinery_rejects_no_rule_that_is_right(rule):
    """A comment more: the rule is the same, but runs as plain Python."""
    same = FunctionMutant("the same", rule, "    return", "    # nothing\n    return")
    with minimizers.applied(same):
        found = [minimizers.failures(exam.measure()) for exams in minimizers.exams().values() for exam in exams]
    assert found == [[]] * 4


@pytest.mark.parametrize("name", minimizers.Errors._fields)
def test_every_limit_counts(name):
    right = minimizers.Errors(0.0, 0.0, 0.0, 0.0, 0.0)
    assert minimizers.failures(right) == []
    for beyond in (2 * getattr(MINIMIZER_LIMITS, name), math.inf, math.nan):
        assert [found.startswith(name) for found in minimizers.failures(right._replace(**{name: beyond}))] == [True]


def test_a_vector_of_another_length_or_that_is_not_finite_is_infinitely_far():
    exact = minimizers.truth.balls(np.ones(3))
    assert minimizers._ulps(np.ones(3), exact) == 0
    assert minimizers._ulps(np.ones(2), exact) == math.inf
    assert minimizers._ulps(np.array([1, math.nan, 1]), exact) == math.inf
    assert minimizers._ulps(np.array([1, 1 + 2**-51, 1]), exact) == pytest.approx(2)


def test_the_report_names_what_failed():
    rows = list(minimizers.rows("CG() float32"))
    assert [row.optimizer for row in rows] == ["CG"]
    assert minimizers.text(rows).splitlines()[1].endswith("ok")
    bad = rows[0]._replace(failures=["direction: 9 ulp, limit 8"])
    assert minimizers.text([bad]).splitlines()[2].strip() == "FAILED direction: 9 ulp, limit 8"
