"""docs/deviations.md and its tests: every row of the tables is the beginning of a test's docstring, and the reverse.

A new row needs no more than a test in any ``tests/test_deviations*.py`` whose docstring is ``What: ...`` or ``What.``
"""

import ast
from itertools import groupby
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINES = (ROOT / "docs/deviations.md").read_text(encoding="utf-8").splitlines()
FILES = [path for path in sorted((ROOT / "tests").glob("test_deviations*.py")) if path.name != Path(__file__).name]


def cells(line):
    """Return the cells of a row of a table."""
    return [cell.strip() for cell in line.strip("|").split(" | ")]


TABLES = [[cells(line) for line in lines] for is_row, lines in groupby(LINES, lambda x: x.startswith("|")) if is_row]
ROWS = [row for _, _, *rows in TABLES for row in rows]
TESTS = {
    f"{path.stem}.{node.name}": ast.get_docstring(node) or ""
    for path in FILES
    for node in ast.parse(path.read_text(encoding="utf-8")).body
    if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
}


def is_of(docstring, row):
    """Return whether a test with this docstring is the test of this row."""
    return docstring.startswith((f"{row[0]}:", f"{row[0]}."))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_every_row_has_a_test(row):
    assert any(is_of(docstring, row) for docstring in TESTS.values())


@pytest.mark.parametrize("name", TESTS)
def test_every_test_has_a_row(name):
    assert sum(is_of(TESTS[name], row) for row in ROWS) == 1


def test_rows_are_whole():
    assert len(ROWS) == len({row[0] for row in ROWS})
    for head, _, *rows in TABLES:
        assert head[0] == "what"
        assert all(len(row) == len(head) and all(row) for row in rows)
