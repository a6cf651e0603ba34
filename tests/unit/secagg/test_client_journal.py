"""A journal gives back what was appended, or says that it cannot: only an end that was never written is dropped."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from secagg.client.journal import Journal, Record
from secagg.errors import StorageError, UsageError

RECORDS = (
    Record(kind=1, payload=b"one"),
    Record(kind=2),
    Record(kind=3, payload=bytes(5000)),
    Record(kind=4, payload=b"4"),
)


def written(path: Path) -> bytes:
    journal = Journal.open(path)
    for record in RECORDS:
        journal.append(record)
    journal.close()
    return path.read_bytes()


def read(path: Path) -> tuple[Record, ...]:
    journal = Journal.open(path)
    journal.close()
    return journal.records


def test_a_journal_gives_back_what_was_appended(tmp_path: Path) -> None:
    written(tmp_path / "journal")
    assert read(tmp_path / "journal") == RECORDS


def test_a_record_that_was_cut_short_is_dropped_and_the_next_one_takes_its_place(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    data = written(path)
    last = len(data) - (9 + 1 + 32)
    for length in range(last, len(data)):
        path.write_bytes(data[:length])
        assert read(path) == RECORDS[:3], length
        assert path.read_bytes() == data[:last]
    journal = Journal.open(path)
    journal.append(RECORDS[3])
    journal.close()
    assert path.read_bytes() == data


def test_a_record_whose_end_was_never_written_is_dropped(tmp_path: Path) -> None:
    """A file system may have made the file longer before the power went."""
    path = tmp_path / "journal"
    data = written(path)
    for zeros in (32, 33, 42, 200):
        kept = data[: len(data) - min(zeros, 42)]
        path.write_bytes(kept + bytes(zeros))
        assert read(path) == RECORDS[:3], zeros


def test_every_other_change_is_damage(tmp_path: Path) -> None:
    """A record that was complete once is never taken for a torn one: what followed from it was sent."""
    path = tmp_path / "journal"
    data = written(path)
    for place in (*range(60), *range(len(data) - 42, len(data))):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x40]) + data[place + 1 :])
        with pytest.raises(StorageError, match="is damaged"):
            Journal.open(path)
        assert len(path.read_bytes()) == len(data)


def test_records_cannot_be_taken_out_of_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    data = written(path)
    first, second = 9 + 3 + 32, 9 + 32
    path.write_bytes(data[:first] + data[first + second :])
    with pytest.raises(StorageError, match="is damaged"):
        Journal.open(path)


def test_a_record_is_on_disk_before_append_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    journal = Journal.open(tmp_path / "journal")
    original = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_size)
        original(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    journal.append(RECORDS[0])
    journal.close()
    assert synced[-1] == (tmp_path / "journal").stat().st_size == 9 + 3 + 32


def test_a_full_disk_is_a_storage_error(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "journal")
    full = os.open("/dev/full", os.O_RDWR)
    os.dup2(full, journal._descriptor)
    os.close(full)
    with pytest.raises(StorageError, match="cannot be written"):
        journal.append(RECORDS[0])
    journal.close()


def test_two_processes_cannot_open_one_journal(tmp_path: Path) -> None:
    first = Journal.open(tmp_path / "journal")
    with pytest.raises(UsageError, match="state_dir of its own"):
        Journal.open(tmp_path / "journal")
    first.remove()
    assert not (tmp_path / "journal").exists()
    Journal.open(tmp_path / "journal").remove()


def test_a_journal_is_never_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"precious")
    (tmp_path / "digits.journal").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="cannot be opened"):
        Journal.open(tmp_path / "digits.journal")
    assert (tmp_path / "elsewhere").read_bytes() == b"precious"
