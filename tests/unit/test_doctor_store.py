"""What `secagg doctor` says of directories, databases and blobs, and that it leaves them as they were."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert

from coordinator.doctor_store import blob_check, database_check, probe_finding
from coordinator.store.blobs import DirectoryBlobStore
from coordinator.store.schema import open_database
from coordinator.store.tables import EVENTS, JOBS
from secagg.doctor.disk import directory_check
from secagg.doctor.examination import Check, Examination, run_checks
from secagg.doctor.findings import Finding, Level
from tests.doctor_material import QUICK, bad, can_mount, checks, off_by, remount_read_only, small_disk, the

SECRET = "hunter2-" * 3
NOBODY = 65534
MOUNTS = pytest.mark.skipif(not can_mount(), reason="needs root, and a machine that lets root mount a file system")


def _run(check: Check, examination: Examination = QUICK) -> list[Finding]:
    findings = run_checks([check], examination)
    assert all(one.advice for one in findings if one.level is not Level.OK)
    return findings


def _snapshot(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk") as mounted:
        yield mounted


# Directories


def test_a_directory_that_the_first_start_makes_is_not_made_here(tmp_path: Path) -> None:
    findings = _run(directory_check("data_dir", tmp_path / "a" / "b"))
    assert "disk.not-made" in checks(findings)
    assert not bad(findings)
    assert not (tmp_path / "a").exists()


def test_room_is_held_against_what_the_limits_allow(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    assert not bad(_run(directory_check("data_dir", tmp_path, wanted_bytes=1)))
    findings = _run(directory_check("data_dir", tmp_path, wanted_bytes=2**60))
    assert bad(findings) == {"disk.small"}
    assert "limits.spool_bytes" in the(findings, "disk.small").advice


def test_a_directory_that_others_may_look_into(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    assert "disk.open" in bad(_run(directory_check("data_dir", tmp_path)))
    assert "disk.open" not in bad(_run(directory_check("spool_dir", tmp_path, private=False)))


def test_a_file_in_the_place_of_a_directory(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    assert bad(_run(directory_check("data_dir", tmp_path / "data"))) == {"disk.no-directory"}


@MOUNTS
def test_a_full_disk(disk: Path) -> None:
    finding = the(_run(directory_check("data_dir", disk / "data")), "disk.full")
    assert finding.level is Level.BROKEN
    assert "1 MiB are free" in finding.says


@MOUNTS
def test_a_disk_that_is_mounted_read_only(disk: Path) -> None:
    (disk / "blobs").mkdir()
    remount_read_only(disk)
    assert checks(_run(directory_check("data_dir", disk)), Level.BROKEN) == {"disk.read-only"}
    assert "read-only" in the(_run(blob_check(disk / "blobs", QUICK)), "blobs.unusable").says


@pytest.fixture
def of_another_user() -> Iterator[Path]:
    """Yield a directory that the user of this process may look into and not write; root becomes nobody meanwhile."""
    # pytest's own directories are closed to others.
    with tempfile.TemporaryDirectory() as made:
        directory, user = Path(made), os.geteuid()
        directory.chmod(0o555)
        if user == 0:
            os.seteuid(NOBODY)
        try:
            yield directory
        finally:
            os.seteuid(user)
            directory.chmod(0o700)


def test_a_directory_that_this_user_may_not_write(of_another_user: Path) -> None:
    findings = _run(directory_check("data_dir", of_another_user))
    assert checks(findings, Level.BROKEN) == {"disk.not-writable"}
    assert checks(_run(blob_check(of_another_user, QUICK)), Level.BROKEN) == {"blobs.unusable"}


# The database


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "coordinator.db"
    open_database(f"sqlite:///{path}").dispose()
    return path


def _store(path: Path, examination: Examination = QUICK) -> list[Finding]:
    return _run(database_check(f"sqlite:///{path}", examination), examination)


def _execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as opened, opened:
        for statement in statements:
            opened.execute(statement)


def test_a_sound_database_is_left_as_it_is(database: Path) -> None:
    before = _snapshot(database.parent)
    findings = _store(database)
    assert not bad(findings)
    assert {"store.schema-current", "store.journal", "store.writable"} <= checks(findings)
    assert _snapshot(database.parent) == before


def test_a_missing_database_is_told_of_and_not_made(tmp_path: Path) -> None:
    assert bad(_store(tmp_path / "coordinator.db")) == {"store.missing"}
    assert not list(tmp_path.iterdir())


def test_a_database_of_a_newer_version(database: Path) -> None:
    _execute(database, "UPDATE alembic_version SET version_num = '9999'")
    finding = the(_store(database), "store.schema-newer")
    assert finding.level is Level.BROKEN
    assert "9999" in finding.says


def test_a_database_of_an_older_version_is_not_upgraded(database: Path) -> None:
    _execute(database, "UPDATE alembic_version SET version_num = '0001'")
    finding = the(_store(database), "store.schema-behind")
    assert finding.level is Level.WARNING
    assert "backup" in finding.advice
    with closing(sqlite3.connect(database)) as opened:
        assert opened.execute("SELECT version_num FROM alembic_version").fetchall() == [("0001",)]


def test_a_database_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "coordinator.db"
    _execute(path, "CREATE TABLE songs (title TEXT)")
    assert "store.foreign" in checks(_store(path), Level.BROKEN)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "coordinator.db"
    path.write_bytes(b"not a database" * 100)
    assert checks(_store(path), Level.BROKEN) == {"store.unusable"}


def test_a_journal_that_a_kill_does_not_survive_as_fast(database: Path) -> None:
    _execute(database, "PRAGMA journal_mode = DELETE")
    assert bad(_store(database)) == {"store.journal"}


def test_a_program_that_holds_the_database(database: Path) -> None:
    with closing(sqlite3.connect(database, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        findings = _store(database, Examination(timeout_seconds=0.3))
        holder.execute("ROLLBACK")
    assert "locked" in the(findings, "store.not-writable").says


def test_a_record_from_the_future_shows_a_clock_that_is_behind(database: Path) -> None:
    now = datetime.now(UTC).timestamp()
    engine = open_database(f"sqlite:///{database}")
    with engine.begin() as connection:
        connection.execute(insert(JOBS).values(job="mnist", spec=b"", state="running", created_at=now))
        connection.execute(insert(EVENTS).values(job="mnist", round=1, event="round-opened", details={}, at=now))
    engine.dispose()
    assert not bad(_store(database))
    finding = the(_store(database, off_by(-timedelta(hours=2))), "clock.behind")
    assert "behind by at least 1 h 59 min" in finding.says or "behind by at least 2 h" in finding.says


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://secagg:{SECRET}@127.0.0.1:1/secagg",
        f"postgresql://127.0.0.1:1/secagg?user=secagg&password={SECRET}",
        f"mysql://secagg:{SECRET}@127.0.0.1:1/secagg",
        f"postgresql://secagg:{SECRET}@127.0.0.1:not-a-port/secagg",
        f"postgresql://secagg:{SECRET}@127.0.0.1:1/secagg?sslmode={SECRET}",
    ],
)
def test_a_database_that_cannot_be_reached_is_named_without_its_password(url: str) -> None:
    findings = _run(database_check(url, QUICK))
    assert checks(findings, Level.BROKEN)
    assert SECRET not in repr(findings)


# Blobs


def test_a_probe_leaves_nothing_and_touches_nothing(tmp_path: Path) -> None:
    store = DirectoryBlobStore(tmp_path)
    store.write("mnist/1/mean", [b"mean"])
    # What a coordinator is writing at this instant.
    (tmp_path / "mnist" / "1" / ".new-0123456789abcdef").write_bytes(b"half")
    before = _snapshot(tmp_path)
    assert checks(_run(blob_check(tmp_path, QUICK))) == {"blobs.usable"}
    assert _snapshot(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["mnist"]


def test_blobs_that_the_first_start_makes_are_not_made_here(tmp_path: Path) -> None:
    assert checks(_run(blob_check(tmp_path / "blobs", QUICK))) == {"blobs.not-made"}
    assert not (tmp_path / "blobs").exists()


@MOUNTS
def test_blobs_on_a_disk_without_any_room(disk: Path) -> None:
    room = os.statvfs(disk)
    (disk / "filler").write_bytes(bytes(room.f_bavail * room.f_frsize))
    assert checks(_run(blob_check(disk, QUICK)), Level.BROKEN) == {"blobs.unusable"}
    assert [path.name for path in disk.iterdir()] == ["filler"]


def test_a_storage_that_returns_other_bytes(tmp_path: Path) -> None:
    class Rotten(DirectoryBlobStore):
        def read(self, name: str, offset: int, length: int) -> bytes:
            return super().read(name, offset, length).swapcase()

    finding = probe_finding(Rotten(tmp_path), "blobs")
    assert (finding.check, finding.level) == ("blobs.altered", Level.BROKEN)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
