"""The exam of parameters of 16 bits: what is right passes, wrong ones are rejected, and the command says it."""

import json
from fractions import Fraction

import numpy as np
import pytest

pytest.importorskip("flint", reason="python-flint, extra conformance, is not installed")
ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes, extra half, is not installed")

from refoptim import cli  # noqa: E402
from refoptim.conformance import formats, report, roundings, suite  # noqa: E402
from refoptim.conformance.tolerances import HALF_LIMITS, ROUNDING_LIMITS  # noqa: E402
from refoptim.conformance.wrong_roundings import Loops, wrong_sgd  # noqa: E402

FORMATS = ["bfloat16", "float16"]
RIGHT = roundings.Errors(nearest=0, once=0, master=0, written=0, strays=0, bias=1.0)


def strict(text):
    """Return JSON as data, if it is what other languages take for JSON."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


@pytest.mark.parametrize("implementation", roundings.IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", FORMATS)
def test_what_is_right_passes(dtype, implementation):
    exam = roundings.exams()[dtype]
    assert roundings.failures(exam.measure(**roundings.IMPLEMENTATIONS[implementation])) == []


@pytest.mark.parametrize("dtype", FORMATS)
def test_what_mutants_are_made_from_is_right(dtype):
    assert roundings.failures(roundings.exams()[dtype].measure(wrong_sgd(Loops))) == []


@pytest.mark.parametrize("mutant", roundings.mutants(), ids=str)
def test_every_wrong_rounding_is_rejected(mutant):
    assert roundings.examine(mutant, roundings.exams()) is not None


def test_every_measure_rejects_a_mutant_that_no_other_does():
    found = [roundings.exams()["float16"].rejects(mutant) for mutant in roundings.mutants() if mutant.loops]
    alone = {reasons[0].partition(":")[0] for reasons in found if len(reasons) == 1}
    # A tie that goes the wrong way is one with master weights too, and a written number is judged as a first step is.
    assert alone == set(ROUNDING_LIMITS._fields) - {"nearest", "written"}


@pytest.mark.parametrize("limit", ROUNDING_LIMITS._fields)
def test_every_limit_can_fail(limit):
    assert roundings.failures(RIGHT) == []
    for beyond in (getattr(ROUNDING_LIMITS, limit) + 1, np.nan):
        (found,) = roundings.failures(RIGHT._replace(**{limit: beyond}))
        assert limit in found


@pytest.mark.parametrize("dtype", FORMATS)
def test_the_exams_own_rounding_is_that_of_all_numbers_of_the_format(dtype):
    kind = next(kind for kind in formats.halves() if kind.name == dtype)
    largest = int(np.array(formats.finfo(kind).max, kind).view(np.uint16))
    numbers = np.arange(largest + 1, dtype=np.uint16).view(kind).astype(np.float64)  # in order
    middle = (numbers[:-1] + numbers[1:]) / 2
    even = numbers[:-1].copy()
    even[1::2] = numbers[2::2]
    for sign in (1.0, -1.0):
        assert np.array_equal(formats.nearest(sign * numbers, kind), sign * numbers)
        assert np.array_equal(formats.nearest(sign * middle, kind), sign * even)
        assert np.array_equal(formats.nearest(sign * np.nextafter(middle, 0), kind), sign * numbers[:-1])
        assert np.array_equal(formats.nearest(sign * np.nextafter(middle, np.inf), kind), sign * numbers[1:])
    beyond = numbers[-1] + (numbers[-1] - numbers[-2]) / 2
    assert formats.nearest(beyond, kind) == np.inf
    assert formats.nearest(np.nextafter(beyond, 0), kind) == numbers[-1]


@pytest.mark.parametrize("dtype", FORMATS)
def test_the_exact_results_of_the_exam_are_exact(dtype):
    exam = roundings.exams()[dtype]
    for lr in (roundings.LR, roundings.LR * (1 - 2.0**-30), roundings.LR * (1 + 2.0**-30)):
        theta, grad = exam._theta.astype(np.float64), exam._grad.astype(np.float64)
        right = [Fraction(x) - Fraction(lr) * Fraction(g) for x, g in zip(theta, grad, strict=True)]
        assert [Fraction(x) for x in exam._exact(exam._theta, exam._grad, lr)] == right


def test_the_command_prints_rows_of_16_bits_and_writes_them_as_json(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(report.wrong, "verdicts", lambda _: {})
    monkeypatch.setattr(suite, "torch_subject", lambda: None)  # to import it takes longer than all of this
    file = tmp_path / "report.json"
    arguments = ["--filter", "Adam(defaults) float16", "--json", str(file), "--quiet", "--jobs", "1"]
    assert cli.main(["conformance", *arguments]) == 0
    assert capsys.readouterr().out.count(" float16 ") == 6  # NAdam, RAdam and SparseAdam have one each
    found = strict(file.read_text())
    assert {row["dtype"] for row in found["rows"]} == {"float16"}
    assert {row["implementation"] for row in found["rows"]} == {"fused", "float64", "master"}
    assert all(0 < row["measured"]["step"] <= HALF_LIMITS.step for row in found["rows"])


def test_what_is_not_finite_is_null_in_json():
    nothing = suite.Measured(np.inf, np.nan, 0.5, {"exp_avg": suite.StateErrors(step=-np.inf, probe=0.25)})
    row = suite.Row("Adam", "defaults", "float16", "fused", nothing, nothing, [])
    outcome = report.Outcome([row], {}, {}, [])
    (found,) = strict(json.dumps(report.as_json(outcome)))["rows"]
    assert found["measured"] == found["torch"]
    assert [found["torch"][name] for name in ("step", "step_mean", "probe")] == [None, None, 0.5]
    assert found["torch"]["states"] == {"exp_avg": {"step": None, "probe": 0.25, "median": 0.0}}


def test_the_command_prints_roundings_and_writes_them_as_json(capsys, tmp_path):
    file = tmp_path / "report.json"
    assert cli.main(["conformance", "--filter", "rounding to float16", "--json", str(file), "--quiet"]) == 0
    assert "float16 for-loop: nearest 0, once 0, master 0, written 0, strays 0, bias" in capsys.readouterr().out
    found = strict(file.read_text())
    assert [row["implementation"] for row in found["roundings"]] == list(roundings.IMPLEMENTATIONS)
    assert len(found["mutants"]["rejected"]) == len(roundings.mutants())


@pytest.mark.parametrize("filter_", ["rounding to float16", "rounding to bfloat16"])
def test_the_command_fails_if_a_number_is_rounded_wrongly(filter_, monkeypatch, capsys):
    monkeypatch.setattr(roundings, "LOOPS", (Loops,))
    assert cli.main(["conformance", "--filter", filter_, "--quiet"]) == 1
    assert "SURVIVED  SGD bfloat16" in capsys.readouterr().out


def test_without_ml_dtypes_bfloat16_is_named_as_left_out(monkeypatch, capsys):
    monkeypatch.setattr(formats, "find_spec", lambda _: None)
    assert {np.dtype(dtype).name for *_, dtype in suite.plan("float16")} == {"float16"}
    assert {mutant.dtype for mutant in roundings.mutants()} == {"float16"}
    assert cli.main(["conformance", "--filter", "bfloat16", "--quiet"]) == 2
    assert formats.LEFT_OUT in capsys.readouterr().err
    assert formats.LEFT_OUT in report.text(report.Outcome([], {}, {}, []))
