"""Rules of the house that a machine can hold: sizes, names, no loose ends, and a Makefile that says what it does."""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("he", "secagg", "coordinator", "tests", "tools", "benchmarks", "examples")
GENERATED = ROOT / "secagg" / "wire"
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}
# Written in two halves, so that this file does not find itself.
LOOSE_ENDS = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|X" + r"XX)\b")
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")


def _sources() -> Iterator[Path]:
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if GENERATED not in path.parents:
                yield path


SOURCES = [pytest.param(path, id=str(path.relative_to(ROOT))) for path in _sources()]


def _targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


def _documented_targets(path: Path) -> set[str]:
    # In prose too, a command stands in backquotes or at the start of a line of a code block.
    return set(re.findall(r"(?:^|`|&& )make ([a-z][a-z-]*)", path.read_text(), flags=re.MULTILINE))


@pytest.mark.parametrize("path", SOURCES)
def test_a_file_holds_one_idea(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= MAX_FILE_LINES, f"{lines} lines: it holds two ideas, find them"


@pytest.mark.parametrize("path", SOURCES)
def test_a_function_does_one_thing(path: Path) -> None:
    tree = ast.parse(path.read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    sizes = {node.name: (node.end_lineno or node.lineno) - node.lineno + 1 for node in functions}
    assert not {name: size for name, size in sizes.items() if size > MAX_FUNCTION_LINES}


@pytest.mark.parametrize("path", SOURCES)
def test_a_module_is_named_after_what_it_holds(path: Path) -> None:
    names = {*path.relative_to(ROOT).with_suffix("").parts}
    assert not {word for name in names for word in name.split("_")} & VAGUE_NAMES


@pytest.mark.parametrize("path", SOURCES)
def test_nothing_is_left_for_later(path: Path) -> None:
    assert not LOOSE_ENDS.findall(path.read_text())


def test_the_house_is_not_empty() -> None:
    # The tests above pass on no files at all.
    assert {path.relative_to(ROOT).parts[0] for path in _sources()} >= {"he", "secagg", "coordinator", "tests"}


def test_make_help_lists_every_target_that_a_person_runs() -> None:
    listing = subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    parts = {target for target in _targets() if target.startswith("lint-")}
    assert set(re.findall(r"^ +make ([a-z-]+) ", listing, flags=re.MULTILINE)) == _targets() - parts


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_names_only_targets_that_exist(name: str) -> None:
    documents = [path for path in [ROOT / name] if path.exists()]
    assert all(_documented_targets(path) <= _targets() for path in documents)


def test_ci_runs_what_a_person_runs() -> None:
    commands = (ROOT / ".ci" / "run").read_text()
    assert {"lint", "test"} <= set(re.findall(r"^make (?:--keep-going )?([a-z]+)", commands, flags=re.MULTILINE))


def test_the_distribution_is_named_like_none_of_its_packages() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] not in {"he", "secagg", "coordinator"}


@pytest.mark.parametrize("package", ["he", "secagg", "coordinator"])
def test_a_package_tells_type_checkers_that_it_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


def test_the_folder_of_the_wires_sources_is_no_package() -> None:
    assert not list((ROOT / "proto").rglob("*.py"))


def test_decisions_are_numbered_without_a_gap() -> None:
    numbers = sorted(int(path.name[:4]) for path in (ROOT / "docs" / "adr").glob("[0-9]*.md"))
    assert numbers == list(range(1, len(numbers) + 1))
