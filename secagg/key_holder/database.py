"""Opening a key holder's SQLite database, whose every commit is on disk before it returns."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from secagg.atomic_files import PRIVATE_DIRECTORY_MODE, PRIVATE_FILE_MODE, sync_directory
from secagg.errors import StorageError

DATABASE_NAME: Final = "key-holder.sqlite3"
_MIGRATIONS: Final = Path(__file__).parent / "migrations"
# A deleted share is overwritten, and every commit is on disk before it returns. The rollback journal holds an old page
# for as long as one transaction; a share in it is sealed.
_PRAGMAS: Final = ("journal_mode=DELETE", "synchronous=EXTRA", "secure_delete=ON", "busy_timeout=5000")


def open_database(directory: Path) -> Engine:
    """Open or make the database in a directory that is this process's own, and bring it up to date.

    Raises:
        StorageError: it cannot be opened or written.
    """
    path = directory / DATABASE_NAME
    try:
        directory.mkdir(mode=PRIVATE_DIRECTORY_MODE, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE_FILE_MODE))
        sync_directory(directory)
    except OSError as error:
        raise StorageError(f"{path} cannot be opened: {error.strerror}") from error
    engine = create_engine(f"sqlite:///{path}", hide_parameters=True)
    event.listen(engine, "connect", _configure)
    try:
        with engine.begin() as connection:
            _migrate(connection)
    except SQLAlchemyError as error:
        engine.dispose()
        raise failure_of(error) from None
    return engine


def failure_of(error: SQLAlchemyError) -> StorageError:
    """Return what to say of a failed statement: never its parameters, which may be a share."""
    # SQLite's own words are fixed ones ("database or disk is full"); those of other errors may quote values.
    cause = str(error.orig) if isinstance(error, OperationalError) else type(error).__name__
    return StorageError(f"the key holder's database failed: {cause}")


def _configure(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _migrate(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
