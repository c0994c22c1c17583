"""The command line as a whole: what all commands do where they are interrupted, not heard, or wrong."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("flint", reason="python-flint, extra conformance, is not installed")

from refoptim import cli
from refoptim.cli import explain, refusals

LINE = [sys.executable, "-c", "import sys; from refoptim.cli import main; sys.exit(main())"]
# With little to say, and with more than a buffer takes.
SAYING = [["explain", "keras.Adam"], ["vectors", "list"]]


@pytest.mark.parametrize("arguments", SAYING)
def test_who_is_not_heard_any_more_ends_without_a_word(arguments):
    reads, writes = os.pipe()
    os.close(reads)
    ended = subprocess.run([*LINE, *arguments], stdout=writes, stderr=subprocess.PIPE, check=False)
    os.close(writes)
    assert (ended.returncode, ended.stderr) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full")
@pytest.mark.parametrize("arguments", SAYING)
def test_a_full_disk_is_named(arguments):
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run([*LINE, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.stderr == f"refoptim {arguments[0]}: standard output: No space left on device\n"
    assert ended.returncode == 2


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (refusals.RefusedError("no"), 2, "refoptim explain: no\n"),
        (PermissionError(13, "Permission denied", "x.toml"), 2, "refoptim explain: x.toml: Permission denied\n"),
        (ModuleNotFoundError(name="flint"), 2, "refoptim explain needs flint: pip install 'refoptim[conformance]'\n"),
        (ModuleNotFoundError("No module named 'x'", name="x"), 2, "ModuleNotFoundError: No module named 'x'\n"),
        (ZeroDivisionError("a mistake of ours"), 2, "ZeroDivisionError: a mistake of ours\n"),
        (OSError(24, "Too many open files"), 2, "Too many open files\n"),
    ],
)
def test_what_ends_a_command_is_never_taken_for_a_judgement(monkeypatch, capsys, error, code, words):
    def fails(_):
        raise error

    monkeypatch.setattr(explain, "run", fails)
    assert cli.main(["explain", "keras.Adam"]) == code
    assert capsys.readouterr().err.endswith(words)


@pytest.mark.parametrize("command", [["--help"], ["check", "--help"], ["smoke", "--help"], ["vectors", "--help"]])
def test_exit_codes_are_in_the_help(capsys, command):
    with pytest.raises(SystemExit, match="0"):
        cli.main(command)
    assert "Exit codes: 0" in " ".join(capsys.readouterr().out.split())
