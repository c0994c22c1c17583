"""What the README says runs, and what it names is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_example_runs(capsys):
    (code,) = blocks("python")
    assert len(code.strip().splitlines()) <= 12
    exec(code, {})
    assert capsys.readouterr().out == "True\n"


def test_every_make_target_exists():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"make ([a-z-]+)", README))
    assert {"conformance", "test"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize(
    "path", re.findall(r"`((?:refoptim|kernels|conformance|examples|benchmarks)/[\w/.]+)`", README)
)
def test_every_file_it_names_exists(path):
    assert (ROOT / path.replace("name.py", "adam.py")).exists()


@pytest.mark.parametrize("path", re.findall(r"\]\(([^)]+)\)", README))
def test_every_link_leads_somewhere(path):
    assert (ROOT / path).exists()
