"""The schedulers' exams: what is right passes by every way, every mutant is rejected, and the report says so."""

import inspect
import json
from fractions import Fraction

import numpy as np
import pytest

pytest.importorskip("flint", reason="python-flint, extra conformance, is not installed")

from refoptim import lr_scheduler
from refoptim.conformance import schedules, truth
from refoptim.conformance.mutants import StaleMutantError
from refoptim.conformance.schedules import bookkeeping, exam, mutation, plateau, report
from refoptim.conformance.schedules.cases import CASES, LONG, PLATEAU_CASES, Case
from refoptim.conformance.schedules.truth import _CURVES, exact_curves
from refoptim.conformance.schedules.wrong import Wrong
from refoptim.conformance.tolerances import SCHEDULE_LIMITS

MUTANTS = schedules.mutants()
WAYS = exam.Measured._fields
FINE = exam.Measured(*(exam.Errors(worst=0.5, mean=0.25) for _ in WAYS))


@pytest.fixture(scope="module")
def exams():
    return schedules.exams()


def case_of(text):
    (found,) = (case for case in schedules.plan() if str(case) == text)
    return found


@pytest.mark.parametrize("case", schedules.plan(), ids=str)
def test_nothing_right_is_rejected_by_the_exams_that_reject_mutants(case, exams):
    (own,) = (each for each in exams[case.scheduler] if each.case.options == case.options)
    assert exam.failures(own.measure(exam.ours()), case) == []


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in CASES if case.epochs > mutation.EPOCHS], ids=str)
def test_nothing_drifts(case):
    assert exam.failures(exam.Exam(case).measure(exam.ours()), case) == []


@pytest.mark.parametrize("name", ["ExponentialLR(gamma=0.999)", "CosineAnnealingLR(T_max=50)"])
def test_ten_thousand_steps_do_not_drift_as_the_recursion_in_float64_does(name):
    own = exam.Exam(case_of(name))
    right = exam.ours()
    drifting = bookkeeping._recursion(right.schedulers[own.case.scheduler])
    wrong = right._replace(schedulers={**right.schedulers, own.case.scheduler: drifting})
    assert own.case.epochs == LONG
    assert own.errors(own.stepped(right)).worst <= SCHEDULE_LIMITS["curve"].worst
    assert own.errors(own.stepped(wrong)).worst > 10 * SCHEDULE_LIMITS["curve"].worst


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.scheduler}, {mutant.name}")
def test_every_mutant_is_rejected_by_its_figures(mutant, exams):
    reason = schedules.examine(mutant, exams)
    assert reason is not None
    assert "raises" not in reason


def test_mutants_have_different_names_and_are_of_every_scheduler():
    names = [(mutant.scheduler, mutant.name) for mutant in MUTANTS]
    assert len(set(names)) == len(names) > 300
    assert {scheduler for scheduler, _ in names} == {case.scheduler for case in schedules.plan()}


def test_what_changes_nothing_survives_and_what_raises_does_not(exams):
    right = exam.ours()

    def broken(_):
        raise ZeroDivisionError("on purpose")

    harmless = mutation.Mutant("StepLR", "changes nothing", lambda own: own.measure(right))
    assert schedules.examine(harmless, exams) is None
    assert "raises ZeroDivisionError" in schedules.examine(harmless._replace(measure=broken), exams)


def test_a_mutant_of_a_formula_that_is_no_longer_there_is_an_error():
    with pytest.raises(StaleMutantError, match="no such text"):
        mutation._formula_mutant(Wrong("StepLR", "stale", "step", "no such text", ""))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", exam.Errors._fields)
@pytest.mark.parametrize("beyond", [1.001, np.nan, np.inf])
def test_every_limit_can_fail(way, kind, beyond):
    case = CASES[0]
    bad = getattr(FINE, way)._replace(**{kind: getattr(SCHEDULE_LIMITS["curve"], kind) * beyond})
    assert exam.failures(FINE, case) == []
    (found,) = exam.failures(FINE._replace(**{way: bad}), case)
    assert way in found


def test_a_plateau_must_be_met_to_the_bit():
    nearly = exam.Errors(worst=0.5, mean=0.0)
    assert exam.failures(exam.Measured(None, nearly, exam.Errors(0.0, 0.0), None), PLATEAU_CASES[0])


@pytest.mark.parametrize(
    ("make", "way"),
    [
        (bookkeeping._late_curve, "closed"),
        (bookkeeping._momentum_curve, "closed"),
        (bookkeeping._forgets, "resumed"),
        (bookkeeping._continues_not, "continued"),
    ],
)
def test_every_way_is_looked_at_alone(make, way):
    library = exam.ours()
    wrong = library._replace(schedulers={**library.schedulers, "CyclicLR": make(library.schedulers["CyclicLR"])})
    case = case_of("CyclicLR(base_lr=0.01, max_lr=0.1, step_size_up=20)")
    found = exam.failures(exam.Exam(case, mutation.EPOCHS).measure(wrong), case)
    assert found
    assert all(failure.startswith(way) for failure in found)


@pytest.mark.parametrize("place", [(0, 5), (1, 5)])
def test_one_number_that_is_not_one_is_seen(place):
    own = exam.Exam(case_of("StepLR(step_size=7)"), 20)
    curves = own.stepped(exam.ours())
    curves[place] = np.nan
    assert not own.errors(curves).worst <= SCHEDULE_LIMITS["curve"].worst


def tenth(n, d=1):
    return Fraction(0.1) * n / d


