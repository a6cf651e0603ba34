"""A file is there in full or as it was before."""

import stat
from pathlib import Path

import pytest

from secagg.atomic_files import write_atomically
from secagg.errors import StorageError


def test_it_replaces_what_was_there_and_sets_the_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    write_atomically(path, b"after", mode=0o600)
    assert path.read_bytes() == b"after"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "in-the-way"
    path.mkdir()
    with pytest.raises(StorageError, match="cannot be written"):
        write_atomically(path, b"after", mode=0o600)
    assert [one.name for one in tmp_path.iterdir()] == ["in-the-way"]


def test_a_missing_directory_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written"):
        write_atomically(tmp_path / "nowhere" / "file", b"x", mode=0o600)


def test_it_never_writes_through_a_link(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"theirs")
    (tmp_path / "link").symlink_to(target)
    write_atomically(tmp_path / "link", b"ours", mode=0o600)
    assert target.read_bytes() == b"theirs"
