"""Backup and restore of a key holder's database, without ever answering a round twice.

A backup holds what stands for ever and no key: a share that came back could be asked again, by who no longer finds in the
ledger what it answered meanwhile. So a restored holder takes no further part in rounds that were begun before, refuses them
as rounds of keys that it does not have, and goes on with the next.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from secagg.atomic_files import PRIVATE_DIRECTORY_MODE, PRIVATE_FILE_MODE, sync_directory
from secagg.errors import ConfigError, StorageError, UsageError
from secagg.key_holder.claim import Claim
from secagg.key_holder.database import DATABASE_NAME, open_database
from secagg.key_holder.store import SUMS_NAME

_BUSY_SECONDS: Final = 10.0
_WIPE_BYTES: Final = 1 << 20
# Of another version's backup, too: a table that is not there holds no key.
_GIVEN_UP: Final = ("key_shares", "sums", "sealing")
_SIDE_FILES: Final = ("-journal", "-wal", "-shm")


def back_up(data_dir: Path, to: Path) -> None:
    """Copy a key holder's database into a new directory, mode 0700, while the holder runs or not; all of it or nothing.

    Args:
        data_dir: the holder's.
        to: must not exist, its parent must.

    Raises:
        UsageError: `to` exists.
        ConfigError: there is no database, or it is none.
        StorageError: something cannot be read or written.
    """
    if to.exists():
        raise UsageError(f"{to} exists", next_step="Name a directory that does not exist yet")
    with _staging(to) as staging:
        _copy_without_keys(data_dir / DATABASE_NAME, staging / DATABASE_NAME)
        sync_directory(staging)
        staging.rename(to)
        sync_directory(to.parent)


def restore(data_dir: Path, source: Path, *, replace: bool) -> None:
    """Put a backup in place; what keys it has, or the data directory had, are given up.

    Args:
        data_dir: the holder's; the holder must not run.
        source: a backup, or a copy of a data directory, this one included.
        replace: whether a database that lies there may be given up.

    Raises:
        UsageError: a database lies there, and `replace` is not set.
        ConfigError: the holder runs, or there is no database in `source`.
        StorageError: something cannot be read or written.
    """
    claim = Claim(data_dir)
    try:
        if (data_dir / DATABASE_NAME).exists() and not replace:
            advice = (
                "Add --replace; keys of rounds that are open there are given up, and the holder takes part in new ones"
            )
            raise UsageError(f"{data_dir} holds a database already", next_step=advice)
        with _staging(data_dir / "restored") as staging:
            _copy_without_keys(source / DATABASE_NAME, staging / DATABASE_NAME)
            open_database(staging).dispose()
            _put_in_place(staging / DATABASE_NAME, data_dir)
    finally:
        claim.release()


@contextmanager
def _staging(beside: Path) -> Iterator[Path]:
    """Make a private directory beside a path, and leave nothing of it; what fails there is a `StorageError`."""
    staging = beside.with_name(f".{beside.name}.{secrets.token_hex(8)}")
    try:
        staging.mkdir(mode=PRIVATE_DIRECTORY_MODE)
        yield staging
    except OSError as error:
        raise StorageError(f"{beside} cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _copy_without_keys(source: Path, target: Path) -> None:
    """Copy a database by way of memory, so that no key ever reaches the copy's disk."""
    if not source.is_file():
        raise ConfigError(f"there is no {source}", next_step="Name a directory that `secagg key-holder backup` made")
    try:
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as memory:
            with closing(
                sqlite3.connect(f"{source.absolute().as_uri()}?mode=rw", uri=True, timeout=_BUSY_SECONDS)
            ) as live:
                live.backup(memory)
            _give_up_keys(memory)
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE_MODE))
            memory.execute("VACUUM INTO ?", (str(target),))
    except sqlite3.OperationalError as error:
        raise StorageError(f"{source} cannot be copied: {error}") from None
    except sqlite3.DatabaseError as error:
        raise ConfigError(f"{source} is no key holder's database: {error}") from None
    _sync(target)


def _give_up_keys(memory: sqlite3.Connection) -> None:
    """Leave no key, and nothing by which the copy would pass for the original."""
    [[sound]] = memory.execute("PRAGMA integrity_check(1)").fetchall()
    tables = {name for (name,) in memory.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if sound != "ok" or "ledger" not in tables:
        raise sqlite3.DatabaseError("it is damaged" if sound != "ok" else "it has no ledger")
    memory.execute("PRAGMA secure_delete=ON")
    for table in sorted(tables.intersection(_GIVEN_UP)):
        memory.execute(f"DELETE FROM {table}")  # noqa: S608 - a name of ours
    if "store" in tables:
        memory.execute("UPDATE store SET store_id = randomblob(16), generation = 0")


def _put_in_place(made: Path, data_dir: Path) -> None:
    """Wipe the old database before the new one comes: in between there is none, and none has no key to answer with."""
    old = data_dir / DATABASE_NAME
    for path in (old, *(old.with_name(old.name + end) for end in _SIDE_FILES)):
        _wipe(path)
    sync_directory(data_dir)
    shutil.rmtree(data_dir / SUMS_NAME, ignore_errors=True)
    made.rename(old)
    sync_directory(data_dir)


def _wipe(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        with path.open("r+b") as file:
            left = path.stat().st_size
            while left > 0:
                left -= file.write(bytes(min(left, _WIPE_BYTES)))
            file.flush()
            os.fsync(file.fileno())
        path.unlink()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
