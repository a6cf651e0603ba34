"""A peer's environment is made once for each list of requirements; what cannot be had is missing, with the reason."""

import sys
from pathlib import Path

import pytest

from benchmarks.environments import PEERS, environment, interpreter
from benchmarks.records import Missing


def test_an_environment_is_made_once_and_again_when_its_requirements_change(tmp_path: Path) -> None:
    requirements = tmp_path / "peer.txt"
    requirements.write_text("# nothing\n")
    python = environment("peer", place=tmp_path / "bench", requirements=requirements)
    assert isinstance(python, Path)
    assert python.exists()
    mark = python.parent / "mark"
    mark.touch()
    assert environment("peer", place=tmp_path / "bench", requirements=requirements) == python
    assert mark.exists()

    requirements.write_text(f"{tmp_path}/no_such_package-1.0-py3-none-any.whl\n")
    for _ in range(2):  # What was begun is not taken for made.
        missing = environment("peer", place=tmp_path / "bench", requirements=requirements)
        assert isinstance(missing, Missing)
        assert missing.contestant == "peer"
        assert missing.reason.startswith("not installed: ")
        assert "no_such_package" in missing.reason
    assert not mark.exists()


def test_a_shim_that_starts_nothing_is_no_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _only_these_pythons(tmp_path, monkeypatch)
    shim = tmp_path / "bin" / "python3.10"
    shim.parent.mkdir()
    shim.write_text("#!/bin/sh\necho 'no such version' >&2; exit 127\n")
    shim.chmod(0o755)
    assert interpreter("3.10") is None
    missing = environment("openfhe", place=tmp_path / "bench")
    assert isinstance(missing, Missing)
    assert "no python3.10" in missing.reason
    assert not (tmp_path / "bench").exists()


def test_an_interpreter_is_found_where_pyenv_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _only_these_pythons(tmp_path, monkeypatch)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    kept = tmp_path / "pyenv" / "versions" / f"{version}.99" / "bin" / f"python{version}"
    kept.parent.mkdir(parents=True)
    kept.symlink_to(Path(sys.executable).resolve())
    assert interpreter(version) == kept
    assert interpreter("2.99") is None


def test_we_ourselves_run_in_this_interpreter() -> None:
    assert interpreter(None) == Path(sys.executable)


@pytest.mark.parametrize("file", sorted(PEERS.glob("*.txt")), ids=lambda file: file.stem)
def test_what_is_measured_against_is_pinned(file: Path) -> None:
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    assert lines
    assert all("==" in line for line in lines)


def _only_these_pythons(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(folder / "bin"))
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("PYENV_ROOT", str(folder / "pyenv"))
