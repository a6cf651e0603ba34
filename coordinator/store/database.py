"""Transactions of one database: those that write, and those that read one state of it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import Connection, Table, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from coordinator.store.engines import BUSY_MILLISECONDS, READS, WRITES
from coordinator.store.failures import storage_errors
from coordinator.store.schema import open_database

_WIPE_MILLISECONDS: Final = 1_000


class Database:
    """The database of a URL, upgraded to our schema when it is opened; safe to use from several threads.

    Raises:
        ConfigError: the URL cannot be read, or a newer version wrote the database.
        StorageError: the database cannot be opened.
    """

    def __init__(self, url: str) -> None:
        self._engine = open_database(url)
        self._writer = self._engine.execution_options(**WRITES)
        self._reader = self._engine.execution_options(**READS[self._engine.dialect.name])

    def close(self) -> None:
        """Let go of files and connections."""
        self._engine.dispose()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Do everything inside in one step, or nothing of it."""
        with storage_errors(), self._writer.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """See one state of the database in everything inside."""
        with storage_errors(), self._reader.begin() as connection:
            yield connection

    def wipe_deleted(self) -> None:
        """Let what was deleted vanish from SQLite's write-ahead log too.

        A reader may be in the way; then a later call, or SQLite itself when the database is closed, does it.
        """
        if self._engine.dialect.name != "sqlite":
            return
        with contextlib.suppress(SQLAlchemyError), self._engine.connect() as connection:
            driver = connection.connection.cursor()
            driver.execute(f"PRAGMA busy_timeout = {_WIPE_MILLISECONDS}")
            try:
                driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                driver.execute(f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}")
                driver.close()


def database_time(connection: Connection) -> float:
    """Return seconds since the epoch by the clock that all users of the database share."""
    if connection.dialect.name == "postgresql":
        found = connection.execute(text("SELECT CAST(extract(epoch FROM clock_timestamp()) AS double precision)"))
        return float(found.scalar_one())
    return time.time()


def insert_new(connection: Connection, table: Table, values: Mapping[str, Any]) -> bool:
    """Insert a row unless there is one of that key, which waits for who inserts it right now; return whether it did."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(table).values(values).on_conflict_do_nothing()
    # Neither database counts the rows of an INSERT reliably through SQLAlchemy; what it returns is certain.
    return connection.execute(statement.returning(*table.primary_key.columns)).first() is not None
