"""The commands check and smoke, with their exit codes and files."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("flint", reason="python-flint, extra conformance, is not installed")

from refoptim import cli
from refoptim.conformance.reports import json_lines
from refoptim.conformance.vectors import store

FAUX = str(Path(__file__).with_name("faux.py"))


def program(mode):
    return ["--", sys.executable, FAUX, mode]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--adapter", "refoptim", "--filter", "sgd.*"], 0, "conforms at grade A"),
        (["--filter", "sgd.f32.dyadic", *program("stays")], 1, "DOES NOT CONFORM"),
        (["--filter", "sgd.f32.dyadic.plain", *program("exits")], 3, "1 protocol error"),
        (["--filter", "sgd.f32.dyadic.plain", *program("raises")], 3, "1 errored"),
        (["--filter", "sgd.f32.dyadic.plain", *program("old-protocol")], 3, "speaks protocol 0"),
        (["--filter", "nothing", "--adapter", "refoptim"], 2, "no vector matches"),
        ([], 2, "give either"),
        (["--self-check", "--adapter", "refoptim"], 2, "asks nobody"),
        (["--adapter", "refoptim", *program("stays")], 2, "give either"),
        (["--adapter", "nonsense"], 2, "there is no adapter 'nonsense'"),
        (["--adapter", "no.such.module:Class"], 2, "no module"),
        (["--adapter", "json:loads"], 2, "cannot be made: TypeError"),
        (["--adapter", "json:JSONDecoder"], 2, "it has no info"),
        (["--adapter", "refoptim", "--validate", "--filter", "lbfgs"], 0, "conforms at grade A"),
        (["--adapter", "refoptim", "--validate", "--filter", "steplr"], 0, "conforms exactly"),
        (["--", "./no-such-program"], 2, "no-such-program"),
        (["--adapter", "refoptim", "--json", "nowhere/x.json"], 2, "there is no folder nowhere"),
        (["--adapter", "refoptim", "--junit", "."], 2, "--junit .: it is a folder"),
        (["--adapter", "refoptim", "--write-skips", "."], 2, "--write-skips .: it is a folder"),
        (["--adapter", "refoptim", "--timeout", "3"], 2, "--timeout is for programs"),
        (["--adapter", "refoptim", "--jobs", "3"], 2, "--jobs is for programs"),
        (["--adapter", "refoptim", "--skips", "nowhere.toml"], 2, "nowhere.toml"),
        (["--adapter", "refoptim", "--vectors", "nowhere"], 2, "index.json"),
    ],
)
def test_the_command(capsys, arguments, code, words):
    assert cli.main(["check", "--quiet", *arguments]) == code
    assert words in "".join(capsys.readouterr())


LEAVING = """
import sys
from refoptim.conformance.runner.adapter import Base, Info

class Leaving(Base):
    info = Info("leaving", "1")

    def start(self, problem):
        sys.exit(0)
"""


def test_an_adapter_that_leaves_is_an_error(tmp_path, monkeypatch, capsys):
    (tmp_path / "leaving.py").write_text(LEAVING)
    monkeypatch.chdir(tmp_path)
    arguments = ["--adapter", "leaving:Leaving", "--filter", "sgd.f32.dyadic.plain", "--json", "report.jsonl"]
    assert cli.main(["check", *arguments]) == 3
    assert "SystemExit: 0" in capsys.readouterr().out
    assert '"complete": true' in Path("report.jsonl").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("option", "values", "accepted"),
    [
        ("--timeout", ["0", "-1", "nan", "inf", "1e300", "soon"], "not a number of seconds above 0, up to 86,400"),
        ("--jobs", ["0", "-1", "1e9", "100000"], "not a number from 1 to 256"),
    ],
)
def test_options_out_of_range(capsys, option, values, accepted):
    for value in values:
        with pytest.raises(SystemExit, match="2"):
            cli.main(["check", f"{option}={value}", *program("stays")])
        assert f"{value} is {accepted}" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full")
@pytest.mark.parametrize("option", ["--junit", "--markdown", "--write-skips"])
def test_a_report_that_cannot_be_written_loses_no_other(tmp_path, capsys, option):
    html = tmp_path / "page.html"
    arguments = ["--filter", "sgd.f32.dyadic.plain", option, "/dev/full", "--html", str(html), *program("stays")]
    assert cli.main(["check", *arguments]) == 2
    printed = capsys.readouterr()
    assert "DOES NOT CONFORM" in printed.out
    assert printed.err == f"refoptim check: {option} /dev/full: No space left on device\n"
    assert html.exists()


def test_a_file_that_ends_early_does_not_end_the_run(tmp_path, monkeypatch, capsys):
    def full(self, result):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(json_lines.Stream, "result", full)
    file = tmp_path / "report.jsonl"
    assert cli.main(["check", "--filter", "sgd.f32.dyadic.*", "--json", str(file), *program("stays")]) == 2
    printed = capsys.readouterr()
    assert "8 of 8 vectors failed" in printed.out
    assert printed.err == f"refoptim check: --json {file}: No space left on device\n"
    with pytest.raises(json_lines.TruncatedReportError):
        json_lines.read(file)


def test_damaged_vectors_of_the_package_are_a_failed_self_check(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(store, "PACKAGED", tmp_path)
    assert cli.main(["check", "--adapter", "refoptim"]) == 5
    assert "index.json" in capsys.readouterr().err


def test_the_smoke_command(capsys):
    assert cli.main(["smoke", "--adapter", "refoptim"]) == 0
    assert cli.main(["smoke", *program("stays")]) == 1
    assert cli.main(["smoke", *program("hangs-at-hello")[:3], "old-protocol"]) == 3
    assert cli.main(["smoke"]) == 2
    assert cli.main(["smoke", "--", "./no-such-program"]) == 2
    assert "reaches zero" in capsys.readouterr().out


def test_files(tmp_path, capsys):
    options = [
        part for kind in ("json", "junit", "markdown", "badge", "html") for part in (f"--{kind}", str(tmp_path / kind))
    ]
    skips = tmp_path / "skips.toml"
    arguments = ["--filter", "sgd.f32.dyadic.*", "--write-skips", str(skips), *options, *program("stays")]
    assert cli.main(["check", *arguments]) == 1
    assert {file.name for file in tmp_path.iterdir()} >= {"json", "junit", "markdown", "badge", "html"}
    again = ["--filter", "sgd.f32.dyadic.*", "--strict", "--skips", str(skips), *program("stays")]
    assert cli.main(["check", *again]) == 2
    assert "8 skipped" in capsys.readouterr().out
