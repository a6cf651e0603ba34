"""What a client keeps of a round: nothing that was not on disk when it counted, and nothing when the round is over."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from secagg.client import journal as journal_module
from secagg.client.journal import Journal, Record
from secagg.client.keeping import KeepingOnDisk
from secagg.client.kept_events import Kind
from secagg.errors import StorageError
from secagg.identity import Party, Role
from secagg.ids import JobId

ALICE, COORDINATOR = Party(role=Role.CLIENT, name="alice"), Party(role=Role.COORDINATOR, name="coordinator")
MASKED = Record(kind=Kind.MASKED, payload=b"the digest")


@pytest.fixture
def keeping(tmp_path: Path) -> KeepingOnDisk:
    return KeepingOnDisk(tmp_path / "state", job=JobId("digits"), client=ALICE, coordinator=COORDINATOR)


def test_a_vector_without_its_journal_is_removed(keeping: KeepingOnDisk, tmp_path: Path) -> None:
    """A kill between the two steps of forgetting leaves the vector alone."""
    keeping.open()
    keeping.new_vector()
    keeping.vector.append(b"masked")
    keeping.close()
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["digits.vector"]
    assert keeping.open() == ()
    keeping.close()
    assert list((tmp_path / "state").iterdir()) == []


def test_a_vector_outlives_a_journal_that_cannot_be_emptied(
    keeping: KeepingOnDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other way round, a client would drop out of a round that it could have gone on with."""
    keeping.open()
    keeping.new_vector()
    keeping.note(MASKED)

    def fails(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "ftruncate", fails)
        with pytest.raises(StorageError):
            keeping.forget()
    keeping.close()
    assert (tmp_path / "state" / "digits.vector").exists()
    assert keeping.open() == (MASKED,)
    keeping.close()


def test_the_name_of_the_vector_is_on_disk_before_it_is_written(
    keeping: KeepingOnDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeping.open()
    synced: list[str] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115 - a descriptor
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    keeping.new_vector()
    assert synced == [str(tmp_path / "state")]
    keeping.close()


def test_a_journal_is_opened_under_the_name_that_it_has_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another call ends and removes its journal between our opening and our locking it: a nameless one would be lost in a kill."""
    path, lock = tmp_path / "journal", journal_module._lock
    removed: list[Path] = []

    def removes_first(descriptor: int, name: Path) -> None:
        if not removed:
            removed.append(name)
            name.unlink()
        lock(descriptor, name)

    monkeypatch.setattr(journal_module, "_lock", removes_first)
    journal = Journal.open(path)
    journal.append(MASKED)
    journal.close()
    again = Journal.open(path)
    again.close()
    assert removed == [path]
    assert again.records == (MASKED,)
