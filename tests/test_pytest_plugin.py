"""The pytest plugin: one test per vector in anybody's test suite, and nothing at all without its options."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("flint", reason="python-flint, extra conformance, is not installed")

from refoptim.conformance.runner import check

pytest_plugins = ["pytester"]
FAUX = Path(__file__).with_name("faux.py")
FEW = "--refoptim-filter=sgd.f32.dyadic.*"


@pytest.fixture
def suite(pytester):
    pytester.makepyfile("def test_own(): pass")
    return pytester.runpytest_subprocess  # the entry point finds the plugin


def test_it_is_quiet_without_its_options(suite):
    suite().assert_outcomes(passed=1)


def test_one_test_per_vector(suite):
    result = suite("--refoptim-adapter=refoptim", FEW, "-v")
    result.assert_outcomes(passed=9)
    result.stdout.fnmatch_lines(["refoptim::sgd.f32.dyadic.plain PASSED*"])


def test_failures_say_what_is_wrong(suite):
    result = suite(f"--refoptim-program={sys.executable} {FAUX} stays", FEW)
    result.assert_outcomes(passed=1, failed=8)
    result.stdout.fnmatch_lines(["*step 1, w*got*expected*ulp off*"])
    result.stdout.no_fnmatch_line("*plugin.py*raise*")


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("exits", "protocol error: *exited with 7*"),
        ("raises", "errored: KeyError: w"),
        ("old-protocol", "*protocol 0*"),
    ],
)
def test_what_is_no_answer_is_an_error_and_no_failure(suite, mode, words):
    result = suite(f"--refoptim-program={sys.executable} {FAUX} {mode}", "--refoptim-filter=sgd.f32.dyadic.plain")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines([words])
    result.stdout.no_fnmatch_line("*plugin.py*raise*")


def test_an_adapter_that_cannot_be_made_is_asked_for_once(suite, pytester):
    pytester.makepyfile(mine="def make():\n    print('was made')\n    raise OSError('no card')\n")
    result = suite("--refoptim-adapter=mine:make", FEW, "-s")
    result.assert_outcomes(passed=1, errors=8)
    assert "".join(result.outlines).count("was made") == 1
    result.stdout.fnmatch_lines(["*UnknownAdapterError: 'mine:make' cannot be made: OSError: no card"])


def test_a_program_that_hangs_is_not_waited_for(suite):
    program = f"--refoptim-program={sys.executable} {FAUX} hangs"
    result = suite(program, "--refoptim-filter=sgd.f32.dyadic.plain", "--refoptim-timeout=0.5")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["protocol error: timeout: in 0.5 seconds it said nothing*"])


def test_a_program_that_always_crashes_is_given_up(suite):
    result = suite(f"--refoptim-program={sys.executable} {FAUX} exits", "--refoptim-filter=sgd.f32.*")
    asked = sum(line.startswith("protocol error") for line in result.outlines)
    assert asked == check.MOST_ERRORS + 1 < result.parseoutcomes()["errors"]
    result.stdout.fnmatch_lines(["ProtocolError: not asked: it broke the protocol too often"])


def test_unsupported_and_skipped_have_reasons(suite, pytester):
    file = pytester.path / "skips.toml"
    file.write_text('[[skip]]\nid = "sgd.f32.dyadic.plain"\nreason = "known"\n', encoding="utf-8")
    result = suite("--refoptim-adapter=refoptim", FEW, f"--refoptim-skips={file}", "-rs")
    result.assert_outcomes(passed=8, skipped=1)
    result.stdout.fnmatch_lines(["*known*"])
    result = suite(f"--refoptim-program={sys.executable} {FAUX} has-nothing", FEW)
    result.assert_outcomes(passed=1, skipped=8)


@pytest.mark.parametrize(
    ("option", "value", "passed"),
    [
        ("-k", "nesterov", 2),
        ("-m", "slow", 0),
        pytest.param("-k", "refoptim", 8, marks=pytest.mark.slow),
        pytest.param("--maxfail", "1", 9, marks=pytest.mark.slow),
    ],
)
def test_pytests_own_options(suite, pytester, option, value, passed):
    pytester.makeini("[pytest]\nmarkers = slow\n")
    deselected = 0 if option == "--maxfail" else 9 - passed
    suite("--refoptim-adapter=refoptim", FEW, option, value).assert_outcomes(passed=passed, deselected=deselected)


@pytest.mark.slow
def test_only_the_last_failures(suite):
    program = f"--refoptim-program={sys.executable} {FAUX} stays"
    suite(program, FEW, "-x").assert_outcomes(passed=1, failed=1)
    suite(program, FEW, "--lf").assert_outcomes(failed=1, deselected=8)


def test_ini(suite, pytester):
    pytester.makeini("[pytest]\nrefoptim_adapter = refoptim\n")
    suite(FEW).assert_outcomes(passed=9)


def test_junit(suite, pytester):
    suite("--refoptim-adapter=refoptim", FEW, "--junitxml=out.xml")
    text = (pytester.path / "out.xml").read_text(encoding="utf-8")
    assert text.count("<testcase") == 9
    assert 'name="grade"' in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--refoptim-adapter=refoptim", "--refoptim-filter=nothing"], "matches no vector"),
        (["--refoptim-adapter=refoptim", "--refoptim-program=x"], "give one"),
        (["--refoptim-adapter=refoptim", "--refoptim-timeout=3"], "--refoptim-timeout is for programs"),
        (["--refoptim-program=x", "--refoptim-timeout=nan"], "nan is not a number of seconds above 0"),
        (["--refoptim-adapter=refoptim", "--refoptim-skips=nowhere.toml"], "nowhere.toml"),
        (["--refoptim-adapter=refoptim", "--refoptim-skips=empty.toml"], "'adam.f16.*' matches no vector"),
    ],
)
def test_usage_errors(suite, pytester, arguments, words):
    (pytester.path / "empty.toml").write_text('[[skip]]\nid = "adam.f16.*"\nreason = "no"\n', encoding="utf-8")
    result = suite(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert words in "".join(result.errlines + result.outlines)
