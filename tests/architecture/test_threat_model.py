"""`docs/threat-model.md` names the tests that show what it says; each of them exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "threat-model.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py::\w+)`", PAGE)))


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the table in a section, without its header."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


ADVERSARIES = rows("What an adversary gets from a `ckks` round")
MASKING = rows("What an adversary gets from a `masking` round")
HOLDERS = [*rows("What a corrupt client can do to a `masking` round"), *rows("What a key holder can do")]


@cache
def names_of_tests(file: str) -> set[str]:
    """Return the names of the tests of a file, those in classes too."""
    tree = ast.parse((ROOT / file).read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {node.name for node in functions if node.name.startswith("test_")}


@pytest.mark.parametrize("name", NAMED)
def test_a_test_that_is_named_exists(name: str) -> None:
    file, _, test = name.partition("::")
    assert (ROOT / file).is_file()
    assert test in names_of_tests(file)


@pytest.mark.parametrize("row", [*ADVERSARIES, *MASKING, *HOLDERS], ids=lambda row: row[0].strip("*"))
def test_every_row_is_shown_or_said_to_be_open(row: list[str]) -> None:
    shown = row[-1]
    assert re.findall(r"`(tests/[^`]*)`", shown) or shown.startswith("not covered")
    assert set(re.findall(r"`(tests/[^`]*)`", shown)) <= set(NAMED)


def test_the_adversaries_are_those_of_the_design() -> None:
    for table in (ADVERSARIES, MASKING):
        assert [row[0] for row in table] == [str(number) for number in range(1, 10)]


def test_line_5_stands_as_long_as_its_attack_works() -> None:
    [line] = [row for row in ADVERSARIES if row[0] == "5"]
    assert "test_malformed_ciphertext.py::" in line[-1]
    assert "every update" in line[2]