@pytest.mark.parametrize(
    ("text", "epoch", "value"),
    [
        ("StepLR(step_size=7)", 14, Fraction(0.1) ** 3),
        ("MultiStepLR(milestones=[0, 9, 9, 30], gamma=0.3)", 9, tenth(1) * Fraction(0.3) ** 3),
        ("ConstantLR(factor=0.1, total_iters=20)", 19, tenth(1) * Fraction(0.1)),
        ("ConstantLR(factor=0.1, total_iters=20)", 20, tenth(1)),
        ("LinearLR(start_factor=0.7, end_factor=0.0, total_iters=30)", 12, tenth(1) * Fraction(0.7) * 18 / 30),
        ("PolynomialLR(total_iters=50, power=2.0)", 20, tenth(9, 25)),
        ("CosineAnnealingLR(T_max=50)", 25, tenth(1, 2)),
        ("CosineAnnealingLR(T_max=50)", 50, 0),
        ("CosineAnnealingWarmRestarts(T_0=5, T_mult=2, eta_min=0.0001)", 15, tenth(1)),
        (
            "CyclicLR(base_lr=0.1, max_lr=0.3, step_size_up=5, base_momentum=[0.5, 0.6], max_momentum=[0.95, 0.7])",
            5,
            0.3,
        ),
        ("CyclicLR(base_lr=0.01, max_lr=0.1, step_size_up=2.5, step_size_down=3.25)", 23, 0.01),
        ("OneCycleLR(max_lr=0.1, total_steps=300)", 89, tenth(1)),
        ("OneCycleLR(max_lr=0.1, total_steps=300)", 299, tenth(1, 250_000)),
        ("SWALR(swa_lr=0.05)", 5, (tenth(1) + Fraction(0.05)) / 2),
        ("ReduceLROnPlateau(patience=4)", 0, tenth(1)),
    ],
)
def test_the_truth_has_the_values_that_one_can_tell_by_hand(text, epoch, value):
    with truth.precision():
        own = exam.Exam(case_of(text))
        rounded, lost, _ = own._truth
    held = Fraction(1, 2**100)  # what two floats hold
    assert abs(Fraction(rounded[0, epoch]) + Fraction(lost[0, epoch]) - Fraction(value)) <= held * Fraction(value)


@pytest.mark.parametrize("name", _CURVES)
def test_the_truth_assumes_the_defaults_that_the_classes_have(name):
    own = inspect.signature(exam.ours().schedulers[name]).parameters
    for parameter in inspect.signature(_CURVES[name]).parameters.values():
        if parameter.default is not parameter.empty:
            assert parameter.default == own[parameter.name].default, parameter.name


def test_every_scheduler_has_cases():
    public = {name for name, kind in vars(lr_scheduler).items() if isinstance(kind, type)} - {"LRScheduler"}
    assert {case.scheduler for case in schedules.plan()} == public | {"SWALR"}
    labels = [str(case) for case in schedules.plan()]
    assert len(set(labels)) == len(labels)


def test_a_filter_chooses_cases():
    assert {case.scheduler for case in schedules.plan("onecycle")} == {"OneCycleLR", "SequentialLR"}
    assert schedules.plan("no such thing") == []


@pytest.mark.parametrize("case", PLATEAU_CASES, ids=str)
def test_metrics_make_a_plateau_reduce_the_learning_rate_more_than_once(case):
    rounded, _, _ = exam.Exam(case)._truth
    assert all(len(set(curve)) > 2 for curve in rounded.tolist())
    seen = plateau.metrics(case.options.get("mode", "min"), case.epochs)
    assert np.isnan(seen).any()
    assert np.isinf(seen).any()
    assert len(set(seen)) < len(seen) / 3


def test_a_value_that_is_not_known_well_enough_is_an_error(monkeypatch):
    monkeypatch.setattr(exam, "BALL", 0.0)
    with pytest.raises(truth.WideBallError, match="CosineAnnealingLR"):
        exam.Exam(case_of("CosineAnnealingLR(T_max=50)"), 20).measure(exam.ours())


def test_groups_have_their_own_exact_curves():
    case = Case("SWALR", {"swa_lr": [0.5, 0.25], "anneal_epochs": 4}, 8)
    first, second = exact_curves(case, [1.0, 2.0], 0.9)
    assert (float(first[-1]), float(second[-1])) == (0.5, 0.25)
    assert (float(first[0]), float(second[0])) == (1.0, 2.0)


def test_the_report_has_a_line_for_each_case_and_says_what_failed():
    (row,) = schedules.rows("OneCycleLR(max_lr=1.0, total_steps=60")
    printed = schedules.text([row, row._replace(failures=["stepped, worst: 9 ulp"])])
    assert printed.count("OneCycleLR(max_lr=1.0, total_steps=60") == 3
    assert "1 of 2 schedules are within their limits" in printed
    assert "FAILED OneCycleLR" in printed
    assert max(map(len, printed.splitlines())) < 200
    (plain,) = json.loads(json.dumps(schedules.as_json([row])))
    assert plain["measured"]["closed"] == row.measured.closed._asdict()
    assert plain["schedule"] == str(row.case)


def test_the_report_says_how_much_stepping_drifts():
    (row,) = schedules.rows("StepLR(step_size=3, gamma=0.99)")
    assert "Over 10,000 epochs stepping drifts by at most 0.5 ulp" in schedules.text([row])
    assert "drifts" not in schedules.text([row._replace(case=row.case._replace(epochs=20))])


def test_torch_is_measured_beside_us_and_what_it_cannot_do_is_left_blank():
    pytest.importorskip("torch", reason="torch, the witness, is not installed")
    (row,) = schedules.rows("StepLR(step_size=3, gamma=0.99)")
    assert row.torch.worst > 10
    (row,) = schedules.rows("ConstantLR(factor=0.0")
    assert row.torch is None
    assert report.text([row])
