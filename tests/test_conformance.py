"""The suite itself: what is right passes, every mutant is rejected, and the command line says so."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("flint", reason="python-flint, extra conformance, is not installed")

from refoptim import cli
from refoptim.cli import jobs
from refoptim.cli.refusals import RefusedError
from refoptim.conformance import formats, mutants, report, subjects, suite
from refoptim.conformance.case import Case, RuleMutant
from refoptim.conformance.cases import adam, sgd, stems
from refoptim.conformance.specials import Specials
from refoptim.conformance.tolerances import LIMITS
from refoptim.conformance.vectors import generate
from refoptim.kernels import threads

STATES = {"exp_avg": suite.StateErrors(step=1, probe=1, median=1)}


@pytest.fixture(scope="module")
def exams():
    return {stem: mutants.exams_of(stem) for stem in stems()}


@pytest.mark.slow  # without the cases in float64 the tests of automatic mutants do it, too
def test_nothing_right_is_rejected_by_the_exams_that_reject_mutants(exams):
    for each in exams.values():
        for exam in each:
            assert exam.rejects(subjects.refoptim_subject("fused")) is None, exam.case


@pytest.mark.parametrize("implementation", subjects.IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", ["float32", "complex128"])
@pytest.mark.parametrize("stem", [stem for stem, module in stems().items() if getattr(module, "ELEMENTWISE", True)])
def test_infinity_nan_and_zero_are_where_the_formula_has_them(stem, dtype, implementation):
    if dtype.startswith("complex") and getattr(stems()[stem], "REAL_ONLY", False):
        pytest.skip("no complex parameters")
    for case in stems()[stem].CASES:
        exam = Specials(case, stems()[stem].meaning(case), dtype)
        assert exam.differences(subjects.refoptim_subject(implementation)) == 0, case


def test_an_option_that_is_off_and_touches_the_numbers_is_seen():
    touches = RuleMutant("decays by 0", "sgd", "h.weight_decay != 0", "h.weight_decay == h.weight_decay")
    exam = Specials(Case("SGD", {}), sgd.meaning(Case("SGD", {})), np.float32)
    assert exam.differences(mutants._rule_mutant("sgd", touches).subject) == 2  # infinity, and minus infinity


@pytest.mark.slow  # the command does it, too
@pytest.mark.parametrize("mutant", mutants.mutants(), ids=lambda m: f"{m.optimizer or m.stem}: {m.name}")
def test_every_mutant_is_rejected(mutant, exams):
    assert mutants.examine(mutant, exams[mutant.stem]) is not None


def test_mutants_have_different_names():
    names = [(mutant.stem, mutant.optimizer, mutant.name) for mutant in mutants.mutants()]
    assert len(set(names)) == len(names) > 140


def test_a_mutant_of_code_that_is_no_longer_there_is_an_error():
    stale = RuleMutant("stale", "adam", "h.no_such_scalar", "h.eps")
    with pytest.raises(mutants.StaleMutantError, match="no_such_scalar"):
        mutants._rule_mutant("adam", stale)


@pytest.mark.parametrize("limit", ["step", "probe", "short", "median", "scaled"])
def test_every_limit_can_fail(limit):
    just_right = suite.Measured(step=1, step_mean=0.25, probe=1, states=STATES, short=1, median=1, scaled=1)
    assert suite.failures(just_right, LIMITS["fused"], None) == []
    beyond = just_right._replace(**{limit: getattr(LIMITS["fused"], limit) * 1.001})
    assert len(suite.failures(beyond, LIMITS["fused"], None)) == 1
    assert len(suite.failures(just_right._replace(**{limit: np.nan}), LIMITS["fused"], None)) == 1


@pytest.mark.parametrize(("kind", "limit"), [("probe", "probe"), ("median", "state")])
def test_every_state_array_can_fail(kind, limit):
    fine = suite.Measured(step=1, step_mean=0.25, probe=1, states=STATES)
    bad = STATES["exp_avg"]._replace(**{kind: getattr(LIMITS["fused"], limit) * 1.001})
    (found,) = suite.failures(fine._replace(states=STATES | {"exp_avg_sq": bad}), LIMITS["fused"], None)
    assert "state" in found


def test_the_mean_is_compared_with_torch_where_there_is_torch():
    ours = suite.Measured(step=1, step_mean=0.28, probe=1, states=STATES)
    assert suite.failures(ours, LIMITS["fused"], None) == []
    assert suite.failures(ours, LIMITS["fused"], ours._replace(step_mean=0.277)) == []
    assert "torch" in suite.failures(ours, LIMITS["fused"], ours._replace(step_mean=0.25))[0]


@pytest.mark.parametrize("nothing", [np.inf, np.nan])
def test_a_mean_of_torchs_that_is_not_finite_is_none_to_compare_with(nothing):
    ours = suite.Measured(step=1, step_mean=0.35, probe=1, states=STATES)
    (found,) = suite.failures(ours, LIMITS["fused"], ours._replace(step_mean=nothing))
    assert "limit" in found


def test_float64_arithmetic_is_held_to_half_an_ulp_of_the_state_too():
    ours = suite.Measured(0.5, 0.25, 0.5, {"exp_avg": suite.StateErrors(step=0.52, probe=0.5)})
    assert "state" in suite.failures(ours, LIMITS["float64"], None)[0]


TORCHS = [case for module in stems().values() for case in module.CASES if "dialect" not in case.options]


@pytest.mark.parametrize("case", TORCHS, ids=str)
def test_the_suite_gives_torch_the_defaults_that_the_cases_assume(case):
    torch = pytest.importorskip("torch", reason="torch, the witness, is not installed")
    optimizer = getattr(torch.optim, case.optimizer)([torch.nn.Parameter(torch.zeros(case.shape or 1))], **case.options)
    group = optimizer.param_groups[0]
    module = next(module for module in stems().values() if case in module.CASES)
    symbols = module.meaning(case).symbols(3)
    assert symbols["gamma"] == group["lr"]
    assert symbols.get("lambda_") == group.get("weight_decay")
    assert symbols.get("maximize") == group.get("maximize")
    if module is adam:
        assert (symbols["beta1"], symbols["beta2"], symbols["epsilon"]) == (*group["betas"], group["eps"])
        assert symbols["decoupled"] == group["decoupled_weight_decay"]


def test_the_command_prints_the_table_and_writes_it_as_json(capsys, tmp_path, monkeypatch):
    file = tmp_path / "report.json"
    only = {"sgd": stems()["sgd"]}
    monkeypatch.setattr(report.cases, "stems", lambda: only)
    arguments = ["--filter", "SGD(momentum=0.9) float", "--jobs", "1", "--json", str(file), "--quiet"]
    assert cli.main(["conformance", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "SGD(momentum=0.9)" in printed
    assert "wrong optimizers and schedulers are rejected" in printed
    found = json.loads(file.read_text())
    assert found["passed"] is True
    assert {row["implementation"] for row in found["rows"]} == set(LIMITS)
    assert {row["dtype"] for row in found["rows"]} == {"float32", "float64"}
    assert found["mutants"]["survivors"] == []
    for row in found["rows"]:
        assert 0 < row["measured"]["step"] < 2
        assert row["failures"] == []
        assert set(row["measured"]["states"]) == {"momentum_buffer"}


def test_the_command_fails_if_anything_does(monkeypatch, capsys):
    monkeypatch.setitem(LIMITS, "fused", LIMITS["fused"]._replace(step=0.01))
    monkeypatch.setattr(report.wrong, "verdicts", lambda _: {})
    assert cli.main(["conformance", "--filter", "SGD(defaults) float32", "--jobs", "1", "--quiet"]) == 1
    assert "FAILED SGD(defaults) float32 fused: one step" in capsys.readouterr().out


def test_the_command_fails_if_a_mutant_survives(monkeypatch, capsys):
    harmless = mutants.Mutant("sgd", "changes nothing", "SGD", subjects.refoptim_subject("fused"))
    monkeypatch.setattr(report.wrong, "mutants_of", lambda stem: [harmless] * (stem == "sgd"))
    assert cli.main(["conformance", "--filter", "SGD(defaults) float32", "--jobs", "1", "--quiet"]) == 1
    assert "SURVIVED  SGD: changes nothing" in capsys.readouterr().out


def test_schedules_have_a_table_of_their_own(capsys, tmp_path, monkeypatch):
    file, few = tmp_path / "report.json", report.OTHERS["schedules"].mutants()[:5]
    monkeypatch.setattr(report.OTHERS["schedules"], "mutants", lambda: few)
    arguments = ["--filter", "MultiplicativeLR", "--json", str(file), "--jobs", "1", "--quiet"]
    assert cli.main(["conformance", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "MultiplicativeLR(lr_lambda=shrinking)" in printed
    assert "computed by" not in printed
    found = json.loads(file.read_text())
    assert found["rows"] == []
    assert all(row["failures"] == [] for row in found["schedules"])
    assert "5 of 5 wrong" in printed


def shared(count, function, works):
    with jobs.each(count) as each:
        return list(each(function, works))


def done(work):
    function, argument = work
    return function(argument)


def test_processes_find_what_one_finds():
    works = [(suite.rows_of, ("SGD(defaults) float32", 0)), (suite.rows_of, ("SGD(momentum=0.9) float64", 0))]
    works += [(mutants.verdicts, stem) for stem in ("sparse_adam", "cg")]
    works += [(generate.content_of, f"{name}.schedule.json") for name in ("linearlr", "steplr")]
    works += [(report._rows_of_others, (name, "", 0)) for name in report.OTHERS]
    works += [(report._verdicts_of_others, ("roundings", 0))]
    assert shared(2, done, works) == list(map(done, works))


def killed(number):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_is_killed_is_named_as_the_reason():
    with pytest.raises(RefusedError, match="try --jobs 1"):
        shared(2, killed, [1, 2])


def own(_):
    return os.getpid()


def meet(folder):
    """Return this process, when there is another one, or after a minute."""
    (folder / str(os.getpid())).touch()
    for _ in range(6000):
        if len(list(folder.iterdir())) > 1:
            break
        time.sleep(0.01)
    return os.getpid()


def test_processes_serve_until_the_end(tmp_path):
    with jobs.each(2) as each:
        assert {*each(own, [1]), *each(own, [2])} == {os.getpid()}
        first, second, single = ({*each(meet, [tmp_path] * count)} for count in (6, 6, 1))
    assert os.getpid() not in first | second | single
    assert len(first | second | single) == 2


def late(file):
    if file is None:
        raise ValueError("no file")
    time.sleep(5)
    file.touch()


def test_what_a_process_raises_is_raised_and_the_others_end(tmp_path):
    files = [tmp_path / str(number) for number in range(3)]
    with pytest.raises(ValueError, match="no file"):
        shared(2, late, [None, *files])
    assert not any(file.exists() for file in files)


def test_ctrl_c_ends_the_command_in_a_word(monkeypatch, capsys):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(report.suite, "rows", interrupted)
    assert cli.main(["conformance", "--filter", "SGD(defaults) float32", "--jobs", "1", "--quiet"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_no_more_processes_are_started_than_there_is_work_for(monkeypatch):
    def pool(count, *others):
        raise RuntimeError(f"{count} processes")

    monkeypatch.setattr(jobs, "ProcessPoolExecutor", pool)
    monkeypatch.setattr(threads, "get_count", lambda: 64)
    assert shared(None, abs, range(-4, 0)) == [4, 3, 2, 1]
    assert shared(5, abs, [-1]) == [1]
    for given, works, count in ((2, 3, 2), (9, 3, 3), (None, 10, 3), (None, 1000, 8), (12, 1000, 12)):
        with pytest.raises(RuntimeError, match=f"^{count} processes"):
            shared(given, abs, range(works))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--filter", "no such thing"], "matches nothing"),
        (["--json", "no/such/folder/x.json"], "there is no folder"),
        (["--json", "."], "--json .: it is a folder"),
    ],
)
def test_what_cannot_be_run_is_said_and_exits_with_2(arguments, message, capsys):
    assert cli.main(["conformance", "--quiet", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_without_the_extra_the_command_says_what_to_install(tmp_path):
    code = "import sys; sys.modules['flint'] = None; from refoptim.cli import main; sys.exit(main(['conformance']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert "pip install 'refoptim[conformance]'" in done.stderr


def test_the_plan_covers_every_case_in_both_precisions():
    planned = {(str(case), np.dtype(dtype).name) for _, case, dtype in suite.plan()}
    for module in stems().values():
        for case in module.CASES:
            assert {(str(case), "float32"), (str(case), "float64")} <= planned


def test_the_first_case_of_every_optimizer_is_planned_in_16_bits():
    planned = {(case.optimizer, np.dtype(dtype).name) for _, case, dtype in suite.plan() if formats.is_half(dtype)}
    optimizers = {case.optimizer for module in stems().values() for case in module.CASES}
    assert planned == set(product(optimizers, [dtype.name for dtype in formats.halves()]))


def test_the_readme_counts_what_the_command_prints():
    pytest.importorskip("ml_dtypes", reason="ml_dtypes, extra half, is not installed")
    rows = sum(len(suite.limits_of(*entry)) for entry in suite.plan())
    wrong = {str(mutant) for judge in (mutants, *report.OTHERS.values()) for mutant in judge.mutants()}
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    assert f"whole table has {rows:,} rows" in readme
    assert f"{len(wrong):,} wrong optimizers and schedulers" in readme


def test_case_labels_are_different():
    labels = [str(case) for module in stems().values() for case in module.CASES]
    assert len(set(labels)) == len(labels)
    assert str(Case("SGD", {"momentum": 0.9, "nesterov": True})) == "SGD(momentum=0.9, nesterov)"
